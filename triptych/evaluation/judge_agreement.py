"""How good a judge of two answers is, where an oracle knows which one is better.

Preferences from AI feedback are as good as their judge (VLM-RLAIF, arXiv:2402.03746). The judge is asked in both
orders; what it says counts where both name the same answer. A comparison without such a verdict is worth what a coin
would give, so that a judge gains nothing by keeping silent where it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych.evaluation.by_video import mean_by_video, share_by_video
from triptych.feedback.judge import Outcome

COIN = 0.5
"""Share of comparisons that a coin decides as the oracle does."""


def agreement(outcome: Outcome, oracle: int) -> float:
    """Return 1 where the judge names the answer that the oracle prefers (0 or 1), 0 for the other, else `COIN`."""
    named = {"first": 0, "second": 1}.get(outcome)
    return COIN if named is None else float(named == oracle)


def summarise_agreement(rows: Sequence[Mapping[str, Any]], videos: Sequence[str]) -> dict[str, Any]:
    """Sum up judged comparisons.

    Args:
        rows: `outcome` of both orders and `agreement` of each comparison that the oracle decides, with `letters`, what
            the reply to each order names (None where it says nothing), and `confidences`, empty of a judge by text.
            Rows without `outcome` were not judged, for there was nothing to tell apart.
        videos: what each row is about; intervals are over videos.
    Returns:
        `agreement`, the mean; `decided`, the share of comparisons with one verdict in both orders, and
        `agreement_decided` over these alone; `first`, of the replies that name an answer the share that name the one in
        the first place, 0.5 without a habit; `unparsed`, the share of replies without a verdict; `confidence`, the
        mean over replies, of a judge by likelihood. What there is nothing to compute from is left out. `num_judged`
        and `num_equal`, how many rows were judged and how many were not.
    """
    judged = [(row, video) for row, video in zip(rows, videos, strict=True) if "outcome" in row]
    results: dict[str, Any] = {"num_judged": len(judged), "num_equal": len(rows) - len(judged)}
    if not judged:
        return results
    about = [video for _, video in judged]
    decided = [row["outcome"] in ("first", "second") for row, _ in judged]
    results["agreement"] = share_by_video([row["agreement"] for row, _ in judged], about)
    results["decided"] = share_by_video([float(one) for one in decided], about)
    if any(decided):
        named = [(row["agreement"], video) for (row, video), one in zip(judged, decided, strict=True) if one]
        results["agreement_decided"] = share_by_video(*map(list, zip(*named, strict=True)))
    replies = [(letter, video) for row, video in judged for letter in row["letters"]]
    if placed := [(float(letter == "A"), video) for letter, video in replies if letter in ("A", "B")]:
        results["first"] = share_by_video(*map(list, zip(*placed, strict=True)))
    results["unparsed"] = share_by_video(
        [float(letter is None) for letter, _ in replies], [name for _, name in replies]
    )
    if sure := [(value, video) for row, video in judged for value in row["confidences"]]:
        results["confidence"] = mean_by_video(*map(list, zip(*sure, strict=True)))
    return results
