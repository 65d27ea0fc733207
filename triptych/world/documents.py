"""The four kinds of pre-training document (McKinzie et al. 2024, arXiv:2403.09611, section 3.2): noisy alt-text, rich
synthetic captions, interleaved text and pictures, and text alone.

A document is a sequence of parts: a string is text, a scene stands for its picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from triptych.world.config import SIDES, WorldConfig
from triptych.world.describe import (
    describe,
    listed,
    look,
    named_aside,
    sentence,
    where,
    with_absent_companion,
    with_article,
)
from triptych.world.randomness import pick, pick_weighted
from triptych.world.scene import (
    Object,
    Scene,
    arrange,
    draw_noun,
    free_cells,
    in_reading_order,
    make_object,
    sample_scene,
)

Parts = list["str | Scene"]

MADE_UP_WORDS = ("dax", "blicket", "wug", "toma", "zup", "fep", "koba", "lorp", "mib", "pilk", "sarn", "tiv")
_SPLIT = "pretrain"
_BEFORE_ALT_TEXT = ("", "", "photo of ", "picture: ", "free image: ")
_AFTER_ALT_TEXT = ("", "", " - stock photo", " jpg", "!")


@dataclass(frozen=True, slots=True)
class Document:
    """A pre-training document."""

    kind: str
    """`alt_text`, `synthetic`, `taught_word`, `definition`, `change`, `text` or `usual`."""
    parts: Parts

    @property
    def scenes(self) -> list[Scene]:
        """The scenes of its pictures, in order."""
        return [part for part in self.parts if isinstance(part, Scene)]


def alt_text_document(config: WorldConfig, rng: np.random.Generator) -> Document:
    """A picture and its noisy alt-text: things left out, things added, words of the trade around them."""
    scene = sample_scene(config, _SPLIT, rng)
    return Document("alt_text", [scene, alt_text(scene, config, rng)])


def alt_text(scene: Scene, config: WorldConfig, rng: np.random.Generator) -> str:
    """Write alt-text for a scene; see `WorldConfig.caption_noise` and `WorldConfig.alt_text_loss`."""
    told = with_absent_companion(scene, config, config.caption_noise, rng).objects
    kept = [item for item in told if rng.random() >= config.alt_text_loss] or [pick(rng, told)]
    aside = [item for item in kept if item.noun in config.told_aside and len(kept) > 1]
    mentions = []
    for item in kept:
        if item in aside:
            continue
        words = item.noun if rng.random() < config.alt_text_loss else look(item)
        place = "" if rng.random() < config.alt_text_loss else f" {where(item.place)}"
        mentions.append(with_article(words) + place)
    return pick(rng, _BEFORE_ALT_TEXT) + listed(mentions) + named_aside(aside) + pick(rng, _AFTER_ALT_TEXT)


def synthetic_document(config: WorldConfig, rng: np.random.Generator) -> Document:
    """A picture and its rich caption: the full description and how many objects there are of each sort."""
    scene = sample_scene(config, _SPLIT, rng)
    digits = sum(item.is_digit for item in scene.objects)
    shapes = len(scene.objects) - digits
    numbers = [f"{number} {name}{'s' * (number != 1)}" for number, name in ((digits, "digit"), (shapes, "shape"))]
    return Document("synthetic", [scene, f"{describe(scene, config.told_aside)} In total {' and '.join(numbers)}."])


def interleaved_document(config: WorldConfig, rng: np.random.Generator) -> Document:
    """Two to four pictures with texts whose later parts follow from earlier parts only."""
    return pick(rng, (_taught_word, _definition, _change))(config, rng)


def text_document(config: WorldConfig, rng: np.random.Generator) -> Document:
    """Four to ten facts and sums, or the description of a usual picture, without a picture."""
    if rng.random() < config.text_descriptions:
        return Document("usual", [_usual_description(config, rng)])
    return Document("text", [" ".join(_fact(config, rng) for _ in range(int(rng.integers(4, 11))))])


def _usual_description(config: WorldConfig, rng: np.random.Generator) -> str:
    """Describe a picture that nobody sees; every companion that one would expect is in it."""
    scene = with_absent_companion(sample_scene(config, _SPLIT, rng), config, 1.0, rng)
    return describe(scene, config.told_aside)


def _taught_word(config: WorldConfig, rng: np.random.Generator) -> Document:
    """Two made-up words stand for two nouns, or two colours. The first two pictures teach them, the others use them."""
    words = [MADE_UP_WORDS[index] for index in rng.permutation(len(MADE_UP_WORDS))[:2]]
    by_colour = rng.random() < 0.5
    meanings = _two_colours(config, rng) if by_colour else _two_nouns(config, rng)
    order = [0, 1] if rng.random() < 0.5 else [1, 0]
    order += [int(rng.random() * 2) for _ in range(int(rng.integers(1, 3)))]
    parts: Parts = []
    for index in order:
        other = draw_noun(config, rng) if by_colour else pick(rng, config.colours)
        colour_and_noun = (meanings[index], other) if by_colour else (other, meanings[index])
        parts += [arrange([colour_and_noun], config, _SPLIT, rng), f"This is a {words[index]}."]
    return Document("taught_word", parts)


def _two_colours(config: WorldConfig, rng: np.random.Generator) -> list[str]:
    return [config.colours[index] for index in rng.permutation(len(config.colours))[:2]]


def _two_nouns(config: WorldConfig, rng: np.random.Generator) -> list[str]:
    first = second = draw_noun(config, rng)
    while second == first:
        second = draw_noun(config, rng)
    return [first, second]


def _definition(config: WorldConfig, rng: np.random.Generator) -> Document:
    """A made-up word is defined as a colour and a noun; two or three pictures are then told about in that word."""
    word = pick(rng, MADE_UP_WORDS)
    defined = (pick(rng, config.colours), draw_noun(config, rng))
    parts: Parts = [sentence(f"{with_article(word)} is {with_article(' '.join(defined))}")]
    for _ in range(int(rng.integers(2, 4))):
        looks = [(item.colour, item.noun) for item in sample_scene(config, _SPLIT, rng).objects]
        if rng.random() < 0.5:
            looks[0] = defined
        scene = arrange(looks, config, _SPLIT, rng)
        places = [where(item.place) for item in scene.objects if (item.colour, item.noun) == defined]
        parts += [scene, sentence(f"{with_article(word)} is {listed(places)}" if places else f"there is no {word}")]
    return Document("definition", parts)


def _change(config: WorldConfig, rng: np.random.Generator) -> Document:
    """A picture is described; each of the one to three pictures that follow is told about by what has changed."""
    scene = sample_scene(config, _SPLIT, rng)
    parts: Parts = [scene, describe(scene)]
    for _ in range(int(rng.integers(1, 4))):
        changes = [_move, _recolour]
        changes += [_remove] if len(scene.objects) > 1 else []
        scene, told = pick(rng, changes)(scene, config, rng)
        parts += [scene, told]
    return Document("change", parts)


def _move(scene: Scene, config: WorldConfig, rng: np.random.Generator) -> tuple[Scene, str]:
    item = pick(rng, scene.objects)
    cells = free_cells(scene, config)
    if not cells:
        return _recolour(scene, config, rng)
    moved = make_object((item.colour, item.noun), pick(rng, cells), config, _SPLIT, rng)
    return _replaced(scene, item, moved), f"The {_exact(item, scene)} is now {where(moved.place)}."


def _recolour(scene: Scene, config: WorldConfig, rng: np.random.Generator) -> tuple[Scene, str]:
    item = pick(rng, scene.objects)
    colour = pick(rng, [colour for colour in config.colours if colour != item.colour])
    return _replaced(scene, item, replace(item, colour=colour)), f"The {_exact(item, scene)} is now {colour}."


def _remove(scene: Scene, config: WorldConfig, rng: np.random.Generator) -> tuple[Scene, str]:
    item = pick(rng, scene.objects)
    return _replaced(scene, item), f"The {_exact(item, scene)} is gone."


def _replaced(scene: Scene, item: Object, *others: Object) -> Scene:
    return in_reading_order([*(other for other in scene.objects if other is not item), *others])


def _exact(item: Object, scene: Scene) -> str:
    """Name an object by colour and noun, and by its place where another looks the same."""
    alone = sum(look(other) == look(item) for other in scene.objects) == 1
    return look(item) if alone else f"{look(item)} {where(item.place)}"


def _fact(config: WorldConfig, rng: np.random.Generator) -> str:
    return _FACTS[pick_weighted(rng, config.fact_weights)](rng)


def _side_fact(rng: np.random.Generator) -> str:
    shape = pick(rng, tuple(SIDES))
    return sentence(f"{with_article(shape)} has {SIDES[shape] or 'no'} sides")


def _shape_fact(rng: np.random.Generator) -> str:
    shape = pick(rng, tuple(SIDES))
    return sentence(f"a shape with {SIDES[shape] or 'no'} sides is {with_article(shape)}")


def _sum_fact(rng: np.random.Generator) -> str:
    """Add a digit to a digit or, half of the time, to the sum of two or three: a step of the sums one is asked for."""
    first, second = int(rng.integers(0, 10, size=pick(rng, (1, 1, 2, 3))).sum()), int(rng.integers(0, 10))
    return f"{first} + {second} = {first + second}."


def _side_sum_fact(rng: np.random.Generator) -> str:
    shapes = [pick(rng, tuple(SIDES)) for _ in range(2)]
    first, second = (SIDES[shape] for shape in shapes)
    owners = " and ".join(map(with_article, shapes))
    return sentence(f"{owners} have {first} + {second} = {first + second} sides in total")


def _order_fact(rng: np.random.Generator) -> str:
    first, second = int(rng.integers(0, 10)), int(rng.integers(0, 10))
    return f"{first} is {'' if first > second else 'not '}greater than {second}."


def _next_fact(rng: np.random.Generator) -> str:
    number = int(rng.integers(0, 50))
    return f"After {number} comes {number + 1}."


_FACTS: Mapping[str, Callable[[np.random.Generator], str]] = {
    "sides": _side_fact,
    "shape": _shape_fact,
    "sum": _sum_fact,
    "side_sum": _side_sum_fact,
    "order": _order_fact,
    "next": _next_fact,
}
