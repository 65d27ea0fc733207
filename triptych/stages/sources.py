"""The mixture of rows a training stage draws from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.data.mixture import mix_indices
from triptych.data.rows import read_groups
from triptych.engine.encode import EncodedPrompt
from triptych.errors import DataError
from triptych.group import Group
from triptych.stages.configs import Source


@dataclass(frozen=True)
class Item:
    """One drawn row: its group, the name of its source, and the data root of its media."""

    group: Group
    source: str
    root: Path


class Mixture:
    """A fixed sequence of rows, drawn from the sources by weight.

    Args:
        names, groups, roots: per source.
        sequence: (source, index) of each drawn row, a pure function of sizes, weights and seed.
    """

    def __init__(
        self, names: list[str], groups: list[list[Group]], roots: list[Path], sequence: Sequence[tuple[int, int]]
    ) -> None:
        self._names, self._groups, self._roots, self._sequence = names, groups, roots, sequence

    def step(self, step: int, items_per_step: int) -> list[Item]:
        """Return the rows of optimiser step `step`, counted from 0."""
        drawn = self._sequence[step * items_per_step : (step + 1) * items_per_step]
        return [Item(self._groups[source][index], self._names[source], self._roots[source]) for source, index in drawn]

    def frequencies(self, step: int, items_per_step: int) -> dict[str, float]:
        """Return the measured share of each source among the rows drawn up to and including `step`."""
        drawn = Counter(source for source, _ in self._sequence[: (step + 1) * items_per_step])
        total = sum(drawn.values())
        return {f"frequency/{name}": round(drawn[source] / total, 6) for source, name in enumerate(self._names)}

    def distinct_groups(self) -> Iterator[Group]:
        """Yield every row of every source once."""
        for groups in self._groups:
            yield from groups

    @staticmethod
    def encode(
        items: Sequence[Item], encode: Callable[[Sequence[Group], Path], list[EncodedPrompt]]
    ) -> list[EncodedPrompt]:
        """Encode rows with one call per data root, in the order given."""
        encoded: list[EncodedPrompt | None] = [None] * len(items)
        for root in dict.fromkeys(item.root for item in items):
            places = [n for n, item in enumerate(items) if item.root == root]
            for place, prompt in zip(places, encode([items[n].group for n in places], root), strict=True):
                encoded[place] = prompt
        return encoded


def read_mixture(sources: Sequence[Source], num_items: int, seed: int) -> Mixture:
    """Read the sources and draw `num_items` rows (all rows of all sources once where 0 is asked for one source).

    Raises:
        DataError: a source without rows.
    """
    groups = [read_groups(source.path) for source in sources]
    for source, rows in zip(sources, groups, strict=True):
        if not rows:
            raise DataError(
                "The file holds no rows.", remedy="Take it out of `sources`.", kind="empty_file", file=source.path
            )
    names = [source.name or Path(source.path).stem for source in sources]
    roots = [Path(source.root) if source.root else Path(source.path).parent for source in sources]
    sizes, weights = [len(rows) for rows in groups], [source.weight for source in sources]
    return Mixture(names, groups, roots, mix_indices(sizes, weights, num_items, seed))
