"""Packed trie: many token paths as few rows of tokens, each shared beginning once.

A *path* is a prompt with one completion (or a document). Paths that begin alike share their beginning. The tokens of a
trie are laid out in depth-first order, so that the tokens below a token are the ones right after it: token `i` attends
to token `j` exactly when `j <= i < subtree_end[j]`. Several tries stand side by side in a row and cannot see each
other. The position id of a token is its position on its own path. This is exact: every token sees what it would see
in a forward of its path alone.

Letters: B rows, T tokens of the longest row, A position axes (1, or 3 for M-RoPE), N distinct target tokens, C paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from triptych.data.batches import pack_rows
from triptych.engine.encode import EncodedMedia
from triptych.errors import DataError

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
    """

    input_ids: list[int]
    targets: list[bool]
    position_ids: torch.Tensor
    media: tuple[EncodedMedia, ...] = ()
    image_token_id: int = -1


@dataclass(frozen=True)
class PackedBatch:
    """Rows of packed tries, ready for one forward.

    Attributes:
        input_ids: (B, T), padded; a padding token is no placeholder and attends to itself only.
        position_ids: (B, T), or (A, B, T) where A > 1.
        subtree_end: (B, T), one past the last token below each token.
        media: distinct pictures; each is encoded once.
        image_order: index into `media` of each picture in the flattened rows.
        predecessors: (N,) flat index (row * T + column) whose hidden state predicts the target.
        target_ids: (N,) token id to be predicted.
        path_targets: (M,) index into the N targets, path after path.
        path_of_target: (M,) path of each entry of `path_targets`.
        num_paths: C.
        num_tokens: tokens computed, padding excluded.
        num_attended: sum over the tokens of how many tokens each attends to.
        num_plain_tokens: tokens that separate forwards of all paths would compute.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    subtree_end: torch.Tensor
    media: list[EncodedMedia]
    image_order: list[int]
    predecessors: torch.Tensor
    target_ids: torch.Tensor
    path_targets: torch.Tensor
    path_of_target: torch.Tensor
    num_paths: int
    num_tokens: int
    num_attended: int
    num_plain_tokens: int

    def attention_mask(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the additive mask (B, 1, T, T): 0 where a token attends, the lowest number of `dtype` elsewhere."""
        columns = torch.arange(self.subtree_end.shape[1], device=self.subtree_end.device)
        queries, keys = columns[None, :, None], columns[None, None, :]
        allowed = (keys <= queries) & (queries < self.subtree_end[:, None, :])
        mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
        return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]

    def to(self, device: torch.device | str) -> PackedBatch:
        """Return the batch with its tensors on `device`; pictures stay where they are until they are encoded."""
        moved = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in vars(self).items()
        }
        return PackedBatch(**moved)


def pack(units: Sequence[Sequence[TokenPath]], row_tokens: int, *, share: bool = True) -> PackedBatch:
    """Pack units of paths into rows.

    Args:
        units: paths of one unit stand in one row and share beginnings; different units share nothing. A unit that does
            not fit in a row is cut between paths, and its parts share nothing either.
        row_tokens: most tokens in a row.
        share: False lays every path out by itself (documents of pre-training).

    Returns:
        the batch; its paths are numbered in the order given.

    Raises:
        DataError: kind `too_long`, a path has more tokens than a row.
    """
    tries = [trie for paths in units for trie in _tries(list(paths), row_tokens, share)]
    rows = pack_rows([trie.num_tokens for trie in tries], row_tokens)
    for number, row in enumerate(rows):
        column = 0
        for n in row:
            tries[n].place(number, column)
            column += tries[n].num_tokens
    return _lay_out(tries, rows)


@dataclass(frozen=True, eq=False)
class _Sequence:
    """A path as the trie compares it.

    `keys` are what must be equal for two tokens to be one: the id, or for an image token its picture and offset.
    `starts` are the indices of the first image token of each picture.
    """

    path: TokenPath
    keys: list[int]
    starts: list[int]


@dataclass(eq=False)
class _Segment:
    """A run of tokens without a branch: tokens `start` to `end` of `source`, below `parent`."""

    source: _Sequence
    start: int
    end: int
    parent: _Segment | None
    children: list[_Segment] = field(default_factory=list)
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

    def media(self) -> list[EncodedMedia]:
        """Return the pictures whose tokens begin in this segment, in order."""
        pairs = zip(self.source.starts, self.source.path.media, strict=True)
        return [item for start, item in pairs if self.start <= start < self.end]


class _Trie:
    """The paths of one unit as segments in depth-first order."""

    def __init__(self, paths: Sequence[TokenPath], *, share: bool) -> None:
        self.paths = list(paths)
        self.roots: list[_Segment] = []
        numbers: dict[str, int] = {}
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

    def _depth_first(self) -> list[_Segment]:
        order, stack = [], self.roots[::-1]
        while stack:
            segment = stack.pop()
            order.append(segment)
            stack.extend(segment.children[::-1])
        return order

    def _insert(self, source: _Sequence, share: bool) -> _Segment:
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
        leaf = _Segment(source, depth, len(keys), parent)
        siblings.append(leaf)
        return leaf


