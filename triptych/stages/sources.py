"""The mixture of rows a training stage draws from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from triptych.data.mixture import MixedIndices, mix_indices
from triptych.data.rows import read_groups
from triptych.engine.encode import EncodedPrompt
from triptych.engine.inputs import data_root
from triptych.errors import DataError, TriptychError
from triptych.group import Group
from triptych.stages.configs import Source


@dataclass(frozen=True)
class Item:
    """One drawn row: its group, and the data root of its media."""

    group: Group
    root: Path


class Mixture:
    """A fixed sequence of rows, drawn from the sources by weight.

    Rows that follow each other in a file and are about the same pictures are drawn together, so that the pictures are
    computed once for all of them.

    Args:
        names, groups, roots: per source.
        sequence: the drawn rows, a pure function of the sources' sizes, weights and the seed.
    """

    def __init__(self, names: list[str], groups: list[list[Group]], roots: list[Path], sequence: MixedIndices) -> None:
        self._names, self._groups, self._roots, self._sequence = names, groups, roots, sequence

    def step(self, step: int, items_per_step: int) -> list[Item]:
        """Return the rows of optimiser step `step`, counted from 0."""
        drawn = self._sequence[step * items_per_step : (step + 1) * items_per_step]
        return [Item(self._groups[source][index], self._roots[source]) for source, index in drawn]

    def frequencies(self, step: int, items_per_step: int) -> dict[str, float]:
        """Return the measured share of each source among the rows drawn up to and including `step`."""
        return self._sequence.frequencies(self._names, (step + 1) * items_per_step)

    def distinct_groups(self) -> Iterator[Group]:
        """Yield every row of every source once."""
        for groups in self._groups:
            yield from groups

    @staticmethod
    def encode(
        items: Sequence[Item], encode: Callable[[Sequence[Group], Path], list[EncodedPrompt]]
    ) -> list[EncodedPrompt]:
        """Encode rows with one call per data root, in the order given."""
        encoded: dict[int, EncodedPrompt] = {}
        for root in dict.fromkeys(item.root for item in items):
            places = [n for n, item in enumerate(items) if item.root == root]
            encoded |= zip(places, encode([items[n].group for n in places], root), strict=True)
        return [encoded[n] for n in range(len(items))]


def read_mixture(sources: Sequence[Source], num_items: int, seed: int) -> Mixture:
    """Read the sources and draw `num_items` rows.

    Raises:
        DataError: a source without rows.
        TriptychError: two sources of one name, or weights that cannot be drawn by.
    """
    groups = [read_groups(source.path) for source in sources]
    for source, rows in zip(sources, groups, strict=True):
        if not rows:
            raise DataError(
                "The file holds no rows.", remedy="Take it out of `sources`.", kind="empty_file", file=source.path
            )
    names = [source.name or Path(source.path).stem for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TriptychError(f"Two sources are called {', '.join(twice)} in the metrics; give each a `name` of its own.")
    roots = [data_root(source.path, source.root) for source in sources]
    return Mixture(names, groups, roots, _draw(groups, [source.weight for source in sources], num_items, seed))


def _draw(groups: list[list[Group]], weights: list[float], num_items: int, seed: int) -> MixedIndices:
    """Draw units of rows; weights count rows, so a source of large units is drawn less often."""
    units = [_units(rows) for rows in groups]
    unit_weights = [weight * len(unit) / len(rows) for weight, unit, rows in zip(weights, units, groups, strict=True)]
    drawn = mix_indices([len(unit) for unit in units], unit_weights, num_items, seed)
    rows = [(source, row) for source, unit in drawn[:] for row in units[source][unit]][:num_items]
    return MixedIndices(*np.array(rows).T)


def _units(groups: list[Group]) -> list[list[int]]:
    """Return runs of rows about the same media; a row without any is a run of its own."""
    media = [[*group.images, *group.videos] for group in groups]
    runs = groupby(range(len(groups)), key=lambda row: media[row] or row)
    return [list(run) for _, run in runs]
