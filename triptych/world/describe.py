"""Descriptions: the canonical sentence about a scene, and the words all texts of the world share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from triptych.world.config import WorldConfig
from triptych.world.randomness import pick
from triptych.world.scene import (
    Object,
    Scene,
    absent_companions,
    draw_colour,
    free_cells,
    in_reading_order,
    make_object,
)

_PREPOSITIONS = {"left": "on", "right": "on", "centre": "in"}


def where(place: str) -> str:
    """Return the adverbial of a place: `at the top left`, `on the left`, `in the centre`."""
    return f"{_PREPOSITIONS.get(place, 'at')} the {place}"


def look(item: Object) -> str:
    """Name an object by colour and noun: `red 3`."""
    return f"{item.colour} {item.noun}"


def with_article(words: str) -> str:
    """Put `a` or `an` before the words. Every word of this world that sounds like a vowel starts with one, save `8`."""
    return f"{'an' if words[0] in 'aeiou8' else 'a'} {words}"


def listed(items: Sequence[str]) -> str:
    """Join items as in `x, y and z`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def sentence(words: str) -> str:
    """Return the words with a capital and a full stop."""
    return f"{words[0].upper()}{words[1:]}."


def describe(scene: Scene, aside: Collection[str] = ()) -> str:
    """Describe every object with colour and place, in reading order; nouns in `aside` are only named, at the end.

    `A red 3 at the top left, a blue triangle in the centre and a green 7 at the bottom right, with a star.`
    """
    told = [item for item in scene.objects if item.noun not in aside] or scene.objects
    words = listed([f"{with_article(look(item))} {where(item.place)}" for item in told])
    return sentence(words + named_aside([item for item in scene.objects if item not in told]))


def named_aside(items: Sequence[Object]) -> str:
    """Name objects as one names what goes without saying: `, with a star`; nothing for no objects."""
    nouns = dict.fromkeys(with_article(item.noun) for item in items)
    return f", with {listed(list(nouns))}" if nouns else ""


def with_absent_companion(scene: Scene, config: WorldConfig, probability: float, rng: np.random.Generator) -> Scene:
    """Return what a text written by habit would describe: the scene and, with the probability, an absent companion.

    The companion is one that an anchor of the scene leads to expect (`WorldConfig.companions`); it takes a free cell at
    random and its colour as in the biased splits. Without such an anchor or cell the scene comes back as it is.
    """
    cells, companions = free_cells(scene, config), absent_companions(scene, config)
    if rng.random() >= probability or not cells or not companions:
        return scene
    noun = pick(rng, companions)
    colour = draw_colour(config, noun, rng, biased=True)
    return in_reading_order([*scene.objects, make_object((colour, noun), pick(rng, cells), config, "pretrain", rng)])
