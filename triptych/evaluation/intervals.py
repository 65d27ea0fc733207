"""How sure a measured number is: an interval for every kind of estimate.

Every function returns an `Estimate`, the shape in which metrics are stored: `{"value": float, "ci": [low, high]}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist
from typing import Literal, TypedDict

import numpy as np

from triptych.errors import TriptychError

NUM_RESAMPLES = 2000
_RESAMPLES_AT_ONCE = 4_000_000
"""Drawn indices held at a time, 32 MB."""


class Estimate(TypedDict):
    """A number and its confidence interval."""

    value: float
    ci: list[float]


def share(num_hits: int, num_total: int, *, confidence: float = 0.95) -> Estimate:
    """Estimate a share with the Wilson score interval (Wilson 1927, Eq. 4).

    Unlike the textbook normal interval it stays within [0, 1] and is sound for shares of 0 and 1.

    Raises:
        TriptychError: there is nothing to count, or more hits than items.
    """
    if not 0 <= num_hits <= num_total or num_total == 0:
        raise TriptychError(f"{num_hits} of {num_total} is no share; count at least one item.")
    z = _normal_quantile(confidence)
    value = num_hits / num_total
    shrink = 1 + z**2 / num_total
    center = (value + z**2 / (2 * num_total)) / shrink
    half_width = z / shrink * sqrt(value * (1 - value) / num_total + z**2 / (4 * num_total**2))
    # At the ends the bound is exact; rounding would leave 1e-18 beside it.
    low = 0.0 if num_hits == 0 else center - half_width
    high = 1.0 if num_hits == num_total else center + half_width
    return {"value": value, "ci": [low, high]}


def mean(
    values: Sequence[float], *, method: Literal["bootstrap", "t"] = "bootstrap", confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Estimate a mean over independent items.

    Args:
        values: (N,) one number per item.
        method: `bootstrap` for bounded or skewed scores of many items, `t` for few values that are about normal, such
            as results of several seeds.
        confidence: share of intervals that hold the true mean.
        seed: of the bootstrap; the same seed gives the same interval.
    Returns:
        the mean; with a single value the interval is that value for `bootstrap`, and not defined for `t`.
    Raises:
        TriptychError: no value, or one value only for `t`.
    """
    if not len(values):
        raise TriptychError("There are no values to average.")
    if method == "bootstrap":
        return ratio(values, np.ones(len(values)), confidence=confidence, seed=seed)
    if len(values) < 2:
        raise TriptychError("A t interval needs at least two values; run more seeds.")
    array = np.asarray(values, dtype=np.float64)
    half_width = _t_quantile(confidence, len(array) - 1) * array.std(ddof=1) / sqrt(len(array))
    return {"value": float(array.mean()), "ci": [float(array.mean() - half_width), float(array.mean() + half_width)]}


def over_seeds(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Estimate what a recipe reaches on average from one result per seed, with a t interval.

    Raises:
        TriptychError: fewer than two seeds.
    """
    return mean(values, method="t", confidence=confidence)


def ratio(
    numerators: Sequence[float], denominators: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Estimate a ratio of sums over items, such as wrong mentions per mention, by a percentile bootstrap over items.

    Items, not mentions, are resampled, because the mentions of one text hang together.

    Args:
        numerators: (N,) one number per item.
        denominators: (N,) likewise; resamples whose denominators sum to 0 are left out.
        confidence: share of intervals that hold the true ratio.
        seed: the same seed gives the same interval.
    Raises:
        TriptychError: no items, differing lengths, or denominators that sum to 0.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if top.shape != bottom.shape or not bottom.sum():
        raise TriptychError(
            "A ratio needs as many numerators as denominators, and denominators that sum to more than 0."
        )
    generator = np.random.default_rng(seed)
    size = len(top)
    at_once = max(1, _RESAMPLES_AT_ONCE // size)
    sums = []
    for start in range(0, NUM_RESAMPLES, at_once):
        drawn = generator.integers(size, size=(min(at_once, NUM_RESAMPLES - start), size))
        sums.append(np.stack([top[drawn].sum(axis=1), bottom[drawn].sum(axis=1)]))
    tops, bottoms = np.concatenate(sums, axis=1)
    ratios = tops[bottoms != 0] / bottoms[bottoms != 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return {"value": float(top.sum() / bottom.sum()), "ci": [float(low), float(high)]}


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    method: Literal["bootstrap", "t"] = "bootstrap",
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Estimate mean(first - second) for two systems measured on the same items, or by the same seeds.

    What the items have in common cancels, so this is much sharper than two separate intervals.

    Raises:
        TriptychError: the lengths differ, or there are too few values.
    """
    if len(first) != len(second):
        raise TriptychError(f"Paired values need the same items: there are {len(first)} and {len(second)}.")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return mean(differences, method=method, confidence=confidence, seed=seed)


def _normal_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _t_quantile(confidence: float, degrees: int) -> float:
    # Imported here: scipy is slow to load and most evaluations need shares only.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + confidence / 2))
