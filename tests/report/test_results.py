import json
import math

import pytest

from tests.report.report_run import write_run
from tests.report.video_run import finish, write_video_run
from triptych.report.items import differences_to_base
from triptych.report.metrics import METRICS
from triptych.report.reading import read_run
from triptych.report.results import (
    Estimate,
    aligned,
    difference,
    in_order,
    measured,
    measured_metrics,
    percent,
    result_plots,
    result_rows,
    result_tables,
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


def test_the_divergence_of_a_model_comes_from_the_stage_that_trained_it(tmp_path):
    run = read_run(write_video_run(tmp_path / "run"))
    assert measured(run)["ppo"]["kl"] == Estimate(1.5)
    assert "kl" not in measured(run)["sft"]
    config = {"model": str(tmp_path / "run" / "ppo_oracle" / "model")}
    finish(tmp_path / "run", "evaluate_best", {"kl": {"value": 0.6, "ci": [0.6, 0.6]}}, config)
    finish(tmp_path / "run", "evaluate_other", {"exact_qa": 0.5}, config)
    estimates = measured(read_run(tmp_path / "run"))
    assert estimates["other"]["kl"] == Estimate(1.5)
    assert estimates["best"]["kl"].value == 0.6  # what the evaluation tells counts more


def test_video_results_are_in_tables_of_their_own_with_paired_differences(tmp_path):
    run = read_run(write_video_run(tmp_path / "run"))
    estimates = measured(run)
    differences = differences_to_base(run, estimates)
    found = {item.table.title: item for item in result_tables(run, estimates, differences)}
    aspects = found["Free answers, scored by the oracle"]
    assert [row.model for row in aspects.rows] == ["sft", "ppo"]
    (cell,) = aspects.rows[1].cells
    assert (cell.value, cell.best, cell.difference) == ("4.38", True, "+1.25")
    length, kl = found["Tokens per answer, and divergence"].rows[1].cells
    assert (length.best, length.difference, length.verdict, kl.value) == (False, "+0.5", "", "1.50")
    questions = differences["ppo"]["exact_qa"]
    assert (questions.low, questions.high) == (0.0, 1.0)  # two of four questions more, none less


def test_alignment_by_rewards_is_what_a_run_is_about():
    assert aligned({"sft": {}, "ppo": {}, "ppo_oracle": {}}) == "ppo"
    assert in_order(["ppo_oracle", "best_of_4", "ppo", "sft"]) == ["sft", "ppo", "best_of_4", "ppo_oracle"]


def test_shares_are_printed_with_their_interval_where_it_is_known():
    cells = [percent(item) for item in (None, Estimate(0.5), Estimate(0.5, 0.25, 0.75))]
    assert [(cell.value, cell.interval) for cell in cells] == [("–", ""), ("50.0 %", ""), ("50.0 %", "25.0 – 75.0")]
