"""What answers an evaluation is compared with: the best of several, and the model before its training."""

import json

import pytest

from tests.support.smoke import run_variant
from triptych.evaluation import best_of
from triptych.evaluation.best_of import kl_bound

QA = {"name": "qa", "data": "{run}/world/test_direct.jsonl", "kind": "video_qa", "judged": False, "max_new_tokens": 4}


def measured(folder):
    result = json.loads((folder / "done.json").read_text())["result"]
    return result, [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


class ByDigits:
    """A reward model that wants many digits."""

    def __init__(self, path, **settings):
        self.path, self.settings = path, settings

    def rewards(self, answered, root):
        return [[sum(map(str.isdigit, sample.text)) for sample in samples] for _, samples in answered]


def test_the_best_of_several_answers_is_measured_where_there_are_answers(small_run, monkeypatch):
    monkeypatch.setattr(best_of, "RewardScorer", ByDigits)
    classes = {"name": "classes", "data": QA["data"], "kind": "actions", "by": "likelihood"}
    settings = {"tasks": [QA, classes], "best_of": 3, "reward_model": "{run}/sft/model"}
    result, rows = measured(run_variant(small_run, "evaluate_sft", "evaluate-best", **settings))
    several = {"tasks": [QA | {"temperature": 1.0}]}
    _, ones = measured(run_variant(small_run, "evaluate_sft", "evaluate-one", **several))
    digits, few = ([sum(map(str.isdigit, row["prediction"])) for row in found if row["task"] == "qa"]
                   for found in (rows, ones))  # fmt: skip
    assert all(best >= one for best, one in zip(digits, few, strict=True)) and sum(digits) > sum(few)
    assert result["kl"] == {"value": kl_bound(3), "ci": [kl_bound(3)] * 2}
    assert "classes" in result and "length_classes" not in result


def test_lengths_and_divergence_stand_beside_the_scores(small_run):
    settings = {"tasks": [QA], "reference": "{run}/pretrain/model"}
    result, rows = measured(run_variant(small_run, "evaluate_sft", "evaluate-kl", **settings))
    for name, field in (("length_qa", "num_tokens"), ("kl_qa", "log_ratio")):
        assert result[name]["value"] == pytest.approx(sum(row[field] for row in rows) / len(rows))
    assert all(1 <= row["num_tokens"] <= 4 for row in rows) and result["kl_qa"]["value"] > 0.1
    itself, _ = measured(
        run_variant(small_run, "evaluate_sft", "evaluate-self", tasks=[QA], reference="{run}/sft/model")
    )
    assert itself["kl_qa"] == {"value": 0.0, "ci": [0.0, 0.0]} and itself["length_qa"] == result["length_qa"]
