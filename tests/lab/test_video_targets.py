"""Targets of the video quickstart, by numbers worked by hand."""

import pytest

from triptych.lab.seeds import study_lines, summarise_study


def results(five, qa, length, agreements, accuracy):
    """One run: (sft, ppo) of each metric."""

    def model(n):
        metrics = {"true_generative": five[n], "exact_qa": qa[n], "length_generic": length[n], "r1_retrieval": 0.3}
        return {name: {"value": value, "ci": [0, 1]} for name, value in metrics.items()}

    judge = {
        f"agreement_{name}": {"value": value} for name, value in zip(("context", "no_context"), agreements, strict=True)
    }
    numbers = {"reward": {"accuracy": {"value": accuracy}}, "ppo": {"last_kl": {"value": 4.0}}}
    metrics = {"sft": model(0), "judge": judge, "ppo": model(1)}
    return {"seconds": 600.0, "metrics": metrics, "numbers": numbers}


def study(*runs):
    return summarise_study([results(*run) for run in runs])


def targets(*runs):
    return {target["name"]: target for target in study(*runs)["targets"]}


GOOD = ((2.0, 2.5), (0.50, 0.58), (20.0, 19.0), (0.70, 0.62), 0.80)
BETTER = ((2.0, 2.3), (0.50, 0.54), (20.0, 21.5), (0.70, 0.64), 0.78)


def test_figures_are_those_worked_by_hand():
    found = targets(GOOD, BETTER)
    assert {name: (pytest.approx(target["value"]), target["met"]) for name, target in found.items()} == {
        "judge's agreement: with context minus without": (0.07, True),
        "reward model: accuracy against the oracle": (0.79, True),
        "five aspects: ppo over sft, relative": (0.20, True),  # (0.25 + 0.15) / 2
        "question answering: ppo minus sft": (0.06, True),
        "length: tokens saved, ppo against sft": (-0.25, True),  # (1 - 1.5) / 2, with a wide interval
    }


def test_answers_that_are_surely_longer_miss_the_target():
    longer = ((2.0, 2.5), (0.50, 0.58), (20.0, 30.0), (0.70, 0.62), 0.80)
    longest = ((2.0, 2.5), (0.50, 0.58), (20.0, 30.1), (0.70, 0.62), 0.80)
    assert not targets(longer, longest)["length: tokens saved, ppo against sft"]["met"]


def test_the_table_for_a_person_has_a_line_for_each_model_with_the_divergence_that_training_ended_at():
    lines = study_lines(study(GOOD, BETTER))
    head, *rows = [line for line in lines if line.strip()][1:5]
    assert head.split("  ")[-1] == "KL (nats)" and "five aspects (0-5)" in head and "cot" not in head
    assert rows[2].split() == [
        "ppo",
        "2.40",
        "±",
        "1.27",
        "56.0",
        "±",
        "25.4",
        "30.0",
        "±",
        "0.0",
        "20.2",
        "±",
        "15.9",
        "4.00",
        "±",
        "0.00",
    ]
    assert rows[0].split()[-1] == "-"


def test_metrics_that_a_seed_lacks_are_left_out():
    runs = [results(*GOOD), results(*BETTER)]
    del runs[1]["metrics"]["ppo"]["r1_retrieval"]
    found = summarise_study(runs)
    assert "r1_retrieval" in found["metrics"]["sft"] and "r1_retrieval" not in found["metrics"]["ppo"]
    assert found["numbers"]["reward"]["accuracy"]["per_seed"] == [0.80, 0.78]
