"""Accuracy of answers with a known truth, asked directly or with reasoning, and how many cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from triptych.evaluation.intervals import Estimate, share
from triptych.feedback.answers import FORMAT_VERDICTS, AnswerRule, Judgement

DIRECT = AnswerRule(style="direct")
"""The question alone, the answer alone."""
COT = AnswerRule(style="final_answer")
"""Reasoning that ends with "Final Answer: ..."."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What a set of judged answers adds up to."""

    accuracy: Estimate
    """Share of correct answers; what cannot be read counts as wrong."""
    unparsed: Estimate
    """Share without a single clear answer: none, several, or cut off."""
    verdicts: dict[str, int]
    """Number of answers by verdict."""


def accuracy(judgements: Sequence[Judgement], *, confidence: float = 0.95) -> Accuracy:
    """Sum up judged answers (`judge_answer` with `DIRECT`, `COT` or another rule), with Wilson intervals.

    Raises:
        TriptychError: there are no answers.
    """
    verdicts = Counter(judgement.verdict for judgement in judgements)
    unparsed = sum(verdicts[verdict] for verdict in FORMAT_VERDICTS)
    return Accuracy(
        accuracy=share(verdicts["correct"], len(judgements), confidence=confidence),
        unparsed=share(unparsed, len(judgements), confidence=confidence),
        verdicts=dict(verdicts),
    )
