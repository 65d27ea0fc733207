"""Scenes: which objects a picture shows and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from triptych.world.config import BIASED_SPLITS, WorldConfig
from triptych.world.glyphs import glyphs_by_value
from triptych.world.randomness import pick

DIGIT = "digit"
SHAPE_SIZES = (0.8, 0.95)
"""Width of a small and of a large shape as a share of its cell; digits fill their cell."""
_ROWS = {2: ("top", "bottom"), 3: ("top", "", "bottom")}
_COLUMNS = {2: ("left", "right"), 3: ("left", "", "right")}


@dataclass(frozen=True, slots=True)
class Object:
    """One object of a scene."""

    kind: str
    """`digit` or the name of a shape."""
    colour: str
    row: int
    column: int
    place: str
    """Name of the cell, such as `top left`, `top`, `centre`."""
    left: int
    """Left and top edge of the object's box, in pixels of the canvas."""
    top: int
    size: int
    """Width and height of the box, in pixels."""
    glyph: int | None = None
    """Index of the scan, for a digit, and the digit that it shows."""
    value: int | None = None

    @property
    def noun(self) -> str:
        """What a text calls it: `3` or `triangle`."""
        return self.kind if self.value is None else str(self.value)

    @property
    def is_digit(self) -> bool:
        """True for a handwritten digit."""
        return self.kind == DIGIT


_FIELDS = tuple(item.name for item in fields(Object))


@dataclass(frozen=True, slots=True)
class Scene:
    """The objects of a picture in reading order: row by row, from left to right."""

    objects: tuple[Object, ...]

    def to_list(self) -> list[dict[str, Any]]:
        """Return the objects as JSON-ready dicts."""
        return [
            {name: value for name in _FIELDS if (value := getattr(item, name)) is not None} for item in self.objects
        ]

    @classmethod
    def from_list(cls, items: Sequence[Mapping[str, Any]]) -> Scene:
        """Rebuild a scene from `to_list`."""
        return cls(tuple(Object(**item) for item in items))


def place_name(row: int, column: int, grid: int) -> str:
    """Name a cell: `top left`, `top`, ..., `centre`, ..., `bottom right`."""
    return f"{_ROWS[grid][row]} {_COLUMNS[grid][column]}".strip() or "centre"


def free_cells(scene: Scene, config: WorldConfig) -> list[int]:
    """Return the cells without an object, numbered row by row from 0."""
    taken = {item.row * config.grid + item.column for item in scene.objects}
    return [cell for cell in range(config.grid**2) if cell not in taken]


def sample_scene(config: WorldConfig, split: str, rng: np.random.Generator) -> Scene:
    """Draw a scene of the split; at least one of its objects is alone in having its colour and noun.

    In the splits `pretrain` and `sft` it follows `companion_bias` and `colour_bias`. In `test` its digits are held-out
    scans.
    """
    biased = split in BIASED_SPLITS
    while True:
        nouns = [draw_noun(config, rng) for _ in range(int(rng.integers(config.min_objects, config.max_objects + 1)))]
        if biased:
            _add_companions(nouns, config, rng)
        looks = [(draw_colour(config, noun, rng, biased=biased), noun) for noun in nouns]
        if 1 in Counter(looks).values():
            return arrange(looks, config, split, rng)


def arrange(looks: Sequence[tuple[str, str]], config: WorldConfig, split: str, rng: np.random.Generator) -> Scene:
    """Put objects, given as (colour, noun), in cells drawn at random."""
    cells = rng.permutation(config.grid**2)[: len(looks)].tolist()
    objects = [make_object(look, cell, config, split, rng) for look, cell in zip(looks, cells, strict=True)]
    return in_reading_order(objects)


def in_reading_order(objects: Sequence[Object]) -> Scene:
    """Return the scene of these objects, sorted."""
    return Scene(tuple(sorted(objects, key=lambda item: (item.row, item.column))))


def make_object(look: tuple[str, str], cell: int, config: WorldConfig, split: str, rng: np.random.Generator) -> Object:
    """Make the object (colour, noun) in a cell: draw its scan or its size, and its box within the cell."""
    colour, noun = look
    row, column = divmod(cell, config.grid)
    place = place_name(row, column, config.grid)
    cell_left, cell_top = column * config.cell_pixels, row * config.cell_pixels
    if noun.isdigit():
        glyph = pick(rng, glyphs_by_value(split == "test")[int(noun)])
        return Object(DIGIT, colour, row, column, place, cell_left, cell_top, config.cell_pixels, glyph, int(noun))
    size = round(pick(rng, SHAPE_SIZES) * config.cell_pixels)
    slack = config.cell_pixels - size + 1
    left, top = cell_left + int(rng.random() * slack), cell_top + int(rng.random() * slack)
    return Object(noun, colour, row, column, place, left, top, size)


def draw_noun(config: WorldConfig, rng: np.random.Generator) -> str:
    """Draw a digit, with the probability `digit_share`, or a shape; all digits and all shapes are equally likely."""
    return str(int(rng.random() * 10)) if rng.random() < config.digit_share else pick(rng, config.chance_shapes)


def draw_colour(config: WorldConfig, noun: str, rng: np.random.Generator, *, biased: bool) -> str:
    """Draw a colour for an object; `biased` asks for its usual colour with the probability `colour_bias`."""
    if biased and rng.random() < config.colour_bias:
        return config.usual_colour(noun)
    return pick(rng, config.colours)


def absent_companions(scene: Scene, config: WorldConfig) -> list[str]:
    """Return the companions that one would expect beside the anchors of the scene but that are not there."""
    kinds = {item.kind for item in scene.objects}
    expected = [other for anchor, other in config.active_companions.items() if anchor in kinds and other not in kinds]
    return list(dict.fromkeys(expected))


def _add_companions(nouns: list[str], config: WorldConfig, rng: np.random.Generator) -> None:
    """Give each anchor its companion with the probability `companion_bias`, in the place of an object not so bound."""
    bound: set[int] = set()
    for anchor, other in config.active_companions.items():
        if anchor not in nouns:
            continue
        wanted = other not in nouns and rng.random() < config.companion_bias
        bound.add(nouns.index(anchor))
        if wanted and (free := [index for index in range(len(nouns)) if index not in bound]):
            nouns[pick(rng, free)] = other
        if other in nouns:
            bound.add(nouns.index(other))
