"""Text-to-video retrieval by generated captions: each human caption looks for its video among what the model tells.

As VLM-RLAIF's authors describe it: the model describes every video, and a text scorer compares a human caption with all
descriptions. Which scorer and which prompt they used is not known; here both are settings.

Letters: Q queries, V videos.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from triptych.errors import DataError
from triptych.evaluation.by_video import median_by_video, share_by_video
from triptych.evaluation.ranking import expected_hits, expected_rank, standings
from triptych.group import Group

CUTOFFS = (1, 5, 10)
_QUERIES_AT_ONCE = 4096


def queries_of(group: Group) -> list[str]:
    """Return the human captions of a video: its completions and its answer.

    Raises:
        DataError: kind `missing_answer`, there is none.
    """
    texts = [completion.text for completion in group.completions]
    texts += [] if group.answer is None else [group.answer]
    if kept := [text for text in texts if text.strip()]:
        return kept
    remedy = "Put human captions into `completions`, or one into `answer`."
    raise DataError("The row has no caption to look for its video.", remedy=remedy, kind="missing_answer", row=group.id)


def rank_videos(
    queries: Sequence[Sequence[str]], videos: Sequence[Any], similarity: Callable[[Sequence[str], Sequence[Any]], Any]
) -> list[dict[str, list[int]]]:
    """Return how the queries of each video fare.

    Args:
        queries: (V,) the human captions of each video.
        videos: (V,) what each video is found by: what the model tells of it, or features of its frames.
        similarity: compares queries, (Q,), with these, (V,); (Q, V).
    Returns:
        per video `better`, for each of its queries the number of videos that are ranked before it, and `tied`, the
        number that stand where it stands, itself among them.
    """
    flat = [(text, video) for video, texts in enumerate(queries) for text in texts]
    found: list[dict[str, list[int]]] = [{"better": [], "tied": []} for _ in queries]
    scores = similarity([text for text, _ in flat], videos)
    for start in range(0, len(flat), _QUERIES_AT_ONCE):
        part = flat[start : start + _QUERIES_AT_ONCE]
        better, tied = standings(scores[start : start + len(part)], [video for _, video in part])
        for (_, video), before, equal in zip(part, better.tolist(), tied.tolist(), strict=True):
            found[video]["better"].append(before)
            found[video]["tied"].append(equal)
    return found


def summarise_retrieval(rows: Sequence[Mapping[str, Any]], videos: Sequence[str]) -> dict[str, Any]:
    """Sum up ranks over all queries.

    Args:
        rows: `better` and `tied` of each video, from `rank_videos`.
        videos: of the rows; intervals are over videos.
    Returns:
        `r1`, `r5`, `r10`: share of queries whose video is among the first ones, and `median_rank`.
    """
    better, tied = (np.concatenate([row[name] for row in rows]) for name in ("better", "tied"))
    about = [video for row, video in zip(rows, videos, strict=True) for _ in row["better"]]
    hits = {f"r{most}": share_by_video(expected_hits(better, tied, most).tolist(), about) for most in CUTOFFS}
    return hits | {"median_rank": median_by_video(expected_rank(better, tied).tolist(), about)}
