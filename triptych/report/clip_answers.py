"""The same questions about the same clips, answered by every model that was evaluated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from triptych.data.rows import scan_rows
from triptych.errors import DataError
from triptych.evaluation.ranking import expected_hits, expected_rank
from triptych.group import Group
from triptych.report.before_after import is_right
from triptych.report.claims import Claim, mark_claims
from triptych.report.examples import Chosen, Piece
from triptych.report.filmstrip import strips_of
from triptych.report.oracle import opinion_of
from triptych.report.pictures import Pictures
from triptych.report.reading import SAMPLES, Run, Stage, finite
from triptych.report.results import BASE, aligned, in_order
from triptych.report.wording import fixed, number, shorten

BETTER, WORSE, SAME = "better", "worse", "the same"
SHOWN = {BETTER: 2, WORSE: 1, SAME: 1, "": 3}
"""Questions shown of each change; of answers with nothing to compare them with, the last number."""
MAX_MODELS = 6
"""Answers shown side by side."""

Key = tuple[str, str]
"""Task and id of a sample."""


@dataclass(frozen=True)
class ClipAnswer:
    """What one model said: a text, or one for each wording of the question."""

    model: str
    right: bool | None
    texts: list[list[Claim]]
    wrong_claims: list[str]
    """Of which the words do not stand in the text."""
    note: str
    """Scores or rank."""


@dataclass(frozen=True)
class ClipSample:
    """One question with the answers of all models."""

    id: str
    change: str
    """What became of it from the start model to the aligned one."""
    truth: str | None
    pieces: list[Piece]
    answers: list[ClipAnswer]


@dataclass(frozen=True)
class ClipTask:
    """One kind of question."""

    name: str
    counts: list[tuple[str, Counter[str]]]
    """For each model but the first, how many of its answers are better, worse and the same."""
    samples: list[ClipSample]


@dataclass(frozen=True)
class ClipAnswers:
    """The part about clips of section `Before and after`; `after` is empty while one model alone has been evaluated."""

    before: str
    after: str
    tasks: list[ClipTask]

    @property
    def has_claims(self) -> bool:
        """Tell whether any claim was checked."""
        samples = [sample for task in self.tasks for sample in task.samples]
        texts = [text for sample in samples for answer in sample.answers for text in answer.texts]
        return any(piece.right is not None for text in texts for piece in text)


def clip_answers(run: Run, pictures: Pictures) -> ClipAnswers | None:
    """Join the samples of all models by task and id; None where none is about a clip."""
    stages = {
        stage.evaluates: stage for stage in run.stages.values() if stage.evaluates and any(stage.folder.glob(SAMPLES))
    }
    scores = {model: found for model in in_order(stages) if (found := _scores(run, stages[model]))}
    if not scores:
        return None
    before = BASE if BASE in scores else next(iter(scores))
    after = aligned({model: {} for model in [BASE, *scores] if model != before})
    models = _shown_models(scores, before, after)
    tasks = []
    for task in dict.fromkeys(task for task, _ in scores[before]):
        counts = [(model, _changes(task, scores[before], scores[model])) for model in scores if model != before]
        keys = _choose(task, scores[before], scores.get(after))
        samples = _samples(run, stages, models, keys, pictures)
        tasks.append(ClipTask(task.replace("_", " "), counts, samples))
    return ClipAnswers(before, after, tasks)


def score_of(row: dict[str, Any]) -> float | None:
    """Return how good a stored answer is, in whatever unit its task has; None where nothing is known."""
    for field in ("true", "scores"):
        if isinstance(row.get(field), dict):
            known = [value for item in row[field].values() if (value := finite(item)) is not None]
            return fmean(known) if known else None
    for field in ("match", "exact"):
        if isinstance(row.get(field), bool):
            return float(row[field])
    if (hits := _ranks(row)) is not None:
        return fmean(float(expected_hits(better, tied, 1)) for better, tied in hits)
    right = is_right(row)
    return None if right is None else float(right)


def _ranks(row: dict[str, Any]) -> list[tuple[float, float]] | None:
    """Return, for each query of retrieval or for the class of an action, how many stand before and beside it."""
    columns = [item if isinstance(item, list) else [item] for item in (row.get("better"), row.get("tied"))]
    pairs = [(finite(better), finite(tied)) for better, tied in zip(*columns, strict=False)]
    return pairs if pairs and all(None not in pair and pair[1] for pair in pairs) else None


def _scores(run: Run, stage: Stage) -> dict[Key, float | None]:
    """Read how good the answers about clips are; rows in which frames or verdicts stand in place of words have none."""
    answered = (row for row in run.sample_rows(stage) if row.get("videos") and isinstance(row.get("prediction"), str))
    return {_key(row): score_of(row) for row in answered}


def _key(row: dict[str, Any]) -> Key:
    return str(row.get("task", "")), str(row.get("id", ""))


def _shown_models(scores: Iterable[str], before: str, after: str) -> list[str]:
    """Return the models whose answers are shown: the two compared, then others as long as there is room."""
    others = [model for model in scores if model not in (before, after)]
    return [model for model in (before, after) if model] + others[: MAX_MODELS - 2]


def _change(old: float | None, new: float | None) -> str:
    if old is None or new is None:
        return ""
    return BETTER if new > old else WORSE if new < old else SAME


def _changes(task: str, old: dict[Key, float | None], new: dict[Key, float | None]) -> Counter[str]:
    return Counter(_change(old[key], new[key]) for key in old if key[0] == task and key in new)


def _choose(task: str, old: dict[Key, float | None], new: dict[Key, float | None] | None) -> list[tuple[str, Key]]:
    """Pick (change, key) of the questions to show."""
    picked: dict[str, Chosen] = {}
    for key in old:
        if key[0] == task and (new is None or key in new):
            change = _change(old[key], new[key]) if new is not None else ""
            picked.setdefault(change, Chosen(SHOWN[change])).offer(key[1], key)
    kinds = [change for change in SHOWN if change in picked and (change or len(picked) == 1)]
    return [(change, key) for change in kinds for key in picked[change].items]


def _samples(
    run: Run, stages: dict[str, Stage], models: list[str], keys: list[tuple[str, Key]], pictures: Pictures
) -> list[ClipSample]:
    wanted = {key for _, key in keys}
    rows = {
        model: {key: row for row in run.sample_rows(stages[model]) if (key := _key(row)) in wanted} for model in models
    }
    groups = _groups(run, stages[models[0]], wanted)
    samples = []
    for change, key in keys:
        first = rows[models[0]][key]
        group = groups.get(key) or _bare_group(first)
        root = run.data_root(stages[models[0]], key[0])
        strips = strips_of(group, root, pictures.strips, f"question {key[1]}")
        wordings = [first.get("prompt"), first.get("prompt_paraphrase")]
        asked = "\nOr: ".join(_question(text) for text in wordings if text)
        truth = first.get("answer")
        samples.append(
            ClipSample(
                id=key[1],
                change=change,
                truth=None if truth is None else shorten(str(truth), 300),
                pieces=[*(Piece(strip=strip) for strip in strips), Piece(shorten(asked))],
                answers=[_answer(model, rows[model][key], group) for model in models if key in rows[model]],
            )
        )
    return samples


def _groups(run: Run, stage: Stage, wanted: set[Key]) -> dict[Key, Group]:
    """Read the rows of questions, which know the frames that are taken and, in the world, the scene."""
    found: dict[Key, Group] = {}
    for task in stage.config.get("tasks") or ():
        if not isinstance(task, dict) or task.get("layout") or not isinstance(task.get("data"), str):
            continue
        name = str(task.get("name", ""))
        ids = {key[1] for key in wanted if key[0] == name}
        for row in scan_rows(run.find(Path(task["data"]))) if ids else ():
            if isinstance(row.value, dict) and row.value.get("id") in ids:
                try:
                    found[name, row.value["id"]] = row.group()
                except DataError as error:
                    run.note(str(error))
    return found


def _bare_group(row: dict[str, Any]) -> Group:
    """Return what an answer itself tells of its videos, where the rows of the questions are not at hand."""
    videos = [item for item in row["videos"] if isinstance(item, str)]
    return Group(str(row.get("id") or "-"), [], videos=videos)


def _question(text: Any) -> str:
    return str(text).replace("<video>", "").replace("<image>", "").strip()


def _answer(model: str, row: dict[str, Any], group: Group) -> ClipAnswer:
    texts, wrong, checked = [], [], []
    for text in (row.get("prediction"), row.get("prediction_paraphrase")):
        if text is None:
            continue
        opinion = opinion_of(str(text), group) if isinstance(row.get("true"), dict) else None
        claims = opinion.claims if opinion else []
        checked += claims
        pieces, unplaced = mark_claims(shorten(str(text).strip()), claims)
        texts.append(pieces)
        wrong += [claim.text for claim in unplaced if claim.right is False]
    right = all(item["right"] for item in checked) if checked else _marked(row)
    return ClipAnswer(model, right, texts, wrong, _note(row))


def _marked(row: dict[str, Any]) -> bool | None:
    """Tell whether an answer is right, of tasks whose answers are right or wrong."""
    if "match" in row or "exact" in row:
        return is_right({"verdict": row.get("verdict")})
    ranks = _ranks(row)
    if ranks and not isinstance(row.get("better"), list):
        return row.get("verdict") == "correct"
    return None


def _note(row: dict[str, Any]) -> str:
    """Print the scores of an answer, or the rank of what was looked for."""
    parts = []
    for field, who in (("true", "oracle"), ("scores", "judge")):
        scores = row.get(field)
        known = [(name, finite(item)) for name, item in scores.items()] if isinstance(scores, dict) else []
        if told := [f"{name} {number(value, 2)}" for name, value in known if value is not None]:
            parts.append(f"{who}, of 5: {', '.join(told)}")
    if ranks := _ranks(row):
        mean = fmean(float(expected_rank(better, tied)) for better, tied in ranks)
        what = "its caption finds it at rank" if isinstance(row.get("better"), list) else "the right class has rank"
        parts.append(f"{what} {fixed(mean, 0 if mean.is_integer() else 1)}")
    return "; ".join(parts)
