import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.world.scenes import scene_of
from triptych.errors import DataError
from triptych.group import Group, text_message
from triptych.world.config import SPLITS, WorldConfig
from triptych.world.describe import describe, listed, look, with_absent_companion, with_article
from triptych.world.oracle import judge, score_description
from triptych.world.randomness import rng_for
from triptych.world.scene import Scene, sample_scene

CONFIG = WorldConfig()
SCENE = scene_of("red 3 top left", "blue triangle centre", "green 7 bottom right")


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**40), split=st.sampled_from(SPLITS), grid=st.sampled_from([2, 3]))
def test_our_own_descriptions_are_right_and_complete(seed, split, grid):
    scene = sample_scene(WorldConfig(grid=grid, max_objects=4), split, rng_for(seed))
    score = judge(describe(scene), scene)
    assert (score.num_wrong, len(score.judgements), score.coverage) == (0, len(scene.objects), 1.0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_descriptions_without_places_are_right_and_complete(seed):
    scene = sample_scene(CONFIG, "sft", rng_for(seed))
    score = judge(listed([with_article(look(item)) for item in reversed(scene.objects)]), scene)
    assert (score.num_wrong, score.coverage) == (0, 1.0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_exactly_the_absent_companion_is_a_hallucination(seed):
    scene = sample_scene(CONFIG, "prompts", rng_for(seed))
    told = with_absent_companion(scene, CONFIG, 1.0, rng_for(seed, "noise"))
    score = judge(describe(told), scene)
    assert (score.num_wrong, score.coverage) == (len(told.objects) - len(scene.objects), 1.0)
    assert [item in scene.objects for item in told.objects] == [judgement.right for judgement in score.judgements]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40), data=st.data())
def test_a_description_of_part_of_the_scene_covers_that_part(seed, data):
    scene = sample_scene(CONFIG, "test", rng_for(seed))
    kept = data.draw(st.lists(st.sampled_from(scene.objects), unique=True, min_size=1))
    score = judge(describe(Scene(tuple(kept))), scene)
    assert (score.num_wrong, score.coverage) == (0, len(kept) / len(scene.objects))


@pytest.mark.parametrize(
    ("text", "rights", "coverage"),
    [
        ("A red 3 at the top left, a blue triangle in the centre and a green 7 at the bottom right.", [1, 1, 1], 3 / 3),
        ("A red 3 at the top left, a blue star in the centre.", [1, 0], 1 / 3),  # another kind
        ("A green 3 at the top left and a blue triangle.", [0, 1], 1 / 3),  # another colour
        ("A red 3 at the top, a green 7 at the bottom right.", [0, 1], 1 / 3),  # another place
        ("A blue triangle in the centre, a yellow star at the top.", [1, 0], 1 / 3),  # an object too many
        ("a 3 and a 7", [1, 1], 2 / 3),
        ("a triangle, a triangle", [1, 0], 1 / 3),  # two are claimed, one is there
        ("two triangles", [1, 0], 1 / 3),
        ("a red 3 at the top left and a red 3", [1, 0], 1 / 3),
        ("A red 3. The red 3 is at the top left. The 3 is red.", [1], 1 / 3),  # one object, told three times
        ("A red 3. The red 3 is at the bottom.", [0], 0),
        ("a red 3 at the top left a red 3 at the top left a red 3 at the top left", [1], 1 / 3),
        ("a star at the top, a star at the top", [0], 0),
        ("a red 3 at the top left, a red 3 on the left", [1, 0], 1 / 3),
        ("a red digit at the top left, a blue shape", [1, 1], 0),  # right, but too vague to cover
        ("a red shape at the top left", [0], 0),
        ("a green thing and a green 7", [0, 1], 1 / 3),  # two green objects are claimed, one is there
        ("a red digit, a green digit, a 3, a 7", [0, 0, 1, 1], 2 / 3),
        ("There is a 3. The 3 is red.", [1], 1 / 3),
        ("There is a 3. The 3 is blue.", [0], 0),
        ("There is a red digit. The digit is a 3.", [1], 1 / 3),
        ("There is no star. The 3 is not at the bottom.", [1], 1 / 3),
        ("3 + 7 = 10", [], 0),
        ("", [], 0),
    ],
)
def test_claims_by_hand(text, rights, coverage):
    score = judge(text, SCENE)
    assert [item.right for item in score.judgements] == rights
    assert score.coverage == pytest.approx(coverage)


def test_equal_objects_are_told_apart_by_place():
    twins = scene_of("red star top left", "red star bottom")
    assert judge("a red star at the top left and a red star at the bottom", twins).coverage == 1.0
    assert judge("two red stars at the bottom and at the top left", twins).coverage == 1.0
    assert judge("two red stars", twins).coverage == 1.0
    three = judge("three red stars", twins)
    assert (three.num_wrong, three.coverage) == (1, 1.0)


def _group(meta):
    return Group(id="test/1", prompt=[text_message("user", None, "Describe the picture.")], images=["a.png"], meta=meta)


def test_the_score_of_a_row_lists_its_claims():
    group = _group({"scene": SCENE.to_list()})
    assert score_description("A red 3 at the top left and\n a yellow star.", group) == {
        "hallucinated": True,
        "num_claims": 2,
        "num_wrong": 1,
        "coverage": pytest.approx(1 / 3),
        "claims": [{"text": "A red 3 at the top left", "right": True}, {"text": "a yellow star", "right": False}],
    }


def test_a_row_without_a_scene_is_named():
    with pytest.raises(DataError, match=r"scene_missing.*test/1"):
        score_description("A red 3.", _group({}))
