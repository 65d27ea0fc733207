import json

import pytest

from triptych.report.items import differences_to_base, item_scores
from triptych.report.reading import read_run
from triptych.report.results import Estimate, difference, measured


def _evaluate(folder, model, rights, reported=None):
    path = folder / f"evaluate_{model}"
    path.mkdir()
    rows = [
        {"id": str(n), "task": "cot", "verdict": "correct" if right else "no_answer"} for n, right in enumerate(rights)
    ]
    (path / "samples-cot.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    value = sum(rights) / len(rights) if reported is None else reported
    result = {"cot": {"value": value, "ci": [value - 0.1, value + 0.1]}}
    (path / "done.json").write_text(json.dumps({"seconds": 1, "result": result}))


def _gap(folder):
    run = read_run(folder)
    estimates = measured(run)
    return differences_to_base(run, estimates)["mpo"]["cot"], difference(
        estimates["mpo"]["cot"], estimates["sft"]["cot"]
    )


def test_models_on_the_same_items_are_compared_in_pairs(tmp_path):
    _evaluate(tmp_path, "sft", [True] * 60 + [False] * 40)
    _evaluate(tmp_path, "mpo", [True] * 66 + [False] * 34)
    paired, separate = _gap(tmp_path)
    # Six of a hundred answers were mended, none broken: variance (0.06 - 0.06**2) * 100 / 99, t(99) = 1.9842.
    half = 1.9842 * ((0.06 - 0.0036) / 99) ** 0.5
    assert (paired.value, paired.low, paired.high) == pytest.approx((0.06, 0.06 - half, 0.06 + half), abs=1e-5)
    assert separate.low < 0 < paired.low


@pytest.mark.parametrize("case", ["other items", "other value", "no answers"])
def test_what_cannot_be_paired_is_compared_by_its_intervals(tmp_path, case):
    _evaluate(tmp_path, "sft", [True, False])
    _evaluate(tmp_path, "mpo", [True, True, True] if case == "other items" else [True, True], 0.9)
    if case == "no answers":
        (tmp_path / "evaluate_mpo" / "samples-cot.jsonl").unlink()
    found, separate = _gap(tmp_path)
    assert found == separate


def test_scores_follow_the_definitions_of_the_metrics(tmp_path):
    _evaluate(tmp_path, "sft", [True, False])
    row = {"id": "a", "task": "describe_sampled", "hallucinated": True, "coverage": 0.5, "verdict": "hallucinated"}
    (tmp_path / "evaluate_sft" / "samples-describe_sampled.jsonl").write_text(json.dumps(row))
    run = read_run(tmp_path)
    assert item_scores(run, run.stages["evaluate_sft"]) == {
        "cot": {"cot/0": 1.0, "cot/1": 0.0},
        "unparsed": {"cot/0": 0.0, "cot/1": 1.0},
        "hallucination_sampled": {"describe_sampled/a": 1.0},
        "coverage_sampled": {"describe_sampled/a": 0.5},
    }


def test_without_a_start_model_there_is_nothing_to_compare_with(tmp_path):
    assert differences_to_base(read_run(tmp_path), {"mpo": {"cot": Estimate(0.5)}}) == {"mpo": {}}
