"""Settings of clips."""

from __future__ import annotations

import pytest

from triptych.errors import TriptychError
from triptych.world.clip_config import ClipConfig, ClipCounts


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"canvas_pixels": 90}, "canvas_pixels"),
        ({"canvas_pixels": 16}, "canvas_pixels"),
        ({"pixel_noise": 40}, "pixel_noise"),
        ({"fps": 2}, "fps"),
        ({"min_seconds": 5.0, "max_seconds": 4.0}, "min_seconds"),
        ({"max_objects": 5}, "max_objects"),
        ({"min_events": 3, "max_events": 2}, "max_events"),
        ({"shapes": ("star", "cube", "circle", "square")}, "cube"),
        ({"shapes": ("star", "circle")}, "shapes"),
        ({"speeds": (0.1, 0.0)}, "speeds"),
        ({"speeds": ()}, "speeds"),
        ({"colours": ("red",)}, "colours"),
        ({"colours": ("red", "red")}, "twice"),
        ({"digit_share": 1.5}, "digit_share"),
        ({"narrative_noise": -0.1}, "narrative_noise"),
        ({"question_weights": {"sum": 1.0}}, "question_weights"),
        ({"question_weights": {"count": 0.0}}, "question_weights"),
        ({"num_frames": 0}, "num_frames"),
        ({"part_frames": 2}, "no more parts"),
    ],
)
def test_settings_that_make_no_sense_are_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(TriptychError, match=named):
        ClipConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"test_clips": -1}, "test_clips"),
        ({"train_clips": 5, "train_comparisons": 6}, "train_comparisons"),
        ({"prompts_per_clip": 1, "prompt_questions_per_clip": 2}, "prompt_questions_per_clip"),
        ({"train_rationales_per_clip": 9}, "train_rationales_per_clip"),
    ],
)
def test_counts_that_make_no_sense_are_named(fields: dict[str, int], named: str) -> None:
    with pytest.raises(TriptychError, match=named):
        ClipCounts(**fields)


def test_derived_settings() -> None:
    config = ClipConfig()
    assert (config.lane_pixels, config.min_frames, config.max_frames, config.gap_frames) == (24, 16, 48, 2)
    assert ClipConfig(fps=30).gap_frames == 8
