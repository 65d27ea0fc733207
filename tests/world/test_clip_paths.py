"""Paths of single objects."""

from __future__ import annotations

import numpy as np
import pytest

from tests.world.clip_scenes import CONFIG
from triptych.world.clip_paths import draw_path
from triptych.world.randomness import rng_for

PATHS = [path for seed in range(300) if (path := draw_path(20, 40, 1, CONFIG, rng_for("path", seed)))]
CLEAR = [path for path in PATHS if all(frame < 38 for frame, _, _ in path.events)]
"""Paths on which nothing happens in the last frames; scenes take only such."""


def test_most_attempts_give_a_path() -> None:
    assert len(PATHS) > 250


@pytest.mark.parametrize("path", CLEAR[:60])
def test_what_is_planned_is_what_happens(path) -> None:
    steps = np.diff(path.positions)
    at = dict(enumerate(path.positions))
    assert len(at) == 40 and set(np.abs(steps)) <= {0, *range(1, 6)}
    for frame, kind, end in path.events:
        if kind == "enter":
            assert at[frame - 1] == (96 if end else -20) and -20 < at[frame] < 96 and not steps[: frame - 1].any()
        elif kind == "leave":
            assert -20 < at[frame - 1] < 96 and at[frame] == (96 if end else -20) and not steps[frame:].any()
        elif kind == "bounce":
            assert at[frame] == (76 if end else 0) and steps[frame - 1] * steps[frame] < 0
        else:
            assert kind == "stop" and end is None and steps[frame - 1] and not steps[frame:].any()
    moves = [frame for frame, kind, _ in path.events if kind in ("stop", "leave", "bounce")]
    turned = [frame for frame in range(1, 39) if steps[frame - 1] and steps[frame] != steps[frame - 1]]
    # An object also changes its pace where it touches a side or is out of sight: within a frame of an event.
    assert all(any(abs(frame - event) <= 1 for event in moves) for frame in turned)


def test_kinds_of_ends_and_paces_occur() -> None:
    kinds = {tuple(kind for _, kind, _ in path.events) for path in PATHS}
    assert {(), ("enter",), ("stop",), ("leave",), ("enter", "leave"), ("bounce", "stop"), ("enter", "bounce")} <= kinds
    paces = {max(np.abs(np.diff(path.positions))) for path in PATHS}
    assert paces == {0, *(round(speed * 24) for speed in CONFIG.speeds)}
