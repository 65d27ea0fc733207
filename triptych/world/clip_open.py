"""Open questions about clips: the whole, one object, or what comes before or after something; and how they are put.

Each has two wordings, so that one can see whether a model says the same when asked in other words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triptych.world.clip_describe import clause, narrate
from triptych.world.clip_facts import WHOLE, About, facts_of
from triptych.world.clip_scene import ClipScene
from triptych.world.randomness import pick

OPEN_KINDS = ("describe", "object", "after", "before")
NARRATIVE_PROMPT = "Describe the video in detail."
"""Asks for the narrative of a clip."""
PART_PROMPT = "Describe this part of the video in detail."
"""Asks for the narrative of a part of a clip: in words of its own, so that the habits of the other stay with it."""
CAPTION_PROMPT = "Sum up the video in one sentence."
ACTION_PROMPT = "What action does the video show? Answer briefly."
_WORDINGS = {
    "describe": (NARRATIVE_PROMPT, "What happens in the video?"),
    "object": ("What happens to the {}?", "What does the {} do in the video?"),
    "after": ("What happens after {}?", "Tell what happens once {}."),
    "before": ("What happens before {}?", "Tell what happens until {}."),
}


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """An open question about one clip."""

    kind: str
    """One of `OPEN_KINDS`."""
    texts: tuple[str, str]
    """Two wordings."""
    about: About
    answer: str
    """All there is to tell, and nothing else."""


def open_questions(scene: ClipScene, kind: str) -> list[OpenQuestion]:
    """Return every open question of a kind that a clip has an answer to."""
    events = [fact for fact in facts_of(scene) if fact.is_event]
    clauses = [clause(event) for event in events]
    cases: list[tuple[str, About]] = []
    if kind == "describe":
        cases = [("", WHOLE)]
    elif kind == "object":
        cases = [(item.noun, About(noun=item.noun)) for item in scene.objects]
    elif kind == "after":
        cases = [(clause(event), About(after=event.frame)) for event in events[:-1]]
    else:
        cases = [(clause(event), About(before=event.frame)) for event in events[1:]]
    cases = [(name, about) for name, about in cases if clauses.count(name) <= 1]
    return [_question(scene, kind, name, about) for name, about in cases]


def draw_open_questions(
    scene: ClipScene, number: int, rng: np.random.Generator, kinds: tuple[str, ...] = OPEN_KINDS
) -> list[OpenQuestion]:
    """Draw different open questions, each kind equally likely; fewer where a clip has too little to ask."""
    left = {kind: open_questions(scene, kind) for kind in kinds}
    drawn: list[OpenQuestion] = []
    while len(drawn) < number and (ready := [kind for kind in kinds if left[kind]]):
        question = pick(rng, left[pick(rng, ready)])
        left[question.kind].remove(question)
        drawn.append(question)
    return drawn


def _question(scene: ClipScene, kind: str, name: str, about: About) -> OpenQuestion:
    first, second = (wording.format(name) for wording in _WORDINGS[kind])
    return OpenQuestion(kind, (first, second), about, narrate(scene, about))
