"""Preferences from AI feedback, as in VLM-RLAIF (arXiv:2402.03746): a model judges its own answers, with context.

Two answers are drawn per prompt; the judge sees the media, a narrative of them (`context.py`), the question and both
answers, in both orders (`judge.py`). A pair is made where both orders name the same answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from triptych.data.shortfall import UNREAD
from triptych.errors import TriptychError
from triptych.feedback.answer_judge import AnswerJudge
from triptych.feedback.answers import GOLD_SOURCES
from triptych.feedback.context import Narrative, Narrator
from triptych.feedback.judge import Comparison, FunctionJudge, Judge, Opinion, outcome
from triptych.feedback.maker import count_tokens_of, drawn_completion, noted
from triptych.generation.protocol import Generator, Request, SamplingParams
from triptych.group import Group, Pair

SOURCE = "ai_feedback"


@dataclass(frozen=True)
class AiFeedbackMaker:
    """An answer is preferred to another one if the judge says so in both orders.

    Rows without answers are answered `num_samples` times; the answers of a row are compared two by two.

    Attributes:
        params: how answers are drawn.
        num_samples: per prompt, at least 2.
        judge: names the better answer.
        narrator: gives the judge its context; None for a judge without.
        judging: the model that judges and narrates; None takes the one that answers.
        seed: of samples.

    Raises:
        TriptychError: fewer than two samples.
    """

    params: SamplingParams
    num_samples: int
    judge: Judge | AnswerJudge | FunctionJudge
    narrator: Narrator | None = None
    judging: Generator | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_samples < 2:
            raise TriptychError(f"num_samples is {self.num_samples}; a judge compares at least 2 answers.")

    def make(self, groups: Sequence[Group], generator: Generator, root: Path) -> Iterator[Group]:
        """See `PairMaker.make`.

        Counts: `ai_feedback` pairs; `judge_first`, `judge_second`, `judge_tie`, `judge_unparsed`, replies by what they
        name, so that a habit of naming the first shows; `tie`, `unparsed`, `order_dependent`, comparisons without a
        pair; `identical_text`, answers that are not compared; `prompt_tokens` and `generated_tokens` in all, and of
        the narratives (`narrative_...`) and verdicts (`judge_...`) apart. Replies that name neither answer are kept in
        `meta["unread_replies"]`.
        """
        judging = self.judging or generator
        counts = [Counter[str]() for _ in groups]
        answered = list(self._answered(groups, counts, generator, root))
        told = self.narrator.tell(answered, judging, root) if self.narrator else [Narrative("")] * len(answered)
        compared = [
            (row, first, second)
            for row, group in enumerate(answered)
            for first, second in two_by_two(group, counts[row])
        ]
        comparisons = [
            Comparison(group := answered[row], group.completions[one].text, group.completions[two].text, told[row].text)
            for row, one, two in compared
        ]
        opinions = self.judge.opinions(comparisons, judging, root)
        pairs: list[list[Pair]] = [[] for _ in answered]
        unread: list[list[str]] = [[] for _ in answered]
        for (row, first, second), both in zip(compared, opinions, strict=True):
            pair = self._pair(first, second, both, told[row].text, judging.name, counts[row])
            pairs[row] += [pair] if pair else []
            unread[row] += [opinion.text for opinion in both if opinion.letter is None and opinion.text]
        for row, group in enumerate(answered):
            for samples in told[row].samples:
                count_tokens_of("narrative", counts[row], samples)
            meta = group.meta | ({UNREAD: unread[row]} if unread[row] else {})
            yield noted(replace(group, pairs=[*group.pairs, *pairs[row]], meta=meta), counts[row])

    def _answered(
        self, groups: Sequence[Group], counts: Sequence[Counter[str]], generator: Generator, root: Path
    ) -> Iterator[Group]:
        """Draw the answers of rows that bring none."""
        bare = [not answers_of(group) for group in groups]
        requests = [
            Request(group, self.num_samples, self.seed) for group, none in zip(groups, bare, strict=True) if none
        ]
        drawn = iter(generator.generate(requests, self.params, root=root) if requests else ())
        for group, none, count in zip(groups, bare, counts, strict=True):
            if not none:
                yield group
                continue
            samples = next(drawn)
            count_tokens_of("draw", count, samples)
            answers = [drawn_completion(sample, generator.name) for sample in samples]
            yield replace(group, completions=[*group.completions, *answers])

    def _pair(
        self, first: int, second: int, both: tuple[Opinion, Opinion], context: str, model: str, counts: Counter[str]
    ) -> Pair | None:
        """Return the pair that two opinions agree on; count what was said."""
        for opinion in both:
            count_tokens_of("judge", counts, opinion.samples)
            slot = {"A": "judge_first", "B": "judge_second", "tie": "judge_tie", None: "judge_unparsed"}
            counts[slot[opinion.letter]] += 1
        better = outcome(both)
        if better not in ("first", "second"):
            counts[better] += 1
            return None
        counts[SOURCE] += 1
        chosen, rejected = (first, second) if better == "first" else (second, first)
        confidences = [opinion.confidence for opinion in both if opinion.confidence is not None]
        said = {"model": model, "orders": [_told(opinion) for opinion in both], "context": context}
        margin = sum(confidences) / len(confidences) if confidences else None
        return Pair(chosen, rejected, source=SOURCE, margin=margin, judge=said)


def answers_of(group: Group) -> list[int]:
    """Return the indices of the completions that are answers to be judged."""
    return [index for index, item in enumerate(group.completions) if item.source not in GOLD_SOURCES]


def two_by_two(group: Group, counts: Counter[str]) -> Iterator[tuple[int, int]]:
    """Yield the answers of a row two by two; one without words, or like one before it, is left out."""
    kept: dict[str, int] = {}
    for index in answers_of(group):
        text = group.completions[index].text.strip()
        if not text or text in kept:
            counts["identical_text" if text else "empty_text"] += 1
        else:
            kept[text] = index
    indices = list(kept.values())
    yield from zip(indices[::2], indices[1::2], strict=False)


def _told(opinion: Opinion) -> dict[str, str | float | None]:
    """Return what a pair keeps of an opinion."""
    return {name: value for name, value in asdict(opinion).items() if name != "samples" and value not in (None, "")}
