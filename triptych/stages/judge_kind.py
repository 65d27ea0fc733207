"""The kind of task that measures a model as a judge of two answers; the sums are in `evaluation/judge_agreement.py`.

The first pass takes the answers that rows bring, two by two, or draws two; tasks that draw the same answers share them,
so that a judge with context and one without compare the very same. The second pass judges those of which the oracle
calls one better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from triptych.engine.blocks import Block, Work
from triptych.errors import TriptychError
from triptych.evaluation.judge_agreement import agreement, summarise_agreement
from triptych.feedback.ai_feedback import answers_of, two_by_two
from triptych.feedback.context import Narrative
from triptych.feedback.judge import Comparison, FunctionJudge, Opinion, outcome
from triptych.feedback.maker import drawn_completion
from triptych.generation.protocol import Generator, Request, SamplingParams
from triptych.group import Group, fingerprint
from triptych.stages.judges import make_judge, make_narrator
from triptych.stages.task_passes import Kind, Models, Prepared, Row, named, told, videos_of

NUM_DRAWN = 2
"""Answers drawn where a row brings none."""


def _split(groups: list[Group]) -> list[Group]:
    """Return a row for each comparison of rows that bring answers; other rows stay as they are."""
    split: list[Group] = []
    for group in groups:
        pairs = list(two_by_two(group, Counter()))
        for number, pair in enumerate(pairs):
            name = group.id if len(pairs) == 1 else f"{group.id}/{number}"
            split.append(replace(group, id=name, completions=[group.completions[index] for index in pair], pairs=[]))
        split += [] if pairs else [group]
    return split


def _answers_name(prepared: Prepared) -> str:
    """Return a name for the answers that are compared, the same for tasks that compare the same."""
    task = prepared.task
    drawing = [task.answers_by, task.temperature, task.max_new_tokens]
    return fingerprint(
        [task.data, str(prepared.root), task.layout, task.question, task.limit, task.cot_prompt, *drawing]
    )


def _require(prepared: Prepared) -> None:
    task = prepared.task
    if not task.oracle:
        raise TriptychError(f"The task {task.name!r} measures a judge; name the `oracle` that it is held to.")
    FunctionJudge(task.oracle)
    make_judge(task.judge, prepared.seed)
    make_narrator(task.judge, prepared.seed)
    if not task.temperature > 0 and not all(map(answers_of, prepared.groups)):
        raise TriptychError(
            f"The task {task.name!r} draws two answers to rows that bring none; set its `temperature` above 0, for "
            "greedy answers are both the same."
        )


def _answer(prepared: Prepared, groups: Sequence[Group], generator: Generator) -> Iterator[Row]:
    """Yield the two answers of each row; none where they are alike or without words."""
    task = prepared.task
    params = SamplingParams(temperature=task.temperature, max_new_tokens=task.max_new_tokens)
    requests = [Request(group, NUM_DRAWN, prepared.seed) for group in groups if not answers_of(group)]
    drawn = iter(generator.generate(requests, params, root=prepared.root) if requests else ())
    for group in groups:
        if not answers_of(group):
            samples = [drawn_completion(sample, generator.name) for sample in next(drawn)]
            group = replace(group, completions=samples)
        pairs = list(two_by_two(group, Counter()))
        yield {"id": group.id, "answers": [group.completions[index].text for pair in pairs for index in pair]}


def _grade(prepared: Prepared, rows: list[Row], models: Models) -> Work:
    """Return what asks oracle and judge about the answers of each row."""
    task, seed = prepared.task, prepared.seed
    oracle, judge, narrator = FunctionJudge(task.oracle), make_judge(task.judge, seed), make_narrator(task.judge, seed)

    def work(block: Block) -> Iterator[Row]:
        comparisons = [Comparison(group, *row["answers"]) if row["answers"] else None for group, row in block.rows]
        better = [oracle.better(item) if item else None for item in comparisons]
        asked = [item for item, known in zip(comparisons, better, strict=True) if known is not None]
        judging = models.measured(block.scratch)
        groups = [comparison.group for comparison in asked]
        narratives = narrator.tell(groups, judging, prepared.root) if narrator else [Narrative("")] * len(groups)
        asked = [replace(item, context=about.text) for item, about in zip(asked, narratives, strict=True)]
        judged = zip(asked, judge.opinions(asked, judging, prepared.root), strict=True)
        for (group, row), known in zip(block.rows, better, strict=True):
            compared = told(task, group) | {"answers": row["answers"], "oracle": known}
            yield compared if known is None else compared | _verdict(known, *next(judged))

    return work


def _verdict(oracle: int, comparison: Comparison, both: tuple[Opinion, Opinion]) -> Row:
    result = outcome(both)
    return {
        "context": comparison.context,
        "outcome": result,
        "agreement": agreement(result, oracle),
        "letters": [opinion.letter for opinion in both],
        "confidences": [opinion.confidence for opinion in both if opinion.confidence is not None],
        "verdicts": [opinion.text for opinion in both if opinion.text],
    }


def _summarise(prepared: Prepared, rows: list[Row]) -> Row:
    return named(summarise_agreement(rows, videos_of(rows)), prepared.task)


JUDGE_KINDS = {"judge": Kind(_answer, _summarise, _grade, _require, split=_split, answers_name=_answers_name)}
