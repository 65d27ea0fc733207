"""Actions: a closed set of classes, each with a name in plain words, and clips that show one of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np

from triptych.errors import TriptychError
from triptych.world.clip_config import ClipConfig
from triptych.world.clip_scene import DIRECTIONS_OF, SIDES_OF, TEST_SPLIT, ClipScene, sample_clip
from triptych.world.describe import where
from triptych.world.randomness import rng_for

_SIDES = (*SIDES_OF["x"], *SIDES_OF["y"])
_DIRECTIONS = (*DIRECTIONS_OF["x"], *DIRECTIONS_OF["y"])
_PASSING = {"x": "passing each other sideways", "y": "passing each other up and down"}
_MOVING, _STILL = "moving {}", "standing still"
_FORMS = {
    ("enter",): "entering from the {side}",
    ("leave",): "leaving {place}",
    ("bounce",): "bouncing off the {side} edge",
    ("stop",): "moving {direction} and stopping",
    ("enter", "leave"): "passing through from the {side}",
    ("turn",): "turning {colour}",
}
"""Name of what a single object does, by its events."""
_ATTEMPTS = {TEST_SPLIT: 2_000, "train": 50_000}
"""Clips drawn of each split in search of an action, in this order; one in some thousands shows the rarest."""
_SPLIT_OF: dict[tuple[str, str], str] = {}
"""Where the stories of an action are drawn from, by settings and action: a search that takes long, and always ends the
same."""


def action_classes(config: ClipConfig) -> list[str]:
    """Return the names of all classes: 31 with four colours."""
    names = [_STILL, *_PASSING.values(), *(_MOVING.format(direction) for direction in _DIRECTIONS)]
    for form in _FORMS.values():
        if "{colour}" in form:
            names += [form.format(colour=colour) for colour in config.colours]
        elif "{direction}" in form:
            names += [form.format(direction=direction) for direction in _DIRECTIONS]
        else:
            names += [form.format(side=side, place=where(side)) for side in _SIDES]
    return names


def action_of(scene: ClipScene) -> str | None:
    """Return the class of a clip; None for one that shows no single action.

    One object does one thing (or passes through), or two pass each other, which may stop or leave behind each other.
    Whatever changes its colour rests, and whatever stops has moved from the start.
    """
    kinds = tuple(event.kind for event in scene.events)
    if len(scene.objects) == 2:
        return _PASSING[scene.axis] if kinds.count("cross") == 1 and set(kinds) <= {"cross", "stop", "leave"} else None
    if len(scene.objects) != 1:
        return None
    direction = scene.motion(scene.objects[0], 0)
    if not kinds:
        return _MOVING.format(direction) if direction else _STILL
    if kinds not in _FORMS or (kinds == ("turn",) and direction):
        return None
    event = scene.events[0]
    return _FORMS[kinds].format(
        side=event.side, place=where(event.side or ""), direction=direction, colour=event.colour
    )


def sample_action_clip(config: ClipConfig, action: str, rng: np.random.Generator) -> ClipScene:
    """Draw a held-out clip that shows the action, which is one of `action_classes`.

    Few shapes and colours leave some actions without a story that is held out; these are drawn from the others.

    Raises:
        TriptychError: no clip of these settings shows it.
    """
    number = 2 if action in _PASSING.values() else 1
    alone = replace(config, min_objects=number, max_objects=number, min_events=0, max_events=3)
    if action in map(_MOVING.format, _DIRECTIONS):  # before long, what moves comes to the edge
        alone = replace(alone, max_seconds=min(config.max_seconds, config.min_seconds + 1))
    split = _split_of(alone, action)
    scenes = (sample_clip(alone, split, rng) for _ in count())
    return next(scene for scene in scenes if action_of(scene) == action)


def _split_of(config: ClipConfig, action: str) -> str:
    """Return the split whose stories show the action: that of tests, or else any.

    Raises:
        TriptychError: no clip of these settings shows it.
    """
    key = (repr(config), action)
    if key not in _SPLIT_OF:
        rng = rng_for("action", action)
        split = next((split for split in _ATTEMPTS if _shows(config, action, split, rng)), None)
        if split is None:
            raise TriptychError(
                f"No clip of these settings shows the action {action!r}. Allow longer clips (`max_seconds`), or set "
                "`test_actions` to 0."
            )
        _SPLIT_OF[key] = split
    return _SPLIT_OF[key]


def _shows(config: ClipConfig, action: str, split: str, rng: np.random.Generator) -> bool:
    return any(action_of(sample_clip(config, split, rng)) == action for _ in range(_ATTEMPTS[split]))
