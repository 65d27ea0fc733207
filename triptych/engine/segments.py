"""The segments of a packed trie: which beginnings paths share, and where their tokens lie in a row.

A segment is a run of tokens without a branch. Two tokens are one where they and all tokens before them agree; image
tokens agree where they are the same token of the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from triptych.engine.encode import EncodedMedia

MOST_IMAGE_TOKENS = 1_000_000
"""No picture takes more tokens than this; it keeps identities of image tokens apart."""


@dataclass(frozen=True)
class TokenPath:
    """One sequence of tokens from the root to a leaf.

    Attributes:
        input_ids: T token ids, image placeholders expanded.
        targets: T flags, True where the token counts in the loss. The first token never can.
        position_ids: (A, T).
        media: the pictures in order of their placeholders.
        image_token_id: the placeholder; -1 where there is none.
        two_way: spans (start, end) of tokens that attend to each other in both directions. Since what a token becomes
            depends on its whole span, a span is shared as a whole or not at all.
        packed: False for a model whose paths have a forward of their own.
    """

    input_ids: list[int]
    targets: list[bool]
    position_ids: torch.Tensor
    media: tuple[EncodedMedia, ...] = ()
    image_token_id: int = -1
    two_way: tuple[tuple[int, int], ...] = ()
    packed: bool = True


@dataclass(frozen=True)
class Block:
    """A part of an attention matrix: a run of queries, a run of keys, and which of them meet.

    Attributes:
        queries: columns of the queries.
        keys: columns of the keys.
        causal: True where queries and keys are the same run and each query sees the keys up to itself; False where
            every query sees every key.
    """

    queries: slice
    keys: slice
    causal: bool


@dataclass(frozen=True, eq=False)
class ComparedPath:
    """A path as the trie compares it.

    `keys` are what must be equal for two tokens to be one: the id, or for an image token its picture and offset.
    `starts` are the indices of the first image token of each picture.
    """

    path: TokenPath
    keys: list[int]
    starts: list[int]


@dataclass(eq=False)
class Segment:
    """A run of tokens without a branch: tokens `start` to `end` of `source`, below `parent`."""

    source: ComparedPath
    start: int
    end: int
    parent: Segment | None
    children: list[Segment] = field(default_factory=list)
    column: int = -1
    subtree_end: int = -1

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def num_attended(self) -> int:
        """Tokens attended to, summed over the segment: 1 at the root of the trie, one more at each token below."""
        return (self.end - self.start) * (self.start + self.end + 1) // 2

    def columns(self) -> np.ndarray:
        """Return the columns of all tokens from the root to the end of this segment."""
        parts, segment = [], self
        while segment is not None:
            parts.append(np.arange(segment.column, segment.column + len(segment)))
            segment = segment.parent
        return np.concatenate(parts[::-1])

    def blocks(self) -> list[Block]:
        """Return who attends to this segment: its own tokens, each up to itself, and all tokens below."""
        end = self.column + len(self)
        own, below = slice(self.column, end), slice(end, self.subtree_end)
        return [Block(own, own, causal=True)] + [Block(below, own, causal=False)] * (end < self.subtree_end)

    def media(self) -> list[EncodedMedia]:
        """Return the pictures whose tokens begin in this segment, in order."""
        pairs = zip(self.source.starts, self.source.path.media, strict=True)
        return [item for start, item in pairs if self.start <= start < self.end]

    def two_way(self) -> list[tuple[int, int]]:
        """Return the columns (start, end) of the two-way spans that begin in this segment; none is ever cut."""
        spans, shift = self.source.path.two_way, self.column - self.start
        return [(start + shift, end + shift) for start, end in spans if self.start <= start < self.end]


class Trie:
    """The paths of one unit as segments in depth-first order."""

    def __init__(self, paths: Sequence[TokenPath], *, share: bool) -> None:
        self.paths = list(paths)
        self.roots: list[Segment] = []
        numbers: dict[Any, int] = {}
        self.leaves = [self._insert(_sequence(path, numbers), share) for path in paths]
        self.order = self._depth_first()
        self.num_tokens = sum(len(segment) for segment in self.order)
        self.row = -1

    def place(self, row: int, column: int) -> None:
        """Give every segment its columns, counted from `column` of `row`."""
        self.row = row
        for segment in self.order:
            segment.column = column
            column += len(segment)
        for segment in reversed(self.order):
            last = segment.children[-1].subtree_end if segment.children else segment.column + len(segment)
            segment.subtree_end = last

    def _depth_first(self) -> list[Segment]:
        order, stack = [], self.roots[::-1]
        while stack:
            segment = stack.pop()
            order.append(segment)
            stack.extend(segment.children[::-1])
        return order

    def _insert(self, source: ComparedPath, share: bool) -> Segment:
        """Walk down as far as the tokens agree, branch off there, and return the segment where the path ends."""
        keys = source.keys
        parent, siblings, depth = None, self.roots, 0
        while share and depth < len(keys):
            branch = next((item for item in siblings if item.source.keys[item.start] == keys[depth]), None)
            if branch is None:
                break
            depth += _common_length(branch.source.keys, keys, depth, min(branch.end, len(keys)))
            if depth < branch.end:
                branch = _split(branch, depth, siblings)
            parent, siblings = branch, branch.children
        if depth == len(keys) and parent is not None:
            return parent
        leaf = Segment(source, depth, len(keys), parent)
        siblings.append(leaf)
        return leaf


def _sequence(path: TokenPath, numbers: dict[Any, int]) -> ComparedPath:
    """Give tokens of pictures and two-way spans their identities; `numbers` counts the distinct ones of the unit."""
    if not path.media and not path.two_way:
        return ComparedPath(path, path.input_ids, [])
    keys, starts, index = list(path.input_ids), [], 0
    for item in path.media:
        identity = -1 - numbers.setdefault(item.key, len(numbers)) * MOST_IMAGE_TOKENS
        token = path.image_token_id if item.token_id is None else item.token_id
        left = item.num_tokens
        starts.append(keys.index(token, index))
        while left:  # one turn for a picture in one run, several where separators stand between its tiles
            index = keys.index(token, index)
            length = _run_length(keys, index, token, left)
            keys[index : index + length] = range(identity, identity - length, -1)
            identity, index, left = identity - length, index + length, left - length
    for start, end in path.two_way:  # paths part before a span that differs anywhere
        keys[start] = -1 - numbers.setdefault(tuple(keys[start:end]), len(numbers)) * MOST_IMAGE_TOKENS
    return ComparedPath(path, keys, starts)


def _run_length(ids: list[int], start: int, token: int, most: int) -> int:
    if ids[start : start + most].count(token) == most:
        return most
    return next((n for n, value in enumerate(ids[start:]) if value != token), len(ids) - start)


def _common_length(first: list[int], second: list[int], start: int, end: int) -> int:
    """Return how many items agree from `start` on, by bisection: comparing slices is fast."""
    if first[start:end] == second[start:end]:
        return end - start
    low, high = start, end  # all before `low` agree; a difference lies in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low - start


def _split(segment: Segment, at: int, siblings: list[Segment]) -> Segment:
    """Cut a segment in two at `at`; return the new upper part. The lower part stays the same object."""
    upper = Segment(segment.source, segment.start, at, segment.parent, [segment])
    siblings[siblings.index(segment)] = upper
    segment.start, segment.parent = at, upper
    return upper
