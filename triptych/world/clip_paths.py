"""Paths: how one object of a clip moves along the axis, and what happens to it on its way.

Positions are those of the low edge of the object's box. It is wholly visible from 0 to canvas - size; a step less than
-size + 1 or more than canvas - 1 hides it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triptych.world.clip_config import ClipConfig
from triptych.world.randomness import pick, pick_weighted

_REST_SHARE = 0.15
"""Share of objects that rest, times the number of objects: the more there are, the fewer can move and be followed."""
_FATES = {"stop": 0.4, "leave": 0.35, "go_on": 0.25}
_BOUNCES = {0: 0.5, 1: 0.4, 2: 0.1}
_TURN_SHARE = {"rest": 0.7, "move": 0.25, "enter": 0.25}
_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class Path:
    """Positions by frame, and the events on the way."""

    positions: tuple[int, ...]
    events: tuple[tuple[int, str, int | None], ...]
    """Frame, kind and end of the axis: 0 the low one, 1 the high one, None where no side is concerned."""
    turn_share: float
    """Probability that the object changes its colour: those that rest have little else to do."""


def draw_path(
    size: int, num_frames: int, num_objects: int, config: ClipConfig, rng: np.random.Generator
) -> Path | None:
    """Draw a path; None if none was found that ends as it was meant to."""
    start = "rest" if rng.random() < _REST_SHARE * num_objects else pick(rng, ("move", "enter"))
    free = config.canvas_pixels - size
    if start == "rest":
        return Path((int(rng.random() * (free + 1)),) * num_frames, (), _TURN_SHARE[start])
    for _ in range(_ATTEMPTS):
        begin = 0 if start == "move" else int(rng.integers(config.gap_frames, max(num_frames // 2, 3)))
        step = max(1, round(pick(rng, config.speeds) * config.lane_pixels)) * pick(rng, (-1, 1))
        at = int(rng.random() * (free + 1))
        if start == "enter":
            at = -size if step > 0 else config.canvas_pixels
        bounces, fate = pick_weighted(rng, _BOUNCES), pick_weighted(rng, _FATES)
        stop = int(rng.integers(begin + 2, num_frames)) if fate == "stop" else None
        events: list[tuple[int, str, int | None]] = []
        if start == "enter":
            events.append((begin, "enter", int(step < 0)))
        walk = _walk(at, step, begin, num_frames, free, size, bounces, fate == "leave", stop, events)
        if walk is not None:
            return Path(tuple(walk), tuple(events), _TURN_SHARE[start])
    return None


def _walk(
    at: int,
    step: int,
    begin: int,
    num_frames: int,
    free: int,
    size: int,
    bounces: int,
    leaves: bool,
    stop: int | None,
    events: list[tuple[int, str, int | None]],
) -> list[int] | None:
    """Go step by step, adding to the events; None where the walk does not come to what was planned.

    The object waits until frame `begin`, its first frame on the way if it enters, else the frame it starts from. It is
    turned back `bounces` times, then leaves, stops in frame `stop`, or is still on its way when the clip ends.
    """
    positions = [at] * max(begin, 1)
    inside = 0 <= at <= free
    while len(positions) < num_frames:
        frame, ahead = len(positions), at + step
        if inside and not 0 < ahead < free:
            end = int(step > 0)
            if bounces:
                at, step, bounces = (free if end else 0), -step, bounces - 1
                events.append((frame, "bounce", end))
            elif leaves:
                return _leave(positions, at, step, num_frames, free, size, end, events)
            else:
                return None
        else:
            at, inside = ahead, inside or 0 <= ahead <= free
        positions.append(at)
        if frame == stop:
            if bounces or not inside or (events and events[-1][0] == frame):
                return None
            events.append((frame, "stop", None))
            return positions + [at] * (num_frames - len(positions))
    return positions if not bounces and not leaves and stop is None and inside else None


def _leave(
    positions: list[int],
    at: int,
    step: int,
    num_frames: int,
    free: int,
    size: int,
    end: int,
    events: list[tuple[int, str, int | None]],
) -> list[int] | None:
    """Go out of sight and stay there."""
    outside = free + size if end else -size
    while len(positions) < num_frames:
        at = min(at + step, outside) if end else max(at + step, outside)
        positions.append(at)
        if at == outside:
            events.append((len(positions) - 1, "leave", end))
            return positions + [at] * (num_frames - len(positions))
    return None
