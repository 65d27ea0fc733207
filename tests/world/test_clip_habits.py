"""A clip as habit has it."""

from __future__ import annotations

from collections import Counter

from tests.world.clip_scenes import CONFIG, by_hand, drawn
from triptych.world.clip_habits import by_habit
from triptych.world.randomness import rng_for


def test_a_habit_adds_the_usual_event_of_one_object_at_a_free_moment() -> None:
    added = 0
    for number, scene in enumerate(drawn(60)):
        imagined = by_habit(scene, CONFIG, 1.0, rng_for(number))
        new = Counter(imagined.events) - Counter(scene.events)
        assert not Counter(scene.events) - Counter(imagined.events) and new.total() <= 1
        assert [event.frame for event in imagined.events] == sorted({event.frame for event in imagined.events})
        for event in new:
            assert event.kind == CONFIG.usual_event(event.noun)
            assert not any((each.noun, each.kind) == (event.noun, event.kind) for each in scene.events)
            assert scene.visible(scene.item(event.noun), event.frame)
        added += new.total()
    assert added >= 45


def test_it_comes_as_often_as_asked_for() -> None:
    scene = by_hand()
    assert by_habit(scene, CONFIG, 0.0, rng_for("none")) == scene
    changed = sum(by_habit(scene, CONFIG, 0.3, rng_for("some", number)) != scene for number in range(1_000))
    assert abs(changed / 1_000 - 0.3) < 4 * (0.3 * 0.7 / 1_000) ** 0.5
