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


@dataclass(frozen=True)
class SourceRows:
    """One source as read: its name in metrics, its rows, the data root of their media, and the file of the rows."""

    name: str
    groups: list[Group]
    root: Path
    file: str


class Mixture:
    """A fixed sequence of rows, drawn from the sources by weight.

    Rows that follow each other in a file and are about the same pictures are drawn together, so that the pictures are
    computed once for all of them.

    Args:
        sources: what is drawn from.
        sequence: the drawn rows, a pure function of the sources' sizes, weights and the seed.
    """

    def __init__(self, sources: Sequence[SourceRows], sequence: MixedIndices) -> None:
        self._sources, self._sequence = sources, sequence

    def step(self, step: int, items_per_step: int) -> list[Item]:
        """Return the rows of optimiser step `step`, counted from 0."""
        drawn = self._sequence[step * items_per_step : (step + 1) * items_per_step]
        return [Item(self._sources[source].groups[index], self._sources[source].root) for source, index in drawn]

    def frequencies(self, step: int, items_per_step: int) -> dict[str, float]:
        """Return the measured share of each source among the rows drawn up to and including `step`."""
        return self._sequence.frequencies([source.name for source in self._sources], (step + 1) * items_per_step)

    def drawn_rows(self) -> Iterator[tuple[Group, Path, str]]:
        """Yield every row that is drawn, once, in the order of the files, with its data root and its file."""
        for source, index in sorted(set(self._sequence[:])):
            rows = self._sources[source]
            yield rows.groups[index], rows.root, rows.file

    def distinct_groups(self) -> Iterator[Group]:
        """Yield every row of every source once."""
        for source in self._sources:
            yield from source.groups

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
    rows = read_sources(sources)
    weights = [source.weight for source in sources]
    return Mixture(rows, draw_rows([item.groups for item in rows], weights, num_items, seed))


def read_sources(sources: Sequence[Source]) -> list[SourceRows]:
    """Read the rows of each source.

    Raises:
        DataError: a source without rows.
        TriptychError: two sources of one name.
    """
    names = [source.name or Path(source.path).stem for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TriptychError(f"Two sources are called {', '.join(twice)} in the metrics; give each a `name` of its own.")
    read = []
    for name, source in zip(names, sources, strict=True):
        groups = read_groups(source.path)
        if not groups:
            raise DataError(
                "The file holds no rows.", remedy="Take it out of `sources`.", kind="empty_file", file=source.path
            )
        read.append(SourceRows(name, groups, data_root(source.path, source.root), source.path))
    return read


def draw_rows(groups: Sequence[Sequence[Group]], weights: Sequence[float], num_items: int, seed: int) -> MixedIndices:
    """Draw rows of sources by weight, rows about the same media that follow each other always together.

    Weights count rows, so a source of large units is drawn from less often.

    Raises:
        TriptychError: weights that cannot be drawn by.
    """
    units = [units_of(rows) for rows in groups]
    unit_weights = [weight * len(unit) / len(rows) for weight, unit, rows in zip(weights, units, groups, strict=True)]
    drawn = mix_indices([len(unit) for unit in units], unit_weights, num_items, seed)
    rows = [(source, row) for source, unit in drawn[:] for row in units[source][unit]][:num_items]
    return MixedIndices(*np.array(rows).T)


def units_of(groups: Sequence[Group]) -> list[list[int]]:
    """Return the runs of rows about the same media, by index; a row without any is a run of its own."""
    media = [[*group.images, *group.videos] for group in groups]
    runs = groupby(range(len(groups)), key=lambda row: media[row] or row)
    return [list(run) for _, run in runs]
