"""Single frames, to learn looking from: objects in their lanes at any place of their way, with nothing to happen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from triptych.world.clip_config import NUM_LANES, ClipConfig
from triptych.world.clip_scene import ClipScene, draw_nouns, draw_object
from triptych.world.randomness import pick


def draw_still(config: ClipConfig, split: str, rng: np.random.Generator) -> ClipScene:
    """Draw a scene of one frame, with up to `max_objects` objects, all of them wholly on the canvas.

    Single objects are where shapes are learnt: with more from the start, a model learns colours and places alone.
    """
    axis, number = pick(rng, ("x", "y")), int(rng.integers(1, config.max_objects + 1))
    lanes = sorted(rng.permutation(NUM_LANES)[:number].tolist())
    objects = []
    for lane, noun in zip(lanes, draw_nouns(config, number, rng), strict=True):
        item = draw_object(noun, lane, config, split, rng)
        objects.append(replace(item, positions=(int(rng.integers(config.canvas_pixels - item.size + 1)),)))
    return ClipScene(axis, config.canvas_pixels, 1, tuple(objects), ())
