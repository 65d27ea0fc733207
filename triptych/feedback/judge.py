"""A judge of two answers: any model that sees the media, asked in both orders.

VLM-RLAIF (arXiv:2402.03746) lets the SFT model name the better of its own two answers, with a narrative as context; its
prompt, its handling of ties and of the order are not known, and these are ours. A verdict counts only if it is the same
answer whichever stands first: what changes with the order is a habit of the judge, not a preference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from triptych.errors import TriptychError
from triptych.feedback.asking import about_media, question_text
from triptych.feedback.plugins import resolve_function
from triptych.generation.protocol import Generator, Request, Sample, SamplingParams
from triptych.group import Group

Letter = Literal["A", "B", "tie"]
LETTERS: tuple[Literal["A", "B"], ...] = ("A", "B")
Outcome = Literal["first", "second", "tie", "order_dependent", "unparsed"]
"""What the opinions on both orders come to: the better answer, or why there is none."""

CRITERIA = "Which answer is more accurate, helpful, natural and concise?"
"""The criteria of VLM-RLAIF's annotation prompt."""
JUDGE_PROMPT = (
    "{context}Question: {question}\nAnswer A: {first}\nAnswer B: {second}\n"
    + CRITERIA
    + " Begin with the letter A or B, then give the reason."
)
"""What the judge is asked; `context` is a line of its own, or nothing."""
CONTEXT_LINE = "Context: {context}\n"
JUDGE_PARAMS = SamplingParams(temperature=0.0, max_new_tokens=128)

