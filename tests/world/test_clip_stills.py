"""Single frames."""

from __future__ import annotations

import re

import numpy as np

from tests.world.clip_scenes import QUIET
from triptych.world.clip_documents import still
from triptych.world.clip_render import render_clip
from triptych.world.clip_stills import draw_still
from triptych.world.config import PALETTE
from triptych.world.randomness import rng_for


def test_what_is_told_of_a_still_is_what_its_pixels_show() -> None:
    thirds = {"left": 0, "centre": 1, "right": 2, "top": 0, "bottom": 2}
    for number in range(40):
        scene = draw_still(QUIET, "pretrain", rng_for(number))
        [picture] = render_clip(scene, QUIET, rng_for("none"))
        told = still(scene, 0)
        told = re.sub(r" \(\d+, \d+\)", "", told)
        assert told.count(" and ") + told.count(",") == len(scene.objects) - 1
        for item in scene.objects:
            words = (
                told.lower().split(f"{item.colour} {item.noun} ")[1].split(",")[0].split(" and ")[0].rstrip(".").split()
            )
            shown = np.argwhere(np.abs(picture.astype(int) - PALETTE[item.colour]).sum(2) < 60)
            lane = slice(item.lane * QUIET.lane_pixels, (item.lane + 1) * QUIET.lane_pixels)
            across = shown[:, 0 if scene.axis == "x" else 1]
            own = shown[(across >= lane.start) & (across < lane.stop)]
            low, high = own.min(0), own.max(0)
            row, column = (low + high + 1) // 2 * 3 // QUIET.canvas_pixels
            vertical = next((thirds[word] for word in words if word in ("top", "bottom")), 1)
            sideways = next((thirds[word] for word in words if word in ("left", "right")), 1)
            # the outline of a star or a triangle is not as high as its box
            assert (vertical == row or sideways == column) and abs(vertical - row) + abs(sideways - column) <= 1
