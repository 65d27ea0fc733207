import json

from tests.report.report_run import write_run, write_study
from triptych.report.reading import read_run
from triptych.report.study import read_study


def test_a_run_without_a_study_has_none(tmp_path):
    assert read_study(read_run(tmp_path)) is None


def test_the_study_shows_means_seeds_differences_and_targets(tmp_path):
    run = write_run(tmp_path / "run", curves=False)
    write_study(run)
    study = read_study(read_run(run))
    assert study.num_seeds == 3
    assert [model for model, _ in study.tables[0].rows] == ["sft", "sft_on_chosen", "dpo", "mpo"]
    assert study.tables[0].rows[0][1][0] == ("74.9", "72.9 – 76.9", "73.9  74.9  75.9")
    assert study.differences == [("cot, mpo - sft", "+9.5", "+7.1 to +11.9")]
    assert study.targets[0] == ("cot, mpo - sft", "0.095", "0.071 to 0.119", "0.05", True)
    assert study.targets[1][-1] is False


def test_incomplete_studies_are_shown_as_far_as_they_go(tmp_path):
    study = {"metrics": {"sft": {"direct": {"value": 0.5}, "cot": None}}, "targets": [{"name": "x"}, "torn"]}
    study["differences"] = {"speed": {"value": 2.5}, "cot, a - b": {"value": -0.02}, "nothing": None}
    (tmp_path / "study.json").write_text(json.dumps(study))
    found = read_study(read_run(tmp_path))
    assert found.tables[0].rows == [("sft", [("50.0", "", ""), None])]
    assert found.differences == [("speed", "2.5", ""), ("cot, a - b", "−2.0", "")]
    assert found.targets == [("x", "–", "", "–", False)]
