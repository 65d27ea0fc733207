"""The kinds of tasks that measure video models: generative, video_qa, retrieval, actions (VLM-RLAIF, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from triptych.engine.blocks import Block, Work
from triptych.engine.captioned import require_media
from triptych.errors import DataError, TriptychError
from triptych.evaluation.actions import class_logps, rank_classes, summarise_actions, unmatched
from triptych.evaluation.descriptions import resolve_scorer
from triptych.evaluation.generative import (
    Aspect,
    column,
    five_aspect_mean,
    grading_prompt,
    summarise_aspects,
    true_score,
)
from triptych.evaluation.judge_replies import read_match, read_score
from triptych.evaluation.retrieval import queries_of, rank_videos, summarise_retrieval
from triptych.evaluation.similarity import Similarity, resolve_similarity
from triptych.evaluation.video_qa import match_by_rules, matching_prompt, summarise_qa
from triptych.feedback.asking import question_text
from triptych.generation.protocol import Generator, Sample
from triptych.group import Group
from triptych.stages.evaluate_config import BENCHMARK_TASKS, Task
from triptych.stages.frame_passes import (
    FEATURES,
    answer_by_frames,
    summarise_clip_scores,
    with_clip_scores,
    without_features,
)
from triptych.stages.task_passes import (
    Kind,
    Models,
    Prepared,
    Row,
    answer_texts,
    named,
    require_answers,
    told,
    videos_of,
)

PARAPHRASE = "paraphrase"
"""In `meta`, the other wording of a question."""


def five_aspects(measured: Sequence[tuple[Task, list[Row]]]) -> Row:
    """Return the means of the five aspects: `generative` by the judge, and `true_generative`."""
    results: Row = {}
    for field, name in (("scores", "generative"), ("true", "true_generative")):
        columns = {
            aspect: column(rows, field, aspect, videos_of(rows))
            for task, rows in measured
            if task.kind == "generative" and task.name in BENCHMARK_TASKS and field in rows[0]
            for aspect in task.aspects
        }
        if (five := five_aspect_mean(columns)) is not None:
            results[name] = five
    return results


def _answer_wordings(prepared: Prepared, groups: Sequence[Group], generator: Generator) -> Iterator[Row]:
    """Yield the answers to each question and, for consistency, to its other wording."""
    if "consistency" not in prepared.task.aspects:
        yield from answer_texts(prepared, groups, generator)
        return
    wordings = [wording for group in groups for wording in (group, _reworded(group, prepared.task.data))]
    rows = answer_texts(prepared, wordings, generator)
    for row, other in zip(rows, rows, strict=True):
        yield row | {"prompt_paraphrase": other["prompt"], "prediction_paraphrase": other["prediction"]}


def _reworded(group: Group, file: str) -> Group:
    """Return the row with the other wording of its question, in place of the last text of the prompt.

    Raises:
        DataError: kind `missing_paraphrase`.
    """
    text = group.meta.get(PARAPHRASE)
    messages = [message | {"content": list(message["content"])} for message in group.prompt]
    texts = [
        (message, n) for message in messages for n, part in enumerate(message["content"]) if part["type"] == "text"
    ]
    if not isinstance(text, str) or not text.strip() or not texts:
        raise DataError(
            "The row has one wording of its question only.",
            remedy=f"Put another one into meta.{PARAPHRASE}, or leave consistency out of `aspects`.",
            kind="missing_paraphrase",
            file=file,
            row=group.id,
        )
    message, number = texts[-1]
    message["content"][number] = {"type": "text", "text": text}
    return replace(group, id=f"{group.id}/{PARAPHRASE}", prompt=messages)


def _require_aspects(prepared: Prepared) -> None:
    task = prepared.task
    if not task.judged and not task.scorer:
        raise TriptychError(
            f"The task {task.name!r} has neither a judge nor a `scorer`; set judged: true, or name one."
        )
    _require_scorer(task)
    require_answers(prepared)
    for group in prepared.groups if "consistency" in task.aspects else ():
        _reworded(group, task.data)


def _require_scorer(task: Task) -> None:
    if task.scorer:
        resolve_scorer(task.scorer)


def _grade_aspects(prepared: Prepared, rows: list[Row], models: Models) -> Work:
    """Return what asks the judge for a score of each aspect of each answer, and the scorer for the true ones."""
    task = prepared.task

    def work(block: Block) -> Iterator[Row]:
        asked = [(item, aspect) for item in block.rows for aspect in task.aspects] if task.judged else []
        prompts = [(f"{row['id']}/{aspect}", _grading_prompt(aspect, group, row)) for (group, row), aspect in asked]
        replies = models.judge(block.scratch).replies(prompts) if prompts else iter(())
        for group, row in block.rows:
            graded: Row = {}
            if task.judged:
                said = {aspect: next(replies) for aspect in task.aspects}
                graded = {"scores": {aspect: read_score(reply) for aspect, reply in said.items()}, "replies": said}
            if task.scorer:
                scored = [resolve_scorer(task.scorer)(text, group) for text in _predictions(row, "consistency")]
                true = {
                    aspect: true_score(aspect, scored if aspect == "consistency" else scored[:1])
                    for aspect in task.aspects
                }
                graded |= {"true": true}
            yield row | graded

    return work


def _grading_prompt(aspect: Aspect, group: Group, row: Row) -> str:
    questions = [question_text(group)]
    if aspect == "consistency":
        questions.append(group.meta[PARAPHRASE])
    return grading_prompt(aspect, questions, group.answer or "", _predictions(row, aspect))


def _predictions(row: Row, aspect: Aspect) -> list[str]:
    both = [row["prediction"], row.get("prediction_paraphrase")]
    return [text for text in both if text is not None] if aspect == "consistency" else both[:1]


def _summarise_aspects(prepared: Prepared, rows: list[Row]) -> Row:
    results = summarise_aspects(rows, prepared.task.aspects, videos_of(rows))
    return results if prepared.task.name in BENCHMARK_TASKS else named(results, prepared.task)


def _match_by_rules(task: Task, group: Group, sample: Sample) -> Row:
    matched = match_by_rules(sample.text, group.answer or "")
    return matched | ({"verdict": "correct" if matched["exact"] else "wrong"} if matched else {})


def _require_qa(prepared: Prepared) -> None:
    _require_scorer(prepared.task)
    require_answers(prepared)


def _grade_qa(prepared: Prepared, rows: list[Row], models: Models) -> Work:
    """Return what asks the judge whether each answer matches, and the scorer for the true score."""
    task = prepared.task

    def work(block: Block) -> Iterator[Row]:
        prompts = [
            (group.id, matching_prompt(question_text(group), group.answer or "", row["prediction"]))
            for group, row in block.rows
        ]
        replies = models.judge(block.scratch).replies(prompts) if task.judged else iter(())
        for group, row in block.rows:
            graded: Row = {}
            if task.judged:
                reply = next(replies)
                match, score = read_match(reply)
                verdict = {True: "correct", False: "wrong", None: "unread"}[match]
                graded = {"match": match, "score": score, "verdict": verdict, "reply": reply}
            if task.scorer:
                graded["true"] = true_score("score", [resolve_scorer(task.scorer)(row["prediction"], group)])
            yield row | graded

    return work


def _summarise_qa(prepared: Prepared, rows: list[Row]) -> Row:
    return named(summarise_qa(rows, videos_of(rows)), prepared.task, "accuracy")


def _similarity(prepared: Prepared) -> Similarity:
    """Return how the task compares texts."""
    return resolve_similarity(prepared.task.similarity, prepared.text_video)


def _require_frames(prepared: Prepared) -> None:
    for group in prepared.groups if prepared.task.by == "frames" else ():
        require_media(group)


def _require_captions(prepared: Prepared) -> None:
    _similarity(prepared)
    _require_frames(prepared)
    for group in prepared.groups:
        queries_of(group)
    if len(prepared.groups) < 2:
        raise DataError(
            f"The task {prepared.task.name!r} has one video, which every model finds.",
            remedy="Give several videos, or raise `limit`.",
            kind="too_few_videos",
            file=prepared.task.data,
        )


def _answer_retrieval(prepared: Prepared, groups: Sequence[Group], generator: Generator) -> Iterator[Row]:
    """Yield what the model says of each video, or the features of its frames."""
    if prepared.task.by == "frames":
        return answer_by_frames(prepared, groups)
    return with_clip_scores(answer_texts)(prepared, groups, generator)


def _grade_retrieval(prepared: Prepared, rows: list[Row], models: Models) -> Work:
    """Return what looks for each video by its human captions, among the captions of all, or among their frames."""
    queries = [queries_of(group) for group in prepared.groups]
    if prepared.task.by == "frames":
        found = rank_videos(queries, [row[FEATURES] for row in rows], prepared.text_video.compare_videos)
    else:
        found = rank_videos(queries, [row["prediction"] for row in rows], _similarity(prepared))
    return partial(_with_ranks, found)


def _with_ranks(found: Sequence[Row], block: Block) -> Iterator[Row]:
    ranks = found[block.start : block.start + len(block.rows)]
    yield from (without_features(row) | rank for (_, row), rank in zip(block.rows, ranks, strict=True))


def _summarise_retrieval(prepared: Prepared, rows: list[Row]) -> Row:
    return named(summarise_retrieval(rows, videos_of(rows)) | summarise_clip_scores(rows), prepared.task)


def _answer_actions(prepared: Prepared, groups: Sequence[Group], generator: Generator) -> Iterator[Row]:
    """Yield what the model says of each video, how probable each class is as its answer, or the features of frames."""
    if prepared.task.by != "likelihood":
        by_text = prepared.task.by == "text"
        yield from answer_texts(prepared, groups, generator) if by_text else answer_by_frames(prepared, groups)
        return
    logps = class_logps(generator, groups, prepared.classes, prepared.root)
    for group, values in zip(groups, logps, strict=True):
        best = prepared.classes[int(np.argmax(values))]
        yield told(prepared.task, group) | {"prediction": best, "logps": values}


def _require_classes(prepared: Prepared) -> None:
    _similarity(prepared)
    _require_frames(prepared)
    require_answers(prepared)


def _grade_actions(prepared: Prepared, rows: list[Row], models: Models) -> Work:
    """Return what ranks the classes for each video."""
    by = prepared.task.by
    if by == "likelihood":
        scores = np.array([row["logps"] for row in rows])
    elif by == "frames":
        scores = prepared.text_video.compare_videos(prepared.classes, [row[FEATURES] for row in rows]).T
    else:
        scores = np.asarray(_similarity(prepared)([row["prediction"] for row in rows], prepared.classes))
    ranks = rank_classes(scores, prepared.classes, [group.answer or "" for group in prepared.groups])
    if by == "frames":
        ranks = [{"prediction": rank["top"][0]} | rank for rank in ranks]
    return partial(_with_ranks, ranks)


def _summarise_actions(prepared: Prepared, rows: list[Row]) -> Row:
    results = summarise_actions(rows, videos_of(rows))
    if prepared.task.by == "text":
        results["unmatched"] = unmatched(rows, len(prepared.classes))
    return named(results, prepared.task, "top1")


VIDEO_KINDS = {
    "generative": Kind(_answer_wordings, _summarise_aspects, _grade_aspects, _require_aspects),
    "video_qa": Kind(partial(answer_texts, check=_match_by_rules), _summarise_qa, _grade_qa, _require_qa),
    "retrieval": Kind(_answer_retrieval, _summarise_retrieval, _grade_retrieval, _require_captions),
    "actions": Kind(_answer_actions, _summarise_actions, _grade_actions, _require_classes),
}
