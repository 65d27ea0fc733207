import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.data.batches import epoch_order, pack_rows, plan_by_tokens, plan_steps, split_micro
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


@settings(max_examples=80, deadline=None)
@given(units=row_units(), data=st.data(), budget=st.integers(1, 60), seed=st.integers(0, 1000))
def test_steps_by_tokens_hold_every_unit_whole_and_once_in_each_epoch(units, data, budget, seed):
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=len(units), max_size=len(units)))
    one = plan_by_tokens(units, lengths, budget, seed=seed, epochs=1)
    two = plan_by_tokens(units, lengths, budget, seed=seed, epochs=2)
    assert two[: len(one)] == one, "an epoch does not depend on those that follow"
    assert plan_by_tokens(units, lengths, budget, seed=seed, num_steps=len(one)) == one
    for steps in (one, two[len(one) :]):
        assert all(steps)
        assert sorted(row for step in steps for row in step) == list(range(sum(map(len, units))))
        for unit in units:
            assert any(step[start : start + len(unit)] == unit for step in steps for start in range(len(step)))


@settings(max_examples=80, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60), budget=st.integers(1, 100))
def test_steps_miss_the_mean_by_less_than_the_longest_unit_unless_one_unit_fills_them(lengths, budget):
    steps = plan_by_tokens([[n] for n in range(len(lengths))], lengths, budget, seed=0, epochs=1)
    mean = sum(lengths) / max(1, round(sum(lengths) / budget))
    for step in steps:
        tokens = sum(lengths[n] for n in step)
        assert abs(tokens - mean) < max(lengths) or len(step) == 1
    if max(lengths) < mean:
        assert len(steps) == max(1, round(sum(lengths) / budget))


def test_steps_by_tokens_worked_by_hand():
    # 24 tokens, 8 a step: three steps. Sorted by length 6 6 4 4 2 2: the middles 3 9 14 18 21 23 lie in the thirds
    # 0 1 1 2 2 2, so the steps are {6}, {6, 4} and {4, 2, 2}.
    lengths = [2, 6, 4, 6, 2, 4]
    steps = plan_by_tokens([[n] for n in range(6)], lengths, 8, seed=0, epochs=1)
    assert sorted(sorted(lengths[n] for n in step) for step in steps) == [[2, 2, 4], [4, 6], [6]]


def test_units_of_like_length_meet_and_steps_of_all_lengths_are_mixed():
    lengths = [100 + 37 * n % 900 for n in range(2000)]

    def waste(steps):
        return sum(max(lengths[n] for n in step) * len(step) for step in steps) / sum(lengths) - 1

    units = [[n] for n in range(2000)]
    steps = plan_by_tokens(units, lengths, 8000, seed=0, epochs=1)
    shuffled = epoch_order(units, 0, 0)
    assert waste([shuffled[n : n + 14] for n in range(0, 2000, 14)]) > 0.5
    assert waste(steps) < 0.06
    means = [sum(lengths[n] for n in step) / len(step) for step in steps]
    changes = [abs(after - before) for before, after in pairwise(means)]
    assert sum(changes) / len(changes) > 200, "a third of the spread of 900 in expectation; sorted steps change by 10"


def test_part_of_an_epoch_of_steps_by_tokens_is_rounded_up_to_a_step_and_seeds_differ():
    units, lengths = [[n] for n in range(100)], [10] * 100
    whole = plan_by_tokens(units, lengths, 100, seed=0, epochs=1)
    assert plan_by_tokens(units, lengths, 100, seed=0, epochs=0.35) == whole[:4]
    assert len(plan_by_tokens(units, lengths, 100, seed=0, epochs=1.35)) == 14
    assert plan_by_tokens(units, lengths, 100, seed=1, epochs=1) != whole
    with pytest.raises(TriptychError, match="no rows"):
        plan_by_tokens([], [], 100, seed=0, epochs=1)
    with pytest.raises(ValueError, match="either"):
        plan_by_tokens(units, lengths, 100, seed=0)


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
