"""All kinds of tasks of an evaluation, and those of them whose answers are checked one by one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from triptych.errors import DataError, TriptychError
from triptych.evaluation.accuracy import accuracy
from triptych.evaluation.cider import cider
from triptych.evaluation.descriptions import aggregate_descriptions, resolve_scorer
from triptych.evaluation.intervals import mean
from triptych.evaluation.vqa import vqa_accuracy
from triptych.feedback.answers import AnswerRule
from triptych.feedback.correctness import judge_text
from triptych.generation.protocol import Sample
from triptych.group import Group
from triptych.stages.evaluate_config import Task
from triptych.stages.frame_passes import summarise_clip_scores, with_clip_scores
from triptych.stages.judge_kind import JUDGE_KINDS
from triptych.stages.task_passes import Kind, Prepared, Row, answer_texts
from triptych.stages.video_kinds import VIDEO_KINDS, five_aspects


def overall(measured: Sequence[tuple[Task, list[Row]]]) -> Row:
    """Sum up over tasks: `unparsed` of all accuracy tasks, and the means of the five aspects."""
    verdicts = [row["verdict"] for task, rows in measured if task.kind == "accuracy" for row in rows]
    return ({"unparsed": accuracy(verdicts).unparsed} if verdicts else {}) | five_aspects(measured)


def _check_answer(task: Task, group: Group, sample: Sample) -> Row:
    rule = AnswerRule(style=task.answer_style, kind=task.answer_kind)
    verdict = judge_text(group, sample.text, rule, truncated=sample.truncated)
    return {"verdict": verdict, "score": float(verdict == "correct")}


def _summarise_accuracy(prepared: Prepared, rows: list[Row]) -> Row:
    measured = accuracy([row["verdict"] for row in rows])
    return {prepared.task.name: measured.accuracy, f"unparsed_{prepared.task.name}": measured.unparsed}


def _check_vqa(task: Task, group: Group, sample: Sample) -> Row:
    """Compare with the ten human answers in `meta["answers"]`."""
    score = vqa_accuracy(sample.text, group.meta["answers"])
    return {"verdict": "correct" if score == 1 else "wrong" if score == 0 else "partly correct", "score": score}


def _require_human_answers(prepared: Prepared) -> None:
    for group in prepared.groups:
        if not isinstance(group.meta.get("answers"), list):
            raise DataError(
                "The row has no list of human answers.",
                remedy="Put the ten answers into meta.answers, or use the kind accuracy with a single `answer`.",
                kind="missing_answer",
                file=prepared.task.data,
                row=group.id,
            )


def _summarise_scores(prepared: Prepared, rows: list[Row]) -> Row:
    return {prepared.task.name: mean([row["score"] for row in rows])}


def _check_description(task: Task, group: Group, sample: Sample) -> Row:
    score = resolve_scorer(task.scorer)(sample.text, group)
    return {"verdict": "hallucinated" if score["hallucinated"] else "faithful", "score": score["coverage"]} | score


def _require_scorer(prepared: Prepared) -> None:
    if not prepared.task.scorer:
        raise TriptychError(f"The task {prepared.task.name!r} scores descriptions; name its `scorer`.")
    resolve_scorer(prepared.task.scorer)


def _summarise_descriptions(prepared: Prepared, rows: list[Row]) -> Row:
    """Name the results after the task.

    `describe` gives `hallucination`, `describe_sampled` `hallucination_sampled`, and `captions`
    `hallucination_captions`.
    """
    results: Row = dict(aggregate_descriptions(rows)) | summarise_clip_scores(rows)
    references = [[item.text for item in group.completions] for group in prepared.groups]
    if all(references):
        results["cider"] = mean(cider([row["prediction"] for row in rows], references))
    name = prepared.task.name
    suffix = name.removeprefix("describe") if name.startswith("describe") else f"_{name}"
    return {result + suffix: value for result, value in results.items()}


KINDS = {
    "accuracy": Kind(partial(answer_texts, check=_check_answer), _summarise_accuracy),
    "vqa": Kind(partial(answer_texts, check=_check_vqa), _summarise_scores, require=_require_human_answers),
    "description": Kind(
        with_clip_scores(partial(answer_texts, check=_check_description)),
        _summarise_descriptions,
        require=_require_scorer,
    ),
    **VIDEO_KINDS,
    **JUDGE_KINDS,
}
"""By the name that `Task.kind` has for them."""
