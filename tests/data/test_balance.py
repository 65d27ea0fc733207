"""Pairs without a habit of length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triptych.data.balance import balance_lengths


def test_of_the_more_frequent_sort_some_are_left_out_evenly() -> None:
    shorter, longer, equal = [(1, 2, n) for n in range(6)], [(5, 3, n) for n in range(3)], [(4, 4, 0)]
    kept = balance_lengths([*shorter, *equal, *longer], lambda pair: pair[:2])
    assert kept == [shorter[1], shorter[3], shorter[5], *equal, *longer]


def test_with_one_sort_alone_only_equal_lengths_are_left() -> None:
    assert balance_lengths([(1, 2), (2, 2), (3, 9)], lambda pair: pair) == [(2, 2)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_both_sorts_are_left_equally_often_and_in_order(pairs: list[tuple[int, int]]) -> None:
    numbered = list(enumerate(pairs))
    kept = balance_lengths(numbered, lambda item: item[1])
    assert kept == sorted(kept, key=lambda item: item[0]) and set(kept) <= set(numbered)
    counts = [sum(chosen > rejected for _, (chosen, rejected) in kept), sum(a < b for _, (a, b) in kept)]
    total = [sum(chosen > rejected for chosen, rejected in pairs), sum(a < b for a, b in pairs)]
    assert counts == [min(total)] * 2
    assert sum(a == b for _, (a, b) in kept) == sum(a == b for a, b in pairs)
