"""Evaluation: answers checked, graded by a judge or compared with each other, with 95 % intervals.

What the kinds of tasks do is in `task_kinds.py`. Answers, and the replies of a judge, are stored as they come.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from triptych.data.files import read_jsonl
from triptych.data.frame_cache import frame_cache_in
from triptych.data.media_check import check_media
from triptych.data.rows import read_groups
from triptych.engine.blocks import Work, join_files, run_blocks
from triptych.engine.inputs import data_root, input_fingerprints
from triptych.engine.run import RunDirectory
from triptych.engine.workers import OwnWork
from triptych.errors import DataError
from triptych.evaluation.actions import classes_of
from triptych.evaluation.judging import unread_warning
from triptych.evaluation.layouts.read import layout_files, read_layout
from triptych.evaluation.similarity import CLIP
from triptych.evaluation.text_video import TextVideoScorer
from triptych.feedback.prompts import cot_prompt
from triptych.generation.settings import SPEED_SETTINGS
from triptych.group import Group
from triptych.stages.evaluate_config import EvaluateConfig as Config
from triptych.stages.evaluate_config import Task
from triptych.stages.task_kinds import KINDS, overall
from triptych.stages.task_models import TaskModels
from triptych.stages.task_passes import Prepared, Row, summarise_answers

IGNORED = ("out", "frame_cache", *SPEED_SETTINGS, *(f"judge_{name}" for name in SPEED_SETTINGS))
"""Settings that change no result."""


def run(config: Config) -> dict[str, Any]:
    """Measure every task and return the results that `done.json` holds; answers are in `samples.jsonl`."""
    directory = RunDirectory(config.out, config, inputs=input_fingerprints(_inputs(config)), ignore=IGNORED)
    if directory.done is not None:
        return directory.done
    text_video = cache(partial(TextVideoScorer.named, frame_cache=frame_cache_in(config.frame_cache)))
    tasks = [_prepare(config, task, text_video) for task in config.all_tasks]
    models = TaskModels(config)
    result: dict[str, Any] = {}
    measured = []
    for prepared in tasks:
        rows = _measure(config, prepared, models, directory)
        result |= KINDS[prepared.task.kind].summarise(prepared, rows) | summarise_answers(prepared.task, rows)
        if warning := unread_warning(prepared.task.name, rows):
            print(f"Warning: {warning}", file=sys.stderr)
        measured.append((prepared.task, rows))
    join_files([directory.path / _samples_of(task) for task, _ in measured], directory.path / "samples.jsonl")
    result = directory.finish(result | overall(measured) | _distance(config))
    for prepared in tasks:
        for name in (_samples_of(prepared.task), _answers_of(prepared)):
            (directory.path / name).unlink(missing_ok=True)
    return result


def _samples_of(task: Task) -> str:
    return f"samples-{task.name}.jsonl"


def _answers_of(prepared: Prepared) -> str:
    """Return the file of answers that are yet to be graded."""
    return f"answers-{KINDS[prepared.task.kind].answers_name(prepared)}.jsonl"


def _distance(config: Config) -> dict[str, Any]:
    """Return how far the best of several answers are from single ones at most, as `kl`, in nats."""
    if config.best_of == 1:
        return {}
    from triptych.evaluation.best_of import kl_bound

    bound = kl_bound(config.best_of)
    return {"kl": {"value": bound, "ci": [bound, bound]}}


def _inputs(config: Config) -> list[str]:
    """Return the files and folders that decide the results; a server's model is only a name."""
    models = [(config.model, config.backend), (config.judge, config.judge_backend)]
    paths = [model for model, backend in models if model and backend.kind != "server"]
    paths += [path for path in (config.reward_model, config.reference) if path]
    for task in config.all_tasks:
        paths += [task.answers_by] if task.answers_by else []
        paths += map(str, layout_files(task.layout, task.data)) if task.layout else [task.data]
        paths += [task.similarity.removeprefix(CLIP)] if task.similarity.startswith(CLIP) else []
    return paths


def _prepare(config: Config, task: Task, text_video: Callable[[str], TextVideoScorer]) -> Prepared:
    """Read the rows of a task and refuse those that it cannot be measured with, before any work."""
    try:
        return _prepared(config, task, text_video)
    except DataError as error:
        raise error.located(file=task.data) from error


def _prepared(config: Config, task: Task, text_video: Callable[[str], TextVideoScorer]) -> Prepared:
    root = data_root(task.data, task.root or config.root)
    groups = read_layout(task.layout, task.data, root, task.question) if task.layout else read_groups(task.data)
    if not groups:
        raise DataError("The file holds no rows.", remedy="Take the task out.", kind="empty_file", file=task.data)
    classes = classes_of(groups) if task.kind == "actions" else []
    groups = KINDS[task.kind].split(groups[: task.limit or None])
    if task.cot_prompt:
        groups = [cot_prompt(group, task.cot_prompt, style=task.answer_style) for group in groups]
    scorer = text_video(task.similarity.removeprefix(CLIP)) if task.similarity.startswith(CLIP) else None
    prepared = Prepared(task, groups, root, config.seed, classes, text_video=scorer)
    KINDS[task.kind].require(prepared)
    check_media((group, root, task.data) for group in prepared.groups)
    return prepared


def _measure(config: Config, prepared: Prepared, models: TaskModels, directory: RunDirectory) -> list[Row]:
    """Answer the rows of a task, grade the answers where the kind does, and return what is stored of them."""
    kind, task = KINDS[prepared.task.kind], prepared.task

    def answer() -> Work:
        answering = replace(prepared, log_ratios=models.log_ratios)
        return lambda block: kind.answer(answering, block.rows, models.answering(task, block.scratch))

    def blocks(name: str, rows: Sequence[Group | tuple[Group, Row]], make_work: Callable[[], Work], title: str) -> Path:
        workers, stored = OwnWork(make_work), directory.record_time
        return run_blocks(directory.path, name, rows, len(rows), config.block_size, workers, title=title, stored=stored)

    first = _answers_of(prepared) if kind.grade else _samples_of(task)
    rows = _read(blocks(first, prepared.groups, answer, f"evaluate {task.name}"))
    if kind.grade is None:
        return rows
    answered = list(zip(prepared.groups, rows, strict=True))
    grade = partial(kind.grade, prepared, rows, models.graders)
    return _read(blocks(_samples_of(task), answered, grade, f"grade {task.name}"))


def _read(path: Path) -> list[Row]:
    return [row for _, row in read_jsonl(path)]
