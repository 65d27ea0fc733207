"""Agreement of a judge with an oracle: sums by hand."""

import pytest

from triptych.evaluation.judge_agreement import agreement, summarise_agreement


def row(outcome, oracle, letters, confidences=()):
    told = {"outcome": outcome, "agreement": agreement(outcome, oracle)}
    return told | {"letters": letters, "confidences": list(confidences)}


@pytest.mark.parametrize(
    ("outcome", "oracle", "worth"),
    [("first", 0, 1.0), ("first", 1, 0.0), ("second", 1, 1.0), ("second", 0, 0.0)]
    + [(none, oracle, 0.5) for none in ("tie", "order_dependent", "unparsed") for oracle in (0, 1)],
)
def test_no_verdict_is_worth_what_a_coin_gives(outcome, oracle, worth):
    assert agreement(outcome, oracle) == worth


def test_what_a_judge_came_to_is_summed_up_by_hand():
    rows = [
        row("first", 0, ["A", "B"]),  # right
        row("second", 0, ["B", "A"]),  # wrong
        row("order_dependent", 0, ["A", "A"]),
        row("unparsed", 1, ["A", None]),
        row("tie", 1, ["tie", "A"]),
        {"oracle": None},  # nothing to tell apart
    ]
    result = summarise_agreement(rows, list("vwvwvw"))
    assert {name: value["value"] for name, value in result.items() if isinstance(value, dict)} == {
        "agreement": pytest.approx((1 + 0 + 0.5 + 0.5 + 0.5) / 5),
        "decided": pytest.approx(2 / 5),
        "agreement_decided": 0.5,
        "first": pytest.approx(6 / 8),  # of the replies that name a place: A B B A A A A A
        "unparsed": pytest.approx(1 / 10),
    }
    assert (result["num_judged"], result["num_equal"]) == (5, 1)


def test_confidences_are_averaged_over_replies():
    rows = [row("first", 0, ["A", "B"], [0.9, 0.7]), row("first", 0, ["A", "B"], [0.5, 0.6])]
    assert summarise_agreement(rows, ["v", "w"])["confidence"]["value"] == pytest.approx(0.675)


def test_a_judge_of_which_nothing_was_asked_is_given_no_share():
    assert summarise_agreement([{"oracle": None}], ["v"]) == {"num_judged": 0, "num_equal": 1}


def test_two_answers_about_one_video_do_not_narrow_the_interval():
    rows = [row("first", 0, ["A", "B"]), row("second", 0, ["B", "A"])]
    once = summarise_agreement(rows, ["v", "w"])["agreement"]
    assert summarise_agreement(rows * 8, ["v", "w"] * 8)["agreement"] == once
    assert once == {"value": 0.5, "ci": [0.0, 1.0]}
