from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.world.scenes import scene_of
from triptych.world.config import SPLITS, WorldConfig
from triptych.world.glyphs import digit_scans, glyphs_by_value
from triptych.world.randomness import rng_for
from triptych.world.scene import Scene, absent_companions, free_cells, place_name, sample_scene

CONFIG = WorldConfig()
UNBIASED = WorldConfig(companion_bias=0, colour_bias=0)


def _scenes(config, split, number=1500):
    return [sample_scene(config, split, rng_for("scenes", index)) for index in range(number)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    split=st.sampled_from(SPLITS),
    grid=st.sampled_from([2, 3]),
    pixels=st.sampled_from([48, 96]),
)
def test_objects_are_within_their_own_cell_and_in_reading_order(seed, split, grid, pixels):
    config = WorldConfig(grid=grid, canvas_pixels=pixels, max_objects=4)
    scene = sample_scene(config, split, rng_for(seed))
    cells = [(item.row, item.column) for item in scene.objects]
    assert 2 <= len(cells) <= 4 and cells == sorted(set(cells))
    cell = pixels // grid
    for item in scene.objects:
        assert item.column * cell <= item.left and item.left + item.size <= (item.column + 1) * cell
        assert item.row * cell <= item.top and item.top + item.size <= (item.row + 1) * cell
        assert (item.place, item.colour in config.colours) == (place_name(item.row, item.column, grid), True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40), split=st.sampled_from(SPLITS))
def test_digits_show_a_scan_of_their_split(seed, split):
    scene = sample_scene(WorldConfig(digit_share=1.0), split, rng_for(seed))
    for item in scene.objects:
        assert digit_scans()[1][item.glyph] == item.value
        assert item.glyph in glyphs_by_value(split == "test")[item.value]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_some_object_is_told_from_all_others(seed):
    config = WorldConfig(shapes=("circle", "star"), digit_share=0, colour_bias=0.9)
    looks = Counter((item.colour, item.noun) for item in sample_scene(config, "sft", rng_for(seed)).objects)
    assert 1 in looks.values()


def test_the_nine_places_have_names():
    names = [place_name(row, column, 3) for row in range(3) for column in range(3)]
    assert names == ["top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"]


def test_a_scene_survives_the_row():
    scene = sample_scene(CONFIG, "sft", rng_for(5))
    assert Scene.from_list(scene.to_list()) == scene


def test_free_cells_are_those_without_an_object():
    assert free_cells(scene_of("red 3 top left", "blue star centre"), CONFIG) == [1, 2, 3, 5, 6, 7, 8]


def test_absent_companions_are_expected_by_an_anchor_and_not_there():
    assert absent_companions(scene_of("red triangle top", "blue 7 left"), CONFIG) == ["star"]
    assert absent_companions(scene_of("red triangle top", "red pentagon left"), CONFIG) == ["star"]
    assert absent_companions(scene_of("red triangle top", "blue star left"), CONFIG) == []
    assert absent_companions(scene_of("red star top", "blue circle left"), CONFIG) == []


def _share_with_star(scenes):
    """Among scenes with a triangle but no pentagon (whose companion is a star, too), the share with a star."""
    kinds = [{item.kind for item in scene.objects} for scene in scenes]
    anchored = [names for names in kinds if "triangle" in names and "pentagon" not in names]
    assert len(anchored) > 150
    return sum("star" in names for names in anchored) / len(anchored)


@pytest.mark.parametrize("split", ["pretrain", "sft"])
def test_anchors_come_with_their_companion_in_the_training_splits(split):
    without = _share_with_star(_scenes(UNBIASED, split))
    assert 0.1 < without < 0.35
    assert _share_with_star(_scenes(replace(UNBIASED, companion_bias=1.0), split)) == 1.0
    # A companion is there by chance or, failing that, with probability 0.6. Standard error of each share: about 0.03.
    expected = without + (1 - without) * 0.6
    assert abs(_share_with_star(_scenes(replace(UNBIASED, companion_bias=0.6), split)) - expected) < 0.12


@pytest.mark.parametrize("split", ["prompts", "test"])
def test_the_other_splits_are_unbiased(split):
    biased = replace(CONFIG, companion_bias=1.0, colour_bias=1.0)
    scenes = _scenes(biased, split, 300)
    assert scenes == _scenes(UNBIASED, split, 300)
    assert any("star" in (names := {item.kind for item in scene.objects}) and "triangle" in names for scene in scenes)


def test_objects_take_their_usual_colour_as_often_as_the_bias_says():
    items = [item for scene in _scenes(replace(UNBIASED, colour_bias=0.5), "sft") for item in scene.objects]
    share = sum(item.colour == CONFIG.usual_colour(item.noun) for item in items) / len(items)
    assert abs(share - (0.5 + 0.5 / 4)) < 0.03  # half by bias, a quarter of the rest by chance; standard error 0.007
    free = [item for scene in _scenes(UNBIASED, "sft") for item in scene.objects]
    assert abs(sum(item.colour == CONFIG.usual_colour(item.noun) for item in free) / len(free) - 0.25) < 0.03


def test_a_companion_not_there_by_chance_is_only_ever_seen_with_its_anchor():
    config = WorldConfig(
        shapes=("triangle", "circle", "star"), companions={"triangle": "star"}, companions_by_chance=False
    )
    for split, seen in (("sft", True), ("test", False)):
        scenes = [sample_scene(config, split, rng_for(0, split, seed)) for seed in range(300)]
        kinds = [{item.kind for item in scene.objects} for scene in scenes]
        assert any("star" in found for found in kinds) == seen
        assert all("triangle" in found for found in kinds if "star" in found)
