"""Figures and their targets."""

import pytest

from triptych.lab.targets import Target, gain, judged, printed, relative_gain, target_line, unit_of, value_of

RUN = {"ppo": {"qa": {"value": 0.66}, "zero": {"value": 0.2}}, "sft": {"qa": {"value": 0.6}, "zero": {"value": 0.0}}}


def test_figures_are_differences_and_shares():
    assert gain("qa", "ppo", "sft")(RUN) == pytest.approx(0.06)
    assert relative_gain("qa", "ppo", "sft")(RUN) == pytest.approx(0.1)
    assert value_of("qa", "ppo")(RUN) == 0.66


def test_a_target_applies_where_every_run_has_its_figure():
    target = Target("qa", gain("qa", "ppo", "sft"), 0.05)
    assert target.applies([RUN, RUN]) and not target.applies([RUN, {"ppo": RUN["ppo"]}])
    assert not Target("zero", relative_gain("zero", "ppo", "sft"), 0.0).applies([RUN])


@pytest.mark.parametrize(
    ("reached", "met"), [("value", [True, False]), ("low", [False, False]), ("high", [True, True])]
)
def test_the_mean_or_an_end_of_its_interval_must_reach_the_target(reached, met):
    figures = [{"value": 0.06, "ci": [0.04, 0.08]}, {"value": 0.04, "ci": [0.02, 0.06]}]
    assert [judged("n", figure, 0.05, reached, "per cent")["met"] for figure in figures] == met


@pytest.mark.parametrize(
    ("metric", "unit"),
    [("exact_qa", "per cent"), ("r1_retrieval", "per cent"), ("accuracy", "per cent"), ("length_generic", "tokens"),
     ("true_generative", "plain"), ("kl_generic", "plain"), ("last_kl", "plain"), ("pairs", "plain"),
     ("agreement_context", "per cent"), ("median_rank_retrieval", "plain")],
)  # fmt: skip
def test_metrics_are_printed_in_their_unit(metric, unit):
    assert unit_of(metric) == unit


def test_lines_tell_the_figure_its_target_and_whether_it_is_met():
    assert printed({"value": 0.123, "ci": [0.1, 0.146]}, "per cent") == "12.3 ± 2.3"
    assert printed({"value": 3.456, "ci": [3.4, 3.5]}, "plain") == "3.46 ± 0.05"
    told = judged("length", {"value": -1.0, "ci": [-3.0, 1.0]}, 0.0, "high", "tokens")
    assert target_line(told).split() == [
        "length",
        "-1.0",
        "±",
        "2.0",
        "target",
        "0",
        "tokens",
        "within",
        "the",
        "interval:",
        "met",
    ]
    told = judged("gain", {"value": 0.04, "ci": [0.0, 0.08]}, 0.05, "value", "per cent")
    assert " ".join(target_line(told).split()) == "gain 4.0 ± 4.0 target 5: missed"
