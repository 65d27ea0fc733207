"""Why rows came out of pair making without a pair, and what to do: what their counts say, in words.

The makers of pairs count in `meta["pairing"]` what became of the answers of a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from textwrap import shorten

from triptych.group import Group

UNREAD = "unread_replies"
"""In `meta`, replies of a judge that name neither answer; for an example."""
REASONS: dict[str, tuple[str, str]] = {
    "unparsed": (
        "comparisons whose replies name neither answer",
        "Word judge.prompt so that a reply begins with A or B, set judge.by: likelihood, or name a stronger labeller.",
    ),
    "order_dependent": (
        "comparisons decided by the place an answer stands at",
        "Name a stronger labeller, give it context (judge.context), or train it on comparisons in both orders.",
    ),
    "tie": (
        "comparisons called equal",
        "Draw answers that differ more (temperature, num_samples), or lower judge.min_confidence.",
    ),
    "identical_text": ("answers with the text of another one", "Raise temperature or num_samples."),
    "duplicate_text": ("answers with the text of another one", "Raise temperature or num_samples."),
    "empty_text": ("empty answers", "Look at what the model answers, and at max_new_tokens."),
    "no_correct_answer": ("prompts without a right answer", "Raise num_samples, or take easier prompts."),
    "no_rejected_answer": ("prompts without a wrong answer", "Raise temperature, or take harder prompts."),
    "equal_scores": ("prompts whose answers have equal scores", "Raise num_samples or temperature."),
    "single_answer": ("prompts with one answer that could be scored", "Raise num_samples."),
    "answer_truncated": ("answers cut off", "Raise max_new_tokens."),
    "chosen_truncated": ("answers cut off", "Raise max_new_tokens."),
}
"""What a count is of, and what helps; of the counts that leave rows without a pair."""


def explain_missing_pairs(counts: Mapping[str, int], example: str = "") -> tuple[str, str]:
    """Return why there are no pairs, or few, the most frequent reason first, and what helps against it.

    Args:
        counts: of `meta["pairing"]`, summed up.
        example: a reply that could not be read.

    Returns:
        two texts; the first is empty where nothing was counted.
    """
    found = [(name, counts[name]) for name in REASONS if counts.get(name)]
    found.sort(key=lambda item: -item[1])
    parts = [f"{number:,} {REASONS[name][0]} ({name})" for name, number in found]
    if example and counts.get("unparsed"):
        parts.append(f"such a reply is {shorten(example, 120)!r}")
    return "; ".join(parts), " ".join(dict.fromkeys(REASONS[name][1] for name, _ in found[:2]))


def counts_of(groups: Iterable[Group]) -> tuple[int, Counter[str], str]:
    """Return the number of rows, their counts, and a reply that could not be read, if there is any."""
    num_rows, counts, example = 0, Counter[str](), ""
    for group in groups:
        num_rows += 1
        own = group.meta.get("pairing", {})
        counts.update({name: number for name, number in own.items() if isinstance(number, int)})
        example = example or next(iter(group.meta.get(UNREAD, [])), "")
    return num_rows, counts, example


def few_pairs(groups: Iterable[Group]) -> str:
    """Return a warning for rows of which less than half have a pair, with counts and remedies; else nothing."""
    paired = Counter[bool]()

    def passing() -> Iterable[Group]:
        for group in groups:
            paired[bool(group.pairs)] += 1
            yield group

    num_rows, counts, example = counts_of(passing())
    if 2 * paired[True] >= num_rows:
        return ""
    reasons, remedy = explain_missing_pairs(counts, example)
    told = f" Their counts: {reasons}. {remedy}" if reasons else ""
    return f"{paired[False]:,} of {num_rows:,} rows have no pair.{told}"
