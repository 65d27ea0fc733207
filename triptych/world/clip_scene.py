"""Clip scenes: objects with trajectories, and what happens to them.

All objects of a clip move along one axis, each in its own lane, a whole number of pixels per frame. An event has one
frame, the first that shows it:

    enter   the first frame in which something of the object's box is on the canvas
    leave   the first one in which nothing of it is
    bounce  the one in which it touches the side that turns it back
    cross   the first one in which the order of two centres along the axis is the other way round
    turn    the first one in the new colour
    stop    the one in which it arrives where it stays

A clip is drawn again until its story is clear: events keep a distance from each other and from both ends, nothing is
cut in half by the edge at either end, and objects that pass each other are wholly visible when they do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from typing import Any

import numpy as np

from triptych.world.clip_config import NUM_LANES, ClipConfig
from triptych.world.clip_paths import Path, draw_path
from triptych.world.glyphs import glyphs_by_value
from triptych.world.randomness import pick
from triptych.world.scene import DIGIT, SHAPE_SIZES

SIDES_OF = {"x": ("left", "right"), "y": ("top", "bottom")}
"""Side at the low and at the high end of each axis."""
DIRECTIONS_OF = {"x": ("left", "right"), "y": ("up", "down")}
"""Direction towards the low and towards the high end of each axis."""
TEST_SPLIT = "test"
HELD_OUT_EVERY = 5
"""One story in five is kept for the split `test`."""
_MAX_CROSSINGS = 2
_ATTEMPTS = 400


@dataclass(frozen=True, slots=True)
class ClipObject:
    """One object of a clip."""

    kind: str
    """`digit` or the name of a shape."""
    colour: str
    """Colour at first; a `turn` event tells of a later one."""
    lane: int
    """Lane, counted from the top or from the left."""
    across: int
    """Edge of the box across the axis, in pixels: its top where objects move sideways, else its left."""
    size: int
    """Width and height of the box, in pixels."""
    positions: tuple[int, ...]
    """Edge of the box along the axis in each frame: its left, or its top. Wholly outside where it is not there."""
    glyph: int | None = None
    value: int | None = None

    @property
    def noun(self) -> str:
        """What a text calls it: `3` or `triangle`."""
        return self.kind if self.value is None else str(self.value)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to an object, or to two."""

    frame: int
    kind: str
    """One of `EVENT_KINDS`."""
    noun: str
    side: str | None = None
    """Of the canvas, where it enters, leaves or bounces."""
    colour: str | None = None
    """The new colour."""
    other: str | None = None
    """The object that is passed, the one in the later lane."""


