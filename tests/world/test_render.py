import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.world.scenes import scene_of
from triptych.world.config import PALETTE, SIDES, WorldConfig
from triptych.world.glyphs import digit_scans
from triptych.world.randomness import rng_for
from triptych.world.render import BACKGROUND, encode_png, render
from triptych.world.scene import sample_scene

CONFIG = WorldConfig()
QUIET = WorldConfig(pixel_noise=0)


def test_a_picture_is_empty_outside_its_objects():
    picture = render(scene_of("red square top left", "blue star bottom right"), QUIET, rng_for(0)).astype(int)
    assert picture.shape == (48, 48, 3)
    empty = np.ones((48, 48), bool)
    empty[:16, :16] = empty[32:, 32:] = False
    assert (picture[empty] == BACKGROUND).all()
    assert (picture[2:14, 2:14] == PALETTE["red"]).all()


@pytest.mark.parametrize("shape", SIDES)
def test_shapes_cover_the_area_of_their_outline(shape):
    """Share of the box that a shape fills, from geometry: shoelace formula for unit radius, stretched to the box."""
    n = SIDES[shape]
    if shape == "circle":
        expected = np.pi / 4
    elif shape == "square":
        expected = 1.0
    else:
        angles = 2 * np.pi * np.arange(n) / n
        radii = np.where((shape == "star") & (np.arange(n) % 2 == 1), 0.45, 1.0)
        x, y = radii * np.sin(angles), radii * np.cos(angles)
        area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
        expected = area / (np.ptp(x) * np.ptp(y))
    picture = render(scene_of(f"white {shape} centre"), replace(QUIET, colours=("white", "red")), rng_for(0))
    box = picture[16:32, 16:32, 0].astype(float)
    ink = (box - BACKGROUND[0]) / (PALETTE["white"][0] - BACKGROUND[0])
    assert abs(ink.mean() - expected) < 0.03


def test_a_digit_shows_its_scan():
    picture = render(scene_of("red 3 top left"), QUIET, rng_for(0))[:16, :16, 0].astype(float)
    ink = (picture - BACKGROUND[0]) / (PALETTE["red"][0] - BACKGROUND[0])
    shrunk = ink.reshape(8, 2, 8, 2).mean((1, 3))
    assert np.corrcoef(shrunk.ravel(), digit_scans()[0][3].ravel())[0, 1] > 0.97


def test_noise_stays_within_its_bounds_and_uses_them():
    scene = scene_of("red 3 top left")
    noise = render(scene, CONFIG, rng_for(1)).astype(int) - render(scene, QUIET, rng_for(1))
    assert (noise.min(), noise.max()) == (-6, 6) and abs(noise.mean()) < 0.2
    bright = render(scene_of("blue square top left"), CONFIG, rng_for(1))[2:14, 2:14, 2]
    assert bright.min() == 255 - 6 and bright.max() == 255  # the blue channel is full; noise does not overflow


def test_pictures_of_different_samples_differ():
    pictures = {
        render(sample_scene(QUIET, "sft", rng_for(index)), QUIET, rng_for(index)).tobytes() for index in range(400)
    }
    assert len(pictures) == 400


def test_the_file_holds_the_picture():
    picture = render(sample_scene(CONFIG, "sft", rng_for(0)), CONFIG, rng_for(1))
    with Image.open(io.BytesIO(encode_png(picture))) as image:
        assert image.format == "PNG" and (np.asarray(image) == picture).all()


def test_a_finer_canvas_shows_the_same_scene():
    fine = WorldConfig(canvas_pixels=96, pixel_noise=0)
    picture = render(sample_scene(fine, "sft", rng_for(3)), fine, rng_for(0))
    assert picture.shape == (96, 96, 3) and (picture.astype(int) - BACKGROUND).any()
