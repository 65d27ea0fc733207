"""Which rows make up which step, and which items lie side by side in a packed row: pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from triptych.errors import DataError, TriptychError

Item = TypeVar("Item")

STEPS_PER_STRETCH = 32
"""Units are sorted by length among those of so many steps: enough to find company, few enough to stay shuffled."""


def epoch_order(units: Sequence[Sequence[int]], seed: int, epoch: int) -> list[int]:
    """Return the rows of one epoch: units in random order, the rows of a unit next to each other in their own order.

    Args:
        units: rows that belong together, such as those about the same picture, which is then encoded once.
        seed: decides, together with `epoch`, the order.
        epoch: 0-based.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(units))
    return [row for number in order for row in units[number]]


def plan_items(
    items: Sequence[Item],
    batch_size: int,
    *,
    seed: int,
    num_steps: int | None = None,
    epochs: float | None = None,
    units: Sequence[Sequence[int]] | None = None,
) -> list[list[Item]]:
    """Return the items of every step; arguments and errors as those of `plan_steps`."""
    plan = plan_steps(len(items), batch_size, seed=seed, num_steps=num_steps, epochs=epochs, units=units)
    return [[items[number] for number in numbers] for numbers in plan]


def units_by_name(names: Iterable[str]) -> dict[str, list[int]]:
    """Return the places of each name, in the order of the first ones."""
    units: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        units.setdefault(name, []).append(number)
    return units