_NAME = r"(?:the\s+)?(?:answer|option|response|choice)?\s*[\"'*(\[]*([AB])[\"'*)\]]*"
_LEADING = re.compile(rf"\W*{_NAME}(?![\w'])", re.IGNORECASE)
_BETTER = re.compile(
    rf"\b{_NAME}\s+(?:is|seems|looks)\s+(?:clearly\s+|slightly\s+|much\s+)?(?:better|more|the\s+better|preferable)"
    rf"|\bbetter\s+(?:answer|option|response|one|choice)\s*(?:is|:)\s*{_NAME}(?!\w)"
    rf"|\b(?:prefer|choose|pick)\s+{_NAME}(?!\w)",
    re.IGNORECASE,
)
_TIE = re.compile(r"\b(?:tie|equally|equal|neither|both (?:answers )?are|no difference|the same)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt, and what is told of its media."""

    group: Group
    first: str
    second: str
    context: str = ""


@dataclass(frozen=True)
class Opinion:
    """What the judge said of one order.

    Attributes:
        letter: the better answer as it stood; "tie", or None where the reply says neither.
        text: the reply.
        confidence: p(letter) among A and B, of a judge by likelihood.
        samples: for counting; empty for a judge by likelihood.
    """

    letter: Letter | None
    text: str = ""
    confidence: float | None = None
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Judge:
    """Asks a model which of two answers is better.

    Attributes:
        by: "text" reads the reply; "likelihood" compares the probabilities of the letters as its first token.
        prompt: with the fields context, question, first and second.
        params: how replies are drawn.
        seed: of their samples.
        min_confidence: by likelihood, a letter less probable than this is a tie.

    Raises:
        TriptychError: the prompt lacks a field, or min_confidence is no share from 0.5 to 1.
    """

    by: Literal["text", "likelihood"] = "text"
    prompt: str = JUDGE_PROMPT
    params: SamplingParams = JUDGE_PARAMS
    seed: int = 0
    min_confidence: float = 0.5

    def __post_init__(self) -> None:
        check_judge(self.prompt, ("context", "question", "first", "second"), self.min_confidence)

    def opinions(
        self, comparisons: Sequence[Comparison], generator: Generator, root: Path
    ) -> Iterator[tuple[Opinion, Opinion]]:
        """Yield what the judge says of each comparison as it stands, and with the answers swapped.

        Raises:
            TriptychError: a judge by likelihood on an engine that does not tell probabilities.
        """
        requests = [
            Request(self._asking(comparison, swapped), seed=self.seed)
            for comparison in comparisons
            for swapped in (False, True)
        ]
        read = self._by_likelihood if self.by == "likelihood" else self._by_text
        opinions = read(requests, generator, root)
        yield from zip(opinions, opinions, strict=True)

    def _by_text(self, requests: Sequence[Request], generator: Generator, root: Path) -> Iterator[Opinion]:
        for samples in generator.generate(requests, self.params, root=root) if requests else ():
            yield Opinion(read_verdict(samples[0].text), samples[0].text, samples=tuple(samples))

    def _by_likelihood(self, requests: Sequence[Request], generator: Generator, root: Path) -> Iterator[Opinion]:
        option_logps = getattr(generator, "option_logps", None)
        if option_logps is None:
            raise TriptychError(
                f"{generator.name} answers through an engine that does not tell the probabilities of tokens; "
                "judge by text instead."
            )
        for logps in option_logps(requests, LETTERS, root=root):
            best = max(logps)
            share = 1 / sum(math.exp(logp - best) for logp in logps)
            letter = LETTERS[logps.index(best)]
            yield Opinion(letter if share > self.min_confidence else "tie", confidence=share)

    def _asking(self, comparison: Comparison, swapped: bool) -> Group:
        """Return a row that shows the media and puts the comparison."""
        answers = (comparison.second, comparison.first) if swapped else (comparison.first, comparison.second)
        text = self.prompt.format(
            context=CONTEXT_LINE.format(context=comparison.context) if comparison.context else "",
            question=question_text(comparison.group),
            first=answers[0],
            second=answers[1],
        )
        return about_media(comparison.group, text)


@dataclass(frozen=True)
class FunctionJudge:
    """A judge that is a function: where the truth is known, to tell what a model's judgements lose.

    Attributes:
        path: `package.module:function` of a function (first answer, second answer, group) that returns 0 or 1, the
            better one, or None where they are equally good.

    Raises:
        TriptychError: there is no such function.
    """

    path: str

    def __post_init__(self) -> None:
        resolve_function(self.path, "judge")

    def opinions(
        self, comparisons: Sequence[Comparison], generator: Generator, root: Path
    ) -> Iterator[tuple[Opinion, Opinion]]:
        """See `Judge.opinions`; nobody is asked."""
        letters: dict[int | None, tuple[Letter, Letter]] = {0: ("A", "B"), 1: ("B", "A"), None: ("tie", "tie")}
        for item in comparisons:
            one, other = letters[self.better(item)]
            yield Opinion(one), Opinion(other)

    def better(self, comparison: Comparison) -> int | None:
        """Return 0 or 1, the better answer, or None where they are equally good.

        Raises:
            TriptychError: the function returned something else.
        """
        found = resolve_function(self.path, "judge")(comparison.first, comparison.second, comparison.group)
        if found not in (0, 1, None):
            raise TriptychError(f"The judge {self.path!r} returned {found!r}; it must return 0, 1 or None.")
        return found


def check_judge(prompt: str, fields: Sequence[str], min_confidence: float) -> None:
    """Check the settings of a judge.

    Raises:
        TriptychError: the prompt lacks one of the fields, or min_confidence is no share from 0.5 to 1.
    """
    if missing := [name for name in fields if f"{{{name}}}" not in prompt]:
        raise TriptychError(f"The judge's prompt lacks {', '.join(f'{{{name}}}' for name in missing)}.")
    if not 0.5 <= min_confidence < 1:
        raise TriptychError(f"min_confidence is {min_confidence}; it is a probability from 0.5 up to 1.")


def outcome(both: Sequence[Opinion]) -> Outcome:
    """Say what the opinions on a comparison as it stands, and with the answers swapped, come to."""
    letters = [opinion.letter for opinion in both]
    if None in letters:
        return "unparsed"
    if "tie" in letters:
        return "tie"
    if letters[0] == letters[1]:  # the same place, so not the same answer
        return "order_dependent"
    return "first" if letters[0] == "A" else "second"


def read_verdict(text: str) -> Letter | None:
    """Return the answer that a reply calls better: the letter it begins with, or the one it says is better.

    A reply that names both as better, or none, has no verdict; one that calls them equal is a tie.
    """
    if match := _LEADING.match(text):
        return match[1].upper()
    letters = {group.upper() for match in _BETTER.finditer(text) for group in match.groups() if group}
    if len(letters) == 1:
        return letters.pop()
    return "tie" if not letters and _TIE.search(text) else None
