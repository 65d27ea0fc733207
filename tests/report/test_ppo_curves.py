import json
import re

from tests.report.video_run import write_rows, write_video_run
from triptych.report.curves import read_log
from triptych.report.ppo_curves import COLUMNS, MAX_STAGES, policy_training
from triptych.report.reading import read_run


def _training(folder):
    run = read_run(folder)
    logs = {name: log for name, stage in run.stages.items() if (log := read_log(run, stage)).columns}
    return policy_training(run, logs)


def test_each_stage_has_a_line(tmp_path):
    found = _training(write_video_run(tmp_path / "run"))
    rows = {name: [cell.value for cell in cells] for name, cells in found.rows}
    assert rows == {
        "ppo": ["reward", "3", "96", "0.30 → 0.90", "1.50", "21.0 → 23.0", "2 + 1"],
        "ppo_oracle": ["quality", "3", "96", "0.50 → 1.50", "1.50", "21.0 → 23.0", "2 + 1"],
    }
    assert all(len(cells) == len(COLUMNS) - 1 for _, cells in found.rows)


def test_stages_lie_over_each_other_and_keep_their_colours(tmp_path):
    found = _training(write_video_run(tmp_path / "run"))
    assert [(key.name, key.colour, bool(key.dashes)) for key in found.legend] == [
        ("ppo", 1, False),
        ("ppo_oracle", 2, True),
    ]
    plots = {plot.title: plot.svg for plot in found.plots}
    assert {"--series-1", "--series-2"} <= set(re.findall(r"--series-\d", plots["Score"]))
    assert "--series-2" not in plots["Explained variance"]  # which ppo_oracle did not log
    assert "ppo 0.3 at first, 0.9 at step 3; ppo_oracle 0.5 at first, 1.5 at step 3" in plots["Score"]
    assert ">ppo<" not in plots["Score"]  # the page names the curves once for all plots


def test_what_was_not_cut_off_ended_by_itself(tmp_path):
    found = _training(write_video_run(tmp_path / "run"))
    (plot,) = [plot for plot in found.plots if plot.title == "Answers that end"]
    assert "ppo 0.75 at first" in plot.svg


def test_the_price_of_divergence_is_drawn_only_where_it_moves(tmp_path):
    folder = write_video_run(tmp_path / "run")
    assert "Price of KL" not in [plot.title for plot in _training(folder).plots]
    path = folder / "ppo" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_rows(path, [row | {"objective/kl_coef": 0.1 * row["step"]} for row in rows])
    assert "Price of KL" in [plot.title for plot in _training(folder).plots]


def test_one_stage_needs_no_legend_and_too_many_are_named(tmp_path):
    folder = write_video_run(tmp_path / "run")
    rows = [{"step": 1, "objective/scores": 0.5}]
    for name in "abcdef":
        (folder / name).mkdir()
        write_rows(folder / name / "metrics.jsonl", rows)
    found = _training(folder)
    assert (len(found.legend), len(found.rows), found.left_out) == (MAX_STAGES, 8, ["e", "f"])
    write_rows(tmp_path / "alone" / "ppo" / "metrics.jsonl", rows)
    alone = _training(tmp_path / "alone")
    assert (alone.legend, [plot.title for plot in alone.plots], alone.rest) == ([], ["Score"], [])
    assert [cell.value for cell in alone.rows[0][1]] == ["–", "1", "–", "0.50 → 0.50", "–", "–", "–"]


def test_a_run_without_such_a_stage_has_no_such_section(tmp_path):
    write_rows(tmp_path / "sft" / "metrics.jsonl", [{"step": 1, "loss": 2.0}])
    assert _training(tmp_path) is None
