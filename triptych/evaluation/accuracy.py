"""Accuracy of answers with a known truth, and how many cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from triptych.evaluation.intervals import Estimate, share
from triptych.feedback.answers import FORMAT_VERDICTS


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What a set of judged answers adds up to."""

    accuracy: Estimate
    """Share of correct answers; what cannot be read counts as wrong."""
    unparsed: Estimate
    """Share without a single clear answer: none, several, or cut off."""


def accuracy(verdicts: Sequence[str], *, confidence: float = 0.95) -> Accuracy:
    """Sum up the verdicts of judged answers (`judge_answer`), with Wilson intervals.

    Raises:
        TriptychError: there are no answers.
    """
    counts = Counter(verdicts)
    unparsed = sum(counts[verdict] for verdict in FORMAT_VERDICTS)
    return Accuracy(
        accuracy=share(counts["correct"], len(verdicts), confidence=confidence),
        unparsed=share(unparsed, len(verdicts), confidence=confidence),
    )
