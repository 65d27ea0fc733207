import json
from pathlib import Path

import pytest

from tests.report.report_run import SECONDS, append, write_run
from triptych.errors import DataError
from triptych.report.reading import finite, read_run


def test_a_missing_run_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"run_missing.*Name the folder of a run"):
        read_run(tmp_path / "none")


def test_stages_come_in_the_order_of_the_recipe_without_the_report_itself(tmp_path):
    run = read_run(write_run(tmp_path / "run", curves=False))
    assert list(run.stages) == list(SECONDS)
    assert {stage.state for stage in run.stages.values()} == {"done"}
    assert run.stages["sft"].seconds == 131.5
    assert run.stages["world"].seconds == 9.2  # it keeps no books; the summary tells
    assert run.stages["evaluate_sft"].evaluates == "sft"
    assert run.stages["sft"].evaluates == ""


def test_states_tell_what_is_missing_and_what_is_half_done(tmp_path):
    recipe = "stages: [{name: sft, verb: sft}, {name: mpo, verb: mpo}, {name: exam, verb: evaluate}]"
    (tmp_path / "recipe.yaml").write_text(recipe)
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "seconds.json").write_text('{"seconds": 7.5}')
    run = read_run(tmp_path)
    assert [stage.state for stage in run.stages.values()] == ["unfinished", "not run yet", "not run yet"]
    assert run.stages["sft"].seconds == 7.5
    assert run.stages["exam"].evaluates == "exam"


def test_a_stage_whose_folder_was_deleted_is_removed_not_missing(tmp_path):
    folder = write_run(tmp_path / "run", curves=False)
    (folder / "world").rename(tmp_path / "elsewhere")
    assert read_run(folder).stages["world"].state == "removed"
    (folder / "summary.json").unlink()
    assert read_run(folder).stages["world"].state == "not run yet"


def test_without_a_recipe_the_stages_found_are_told_in_the_order_of_the_quickstart(tmp_path):
    for name in ("other", "mpo", "sft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("seed: 0")
    (tmp_path / "not_a_stage").mkdir()
    assert list(read_run(tmp_path).stages) == ["sft", "mpo", "other"]


def test_the_folder_of_a_single_stage_is_a_run_of_one_stage(tmp_path):
    folder = tmp_path / "my-mpo"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    run = read_run(folder)
    assert list(run.stages) == ["my-mpo"]
    assert run.stages["my-mpo"].state == "unfinished"


def test_a_torn_last_line_is_left_out_in_silence(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    run = read_run(tmp_path)
    assert list(run.rows(path)) == [{"step": 1}]
    assert run.problems == []


def test_damage_inside_a_file_is_told_once_and_the_lines_before_it_count(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n[2]\n{broken\n{"step": 4}\n')
    run = read_run(tmp_path)
    for _ in range(2):
        assert list(run.rows(path)) == [{"step": 1}]
    assert [problem.split(":")[0] for problem in run.problems] == ["metrics.jsonl, line 2", "metrics.jsonl, line 3"]


@pytest.mark.parametrize("name", ["summary.json", "study.json", "recipe.yaml", "sft/done.json", "sft/config.yaml"])
def test_damaged_records_are_told_and_count_as_absent(tmp_path, name):
    folder = write_run(tmp_path / "run", curves=False)
    (folder / name).write_bytes(b"{\xff: [")
    run = read_run(folder)
    assert any(name in problem for problem in run.problems)
    if name == "sft/done.json":
        assert run.stages["sft"].state == "unfinished"


def test_records_of_the_wrong_shape_count_as_absent(tmp_path):
    folder = write_run(tmp_path / "run", curves=False)
    (folder / "summary.json").write_text(json.dumps(["not", "an", "object"]))
    (folder / "recipe.yaml").write_text("stages: sft")
    (folder / "sft" / "done.json").write_text(json.dumps({"seconds": "long", "result": [1]}))
    run = read_run(folder)
    assert run.summary == {}
    assert run.stages["sft"].result == {}
    assert run.stages["sft"].seconds is None


def test_resumes_are_the_starts_after_the_first(tmp_path):
    run = read_run(write_run(tmp_path / "run", curves=False))
    assert run.stages["sft"].num_resumes == 1
    assert run.stages["mpo"].num_resumes is None


def test_the_data_root_is_what_the_configuration_says(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "runs" / "mine", curves=False)
    run = read_run(folder)
    assert run.data_root(run.stages["pairs_dropout"]) == folder / "world"
    assert run.data_root(run.stages["evaluate_sft"], "direct") == folder / "world"
    (tmp_path / "mydata").mkdir()
    append(folder / "mpo" / "config.yaml", "root: mydata\n")
    assert read_run(folder).data_root(read_run(folder).stages["mpo"]) == tmp_path / "mydata"  # runs/mine lies beside it
    monkeypatch.chdir(tmp_path)
    assert read_run(folder).data_root(read_run(folder).stages["mpo"]).samefile(tmp_path / "mydata")


def test_only_finite_numbers_are_numbers():
    assert finite(3) == 3.0
    assert [finite(value) for value in (True, "3", None, float("nan"), float("inf"), [1])] == [None] * 6


def test_the_root_of_a_task_counts_more_than_that_of_the_evaluation(tmp_path):
    tasks = [{"name": "qa", "root": str(tmp_path / "videos")}, {"name": "other", "data": "x.jsonl"}]
    (tmp_path / "videos").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "evaluate_sft").mkdir()
    config = {"root": str(tmp_path / "pictures"), "tasks": tasks}
    (tmp_path / "evaluate_sft" / "config.yaml").write_text(json.dumps(config))
    run = read_run(tmp_path)
    stage = run.stages["evaluate_sft"]
    assert [run.data_root(stage, task).name for task in ("qa", "other", "none")] == ["videos", "pictures", "pictures"]


def test_what_lay_inside_a_run_that_was_moved_is_found_where_the_run_is_now(tmp_path):
    (tmp_path / "run" / "pairs").mkdir(parents=True)
    (tmp_path / "run" / "pairs" / "pairs.jsonl").write_text("")
    run = read_run(tmp_path / "run")
    assert run.find(Path("/gone/run/pairs/pairs.jsonl")) == tmp_path / "run" / "pairs" / "pairs.jsonl"
    assert run.find(Path("/gone/run/pairs")) == tmp_path / "run" / "pairs"
    assert run.find(Path("/gone/other.jsonl")) == Path("/gone/other.jsonl")
