"""Questions about clips with one right answer: objects, order, directions, counts and colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from triptych.world.clip_config import ClipConfig
from triptych.world.clip_describe import clause, tell
from triptych.world.clip_facts import OBJECT, Fact, facts_of
from triptych.world.clip_scene import ClipScene
from triptych.world.questions import COT_SUFFIX, DIRECT_SUFFIX
from triptych.world.randomness import pick, pick_weighted

_ATTEMPTS = 20
_DOES = {"enter": "enter", "leave": "leave", "bounce": "bounce", "turn": "change its colour", "stop": "stop"}
_WHICH = {"enter": "enters", "leave": "leaves", "bounce": "bounces", "turn": "changes its colour", "stop": "stops"}
_DOING = {**_WHICH, "cross": "passes another object"}
DOING = tuple(_DOING.values())
"""Answers to what an object does."""
_COUNTED = {"enter": "enter", "leave": "leave", "bounce": "bounce", "turn": "change their colour", "stop": "stop"}


@dataclass(frozen=True, slots=True)
class ClipQuestion:
    """A question about one clip."""

    kind: str
    """One of `CLIP_QUESTION_KINDS`."""
    text: str
    answer: str
    evidence: tuple[Fact, ...]
    """What in the clip the answer follows from, in the order of time."""

    @property
    def direct_prompt(self) -> str:
        """The question, asking for the bare answer."""
        return self.text + DIRECT_SUFFIX

    @property
    def cot_prompt(self) -> str:
        """The question, asking for a rationale."""
        return self.text + COT_SUFFIX

    @property
    def rationale(self) -> str:
        """The evidence in words, and on the next line `Final Answer: ...`."""
        return f"{tell(self.evidence) if self.evidence else 'Nothing of the kind.'}\nFinal Answer: {self.answer}"


def draw_clip_questions(
    scene: ClipScene, config: ClipConfig, num_questions: int, rng: np.random.Generator
) -> list[ClipQuestion]:
    """Draw different questions, their kinds by `question_weights`; fewer where a clip has too little to ask."""
    questions: dict[str, ClipQuestion] = {}
    for _ in range(_ATTEMPTS * num_questions):
        if len(questions) == num_questions:
            break
        question = ask_clip(pick_weighted(rng, config.question_weights), scene, rng)
        if question is not None:
            questions.setdefault(question.text, question)
    return list(questions.values())


def ask_clip(kind: str, scene: ClipScene, rng: np.random.Generator) -> ClipQuestion | None:
    """Draw a question of one kind; None where the clip gives no reason for the form that was drawn."""
    ask = pick(rng, _ASKERS[kind])
    asked = ask(scene, rng)
    return None if asked is None else ClipQuestion(kind, asked.text, asked.answer, tuple(asked.evidence))


@dataclass(frozen=True, slots=True)
class _Asked:
    text: str
    answer: str
    evidence: Sequence[Fact] = ()


def _events(scene: ClipScene, noun: str | None = None, kind: str | None = None) -> list[Fact]:
    """Return the events, of an object and of a kind."""
    facts = [fact for fact in facts_of(scene) if fact.is_event]
    return [fact for fact in facts if noun in (None, fact.noun, fact.other) and kind in (None, fact.kind)]


def _does(scene: ClipScene, rng: np.random.Generator) -> _Asked:
    """Ask whether something happens to an object; yes and no are equally likely where both can be had."""
    noun, wanted = pick(rng, scene.objects).noun, rng.random() < 0.5
    kinds = [kind for kind in _DOES if bool(_events(scene, noun, kind)) is wanted] or list(_DOES)
    kind = pick(rng, kinds)
    found = _events(scene, noun, kind)
    return _Asked(f"Does the {noun} {_DOES[kind]}?", "yes" if found else "no", found or _events(scene, noun))


def _which(scene: ClipScene, rng: np.random.Generator) -> _Asked | None:
    """Ask which object does something that only one does."""
    actors = {kind: {fact.noun for fact in _events(scene, kind=kind)} for kind in _WHICH}
    kinds = [kind for kind, nouns in actors.items() if len(nouns) == 1]
    if not kinds or len(scene.objects) < 2:
        return None
    kind = pick(rng, kinds)
    return _Asked(f"Which object {_WHICH[kind]}?", *actors[kind], _events(scene, kind=kind))


def _what(scene: ClipScene, rng: np.random.Generator) -> _Asked | None:
    """Ask for the first or the last thing that an object does."""
    busy = [item.noun for item in scene.objects if _events(scene, item.noun)]
    if not busy:
        return None
    noun, when = pick(rng, busy), pick(rng, ("first", "last"))
    found = _events(scene, noun)
    return _Asked(f"What does the {noun} do {when}?", _DOING[found[0 if when == "first" else -1].kind], found)


def _before(scene: ClipScene, rng: np.random.Generator) -> _Asked | None:
    pair = _two_events(scene, rng)
    if pair is None:
        return None
    first, second = pair
    answer = "yes" if first.frame < second.frame else "no"
    return _Asked(f"Is it true that {clause(first)} before {clause(second)}?", answer, _in_time(pair))


def _what_first(scene: ClipScene, rng: np.random.Generator) -> _Asked | None:
    pair = _two_events(scene, rng)
    if pair is None:
        return None
    told = _in_time(pair)
    return _Asked(f"What happens first: {clause(pair[0])}, or {clause(pair[1])}?", clause(told[0]), told)


def _who_first(scene: ClipScene, rng: np.random.Generator) -> _Asked | None:
    """Ask which of several objects does something first or last."""
    kinds = [kind for kind in _WHICH if len({fact.noun for fact in _events(scene, kind=kind)}) > 1]
    if not kinds:
        return None
    kind, when = pick(rng, kinds), pick(rng, ("first", "last"))
    found = _events(scene, kind=kind)
    return _Asked(f"Which object {_WHICH[kind]} {when}?", found[0 if when == "first" else -1].noun, found)


def _side(scene: ClipScene, rng: np.random.Generator) -> _Asked | None:
    """Ask for the side of an event that an object has once."""
    forms = {
        "enter": "From which side does the {} enter?",
        "leave": "On which side does the {} leave?",
        "bounce": "Off which edge does the {} bounce?",
    }
    cases = [(item.noun, kind) for item in scene.objects for kind in forms if len(_events(scene, item.noun, kind)) == 1]
    if not cases:
        return None
    noun, kind = pick(rng, cases)
    [event] = _events(scene, noun, kind)
    return _Asked(forms[kind].format(noun), str(event.side), [event])


def _direction(scene: ClipScene, rng: np.random.Generator) -> _Asked | None:
    """Ask where an object moves when it is first seen moving, or when it is last seen."""
    at_end = rng.random() < 0.5
    cases = {}
    for item in scene.objects:
        motions = [scene.motion(item, frame) for frame in range(scene.num_frames - 1)]
        moving = [motion for motion in motions if motion]
        if moving and not at_end:
            cases[item.noun] = moving[0]
        elif at_end and motions[-1] and scene.visible(item, scene.num_frames - 1):
            cases[item.noun] = motions[-1]
    if not cases:
        return None
    noun = pick(rng, list(cases))
    evidence = [fact for fact in facts_of(scene) if fact.noun == noun and fact.kind != OBJECT]
    when = "at the end" if at_end else "at first"
    return _Asked(f"In which direction does the {noun} move {when}?", cases[noun], evidence)


def _how_many(scene: ClipScene, rng: np.random.Generator) -> _Asked:
    """Count the objects that do something, four times in five something that happens."""
    kinds = [kind for kind in _COUNTED if _events(scene, kind=kind)]
    kind = pick(rng, kinds if kinds and rng.random() < 0.8 else list(_COUNTED))
    found = _events(scene, kind=kind)
    return _Asked(f"How many objects {_COUNTED[kind]}?", str(len({fact.noun for fact in found})), found)


def _how_often(scene: ClipScene, rng: np.random.Generator) -> _Asked | None:
    """Count how often an object bounces, or passes another one; seldom of one that does not."""
    forms = {"bounce": "bounce", "cross": "pass another object"}
    noun, kind = pick(rng, scene.objects).noun, pick(rng, tuple(forms))
    found = _events(scene, noun, kind)
    if not found and rng.random() < 0.8:
        return None
    return _Asked(f"How many times does the {noun} {forms[kind]}?", str(len(found)), found)


def _how_many_there(scene: ClipScene, rng: np.random.Generator) -> _Asked:
    """Count the objects at one end of the clip, or all that are ever seen."""
    when = pick(rng, ("at first", "at the end", "in all"))
    facts = facts_of(scene)
    if when == "in all":
        return _Asked(f"How many objects are there {when}?", str(len(scene.objects)), _named(facts))
    frame = 0 if when == "at first" else scene.num_frames - 1
    told = [fact for fact in facts if not fact.is_event or (frame and fact.kind in ("enter", "leave"))]
    told = [fact for fact in told if fact.is_event or any(item.noun == fact.noun for item in scene.present(0))]
    return _Asked(f"How many objects are there {when}?", str(len(scene.present(frame))), told)


def _colour_then(scene: ClipScene, rng: np.random.Generator) -> _Asked:
    """Ask for the colour at either end, more often of an object that changes it."""
    turning = [item for item in scene.objects if len(scene.colours(item.noun)) > 1]
    item = pick(rng, turning if turning and rng.random() < 0.7 else scene.objects)
    at_end = rng.random() < 0.5
    frame = scene.num_frames - 1 if at_end else 0
    evidence = [Fact(OBJECT, item.noun, colour=item.colour), *_events(scene, item.noun, "turn")]
    text = f"What colour is the {item.noun} {'at the end' if at_end else 'at first'}?"
    return _Asked(text, scene.colour(item.noun, frame), evidence)


def _colour_new(scene: ClipScene, rng: np.random.Generator) -> _Asked | None:
    turns = _events(scene, kind="turn")
    if not turns:
        return None
    turn = pick(rng, turns)
    return _Asked(f"Which colour does the {turn.noun} turn?", str(turn.colour), [turn])


def _two_events(scene: ClipScene, rng: np.random.Generator) -> tuple[Fact, Fact] | None:
    """Draw two events whose clauses name each of them alone, in either order."""
    clauses = [clause(event) for event in _events(scene)]
    alone = [event for event in _events(scene) if clauses.count(clause(event)) == 1]
    pairs = list(permutations(alone, 2))
    return pick(rng, pairs) if pairs else None


def _in_time(events: Sequence[Fact]) -> list[Fact]:
    return sorted(events, key=lambda fact: fact.frame)


def _named(facts: Sequence[Fact]) -> list[Fact]:
    return [fact for fact in facts if fact.kind == OBJECT]


_ASKERS: dict[str, tuple[Callable[[ClipScene, np.random.Generator], _Asked | None], ...]] = {
    "object": (_does, _which, _what),
    "order": (_before, _what_first, _who_first),
    "direction": (_side, _direction),
    "count": (_how_many, _how_often, _how_many_there),
    "colour": (_colour_then, _colour_new),
}
