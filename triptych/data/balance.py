"""Pairs that do not say that longer, or shorter, is better: what a reward model learns first and a policy exploits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def balance_lengths(pairs: Sequence[T], lengths: Callable[[T], tuple[int, int]]) -> list[T]:
    """Leave out pairs until the chosen answer is the longer one as often as the shorter one.

    Args:
        pairs: in their order, which is kept.
        lengths: tells the lengths of the chosen and the rejected answer of a pair.

    Returns:
        all pairs of the rarer sort, all whose answers are equally long, and as many of the more frequent sort, taken at
        equal distances from the first to the last.
    """
    signs = [(chosen > rejected) - (chosen < rejected) for chosen, rejected in map(lengths, pairs)]
    totals = {sign: signs.count(sign) for sign in (1, -1)}
    wanted, seen = min(totals.values()), {1: 0, -1: 0}
    kept: list[T] = []
    for pair, sign in zip(pairs, signs, strict=True):
        if sign:
            number = seen[sign]
            seen[sign] += 1
            if (number + 1) * wanted // totals[sign] == number * wanted // totals[sign]:
                continue
        kept.append(pair)
    return kept
