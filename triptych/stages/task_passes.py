"""What the kinds of tasks of an evaluation share: two passes over rows, and the names of results.

The first pass asks the model, and checks each answer that can be checked by itself. The second, of kinds that have one,
grades the answers of the first: it asks a judge, or compares all of them with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.engine.blocks import Work
from triptych.errors import DataError
from triptych.evaluation.by_video import mean_by_video
from triptych.evaluation.judging import TextJudge
from triptych.evaluation.text_video import TextVideoScorer
from triptych.generation.protocol import Generator, Request, Sample, SamplingParams
from triptych.group import Group, fingerprint, prompt_text
from triptych.stages.evaluate_config import Task

Row = dict[str, Any]
Check = Callable[[Task, Group, Sample], Row]


@dataclass(frozen=True)
class Prepared:
    """A task and its rows.

    Attributes:
        task: which.
        groups: its rows.
        root: data root of their media.
        seed: of samples.
        classes: names of all classes, of the kind actions; rows beyond the limit of the task count too.
        log_ratios: returns log p(answer) of the model less that of the reference, in nats, for each row and answer;
            None where no reference is named.
        text_video: compares texts with each other and with frames, where `similarity` names a CLIP.
    """

    task: Task
    groups: list[Group]
    root: Path
    seed: int
    classes: Sequence[str] = ()
    log_ratios: Callable[[Sequence[Group], Sequence[Sample], Path], list[float]] | None = None
    text_video: TextVideoScorer | None = None


@dataclass(frozen=True)
class Models:
    """Who is asked in the second pass; the replies of engines that allow it are kept in the file that is given.

    Attributes:
        measured: returns the model that is measured.
        judge: returns the judge of texts.
    """

    measured: Callable[[Path], Generator]
    judge: Callable[[Path], TextJudge]


@dataclass(frozen=True)
class Kind:
    """How a kind of task is measured.

    Attributes:
        answer: the first pass: yields a stored row for each row, in order.
        summarise: sums up the rows, answered and graded, to results.
        grade: makes the second pass, whose blocks hold (group, stored row), from the rows of the first and the models
            that may be asked; None where there is no second pass.
        require: refuses rows and settings that the task cannot be measured with, before any work.
        split: returns the rows that are worked on, where one of the data is several.
        answers_name: returns a name for what the first pass gives; tasks for which it is the same share the answers.
    """

    answer: Callable[[Prepared, Sequence[Group], Generator], Iterator[Row]]
    summarise: Callable[[Prepared, list[Row]], Row]
    grade: Callable[[Prepared, list[Row], Models], Work] | None = None
    require: Callable[[Prepared], None] = lambda prepared: None
    split: Callable[[list[Group]], list[Group]] = lambda groups: groups
    answers_name: Callable[[Prepared], str] = lambda prepared: prepared.task.name


def answer_texts(
    prepared: Prepared,
    groups: Sequence[Group],
    generator: Generator,
    check: Check = lambda task, group, sample: {},
) -> Iterator[Row]:
    """Yield the answers of the model, with their lengths; `check` says what is found in each by itself."""
    task = prepared.task
    params = SamplingParams(temperature=task.temperature, max_new_tokens=task.max_new_tokens)
    requests = [Request(group, 1, prepared.seed) for group in groups]
    samples = [sample for (sample,) in generator.generate(requests, params, root=prepared.root)]
    columns = {"num_tokens": [sample.num_tokens for sample in samples]}
    if prepared.log_ratios:
        columns["log_ratio"] = prepared.log_ratios(groups, samples, prepared.root)
    for number, (group, sample) in enumerate(zip(groups, samples, strict=True)):
        measured = {name: values[number] for name, values in columns.items()}
        yield told(task, group) | {"prediction": sample.text} | measured | check(task, group, sample)


def summarise_answers(task: Task, rows: Sequence[Row]) -> Row:
    """Return what every kind tells of answers in words: `length_NAME`, in tokens, and `kl_NAME`, in nats."""
    return {
        f"{name}_{task.name}": mean_by_video([row[column] for row in rows], videos_of(rows))
        for name, column in (("length", "num_tokens"), ("kl", "log_ratio"))
        if column in rows[0]
    }


def told(task: Task, group: Group) -> Row:
    """Return what a stored row tells of its question."""
    row = {"id": group.id, "task": task.name, "prompt": prompt_text(group), "answer": group.answer}
    row |= {"images": [item for item in group.images if isinstance(item, str)]}
    return row | ({"videos": [item for item in group.videos if isinstance(item, str)]} if group.videos else {})


def videos_of(rows: Sequence[Row]) -> list[str]:
    """Return what each stored row is about: its media, or the row itself where it has none."""
    return [fingerprint(row.get("videos") or row["images"] or [row["id"]]) for row in rows]


def named(results: Row, task: Task, bare: str = "") -> Row:
    """Return results under the name of the task: `NAME` for the one called `bare`, `RESULT_NAME` for the others."""
    return {task.name if name == bare else f"{name}_{task.name}": value for name, value in results.items()}


def require_answers(prepared: Prepared) -> None:
    """Raise `DataError` of kind `missing_answer` for a row without a truth."""
    for group in prepared.groups:
        if not (group.answer or "").strip():
            raise DataError(
                "The row has no `answer` to compare with.",
                remedy="Put the truth into `answer`, or take the row out.",
                kind="missing_answer",
                file=prepared.task.data,
                row=group.id,
            )