def plan_steps(
    num_rows: int,
    batch_size: int,
    *,
    seed: int,
    num_steps: int | None = None,
    epochs: float | None = None,
    units: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """Return the rows of every step.

    Epochs follow one another without a gap, each with every row once, and are cut into steps of `batch_size`; a step
    may hold the end of one epoch and the start of the next.

    Args:
        num_rows: rows are numbered 0 to num_rows - 1.
        batch_size: rows per step.
        seed: decides the order.
        num_steps: number of full steps; or
        epochs: passes over the rows, not necessarily whole; the last step then holds what is left.
        units: see `epoch_order`; together they hold every row once. None: each row is its own unit.

    Raises:
        TriptychError: there are no rows.
        ValueError: not exactly one of num_steps and epochs is given, or units leave rows out or repeat them.
    """
    if num_rows < 1:
        raise TriptychError("There are no rows to train on. Check the data files and what was filtered out of them.")
    if (num_steps is None) == (epochs is None):
        raise ValueError("give either num_steps or epochs")
    units = [[row] for row in range(num_rows)] if units is None else units
    if sorted(row for unit in units for row in unit) != list(range(num_rows)):
        raise ValueError(f"units do not hold each of {num_rows} rows once")
    total = num_steps * batch_size if num_steps is not None else math.ceil(epochs * num_rows)
    rows: list[int] = []
    for epoch in range(-(-total // num_rows)):
        rows += epoch_order(units, seed, epoch)
    return [rows[start : min(start + batch_size, total)] for start in range(0, total, batch_size)]


def plan_by_tokens(
    units: Sequence[Sequence[int]],
    lengths: Sequence[int],
    tokens_per_step: int,
    *,
    seed: int,
    num_steps: int | None = None,
    epochs: float | None = None,
) -> list[list[int]]:
    """Return the rows of every step, as many as make about `tokens_per_step` tokens.

    Each epoch holds every unit once and is cut by itself into steps of nearly equal tokens: they miss the mean by less
    than the longest unit. Units of a step are of similar length, so that their rows fill up alike, and the steps of an
    epoch come in random order, so that length does not follow time. The plan is a function of the arguments alone.

    Args:
        units: rows that belong together, such as the pairs of one prompt; a unit is never cut.
        lengths: tokens of each unit, at least 1.
        tokens_per_step: one unit of more tokens is a step by itself.
        seed: decides the order.
        num_steps: number of steps; or
        epochs: passes over the units, not necessarily whole.

    Raises:
        TriptychError: there are no rows.
        ValueError: not exactly one of num_steps and epochs is given.
    """
    if not units:
        raise TriptychError("There are no rows to train on. Check the data files and what was filtered out of them.")
    if (num_steps is None) == (epochs is None):
        raise ValueError("give either num_steps or epochs")
    steps: list[list[int]] = []
    epoch = 0
    while len(steps) < num_steps if num_steps is not None else epoch < epochs:
        planned = _epoch_by_tokens(lengths, tokens_per_step, np.random.default_rng([seed, epoch]))
        share = 1.0 if num_steps is not None else min(1.0, epochs - epoch)
        steps += planned[: math.ceil(share * len(planned))]
        epoch += 1
    return [[row for number in step for row in units[number]] for step in steps[:num_steps]]


def _epoch_by_tokens(lengths: Sequence[int], tokens_per_step: int, random: np.random.Generator) -> list[list[int]]:
    """Return the units of each step of one epoch: sorted by length within stretches of the random order, then cut."""
    order = random.permutation(len(lengths))
    size = np.asarray(lengths)[order]
    stretch = (np.cumsum(size) - 1) // (STEPS_PER_STRETCH * tokens_per_step)
    order = order[np.lexsort((np.where(stretch % 2, size, -size), stretch))]  # down and up, so that like meets like
    size = np.asarray(lengths)[order]
    num_steps = max(1, round(size.sum() / tokens_per_step))
    middle = np.cumsum(size) - size / 2
    step_of_unit = np.floor(middle * num_steps / size.sum()).astype(int)
    steps = np.split(order, np.flatnonzero(np.diff(step_of_unit)) + 1)
    return [steps[n].tolist() for n in random.permutation(len(steps))]


def split_micro(step: Sequence[Item], num_parts: int) -> list[list[Item]]:
    """Cut the items of a step into `num_parts` contiguous parts whose sizes differ by at most one; none is empty.

    A step of fewer items than parts gives one part per item.
    """
    num_parts = min(num_parts, len(step))
    bounds = [len(step) * part // num_parts for part in range(num_parts + 1)] if num_parts else [0]
    return [list(step[start:end]) for start, end in pairwise(bounds)]


def pack_rows(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """Pack items into rows of at most `row_tokens` tokens, by first fit in order of decreasing length.

    First fit decreasing uses at most 11/9 of the least possible number of rows plus one (Johnson 1973). Here it takes
    O(n log n): a tree over the rows knows the largest free space below each node.

    Args:
        lengths: tokens of each item. Of two equally long items the earlier one is placed first.
        row_tokens: budget of a row.
    Returns:
        the items of each row, ascending; rows in the order of their first items, so that neighbours stay near.

    Raises:
        DataError: kind `too_long`, an item exceeds the budget by itself.
    """
    for item, length in enumerate(lengths):
        if length > row_tokens:
            raise DataError(
                f"Item {item} takes {length} tokens, but a row holds {row_tokens}.",
                remedy=f"Raise row_tokens to at least {max(lengths)}, or shorten the texts.",
                kind="too_long",
                row=item,
            )
    free = _FreeSpace(len(lengths), row_tokens)
    rows: dict[int, list[int]] = {}
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        rows.setdefault(free.take(lengths[item]), []).append(item)
    return sorted(sorted(row) for row in rows.values())


class _FreeSpace:
    """Free tokens of `num_rows` rows, with a search for the first row that has room: a binary tree of maxima."""

    def __init__(self, num_rows: int, row_tokens: int) -> None:
        self._width = 1 << max(num_rows - 1, 0).bit_length()
        self._free = [row_tokens] * (2 * self._width)

    def take(self, length: int) -> int:
        """Take `length` tokens of the first row that has them, and return its number."""
        node = 1
        while node < self._width:
            node = 2 * node if self._free[2 * node] >= length else 2 * node + 1
        row = node - self._width
        self._free[node] -= length
        while node > 1:
            node //= 2
            self._free[node] = max(self._free[2 * node], self._free[2 * node + 1])
        return row
