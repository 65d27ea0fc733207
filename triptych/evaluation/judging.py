"""A judge of texts: it is told question, reference answer and prediction, and does not see the video.

That is how Video-ChatGPT (arXiv:2306.05424) scores answers, and VLM-RLAIF after it; there with a model of 2023 that is
gone, asked again without end until a reply could be read, and with decimals cut off. Here any model judges, a reply
that cannot be read is counted and left out of the means, and where the truth is known the judge is measured beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from triptych.errors import DataError
from triptych.evaluation.by_video import correlation, mean_by_video
from triptych.evaluation.intervals import Estimate
from triptych.generation.protocol import Generator, Request, SamplingParams
from triptych.group import Group, fingerprint, text_message


@dataclass(frozen=True)
class TextJudge:
    """A model that is asked about texts.

    Attributes:
        generator: answers.
        params: how its replies are drawn.
        seed: of its replies.
    """

    generator: Generator
    params: SamplingParams
    seed: int = 0

    def replies(self, asked: Sequence[tuple[str, str]]) -> Iterator[str]:
        """Yield the reply to each of (name, text), in order; names tell rows apart, in errors too.

        Raises:
            DataError: a text that the judge cannot read, such as one longer than its context.
        """
        groups = [Group(f"{name}/{fingerprint(text)}", [text_message("user", text)]) for name, text in asked]
        requests = [Request(group, seed=self.seed) for group in groups]
        try:
            for samples in self.generator.generate(requests, self.params, root=Path()) if requests else ():
                yield samples[0].text
        except DataError as error:
            problem = f"The judge {self.generator.name} cannot be asked about an answer: {error.problem}"
            remedy = "Name a `judge` that takes longer texts, lower judge_max_new_tokens, or set judged: false."
            raise DataError(problem, remedy=remedy, kind=error.kind, file=error.file, row=error.row) from error


def unread_warning(task: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a warning where most replies of a judge could not be read, with one of them; else nothing.

    Args:
        task: name of the task.
        rows: `reply` and `match`, or `replies` and `scores` by aspect, as the kinds of tasks store them.
    """
    said = [(row["reply"], row["match"]) for row in rows if "reply" in row]
    said += [(reply, row["scores"][aspect]) for row in rows for aspect, reply in row.get("replies", {}).items()]
    unread = [reply for reply, found in said if found is None]
    if 2 * len(unread) <= len(said):
        return ""
    return (
        f"of the judge's replies in the task {task!r}, {len(unread):,} of {len(said):,} could not be read, such as "
        f"{shorten(unread[0], 120)!r}; they are counted as unread and left out of the means. Name a stronger `judge`, "
        "or set judged: false."
    )


def judge_error(judged: Sequence[float], true: Sequence[float], videos: Sequence[str]) -> dict[str, Estimate]:
    """Compare a judge's scores with true ones of the same answers.

    Args:
        judged: what the judge said.
        true: the truth, on the same scale.
        videos: what each answer is about; intervals are over videos.
    Returns:
        `judge_error`: mean absolute difference; `judge_bias`: mean difference, positive where the judge is generous;
        `judge_correlation`: Pearson's, left out where either side is constant, so that there is none.
    """
    differences = [one - other for one, other in zip(judged, true, strict=True)]
    measured = {
        "judge_error": mean_by_video([abs(difference) for difference in differences], videos),
        "judge_bias": mean_by_video(differences, videos),
    }
    if len(set(judged)) > 1 and len(set(true)) > 1:
        measured["judge_correlation"] = correlation(judged, true, videos)
    return measured
