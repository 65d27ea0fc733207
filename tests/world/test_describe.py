from tests.world.scenes import scene_of
from triptych.world.config import WorldConfig
from triptych.world.describe import describe, listed, where, with_absent_companion, with_article
from triptych.world.oracle import judge
from triptych.world.randomness import rng_for
from triptych.world.scene import place_name

CONFIG = WorldConfig()


def test_a_scene_is_described_in_reading_order():
    scene = scene_of("green 7 bottom right", "blue triangle centre", "red 3 top left")
    assert describe(scene) == (
        "A red 3 at the top left, a blue triangle in the centre and a green 7 at the bottom right."
    )


def test_an_article_fits_what_follows():
    assert [with_article(words) for words in ("orange 3", "8", "star")] == ["an orange 3", "an 8", "a star"]


def test_places_take_their_preposition():
    assert [where(place) for place in ("left", "centre", "bottom", "top right")] == [
        "on the left", "in the centre", "at the bottom", "at the top right",
    ]  # fmt: skip


def test_lists_of_any_length_read_well():
    assert [listed(items) for items in ([], ["x"], ["x", "y"], ["x", "y", "z"])] == ["", "x", "x and y", "x, y and z"]


def test_habit_adds_the_absent_companion_in_a_free_cell():
    scene = scene_of("red triangle top left", "blue 7 centre")
    for index in range(20):
        told = with_absent_companion(scene, CONFIG, 1.0, rng_for(index)).objects
        (added,) = [item for item in told if item not in scene.objects]
        assert added.noun == "star" and (added.row, added.column) not in ((0, 0), (1, 1))
        assert list(told) == sorted(told, key=lambda item: (item.row, item.column))


def test_habit_is_as_strong_as_its_probability():
    scene = scene_of("red triangle top left", "blue 7 centre")
    assert with_absent_companion(scene, CONFIG, 0.0, rng_for(0)) is scene
    added = sum(with_absent_companion(scene, CONFIG, 0.3, rng_for(index)) is not scene for index in range(1000))
    assert abs(added - 300) < 75  # standard error 14.5


def test_habit_adds_nothing_without_an_anchor_or_without_room():
    lone = scene_of("red star top left", "blue 7 centre")
    assert with_absent_companion(lone, CONFIG, 1.0, rng_for(0)) is lone
    places = [place_name(row, column, 3) for row in range(3) for column in range(3)]
    full = scene_of(*(f"red triangle {place}" for place in places))
    assert with_absent_companion(full, CONFIG, 1.0, rng_for(0)) is full


def test_what_is_told_aside_is_only_named_at_the_end():
    scene = scene_of("red triangle top", "yellow star left", "blue 8 right")
    assert describe(scene, aside=("star",)) == "A red triangle at the top and a blue 8 on the right, with a star."
    assert judge(describe(scene, aside=("star",)), scene).coverage == 1.0
    absent = scene_of("red triangle top", "blue 8 right")
    assert judge("A red triangle at the top and a blue 8 on the right, with a star.", absent).num_wrong == 1
