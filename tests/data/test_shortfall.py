"""Why rows have no pair, in words."""

from __future__ import annotations

from triptych.data.shortfall import UNREAD, explain_missing_pairs, few_pairs
from triptych.group import Completion, Group, Pair, text_message


def _row(name: str, *, paired: bool, **meta: object) -> Group:
    pairs = [Pair(0, 1)] if paired else []
    return Group(
        name, [text_message("user", "?")], completions=[Completion("a"), Completion("b")], pairs=pairs, meta=meta
    )


def test_the_most_frequent_reason_comes_first_and_what_is_spent_is_no_reason() -> None:
    counts = {"tie": 2, "order_dependent": 1_500, "prompt_tokens": 9_999, "ai_feedback": 3}
    reasons, remedy = explain_missing_pairs(counts)
    assert reasons == (
        "1,500 comparisons decided by the place an answer stands at (order_dependent); 2 comparisons called equal (tie)"
    )
    assert remedy.index("labeller") < remedy.index("temperature")
    assert explain_missing_pairs({"prompt_tokens": 4}) == ("", "")


def test_a_reply_that_could_not_be_read_is_shown_and_cut_short() -> None:
    reasons, _ = explain_missing_pairs({"unparsed": 1}, "word " * 100)
    assert reasons.startswith("1 comparisons whose replies name neither answer (unparsed); such a reply is 'word word")
    assert len(reasons) < 250


def test_rows_are_warned_of_where_less_than_half_have_a_pair() -> None:
    good = [_row(f"g{n}", paired=True) for n in range(2)]
    bad = [_row(f"b{n}", paired=False, pairing={"unparsed": 2}, **{UNREAD: ["Hm."]}) for n in range(3)]
    assert few_pairs(good + bad[:2]) == ""
    warning = few_pairs(good + bad)
    assert warning.startswith("3 of 5 rows have no pair. Their counts: 6 comparisons whose replies name neither answer")
    assert "'Hm.'" in warning and "judge.by: likelihood" in warning
    assert few_pairs([_row("b", paired=False)]) == "1 of 1 rows have no pair."
