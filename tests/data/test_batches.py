import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.data.batches import epoch_order, pack_rows, plan_steps, split_micro
from triptych.errors import DataError, TriptychError


@st.composite
def row_units(draw):
    """Rows 0 to n - 1, cut into units at random places."""
    rows = draw(st.permutations(range(draw(st.integers(1, 20)))))
    cuts = [0, *sorted(draw(st.sets(st.integers(1, len(rows)), max_size=6))), len(rows)]
    return [rows[start:end] for start, end in pairwise(cuts) if start < end]


@settings(max_examples=50, deadline=None)
@given(units=row_units(), seed=st.integers(0, 1000), epoch=st.integers(0, 5))
def test_an_epoch_holds_every_row_once_with_units_unbroken(units, seed, epoch):
    order = epoch_order(units, seed, epoch)
    assert sorted(order) == list(range(sum(map(len, units))))
    for unit in units:
        start = order.index(unit[0])
        assert order[start : start + len(unit)] == unit


def test_epochs_and_seeds_have_their_own_order():
    units = [[row] for row in range(30)]
    orders = [tuple(epoch_order(units, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert orders[0] == tuple(epoch_order(units, 0, 0))


@settings(max_examples=50, deadline=None)
@given(units=row_units(), batch_size=st.integers(1, 8), epochs=st.integers(1, 3), seed=st.integers(0, 1000))
def test_whole_epochs_hold_every_row_as_often_in_steps_of_equal_size(units, batch_size, epochs, seed):
    num_rows = sum(map(len, units))
    steps = plan_steps(num_rows, batch_size, epochs=epochs, seed=seed, units=units)
    assert Counter(row for step in steps for row in step) == dict.fromkeys(range(num_rows), epochs)
    assert all(len(step) == batch_size for step in steps[:-1])
    assert len(steps) == math.ceil(epochs * num_rows / batch_size)


def test_a_number_of_steps_gives_full_steps_and_begins_like_a_longer_plan():
    steps = plan_steps(5, 3, num_steps=4, seed=0)
    assert [len(step) for step in steps] == [3, 3, 3, 3]
    assert plan_steps(5, 3, num_steps=9, seed=0)[:4] == steps


def test_part_of_an_epoch_is_rounded_up_to_a_row():
    steps = plan_steps(10, 4, epochs=0.55, seed=0)
    assert [len(step) for step in steps] == [4, 2]


def test_a_plan_without_rows_or_without_an_end_is_refused():
    with pytest.raises(TriptychError, match="no rows"):
        plan_steps(0, 4, epochs=1, seed=0)
    for arguments in ({}, {"num_steps": 1, "epochs": 1}):
        with pytest.raises(ValueError, match="either"):
            plan_steps(3, 4, seed=0, **arguments)
    with pytest.raises(ValueError, match="each of 3 rows once"):
        plan_steps(3, 4, epochs=1, seed=0, units=[[0, 1], [1]])


def test_micro_batches_are_contiguous_and_even():
    assert split_micro(list("abcdefg"), 3) == [["a", "b"], ["c", "d"], ["e", "f", "g"]]
    assert split_micro([1, 2], 4) == [[1], [2]]
    assert split_micro([], 4) == []


@given(items=st.lists(st.integers(), max_size=30), parts=st.integers(1, 10))
def test_micro_batches_add_up_to_the_step(items, parts):
    micro = split_micro(items, parts)
    assert [item for part in micro for item in part] == items
    assert all(micro)
    sizes = [len(part) for part in micro] or [0]
    assert max(sizes) - min(sizes) <= 1


def test_packing_by_hand():
    # By length: 7 -> row A, 6 -> B, 4 -> B, 3 -> A, 3 -> C (the later of the equal ones), 2 -> C. Rows by first item.
    assert pack_rows([2, 7, 3, 6, 3, 4], 10) == [[0, 4], [1, 2], [3, 5]]


def first_fit_decreasing(lengths, budget):
    """The textbook algorithm, row by row."""
    rows = []
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        for row in rows:
            if sum(lengths[i] for i in row) + lengths[item] <= budget:
                row.append(item)
                break
        else:
            rows.append([item])
    return sorted(sorted(row) for row in rows)


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(0, 12), max_size=40), spare=st.integers(0, 20))
def test_packing_keeps_the_budget_holds_every_item_once_and_is_first_fit_decreasing(lengths, spare):
    budget = max(lengths, default=1) + spare
    rows = pack_rows(lengths, budget)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    assert all(sum(lengths[item] for item in row) <= budget for row in rows)
    assert all(row == sorted(row) for row in rows)
    assert rows == first_fit_decreasing(lengths, budget)


def test_an_item_longer_than_a_row_is_named():
    with pytest.raises(
        DataError, match=r"\[too_long\] row 1: Item 1 takes 11 tokens.*row_tokens to at least 11"
    ) as error:
        pack_rows([3, 11, 4], 10)
    assert (error.value.kind, error.value.row) == ("too_long", 1)
