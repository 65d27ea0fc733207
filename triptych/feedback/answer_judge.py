"""A judge that names no letters: of two answers it prefers the one it would more likely have given, knowing more.

The judge is asked the question itself, with a narrative as context and with the criteria of VLM-RLAIF
(arXiv:2402.03746), and the answer is better whose tokens it finds more probable on the average. Nothing is parsed and
no answer stands first, so there is no habit of place; and a model that is too small to weigh two texts against each
other can still be its own judge. What it knows beyond the one that answered is the context and the wording of the
request. The mean over the tokens, and not the sum, is compared: a sum is a preference for saying little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from triptych.errors import TriptychError
from triptych.feedback.asking import about_media, question_text
from triptych.feedback.judge import CONTEXT_LINE, Comparison, Letter, Opinion, check_judge
from triptych.generation.protocol import Generator
from triptych.group import Completion, Group

ANSWER_PROMPT = "{context}Question: {question}\nGive the most accurate, helpful, natural and concise answer."
"""What the judge is asked; `context` is a line of its own, or nothing."""


@dataclass(frozen=True)
class AnswerJudge:
    """Compares the probabilities of two answers as replies to the question, told the context.

    The confidence is the logistic function of the difference of the mean log-probabilities of their tokens, times the
    mean of their lengths: for answers of one length, the share of the better one in the probability of both.

    Attributes:
        prompt: with the fields context and question.
        min_confidence: a preference of less confidence than this is a tie.

    Raises:
        TriptychError: the prompt lacks a field, or min_confidence is no share from 0.5 to 1.
    """

    prompt: str = ANSWER_PROMPT
    min_confidence: float = 0.5

    def __post_init__(self) -> None:
        check_judge(self.prompt, ("context", "question"), self.min_confidence)

    def opinions(
        self, comparisons: Sequence[Comparison], generator: Generator, root: Path
    ) -> Iterator[tuple[Opinion, Opinion]]:
        """Yield what the judge says of each comparison as it stands, and with the answers swapped: the same answer.

        Raises:
            TriptychError: an engine that does not tell the probabilities of given answers.
        """
        answer_logps = getattr(generator, "answer_logps", None)
        if answer_logps is None:
            raise TriptychError(
                f"{generator.name} answers through an engine that does not tell how probable a given answer is; judge "
                "by text instead."
            )
        for both in answer_logps([self._asking(item) for item in comparisons], root=root):
            (first, num_first), (second, num_second) = both
            margin = (first / num_first - second / num_second) * (num_first + num_second) / 2
            share = 1 / (1 + math.exp(min(-margin, 700.0)))
            letters: tuple[Letter, Letter] = ("A", "B") if share > 0.5 else ("B", "A")
            confidence = max(share, 1 - share)
            if confidence <= self.min_confidence:
                letters = ("tie", "tie")
            yield Opinion(letters[0], confidence=confidence), Opinion(letters[1], confidence=confidence)

    def _asking(self, comparison: Comparison) -> Group:
        """Return a row that shows the media, asks the question, and holds both answers."""
        context = CONTEXT_LINE.format(context=comparison.context) if comparison.context else ""
        text = self.prompt.format(context=context, question=question_text(comparison.group))
        answers = [Completion(comparison.first), Completion(comparison.second)]
        return replace(about_media(comparison.group, text), completions=answers)
