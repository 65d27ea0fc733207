from pathlib import Path

from tests.report.video_run import write_rows, write_video_run
from triptych.group import Group, Pair
from triptych.report.reading import Stage, read_run
from triptych.report.rewards_held_out import HeldOut, held_out_rows, trained_on


def test_rewards_are_found_by_the_pair_and_by_the_stage_that_made_it(tmp_path):
    run = read_run(write_video_run(tmp_path / "run"))
    held_out, stage = HeldOut(run), run.stages["feedback"]
    group = Group("prompt-0", [])
    assert held_out.of(stage, group, Pair(1, 0, source="ai_feedback")) == {"chosen": 0.5, "rejected": -0.5}
    assert held_out.of(stage, group, Pair(0, 1, source="ai_feedback")) is None
    assert held_out.of(stage, group, Pair(1, 0, source="dropout_ntp")) is None
    assert held_out.of(run.stages["ppo"], group, Pair(1, 0, source="ai_feedback")) is None  # nothing was trained on it


def test_rows_that_tell_no_two_rewards_are_left_out(tmp_path):
    folder = write_video_run(tmp_path / "run")
    good = {"id": "a", "chosen": 1, "rejected": 0, "source": "imported", "rewards": {"chosen": 1, "rejected": 0}}
    bad = [good | {"rewards": {"chosen": 1}}, good | {"rewards": None}, good | {"chosen": None}, {}]
    write_rows(folder / "reward" / "held_out.jsonl", [*bad, good])
    run = read_run(folder)
    assert held_out_rows(run, run.stages["reward"]) == {("a", 1, 0, "imported"): {"chosen": 1.0, "rejected": 0.0}}


def test_the_files_of_a_reward_model_may_be_one_or_several():
    config = {"data": "a/pairs.jsonl", "eval_data": ["b/pairs.jsonl", ""]}
    assert trained_on(Stage("reward", Path(), config=config)) == [Path("a/pairs.jsonl"), Path("b/pairs.jsonl")]
    assert trained_on(Stage("reward", Path())) == []
