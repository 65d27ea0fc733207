"""Action classes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.world.clip_scenes import CONFIG, by_hand, drawn
from triptych.errors import TriptychError
from triptych.world.clip_actions import action_classes, action_of, sample_action_clip
from triptych.world.clip_scene import is_held_out
from triptych.world.randomness import rng_for

CLASSES = action_classes(CONFIG)


def test_the_set_is_closed_and_named() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 31
    assert {"entering from the left", "leaving at the top", "moving up and stopping", "turning red"} < set(CLASSES)
    assert len(action_classes(replace(CONFIG, colours=("red", "blue")))) == 29


def test_an_action_that_no_clip_shows_is_refused_by_name() -> None:
    # within two seconds at most one thing happens, and what enters cannot leave again
    short = replace(CONFIG, min_seconds=1.0, max_seconds=1.0, num_frames=8, part_frames=8)
    with pytest.raises(TriptychError, match="passing through from the left"):
        sample_action_clip(short, "passing through from the left", rng_for("short"))


def test_an_action_whose_stories_are_all_for_training_is_drawn_from_them() -> None:
    few = replace(CONFIG, shapes=("star",), max_objects=1, colours=("red", "blue"), digit_share=0.0)
    shown = ("moving left", "moving right", "turning red", "turning blue", "moving left and stopping")
    scenes = [sample_action_clip(few, action, rng_for(action)) for action in shown]
    assert {is_held_out(scene) for scene in scenes} == {True, False}


@pytest.mark.parametrize("action", CLASSES)
def test_a_clip_of_each_class_can_be_drawn(action: str) -> None:
    scene = sample_action_clip(CONFIG, action, rng_for(action))
    assert action_of(scene) == action and is_held_out(scene)
    kinds = [event.kind for event in scene.events]
    words = {"entering": "enter", "leaving": "leave", "bouncing": "bounce", "turning": "turn", "stopping": "stop"}
    for word, kind in words.items():
        assert (word not in action) or kinds == [kind]
    if action.startswith("passing each other"):
        assert len(scene.objects) == 2 and kinds.count("cross") == 1
    for side in ("left", "right", "top", "bottom"):
        if action.endswith(f" {side}") and "moving" not in action:
            assert scene.events[0].side == side


def test_other_clips_show_no_single_action() -> None:
    assert action_of(by_hand()) is None
    assert all(action_of(scene) in (None, *CLASSES) for scene in drawn(40))
