"""Mixtures: which row comes next when sources are drawn from by weight.

MM1 draws each sequence from one of three sources with probabilities .45, .45 and .10 and freezes the order, because
other orders move results noticeably. Here the order is a pure function of sizes, weights and seed: any step can be
looked up, so resuming needs no state, and a longer run begins like a shorter one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

import numpy as np

from triptych.errors import TriptychError


class MixedIndices(Sequence[tuple[int, int]]):
    """The drawn rows, in order, as pairs (source, index within the source). A slice is a list of such pairs.

    Args:
        sources: (N,) source of each drawn row.
        indices: (N,) its index in that source.
    """

    def __init__(self, sources: np.ndarray, indices: np.ndarray) -> None:
        self.sources, self.indices = sources, indices

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, place: int) -> tuple[int, int]: ...

    @overload
    def __getitem__(self, place: slice) -> list[tuple[int, int]]: ...

    def __getitem__(self, place: int | slice) -> tuple[int, int] | list[tuple[int, int]]:
        if isinstance(place, slice):
            return list(zip(self.sources[place].tolist(), self.indices[place].tolist(), strict=True))
        return int(self.sources[place]), int(self.indices[place])

    def frequencies(self, names: Sequence[str], num_drawn: int | None = None) -> dict[str, float]:
        """Return the measured share of each source among the first `num_drawn` sequences (all by default).

        Args:
            names: one per source. The keys of the result are `frequency/<name>`, as in `metrics.jsonl`.
            num_drawn: at least 1.
        """
        drawn = self.sources[:num_drawn]
        counts = np.bincount(drawn, minlength=len(names))
        return {f"frequency/{name}": int(count) / len(drawn) for name, count in zip(names, counts, strict=True)}


def mix_indices(sizes: Sequence[int], weights: Sequence[float], num_samples: int, seed: int) -> MixedIndices:
    """Draw `num_samples` rows, each from a source chosen at random by weight.

    Within a source rows come without replacement: its first pass is one shuffle of all its rows, the next pass another.

    Args:
        sizes: number of rows of each source.
        weights: relative weights, not negative; they need not add up to one. Weight 0 leaves a source out.
        num_samples: number of rows to draw.
        seed: together with the other arguments decides everything. More samples extend the sequence.

    Raises:
        TriptychError: a negative or not finite weight, no positive weight, or a positive weight for an empty source.
    """
    if len(sizes) != len(weights):
        raise ValueError(f"{len(sizes)} sizes but {len(weights)} weights")
    for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        if not (math.isfinite(weight) and weight >= 0):
            raise TriptychError(
                f"The weight of source {number} is {weight}; use a positive number, or 0 to leave it out."
            )
        if weight > 0 and size == 0:
            raise TriptychError(f"Source {number} has weight {weight} but no rows. Remove it or give it weight 0.")
    if not sum(weights) > 0:
        raise TriptychError("No source has a positive weight. Give at least one.")
    bounds = np.cumsum(weights) / math.fsum(weights)
    bounds[np.flatnonzero(weights)[-1] :] = 1.0  # rounding may leave the last bound below 1
    sources = np.searchsorted(bounds, np.random.default_rng(seed).random(num_samples), side="right")
    indices = np.empty(num_samples, dtype=np.int64)
    for source, size in enumerate(sizes):
        places = np.flatnonzero(sources == source)
        passes = [_shuffle(size, seed, source, number) for number in range(-(-len(places) // max(size, 1)))]
        if passes:
            indices[places] = np.concatenate(passes)[: len(places)]
    return MixedIndices(sources, indices)


def _shuffle(size: int, seed: int, source: int, number: int) -> np.ndarray:
    """Return the order of pass `number` through a source."""
    return np.random.default_rng([seed, source, number]).permutation(size)
