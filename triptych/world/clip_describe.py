"""Clips in words: narratives in the order of time, captions object by object, and what habit adds to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from triptych.world.clip_config import ClipConfig
from triptych.world.clip_facts import MOVE, OBJECT, REST, WHOLE, About, Fact, facts_of
from triptych.world.clip_scene import SIDES_OF, ClipScene
from triptych.world.describe import listed, sentence, where, with_article
from triptych.world.randomness import pick


def narrate(scene: ClipScene, about: About = WHOLE) -> str:
    """Tell a clip, or what a question is about, in the order of time; see `tell`."""
    return tell(facts_of(scene, about))


def tell(facts: Sequence[Fact]) -> str:
    """Put facts into words, in their order.

    `At first, a red star moves right and a green 3 is still. Then a blue circle enters from the left. Then the star
    turns yellow.` An object is named by its colour where it comes up first.
    """
    names = _Names(facts)
    opening, sentences = [], []
    for fact in facts:
        if fact.is_event:
            sentences.append(_happening(fact, names.of(fact.noun, new=fact.kind == "enter"), names.of(fact.other)))
        elif fact.kind != OBJECT:
            opening.append(f"{names.of(fact.noun, new=True)} {_state(fact)}")
    opening += [f"there is {name}" for name in names.left()]
    told = [f"At first, {listed(opening)}"] if opening else []
    told += [f"then {words}" if told or number else words for number, words in enumerate(sentences)]
    return " ".join(map(sentence, told)) if told else "Nothing happens."


def caption(scene: ClipScene) -> str:
    """Sum up a clip in one sentence, object by object.

    `A red star enters from the left, passes the 3 and stops, and a green 3 is still.`
    """
    facts = facts_of(scene)
    clauses = []
    for item in facts:
        if item.kind == OBJECT:
            own = [fact for fact in facts if fact.noun == item.noun and fact.kind != OBJECT]
            verbs = [_verb(fact) for fact in own] or ["is there"]
            clauses.append(f"{with_article(f'{item.colour} {item.noun}')} {listed(verbs)}")
    return sentence(", and ".join(clauses)) if clauses else "Nothing happens."


def clause(fact: Fact) -> str:
    """Say a fact in a clause of its own: `the star bounces off the left edge`."""
    if fact.kind == OBJECT:
        return f"there is {with_article(f'{fact.colour} {fact.noun}')}"
    return _happening(fact, f"the {fact.noun}", f"the {fact.other}")


def _happening(fact: Fact, name: str, other: str) -> str:
    return f"{name} and {other} pass each other" if fact.kind == "cross" else f"{name} {_verb(fact)}"


def with_made_up_event(
    facts: Sequence[Fact], scene: ClipScene, config: ClipConfig, probability: float, rng: np.random.Generator
) -> list[Fact]:
    """Return what a text written by habit would tell: the facts and, with the probability, one event that never was.

    It is the usual event (`ClipConfig.usual_event`) of the first object told of that has had none like it, and is told
    last: a habit that always looks the same is one that a model takes up. If all have had their usual event, nothing is
    added.
    """
    told = list(facts)
    if rng.random() >= probability:
        return told
    present = {item.noun for item in scene.objects}
    nouns = [fact.noun for fact in told if fact.kind == OBJECT and fact.noun in present]
    noun = without_usual_event(nouns, scene, config)
    return told if noun is None else [*told, made_up(noun, config.usual_event(noun), scene, config, rng)]


def without_usual_event(nouns: Sequence[str], scene: ClipScene, config: ClipConfig) -> str | None:
    """Return the first of the nouns whose usual event does not happen to it in the clip; None where there is none."""
    happened = {(event.noun, event.kind) for event in scene.events}
    return next((noun for noun in nouns if (noun, config.usual_event(noun)) not in happened), None)


def made_up(noun: str, kind: str, scene: ClipScene, config: ClipConfig, rng: np.random.Generator) -> Fact:
    """Make up an event that an object has no part in: a side of the axis, or a colour that it never has."""
    if kind == "turn":
        return Fact(kind, noun, colour=pick(rng, [each for each in config.colours if each not in scene.colours(noun)]))
    return Fact(kind, noun, side=None if kind == "stop" else pick(rng, SIDES_OF[scene.axis]))


class _Names:
    """How objects are named: by colour and noun at first, then by noun."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._colours = {fact.noun: fact.colour for fact in facts if fact.kind == OBJECT}

    def of(self, noun: str | None, *, new: bool = False) -> str:
        """Name an object; `new` where it comes into the story."""
        if noun is None:
            return ""
        colour = self._colours.pop(noun, None)
        words = f"{colour} {noun}" if colour else noun
        return with_article(words) if new and colour else f"the {words}"

    def left(self) -> list[str]:
        """Name those that nothing was told of."""
        return [self.of(noun, new=True) for noun in list(self._colours)]


def _state(fact: Fact) -> str:
    return f"moves {fact.direction}" if fact.kind == MOVE else "is still"


def _verb(fact: Fact) -> str:
    if fact.kind in (MOVE, REST):
        return _state(fact)
    return {
        "enter": f"enters from the {fact.side}",
        "leave": f"leaves {where(fact.side or '')}",
        "bounce": f"bounces off the {fact.side} edge",
        "cross": f"passes the {fact.other}",
        "turn": f"turns {fact.colour}",
        "stop": "stops",
    }[fact.kind]
