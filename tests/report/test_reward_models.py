import json
import re

from tests.report.video_run import write_video_run
from triptych.report.curves import read_log
from triptych.report.reading import read_run
from triptych.report.reward_models import reward_stages, section


def _stages(folder):
    run = read_run(folder)
    logs = {name: log for name, stage in run.stages.items() if (log := read_log(run, stage)).columns}
    return reward_stages(run, logs)


def _cells(folder):
    found = section(_stages(folder))
    heads = [head for head, _ in found.columns[1:]]
    ((_, cells),) = found.rows
    return {head: (cell.value, cell.interval) for head, cell in zip(heads, cells, strict=True)}


def test_the_table_tells_how_often_the_rewards_are_right(tmp_path):
    assert _cells(write_video_run(tmp_path / "run")) == {
        "Pairs of": ("feedback", ""),
        "Trained on": ("2", ""),
        "Held out": ("2", ""),
        "Right": ("50.0 %", "10.0 – 90.0"),
        # Of the second pair the reward model prefers the rejected answer, as the oracle does.
        "By the oracle": ("100.0 %", "34.2 – 100.0"),
        "Longer": ("0.0 %", "0.0 – 60.0"),
        "Calibration error": ("23.0 %", ""),
    }


def test_without_an_oracle_its_column_is_left_out(tmp_path):
    assert "By the oracle" not in _cells(write_video_run(tmp_path / "run", oracle=False))


def test_every_plot_is_drawn_once_its_numbers_are_there(tmp_path):
    folder = write_video_run(tmp_path / "run")
    (found,) = _stages(folder)
    plots = {plot.title: plot.svg for plot in found.plots}
    assert list(plots) == ["Loss", "Accuracy", "Rewards", "Calibration", "Margins"]
    assert ">held out<" in plots["Loss"]
    assert "73 % sure, 50 % right" in plots["Calibration"]  # the bins below one half are the same pairs the other way
    assert "27 % sure" not in plots["Calibration"]
    assert "1 right, 1 wrong" in plots["Margins"]
    (folder / "reward" / "done.json").unlink()
    (folder / "reward" / "held_out.jsonl").unlink()
    (found,) = _stages(folder)
    assert [plot.title for plot in found.plots] == ["Loss", "Accuracy", "Rewards"]
    assert section([found]).columns[1:] == [("Pairs of", "the stages that made them")]


def test_a_plot_tells_its_numbers_to_whoever_points_at_it(tmp_path):
    (found,) = _stages(write_video_run(tmp_path / "run"))
    assert re.search(r"<title>trained on 0\.69 to 0\.49; held out 0\.6 to 0\.6</title>", found.plots[0].svg)


def test_broken_bins_are_left_out(tmp_path):
    folder = write_video_run(tmp_path / "run")
    done = json.loads((folder / "reward" / "done.json").read_text())
    done["result"]["calibration"] = ["x", {"count": 2}, {"count": 1, "predicted": None, "observed": 1}]
    (folder / "reward" / "done.json").write_text(json.dumps(done))
    (found,) = _stages(folder)
    assert "Calibration" not in [plot.title for plot in found.plots]
