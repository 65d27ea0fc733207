"""Passes of tasks in which the frames of a video count: how well answers fit them, or frames in place of answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from triptych.evaluation.by_video import mean_by_video
from triptych.generation.protocol import Generator
from triptych.group import Group
from triptych.stages.task_passes import Prepared, Row, told, videos_of

CLIP_SCORE = "clip_score"
FEATURES = "features"
"""Of a row between the passes: the mean of the features of its frames."""

Answer = Callable[[Prepared, Sequence[Group], Generator], Iterator[Row]]


def with_clip_scores(answer: Answer) -> Answer:
    """Return a first pass that says of each answer how well it fits the frames, where `similarity` names a CLIP.

    Tasks with rows that have neither picture nor video go without.
    """

    def answer_and_score(prepared: Prepared, groups: Sequence[Group], generator: Generator) -> Iterator[Row]:
        rows, scorer = answer(prepared, groups, generator), prepared.text_video
        if scorer is None or not all(group.images or group.videos for group in prepared.groups):
            yield from rows
            return
        for group, row in zip(groups, rows, strict=True):
            video = scorer.video(group, prepared.root)
            yield row | {CLIP_SCORE: scorer.clip_score(row["prediction"], video)}

    return answer_and_score


def summarise_clip_scores(rows: Sequence[Row]) -> Row:
    """Return `clip_score`, the mean over rows, where they have it."""
    if CLIP_SCORE not in rows[0]:
        return {}
    return {CLIP_SCORE: mean_by_video([row[CLIP_SCORE] for row in rows], videos_of(rows))}


def answer_by_frames(prepared: Prepared, groups: Sequence[Group]) -> Iterator[Row]:
    """Yield rows with the features of their videos; the model is not asked."""
    for group in groups:
        features = prepared.text_video.video(group, prepared.root)
        yield told(prepared.task, group) | {FEATURES: features.tolist()}


def without_features(row: Row) -> Row:
    """Return a row as it is stored in the end."""
    return {name: value for name, value in row.items() if name != FEATURES}