def _tries(paths: list[TokenPath], row_tokens: int, share: bool) -> list[_Trie]:
    """Return the trie of a unit, or of its halves where it is too large for a row."""
    trie = _Trie(paths, share=share)
    if trie.num_tokens <= row_tokens:
        return [trie]
    if len(paths) == 1:
        raise DataError(
            f"A prompt with its completion, or a document, takes {trie.num_tokens} tokens; a row holds {row_tokens}.",
            remedy="Raise `row_tokens`, shorten the text, or lower the resolution of the pictures.",
            kind="too_long",
        )
    half = len(paths) // 2
    return _tries(paths[:half], row_tokens, share) + _tries(paths[half:], row_tokens, share)


def _sequence(path: TokenPath, numbers: dict[str, int]) -> _Sequence:
    """Give image tokens their identities; `numbers` counts the distinct pictures of the unit."""
    if not path.media:
        return _Sequence(path, path.input_ids, [])
    keys, starts, index = list(path.input_ids), [], 0
    for item in path.media:
        identity = -1 - numbers.setdefault(item.key, len(numbers)) * MOST_IMAGE_TOKENS
        left = item.num_tokens
        starts.append(keys.index(path.image_token_id, index))
        while left:  # one turn for a picture in one run, several where separators stand between its tiles
            index = keys.index(path.image_token_id, index)
            length = _run_length(keys, index, path.image_token_id, left)
            keys[index : index + length] = range(identity, identity - length, -1)
            identity, index, left = identity - length, index + length, left - length
    return _Sequence(path, keys, starts)


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


def _split(segment: _Segment, at: int, siblings: list[_Segment]) -> _Segment:
    """Cut a segment in two at `at`; return the new upper part. The lower part stays the same object."""
    upper = _Segment(segment.source, segment.start, at, segment.parent, [segment])
    siblings[siblings.index(segment)] = upper
    segment.start, segment.parent = at, upper
    return upper


def _lay_out(tries: list[_Trie], rows: list[list[int]]) -> PackedBatch:
    """Write the tries of each row side by side and index every path's targets."""
    num_columns = max(sum(tries[n].num_tokens for n in row) for row in rows)
    num_axes = tries[0].paths[0].position_ids.shape[0]
    shape = (len(rows), num_columns)
    padding_id = 1 if any(path.image_token_id == 0 for trie in tries for path in trie.paths) else 0
    input_ids = np.full(shape, padding_id, np.int64)
    subtree_end = np.tile(np.arange(1, num_columns + 1), (len(rows), 1))
    position_ids = np.zeros((num_axes, *shape), np.int64)
    media: dict[str, EncodedMedia] = {}
    order: list[str] = []
    in_order = [tries[n] for row in rows for n in row]
    for segment, row in ((segment, trie.row) for trie in in_order for segment in trie.order):
        place, part = slice(segment.column, segment.column + len(segment)), slice(segment.start, segment.end)
        input_ids[row, place] = segment.source.path.input_ids[part]
        position_ids[:, row, place] = segment.source.path.position_ids[:, part]
        subtree_end[row, place] = segment.subtree_end
        for item in segment.media():
            media.setdefault(item.key, item)
            order.append(item.key)
    numbers = {key: number for number, key in enumerate(media)}
    return PackedBatch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids if num_axes > 1 else position_ids[0]),
        subtree_end=torch.from_numpy(subtree_end),
        media=list(media.values()),
        image_order=[numbers[key] for key in order],
        num_paths=sum(len(trie.paths) for trie in tries),
        num_tokens=sum(trie.num_tokens for trie in tries),
        num_attended=sum(segment.num_attended for trie in tries for segment in trie.order),
        num_plain_tokens=sum(len(path.input_ids) for trie in tries for path in trie.paths),
        **_index_targets(tries, num_columns),
    )


def _index_targets(tries: list[_Trie], num_columns: int) -> dict[str, torch.Tensor]:
    """Find, for every path, where its targets and their predecessors lie, and number the distinct ones."""
    places, before, tokens, owners = [], [], [], []
    ends = ((trie, path, leaf) for trie in tries for path, leaf in zip(trie.paths, trie.leaves, strict=True))
    for number, (trie, path, leaf) in enumerate(ends):
        flat = trie.row * num_columns + leaf.columns()
        wanted = np.flatnonzero(path.targets)
        if len(wanted) and wanted[0] == 0:
            raise ValueError("the first token of a path has no predecessor and cannot be a target")
        places.append(flat[wanted])
        before.append(flat[wanted - 1])
        tokens.append(np.asarray(path.input_ids, np.int64)[wanted])
        owners.append(np.full(len(wanted), number))
    _distinct, first, inverse = np.unique(np.concatenate(places), return_index=True, return_inverse=True)
    return {
        "predecessors": torch.from_numpy(np.concatenate(before)[first]),
        "target_ids": torch.from_numpy(np.concatenate(tokens)[first]),
        "path_targets": torch.from_numpy(inverse.astype(np.int64)),
        "path_of_target": torch.from_numpy(np.concatenate(owners)),
    }
