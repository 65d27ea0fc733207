import json
import math

import pytest

from tests.report.report_run import append, write_run
from triptych.report.curves import Log, Share, mixture, read_log, stage_curves
from triptych.report.reading import Stage, read_run


def _log(tmp_path, rows):
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = read_run(tmp_path)
    return read_log(run, run.stages["sft"])


def test_the_last_row_of_a_step_counts_and_steps_are_in_order(tmp_path):
    rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 1.0}, {"step": 2, "loss": 2.5}]
    assert _log(tmp_path, rows).columns == {"loss": ([1, 2, 3], [3.0, 2.5, 1.0])}


def test_what_is_not_a_finite_number_is_left_out(tmp_path):
    rows = [{"step": 1, "loss": math.nan, "note": "text", "mfu": 0.3}, {"loss": 1.0}, {"step": "2", "loss": 1.0}]
    assert _log(tmp_path, rows).columns == {"mfu": ([1], [0.3])}


def test_a_log_without_rows_is_empty(tmp_path):
    log = _log(tmp_path, [])
    assert log.columns == {}
    assert log.last_step == 0


def test_preference_stages_get_the_panels_of_what_they_logged(tmp_path):
    run = read_run(write_run(tmp_path / "run"))
    titles = {
        name: [plot.title for plot in stage_curves(run.stages[name], read_log(run, run.stages[name])).plots]
        for name in ("sft", "mpo", "dpo")
    }
    assert titles["sft"] == ["Loss", "Learning rate", "Gradient norm", "Tokens per second", "MFU"]
    assert titles["mpo"] == [
        "Loss",
        "Terms of the loss",
        "Rewards",
        "Margin",
        "Reward accuracy",
        "Reward shift δ",
        "Log-probabilities",
        *titles["sft"][1:],
    ]
    assert [title for title in titles["mpo"] if title not in titles["dpo"]] == ["Terms of the loss", "Reward shift δ"]


def test_every_plot_says_how_it_is_read_and_what_it_shows(tmp_path):
    run = read_run(write_run(tmp_path / "run"))
    curves = stage_curves(run.stages["mpo"], read_log(run, run.stages["mpo"]))
    assert all(plot.note.endswith(".") for plot in curves.plots)
    assert "chosen from" in curves.plots[2].svg and "at step 280" in curves.plots[2].svg


def test_the_facts_tell_steps_speed_and_loss():
    log = Log({"loss": ([1, 2], [4.0, 1.0]), "tokens_per_second": ([1, 2], [100.0, 300.0])})
    facts = stage_curves(Stage("sft", folder=None, done={}), log).facts
    assert facts == "2 steps, 200 tokens per second (median), loss 4 at first, 1 at the end."


def test_an_unfinished_stage_says_so(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "mpo" / "done.json").unlink()
    append(folder / "mpo" / "metrics.jsonl", '{"step": 281, "lo')
    run = read_run(folder)
    log = read_log(run, run.stages["mpo"])
    assert log.last_step == 280
    assert stage_curves(run.stages["mpo"], log).facts.endswith("not finished yet.")


def test_comparison_stages_are_folded_away(tmp_path):
    assert [stage_curves(Stage(name, tmp_path), Log({})).main for name in ("sft", "mpo", "dpo", "sft_on_chosen")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_mixture_is_the_last_measured_share_beside_the_one_asked_for(tmp_path):
    config = {"sources": [{"path": "a/text.jsonl", "weight": 3}, {"path": "b.jsonl", "weight": 1, "name": "pictures"}]}
    log = Log({"frequency/text": ([1, 2], [1.0, 0.7]), "frequency/other": ([1, 2], [0.0, 0.3]), "loss": ([1], [2.0])})
    assert mixture(Stage("pretrain", tmp_path, config=config), log) == [
        Share("text", 0.7, pytest.approx(0.75)),
        Share("other", 0.3, None),
    ]


def test_what_was_trained_shows_in_what_was_logged():
    logs = [Log({name: ([1], [0.5])}) for name in ("loss", "reward/bradley_terry", "objective/scores")]
    assert [(log.of_texts, log.of_reward_model, log.of_rollouts) for log in logs] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
