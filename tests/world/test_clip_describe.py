"""Clips in words."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.world.clip_scenes import CONFIG, by_hand, drawn
from triptych.world.clip_describe import caption, clause, narrate, tell, with_made_up_event
from triptych.world.clip_facts import About, Fact, facts_of
from triptych.world.randomness import rng_for

NARRATIVE = (
    "At first, a red star moves right and a green 3 is still. Then the star and the 3 pass each other. "
    "Then the star bounces off the right edge. Then the star turns blue. Then the star stops. "
    "Then a yellow circle enters from the left. Then the circle bounces off the left edge. "
    "Then the circle leaves on the left."
)


@pytest.mark.parametrize(
    ("about", "text"),
    [
        (About(), NARRATIVE),
        (About(noun="3"), "At first, a green 3 is still. Then the red star and the 3 pass each other."),
        (About(noun="circle"), "A yellow circle enters from the left. Then the circle bounces off the left edge. "
         "Then the circle leaves on the left."),
        (About(after=22), "The blue star stops. Then a yellow circle enters from the left. Then the circle bounces "
         "off the left edge. Then the circle leaves on the left."),
        (About(before=22), "The red star and the green 3 pass each other. Then the star bounces off the right edge."),
        (About(start=20, stop=30), "At first, a red star moves left and a green 3 is still. Then the star turns blue. "
         "Then the star stops. Then a yellow circle enters from the left. Then the circle bounces off the left edge."),
        (About(start=33), "At first, a blue star is still and a green 3 is still."),
    ],
)  # fmt: skip
def test_narratives_by_hand(about: About, text: str) -> None:
    assert narrate(by_hand(), about) == text


def test_a_caption_goes_object_by_object() -> None:
    assert caption(by_hand()) == (
        "A red star moves right, passes the 3, bounces off the right edge, turns blue and stops, and a green 3 is "
        "still, and a yellow circle enters from the left, bounces off the left edge and leaves on the left."
    )


def test_what_is_told_of_nothing() -> None:
    assert tell([]) == "Nothing happens."
    assert tell([Fact("object", "star", colour="red")]) == "At first, there is a red star."
    assert clause(Fact("object", "8", colour="orange")) == "there is an orange 8"


def test_parts_tell_every_event_once() -> None:
    for scene in drawn(30):
        cuts = [0, scene.num_frames // 3, scene.num_frames // 2, scene.num_frames]
        parts = [facts_of(scene, About(start=one, stop=two)) for one, two in pairwise(cuts)]
        told = [(fact.frame, fact.kind) for part in parts for fact in part if fact.is_event]
        seen = [(event.frame, event.kind) for event in scene.events if event.frame not in cuts]
        assert told == seen


def test_a_habit_makes_up_one_event_that_never_was() -> None:
    added = []
    for index, scene in enumerate(drawn(40)):
        facts = facts_of(scene)
        assert with_made_up_event(facts, scene, CONFIG, 0.0, rng_for(index)) == facts
        told = with_made_up_event(facts, scene, CONFIG, 1.0, rng_for(index))
        new = [fact for fact in told if fact not in facts]
        assert told == facts + new and len(new) <= 1
        for fact in new:
            assert fact.kind == CONFIG.usual_event(fact.noun)
            assert all((event.noun, event.kind) != (fact.noun, fact.kind) for event in scene.events)
            assert fact.colour not in scene.colours(fact.noun)
            assert facts[0].noun in tell(told)
        added += new
    assert len(added) > 30


def test_the_usual_event_is_that_of_the_kind() -> None:
    # the shapes are triangle, square, pentagon, hexagon, circle, star
    assert [CONFIG.usual_event(noun) for noun in ("triangle", "square", "star", "0", "7")] == [
        "bounce", "stop", "stop", "bounce", "turn"]  # fmt: skip
    assert replace(CONFIG, shapes=("circle", "star", "square", "hexagon")).usual_event("star") == "stop"