@dataclass(frozen=True, slots=True)
class ClipScene:
    """The objects of a clip by lane, and its events in order."""

    axis: str
    """`x` where objects move sideways, `y` where they move up and down."""
    canvas_pixels: int
    num_frames: int
    objects: tuple[ClipObject, ...]
    events: tuple[Event, ...]

    def item(self, noun: str) -> ClipObject:
        """Return the object of that noun."""
        return next(item for item in self.objects if item.noun == noun)

    def visible(self, item: ClipObject, frame: int) -> bool:
        """Say whether anything of the object is on the canvas."""
        return -item.size < item.positions[frame] < self.canvas_pixels

    def motion(self, item: ClipObject, frame: int) -> str | None:
        """Return the direction in which the object moves from a frame to the next; None where it rests."""
        after = min(frame + 1, self.num_frames - 1)
        step = item.positions[after] - item.positions[after - 1]
        return DIRECTIONS_OF[self.axis][step > 0] if step else None

    def colour(self, noun: str, frame: int) -> str:
        """Return the colour of an object in a frame."""
        turns = [event.colour for event in self.events if event.noun == noun and event.colour and event.frame <= frame]
        return turns[-1] if turns else self.item(noun).colour

    def colours(self, noun: str) -> list[str]:
        """Return the colours an object has, in order."""
        own = [event.colour for event in self.events if event.noun == noun and event.colour]
        return [self.item(noun).colour, *own]

    def present(self, frame: int) -> list[ClipObject]:
        """Return the objects of which something is visible."""
        return [item for item in self.objects if self.visible(item, frame)]

    def to_dict(self) -> dict[str, Any]:
        """Return the scene as JSON-ready values."""
        return {
            "axis": self.axis,
            "canvas_pixels": self.canvas_pixels,
            "num_frames": self.num_frames,
            "objects": [_set_fields(item) | {"positions": list(item.positions)} for item in self.objects],
            "events": [_set_fields(event) for event in self.events],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ClipScene:
        """Rebuild a scene from `to_dict`."""
        objects = tuple(ClipObject(**{**item, "positions": tuple(item["positions"])}) for item in value["objects"])
        events = tuple(Event(**event) for event in value["events"])
        return cls(value["axis"], value["canvas_pixels"], value["num_frames"], objects, events)


def sample_clip(config: ClipConfig, split: str, rng: np.random.Generator) -> ClipScene:
    """Draw a clip scene of the split. Those of `test` tell stories that no other split tells (`is_held_out`).

    The number of objects and the length are kept while a scene is drawn again, up to `_ATTEMPTS` times: simple scenes
    are clear more often, and would else be the rule.
    """
    while True:
        number = int(rng.integers(config.min_objects, config.max_objects + 1))
        num_frames = int(rng.integers(config.min_frames, config.max_frames + 1))
        for _ in range(_ATTEMPTS):
            scene = _draw(number, num_frames, config, split, rng)
            if scene is not None and is_held_out(scene) is (split == TEST_SPLIT):
                return scene


def is_held_out(scene: ClipScene) -> bool:
    """Say whether the story of a scene is kept for the split `test`.

    A story is who is there, in which colours, how each moves at first, and all that happens, in order; not the exact
    times and places.
    """
    people = sorted((item.noun, item.colour, str(scene.motion(item, 0))) for item in scene.objects)
    plot = [tuple(asdict(replace(event, frame=0)).values()) for event in scene.events]
    digest = hashlib.sha256(repr((scene.axis, people, plot)).encode()).digest()
    return int.from_bytes(digest[:8], "little") % HELD_OUT_EVERY == 0


def _draw(number: int, num_frames: int, config: ClipConfig, split: str, rng: np.random.Generator) -> ClipScene | None:
    """Draw a scene; None where its story is not clear."""
    axis = pick(rng, ("x", "y"))
    lanes = sorted(rng.permutation(NUM_LANES)[:number].tolist())
    drawn = []
    for lane, noun in zip(lanes, draw_nouns(config, number, rng), strict=True):
        item = draw_object(noun, lane, config, split, rng)
        path = draw_path(item.size, num_frames, number, config, rng)
        if path is None:
            return None
        drawn.append((replace(item, positions=path.positions), path))
    objects = tuple(item for item, _ in drawn)
    events = [event for item, path in drawn for event in _own_events(item, path, axis, config, rng)]
    events += _crossings(objects, axis, config.canvas_pixels, num_frames)
    scene = ClipScene(
        axis, config.canvas_pixels, num_frames, objects, tuple(sorted(events, key=lambda event: event.frame))
    )
    return scene if _is_clear(scene, config) else None


def draw_nouns(config: ClipConfig, number: int, rng: np.random.Generator) -> list[str]:
    """Draw different nouns."""
    nouns: list[str] = []
    while len(nouns) < number:
        noun = str(int(rng.random() * 10)) if rng.random() < config.digit_share else pick(rng, config.shapes)
        if noun not in nouns:
            nouns.append(noun)
    return nouns


def draw_object(noun: str, lane: int, config: ClipConfig, split: str, rng: np.random.Generator) -> ClipObject:
    """Draw colour, scan or size, and the place within the lane."""
    colour, start = pick(rng, config.colours), lane * config.lane_pixels
    if noun.isdigit():
        glyph = pick(rng, glyphs_by_value(split == TEST_SPLIT)[int(noun)])
        return ClipObject(DIGIT, colour, lane, start, config.lane_pixels, (), glyph, int(noun))
    size = round(pick(rng, SHAPE_SIZES) * config.lane_pixels)
    return ClipObject(noun, colour, lane, start + int(rng.random() * (config.lane_pixels - size + 1)), size, ())


def _own_events(item: ClipObject, path: Path, axis: str, config: ClipConfig, rng: np.random.Generator) -> list[Event]:
    """Return the events of a path, and perhaps a change of colour while the object is wholly visible."""
    events = [
        Event(frame, kind, item.noun, side=None if end is None else SIDES_OF[axis][end])
        for frame, kind, end in path.events
    ]
    whole = [
        frame
        for frame, position in enumerate(path.positions)
        if 0 <= position <= config.canvas_pixels - item.size and frame >= config.gap_frames
    ]
    if whole and rng.random() < path.turn_share:
        colour = pick(rng, [colour for colour in config.colours if colour != item.colour])
        events.append(Event(pick(rng, whole), "turn", item.noun, colour=colour))
    return events


def _crossings(objects: Sequence[ClipObject], axis: str, canvas_pixels: int, num_frames: int) -> list[Event]:
    """Return where two objects that are both on the canvas change their order along the axis."""
    events = []
    for first, second in combinations(objects, 2):
        before = 0
        for frame in range(num_frames):
            here, there = first.positions[frame], second.positions[frame]
            if not (-first.size < here < canvas_pixels and -second.size < there < canvas_pixels):
                continue  # nothing comes back once it has left
            order = np.sign(2 * here + first.size - 2 * there - second.size)
            if order and before == -order:
                events.append(Event(frame, "cross", first.noun, other=second.noun))
            before = order or before
    return events


def _is_clear(scene: ClipScene, config: ClipConfig) -> bool:
    gap, edge = config.gap_frames, scene.canvas_pixels
    frames = [0, *(event.frame for event in scene.events), scene.num_frames - 1]
    if not config.min_events <= len(scene.events) <= config.max_events:
        return False
    if min(np.diff(frames), default=gap) < gap or sum(event.kind == "cross" for event in scene.events) > _MAX_CROSSINGS:
        return False
    for event in scene.events:
        if event.kind in ("cross", "turn"):
            for noun in filter(None, (event.noun, event.other)):
                item = scene.item(noun)
                around = item.positions[event.frame - 1 : event.frame + 2]
                if not all(0 <= position <= edge - item.size for position in around):
                    return False
    return all(_is_whole_or_gone(item, frame, edge) for item in scene.objects for frame in (0, scene.num_frames - 1))


def _is_whole_or_gone(item: ClipObject, frame: int, edge: int) -> bool:
    position = item.positions[frame]
    return 0 <= position <= edge - item.size or not -item.size < position < edge


def _set_fields(item: ClipObject | Event) -> dict[str, Any]:
    return {each.name: value for each in fields(item) if (value := getattr(item, each.name)) is not None}
