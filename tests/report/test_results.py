import json
import math

import pytest

from tests.report.report_run import write_run
from triptych.report.items import differences_to_base
from triptych.report.reading import read_run
from triptych.report.results import (
    METRICS,
    Estimate,
    aligned,
    difference,
    in_order,
    measured,
    measured_metrics,
    result_plots,
    result_rows,
    verdict,
)

DIRECT = next(metric for metric in METRICS if metric.key == "direct")
HALLUCINATION = next(metric for metric in METRICS if metric.key == "hallucination")


def _run_with(tmp_path, metrics):
    (tmp_path / "summary.json").write_text(json.dumps({"metrics": metrics}))
    return read_run(tmp_path)


def test_models_come_in_the_order_of_the_story():
    assert in_order(["zeta", "mpo", "alpha", "sft"]) == ["sft", "mpo", "alpha", "zeta"]


def test_the_difference_of_symmetric_intervals_adds_variances():
    gap = difference(Estimate(0.7, 0.67, 0.73), Estimate(0.6, 0.56, 0.64))
    assert gap.value == pytest.approx(0.1)
    assert (gap.low, gap.high) == pytest.approx((0.1 - math.hypot(0.03, 0.04), 0.1 + math.hypot(0.03, 0.04)))


def test_the_interval_of_a_difference_uses_the_near_side_of_each_interval():
    gap = difference(Estimate(0.5, 0.4, 0.9), Estimate(0.2, 0.1, 0.2))  # below: 0.1 and 0.0; above: 0.4 and 0.1
    assert gap.low == pytest.approx(0.3 - 0.1)
    assert gap.high == pytest.approx(0.3 + math.hypot(0.4, 0.1))


def test_a_difference_without_intervals_has_none():
    assert difference(Estimate(0.5), Estimate(0.2, 0.1, 0.3)) == Estimate(pytest.approx(0.3))


def test_a_difference_is_called_better_or_worse_only_beyond_its_interval():
    assert verdict(DIRECT, Estimate(0.1, 0.05, 0.15)) == "better"
    assert verdict(HALLUCINATION, Estimate(0.1, 0.05, 0.15)) == "worse"
    assert verdict(HALLUCINATION, Estimate(-0.1, -0.15, -0.05)) == "better"
    assert verdict(DIRECT, Estimate(0.1, -0.01, 0.21)) == ""
    assert verdict(DIRECT, Estimate(0.1)) == ""


def test_cells_hold_value_interval_best_and_difference(tmp_path):
    item = {"direct": {"value": 0.6, "ci": [0.58, 0.62]}, "hallucination": {"value": 0.3, "ci": [0.28, 0.32]}}
    new = {"direct": {"value": 0.7, "ci": [0.68, 0.72]}, "hallucination": {"value": 0.4, "ci": [0.38, 0.42]}}
    new["cot"] = {"value": 0.5, "ci": [0.48, 0.52]}
    run = _run_with(tmp_path, {"sft": item, "mpo": new})
    start, end = result_rows(run, measured(run), differences_to_base(run, measured(run)))
    column = measured_metrics(measured(run)).index(HALLUCINATION)
    direct, hallucination = end.cells[0], end.cells[column]
    assert (direct.value, direct.interval, direct.best) == ("70.0", "68.0 – 72.0", True)
    assert (direct.difference, direct.verdict) == ("+10.0", "better")
    assert (hallucination.best, hallucination.difference, hallucination.verdict) == (False, "+10.0", "worse")
    assert start.cells[column].best
    assert start.cells[0].difference == ""
    assert start.cells[1] is None  # no chain of thought was measured of it


def test_a_tie_makes_both_best_and_a_lone_model_is_not_best(tmp_path):
    run = _run_with(tmp_path, {"sft": {"direct": 0.5}, "mpo": {"direct": 0.5}})
    assert [row.cells[0].best for row in result_rows(run, measured(run), differences_to_base(run, measured(run)))] == [
        True,
        True,
    ]
    run = _run_with(tmp_path, {"sft": {"direct": 0.5}})
    assert [row.cells[0].best for row in result_rows(run, measured(run), differences_to_base(run, measured(run)))] == [
        False
    ]


def test_models_that_the_recipe_has_yet_to_measure_have_a_row_without_cells(tmp_path):
    run = write_run(tmp_path / "run", curves=False)
    (run / "summary.json").unlink()
    (run / "evaluate_dpo" / "done.json").unlink()
    found = read_run(run)
    cells = {row.model: len(row.cells) for row in result_rows(found, measured(found), {})}
    assert cells == {"sft": 7, "sft_on_chosen": 7, "dpo": 0, "mpo": 7}


def test_the_result_of_a_stage_counts_more_than_the_summary(tmp_path):
    run = write_run(tmp_path / "run", curves=False)
    result = {"direct": {"value": 0.5, "ci": [0.4, 0.6]}}
    (run / "evaluate_mpo" / "done.json").write_text(json.dumps({"seconds": 1, "result": result}))
    assert measured(read_run(run))["mpo"]["direct"] == Estimate(0.5, 0.4, 0.6)


@pytest.mark.parametrize("item", [None, "x", True, {"value": None}, {"value": float("nan")}, {"ci": [0, 1]}])
def test_what_is_no_estimate_is_left_out(item):
    assert Estimate.read(item) is None


def test_an_estimate_survives_a_broken_interval():
    assert Estimate.read({"value": 0.5, "ci": [0.4]}) == Estimate(0.5)
    assert Estimate.read({"value": 0.5, "ci": [None, 0.6]}) == Estimate(0.5)


def test_the_model_compared_is_mpo_or_the_last_one():
    assert aligned({"sft": {}, "dpo": {}, "mpo": {}, "other": {}}) == "mpo"
    assert aligned({"sft": {}, "dpo": {}}) == "dpo"
    assert aligned({"sft": {}}) == ""


def test_there_is_a_plot_for_each_metric_that_was_measured():
    plots = result_plots({"sft": {"direct": Estimate(0.5, 0.4, 0.6)}, "mpo": {"cider": Estimate(1.5)}})
    assert [(plot.title, plot.note) for plot in plots] == [("Direct, %", "more is better"), ("CIDEr", "more is better")]
    assert "sft 50.0" in plots[0].svg


def test_the_columns_are_what_was_measured_and_a_users_accuracy_is_one_of_them():
    estimates = {"mine": {"accuracy": Estimate(0.5), "unparsed": Estimate(0.1)}}
    assert [metric.key for metric in measured_metrics(estimates)] == ["accuracy", "unparsed"]
