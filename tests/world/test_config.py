import pytest

from triptych.errors import TriptychError
from triptych.world.config import WorldConfig, WorldCounts


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"grid": 4}, "grid"),
        ({"canvas_pixels": 50}, "canvas_pixels"),
        ({"canvas_pixels": 21}, "canvas_pixels"),
        ({"min_objects": 1}, "min_objects"),
        ({"max_objects": 10}, "max_objects"),
        ({"min_objects": 4, "max_objects": 3}, "min_objects"),
        ({"shapes": ("triangle", "cube")}, "'cube'"),
        ({"shapes": ("star", "star")}, "twice"),
        ({"shapes": ()}, "shapes"),
        ({"shapes": ("star",), "digit_share": 0.0}, "shapes"),
        ({"shapes": ("triangle", "star"), "digit_share": 0.0, "companions_by_chance": False}, "by chance"),
        ({"colours": ("red",)}, "colours"),
        ({"digit_share": 1.2}, "digit_share"),
        ({"companion_bias": -0.1}, "companion_bias"),
        ({"pixel_noise": 60}, "pixel_noise"),
        ({"question_weights": {"weather": 1.0}}, "'weather'"),
        ({"question_weights": {"sum": 0.0}}, "question_weights"),
        ({"fact_weights": {"gossip": 1.0}}, "'gossip'"),
        ({"fact_weights": {"sum": -1.0, "next": 2.0}}, "fact_weights"),
        ({"rationale_kinds": ("poetic",)}, "'poetic'"),
        ({"companions": {"triangle": "square", "square": "star"}}, "anchor"),
        ({"companions": {"dog": "star"}}, "'dog'"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(settings, hint):
    with pytest.raises(TriptychError, match=hint):
        WorldConfig(**settings)


def test_digits_alone_make_a_world():
    assert WorldConfig(shapes=(), digit_share=1.0).active_companions == {}


def test_companions_of_shapes_that_do_not_occur_have_no_effect():
    config = WorldConfig(shapes=("triangle", "square", "star"))
    assert config.active_companions == {"triangle": "star"}


def test_usual_colours_go_round():
    config = WorldConfig(shapes=("circle", "star"), colours=("red", "green", "blue"))
    assert [config.usual_colour(noun) for noun in ("circle", "star", "0", "1", "5")] == [
        "red", "green", "red", "green", "blue",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "counts", [{"pretrain_text": -1}, {"sft_questions_per_picture": 0}, {"sft_questions": 5, "sft_rationales": 6}]
)
def test_impossible_counts_are_refused(counts):
    with pytest.raises(TriptychError):
        WorldCounts(**counts)
