"""Studies over seeds: sums by hand."""

import pytest

from triptych.errors import TriptychError
from triptych.lab.seeds import run_study, study_lines, summarise_study


def summary(cot, chosen, hallucination):
    def results(cot, hallucination):
        names = ("direct", "coverage", "coverage_sampled")
        return {name: {"value": 0.6, "ci": [0, 1]} for name in names} | {
            "cot": {"value": cot, "ci": [0, 1]},
            "hallucination": {"value": hallucination, "ci": [0, 1]},
            "hallucination_sampled": {"value": hallucination, "ci": [0, 1]},
        }

    metrics = {"sft": results(0.5, 0.4), "mpo": results(cot, hallucination), "sft_on_chosen": results(chosen, 0.4)}
    return {"seconds": 100.0, "metrics": metrics}


def test_means_and_differences_over_seeds_are_those_worked_by_hand():
    study = summarise_study([summary(0.62, 0.55, 0.3), summary(0.66, 0.55, 0.1)])
    assert study["metrics"]["mpo"]["cot"]["value"] == pytest.approx(0.64)
    assert study["metrics"]["mpo"]["cot"]["per_seed"] == [0.62, 0.66]
    targets = {target["name"]: target for target in study["targets"]}
    # (0.12 + 0.16) / 2; half-width of the t interval with one degree of freedom: 12.706 * 0.0283 / sqrt(2)
    gain = targets["cot: mpo minus sft"]
    assert gain["value"] == pytest.approx(0.14)
    assert gain["ci"][1] - gain["value"] == pytest.approx(12.7062 * 0.02, rel=1e-4)
    assert gain["met"]
    # 1 - 0.3 / 0.4 and 1 - 0.1 / 0.4
    assert targets["hallucination greedy, relative reduction"]["value"] == pytest.approx(0.5)


def test_a_gain_that_must_exceed_its_interval_is_not_met_by_its_mean_alone():
    wide = summarise_study([summary(0.62, 0.50, 0.3), summary(0.66, 0.65, 0.3)])
    narrow = summarise_study([summary(0.62, 0.50, 0.3), summary(0.66, 0.54, 0.3)])
    name = "cot: mpo minus sft_on_chosen"
    assert not next(target for target in wide["targets"] if target["name"] == name)["met"]
    assert next(target for target in narrow["targets"] if target["name"] == name)["met"]


def test_one_seed_is_refused(tmp_path):
    with pytest.raises(TriptychError, match="two seeds"):
        run_study("smoke", tmp_path, num_seeds=1)


def test_a_recipe_with_other_models_is_summed_up_without_the_figures_of_the_quickstart():
    summaries = [
        {"seconds": 1.0, "metrics": {"mine": {"accuracy": {"value": value, "ci": [0, 1]}}}} for value in (0, 1)
    ]
    study = summarise_study(summaries)
    assert study["metrics"]["mine"]["accuracy"]["value"] == 0.5
    assert study["targets"] == [] and study["differences"] == {}
    assert any(line.startswith("mine") for line in study_lines(study))


def test_a_rate_of_zero_has_no_relative_reduction_and_the_other_figures_stay():
    nothing = summary(0.6, 0.5, 0.0)
    nothing["metrics"]["sft"]["hallucination"]["value"] = 0.0
    names = {target["name"] for target in summarise_study([nothing, summary(0.6, 0.5, 0.1)])["targets"]}
    assert "hallucination greedy, relative reduction" not in names
    assert "cot: mpo minus sft" in names
