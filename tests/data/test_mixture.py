import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.data.mixture import mix_indices
from triptych.errors import TriptychError


def test_measured_frequencies_follow_the_weights():
    # three standard errors of a share of .45 in 20,000 draws: 3 * sqrt(.45 * .55 / 20000) = 0.0106
    drawn = mix_indices([100, 200, 50], [45, 45, 10], 20_000, seed=0)
    shares = drawn.frequencies(["captions", "interleaved", "text"])
    assert shares == pytest.approx(
        {"frequency/captions": 0.45, "frequency/interleaved": 0.45, "frequency/text": 0.1}, abs=0.0106
    )
    assert sum(shares.values()) == pytest.approx(1.0)


def test_frequencies_can_be_asked_for_any_beginning():
    drawn = mix_indices([5, 5], [1, 1], 40, seed=3)
    first = [source for source, _ in drawn[:7]]
    assert drawn.frequencies(["a", "b"], 7) == {"frequency/a": first.count(0) / 7, "frequency/b": first.count(1) / 7}


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.1, 10), min_size=4, max_size=4),
    num_samples=st.integers(0, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_pass_through_a_source_holds_every_row_once(sizes, weights, num_samples, seed):
    drawn = mix_indices(sizes, weights[: len(sizes)], num_samples, seed)
    assert len(drawn) == num_samples
    for source, size in enumerate(sizes):
        rows = [index for place, index in drawn if place == source]
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            assert len(set(part)) == len(part)
            assert set(part) <= set(range(size))
            assert len(part) == size or start + size > len(rows)


def test_the_sequence_is_a_function_of_its_arguments_and_more_samples_extend_it():
    short, long = mix_indices([9, 4], [2, 1], 25, seed=7), mix_indices([9, 4], [2, 1], 60, seed=7)
    assert list(short) == long[:25]
    assert list(mix_indices([9, 4], [2, 1], 25, seed=8)) != list(short)


def test_successive_passes_are_shuffled_differently():
    rows = [index for _, index in mix_indices([50], [1.0], 100, seed=0)]
    assert sorted(rows[:50]) == sorted(rows[50:]) == list(range(50))
    assert rows[:50] != rows[50:]
    assert rows[:50] != sorted(rows[:50])


def test_only_the_proportion_of_weights_counts_and_weight_zero_leaves_a_source_out():
    drawn = mix_indices([3, 0, 3], [0.3, 0.0, 0.1], 200, seed=0)
    assert list(drawn) == list(mix_indices([3, 0, 3], [3, 0, 1], 200, seed=0))
    assert {source for source, _ in drawn} == {0, 2}
    assert {source for source, _ in mix_indices([3, 3], [1, 0], 200, seed=0)} == {0}


def test_entries_are_plain_numbers():
    drawn = mix_indices([3], [1.0], 4, seed=0)
    source, index = drawn[2]
    assert type(source) is int and type(index) is int
    assert drawn[1:3] == [drawn[1], drawn[2]]
    assert not any(isinstance(value, np.generic) for pair in drawn[:] for value in pair)


@pytest.mark.parametrize(
    ("sizes", "weights", "message"),
    [
        ([3, 0], [1, 1], "Source 1 has weight 1 but no rows"),
        ([3, 3], [1, -1], "weight of source 1 is -1"),
        ([3], [float("nan")], "weight of source 0 is nan"),
        ([3, 3], [0, 0], "No source has a positive weight"),
        ([], [], "No source has a positive weight"),
    ],
)
def test_a_mixture_that_cannot_be_drawn_is_refused(sizes, weights, message):
    with pytest.raises(TriptychError, match=message):
        mix_indices(sizes, weights, 10, seed=0)
