"""The same questions before and after alignment: how many answers changed, and some to read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from triptych.report.claims import Claim
from triptych.report.examples import MAX_PICTURES, Chosen, Piece
from triptych.report.pictures import Picture, Pictures
from triptych.report.reading import SAMPLES, Run, Stage, finite
from triptych.report.results import BASE, in_order
from triptych.report.wording import shorten

TASKS = {
    "direct": "Direct answers",
    "cot": "Chain of thought",
    "describe": "Descriptions, greedy",
    "describe_sampled": "Descriptions, sampled",
}
CHANGES = {
    (False, True): "mended",
    (True, False): "broken",
    (False, False): "still wrong",
    (True, True): "right both times",
}
"""What became of an answer: (right before, right after)."""
SHOWN = {"mended": 2, "broken": 1, "still wrong": 1, "right both times": 1, "": 3}
"""Samples shown of each change; of answers with nothing to compare them with, the last number."""

RIGHT_VERDICTS = ("correct", "faithful")
"""Of a checked answer, and of a description without a wrong claim."""

Key = tuple[str, str]
"""Task and id of a sample."""
Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Answer:
    """What one model said."""

    model: str
    right: bool | None
    verdict: str
    pieces: list[Claim]
    wrong_claims: list[str]


@dataclass(frozen=True)
class Sample:
    """One question with the answers of the models."""

    id: str
    change: str
    truth: str | None
    pieces: list[Piece]
    answers: list[Answer]


@dataclass(frozen=True)
class Task:
    """One kind of question: how answers changed, and samples of each change."""

    title: str
    counts: dict[str, int]
    samples: list[Sample]


@dataclass(frozen=True)
class BeforeAfter:
    """Section 6 of the report. `after` is empty while only the start model has been evaluated."""

    before: str
    after: str
    tasks: list[Task]


def is_right(row: dict[str, Any]) -> bool | None:
    """Tell whether an answer is right: by its claims where given, else by its verdict, else by a score of one."""
    claims = row.get("claims")
    if isinstance(claims, list):
        return not any(_claim_right(claim) is False for claim in claims)
    verdict, score = row.get("verdict"), finite(row.get("score"))
    if isinstance(verdict, str) and verdict:
        return verdict in RIGHT_VERDICTS
    return None if score is None else score >= 1


def before_after(run: Run, pictures: Pictures) -> BeforeAfter | None:
    """Join the samples of the start model and the aligned model by task and id; None where no samples exist."""
    stages = {
        stage.evaluates: stage for stage in run.stages.values() if stage.evaluates and any(stage.folder.glob(SAMPLES))
    }
    if not stages:
        return None
    order = in_order(stages)
    before = BASE if BASE in stages else order[0]
    others = [model for model in order if model != before]
    after = "mpo" if "mpo" in others else (others[-1] if others else "")
    models = [before, after] if after else [before]
    outcomes = [_outcomes(run, stages[model]) for model in models]
    chosen, counts = _choose(outcomes)
    rows = [_rows(run, stages[model], {key for keys in chosen.values() for _, key in keys}) for model in models]
    tasks = []
    for task in sorted(chosen, key=lambda name: (list(TASKS).index(name) if name in TASKS else len(TASKS), name)):
        add = partial(pictures.add, root=run.data_root(stages[before], task))
        samples = [_sample(change, key, models, rows, add) for change, key in chosen[task]]
        tasks.append(Task(TASKS.get(task, task.replace("_", " ")), counts[task], samples))
    return BeforeAfter(before, after, tasks)


def _key(row: dict[str, Any]) -> Key:
    return str(row.get("task", "")), str(row.get("id", ""))


def _outcomes(run: Run, stage: Stage) -> dict[Key, bool | None]:
    """Read what became of each answer; those about clips are told by `clip_answers`."""
    return {_key(row): is_right(row) for row in run.sample_rows(stage) if not row.get("videos")}


def _choose(outcomes: list[dict[Key, bool | None]]) -> tuple[dict[str, list[tuple[str, Key]]], Counts]:
    """Count every change and pick the keys to show: {task: [(change, key)]} and {task: {change: count}}.

    With one model there is no change to count, and some of its answers are picked.
    """
    picked: dict[str, dict[str, Chosen]] = {}
    counts: Counts = {}
    before, after = outcomes[0], outcomes[-1]
    for key, was_right in before.items():
        if key not in after:
            continue
        change = CHANGES.get((was_right, after[key]), "") if len(outcomes) > 1 else ""
        task = counts.setdefault(key[0], dict.fromkeys(CHANGES.values(), 0))
        if change:
            task[change] += 1
        picked.setdefault(key[0], {}).setdefault(change, Chosen(SHOWN[change])).offer(key[1], key)
    chosen = {
        task: [(change, key) for change in SHOWN if change in kinds for key in kinds[change].items]
        for task, kinds in picked.items()
    }
    return chosen, counts


def _rows(run: Run, stage: Stage, keys: set[Key]) -> dict[Key, dict[str, Any]]:
    return {_key(row): row for row in run.sample_rows(stage) if _key(row) in keys}


def _sample(
    change: str,
    key: Key,
    models: list[str],
    rows: list[dict[Key, dict[str, Any]]],
    add: Callable[..., Picture],
) -> Sample:
    first = rows[0][key]
    images = [path for path in first.get("images") or () if isinstance(path, str)][:MAX_PICTURES]
    pictures = [Piece(picture=add(path, alt=f"Picture of question {key[1]}")) for path in images]
    prompt = str(first.get("prompt", "")).replace("<image>", "[picture]" if len(images) > 1 else "")
    truth = first.get("answer")
    return Sample(
        id=key[1],
        change=change,
        truth=None if truth is None else shorten(str(truth), 300),
        pieces=[*pictures, Piece(shorten(prompt.strip()))],
        answers=[_answer(model, found[key]) for model, found in zip(models, rows, strict=True)],
    )


def _answer(model: str, row: dict[str, Any]) -> Answer:
    prediction = shorten(str(row.get("prediction", "")))
    claims = row.get("claims")
    pieces, unplaced = place_claims(prediction, claims if isinstance(claims, list) else [])
    verdict = str(row.get("verdict") or "").replace("_", " ")
    return Answer(model, is_right(row), verdict, pieces, [claim.text for claim in unplaced if claim.right is False])


def place_claims(text: str, claims: list[Any]) -> tuple[list[Claim], list[Claim]]:
    """Cut a text into the claims found in it, in order, and what lies between them.

    A claim is `{"text": ..., "right": bool}`; its words may stand further apart in the text than in the claim. Of
    several claims in the same words, such as `two stars`, one wrong one makes the words wrong.

    Returns:
        the pieces, which join to `text`; and the claims whose words do not occur in it.
    """
    verdicts: dict[str, bool | None] = {}
    for item in claims:
        words, right = _claim_text(item), _claim_right(item)
        verdicts[words] = right if verdicts.get(words) is not False else False
    pieces: list[Claim] = []
    unplaced: list[Claim] = []
    position = 0
    for words, right in verdicts.items():
        pattern = r"\s+".join(map(re.escape, words.split()))
        match = re.compile(pattern, re.IGNORECASE).search(text, position) if pattern else None
        if match is None:
            unplaced.append(Claim(words, right))
            continue
        if match.start() > position:
            pieces.append(Claim(text[position : match.start()], None))
        pieces.append(Claim(match[0], right))
        position = match.end()
    if position < len(text):
        pieces.append(Claim(text[position:], None))
    return pieces, unplaced


def _claim_text(item: Any) -> str:
    return str(item.get("text", "")) if isinstance(item, dict) else str(item)


def _claim_right(item: Any) -> bool | None:
    found = item.get("right") if isinstance(item, dict) else None
    return found if isinstance(found, bool) else None
