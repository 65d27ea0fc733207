import pytest

from triptych.errors import TriptychError
from triptych.evaluation.vqa import normalise_vqa, vqa_accuracy


@pytest.mark.parametrize(
    ("num_matches", "accuracy"),
    # Leave one out: with 3 matches, 7 of the ten sets hold 3 (1) and 3 hold 2 (2/3): 0.7 + 0.2.
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)],
)
def test_accuracy_is_the_mean_over_leave_one_out_sets(num_matches, accuracy):
    humans = ["red"] * num_matches + [f"other {number}" for number in range(10 - num_matches)]
    assert vqa_accuracy("Red.", humans) == pytest.approx(accuracy)
    assert vqa_accuracy("Red.", humans[::-1]) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("text", "normalised"),
    # Values of the EvalAI answer processor as published in MMF (mmf/utils/m4c_evaluators.py).
    [
        ("The two dogs", "2 dogs"),
        ("none", "0"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("U.S.", "us"),
        ("p.m.\n", "pm"),
        ("hi-fi", "hi fi"),
        ("hi-fi - x", "hifi x"),
        ("and/or", "and or"),
        ("(x)", "x"),
        ("cat's?", "cat 's"),
        ("somebody'd", "somebodyd"),
        ("a", ""),
    ],
)
def test_answers_are_normalised_as_on_the_evalai_server(text, normalised):
    assert normalise_vqa(text) == normalised


@pytest.mark.parametrize("num_humans", [0, 1, 9, 11])
def test_another_number_of_human_answers_is_refused(num_humans):
    with pytest.raises(TriptychError, match="10 human answers"):
        vqa_accuracy("red", ["red"] * num_humans)
