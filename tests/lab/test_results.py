"""What a run has left, by name."""

import json
from pathlib import Path

from triptych.lab.results import metrics_of, numbers, read_results


def write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_numbers_have_dotted_names_and_estimates_keep_their_intervals():
    result = {"accuracy": {"value": 0.8, "ci": [0.7, 0.9]}, "pairs": 12, "model": "runs/x", "flag": True, "none": None,
              "pairing": {"tie": 3, "deep": {"er": 0.5}}, "list": [1, 2], "nan": float("nan")}  # fmt: skip
    assert numbers(result) == {
        "accuracy": {"value": 0.8, "ci": [0.7, 0.9]},
        "pairs": {"value": 12},
        "pairing.tie": {"value": 3},
        "pairing.deep.er": {"value": 0.5},
    }


def test_a_run_tells_of_its_models_and_of_its_stages(tmp_path):
    qa = {"value": 0.5, "ci": [0.4, 0.6]}
    write(tmp_path / "summary.json", {"seconds": 3.0, "metrics": {"ppo": {"exact_qa": qa}, "sft": {}}})
    write(tmp_path / "evaluate_ppo" / "done.json", {"result": {"exact_qa": qa}})
    write(tmp_path / "ppo" / "done.json", {"result": {"last_kl": 2.5, "steps": 10, "model": "m"}})
    write(tmp_path / "reward" / "done.json", {"result": {"accuracy": qa}})
    results = read_results(tmp_path)
    assert results["numbers"] == {
        "ppo": {"last_kl": {"value": 2.5}, "steps": {"value": 10}},
        "reward": {"accuracy": qa},
    }
    metrics = metrics_of(results)
    assert metrics["ppo"]["exact_qa"] == qa and metrics["ppo"]["last_kl"]["value"] == 2.5
    assert metrics["reward"]["accuracy"] == qa and metrics["sft"] == {}


def test_what_a_model_is_measured_at_counts_before_what_its_stage_has_left():
    one, other = {"value": 0.1}, {"value": 0.9}
    results = {"metrics": {"ppo": {"accuracy": one}}, "numbers": {"ppo": {"accuracy": other}}}
    assert metrics_of(results) == {"ppo": {"accuracy": one}}
