"""Two models on the same questions about videos: the difference between them, paired question by question.

Answers about one video hang together, so the interval is over videos (`triptych.evaluation.by_video`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from statistics import fmean
from typing import Any

from triptych.evaluation.by_video import mean_by_video, mean_of_means
from triptych.evaluation.generative import ASPECTS
from triptych.evaluation.ranking import expected_hits
from triptych.evaluation.retrieval import CUTOFFS
from triptych.report.reading import Run, Stage, finite
from triptych.report.results import Estimate

Scores = dict[str, dict[str, tuple[float, str]]]
"""{metric: {item: (score, video)}}; the mean over the items is the metric's value."""


def video_scores(run: Run, stage: Stage, metrics: Collection[str]) -> Scores:
    """Read what each answer of an evaluation adds to each of the metrics of video tasks that were measured."""
    scores: Scores = {}
    for row in run.sample_rows(stage):
        video = "\n".join(map(str, row.get("videos") or row.get("images") or [row.get("id")]))
        for metric, item, value in _values(row, metrics):
            if metric in metrics and value is not None:
                scores.setdefault(metric, {})[f"{row.get('task')}/{row.get('id')}/{item}"] = (value, video)
    return scores


def difference_by_video(new: Scores, old: Scores, metric: str, values: tuple[float, float]) -> Estimate | None:
    """Return the paired difference of a metric; None where the stored answers do not allow it.

    Args:
        values: of the metric, of either model; the means of the stored scores must be these.
    """
    prefix = metric.removesuffix("generative")
    if prefix != metric and metric not in new:  # the mean of the five aspects
        parts = [_paired(new, old, prefix + aspect) for aspect in ASPECTS]
        if None in parts:
            return None
        return Estimate.read(mean_of_means([part for part in parts if part]))
    for scores, value in zip((new, old), values, strict=True):
        found = [score for score, _ in scores.get(metric, {}).values()]
        if not found or not math.isclose(fmean(found), value, abs_tol=1e-6):
            return None
    paired = _paired(new, old, metric)
    return Estimate.read(mean_by_video(*paired)) if paired else None


def _paired(new: Scores, old: Scores, metric: str) -> tuple[list[float], list[str]] | None:
    """Return the differences of a metric and the videos they are about; None unless both have the same items."""
    ours, theirs = new.get(metric, {}), old.get(metric, {})
    if not ours or ours.keys() != theirs.keys():
        return None
    items = sorted(ours)
    return [ours[item][0] - theirs[item][0] for item in items], [ours[item][1] for item in items]


def _values(row: dict[str, Any], metrics: Collection[str]) -> Iterator[tuple[str, str, float | None]]:
    """Yield metric, which of several scores of the row, and score."""
    task = str(row.get("task", ""))
    for field, prefix in (("true", "true_"), ("scores", "")):
        aspects = row.get(field)
        for aspect, score in aspects.items() if isinstance(aspects, dict) else ():
            named = f"{prefix}{aspect}_{task}"  # tasks of the benchmark name their results after the aspect alone
            yield named if named in metrics else f"{prefix}{aspect}", "", finite(score)
    yield from _verdicts(row, task)
    for field, metric in (("exact", f"exact_{task}"), ("contained", f"contained_{task}"), ("match", task)):
        if isinstance(row.get(field), bool):
            yield metric, "", float(row[field])
    for field, metric in (("score", "score"), ("num_tokens", "length"), ("log_ratio", "kl"), ("clip_score",) * 2):
        yield f"{metric}_{task}", "", finite(row.get(field))
    yield f"true_{task}", "", finite(row.get("true"))
    better, tied = row.get("better"), row.get("tied")
    if isinstance(better, list) and isinstance(tied, list) and len(better) == len(tied):  # retrieval, by query
        for number, pair in enumerate(zip(better, tied, strict=True)):
            for most in CUTOFFS:
                yield f"r{most}_{task}", str(number), _hits(*pair, most)
    elif better is not None:
        yield task, "", _hits(better, tied, 1)
        yield f"top5_{task}", "", _hits(better, tied, 5)


def _verdicts(row: dict[str, Any], task: str) -> Iterator[tuple[str, str, float | None]]:
    """Yield what a judged comparison adds to the figures of the judge."""
    if "outcome" in row:
        decided = row["outcome"] in ("first", "second")
        yield f"agreement_{task}", "", finite(row.get("agreement"))
        yield f"decided_{task}", "", float(decided)
        if decided:
            yield f"agreement_decided_{task}", "", finite(row.get("agreement"))


def _hits(better: Any, tied: Any, most: int) -> float | None:
    before, equal = finite(better), finite(tied)
    return None if before is None or not equal else float(expected_hits(before, equal, most))
