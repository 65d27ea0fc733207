"""A decoder over branches: prompts once, samples that are alike so far once, and attention that knows both.

Decoding N samples of a prompt usually copies the prompt's keys and values N times, and runs N rows even while they hold
the same tokens. Here the samples of a prompt are a trie that grows:

- A *row* of the decoder's batch is a distinct continuation of a prompt. Samples that drew the same tokens so far
  share it. When they part, all but one of the branches move to a row of their own, with a copy of what was drawn.
- The prompt's keys and values exist once. Its rows ask them together, as the queries of one matrix product, and each
  row asks its own drawn tokens itself. One softmax runs over both parts, so this is attention, not an approximation
  (compare Hydragen, Juravsky et al. 2024, arXiv:2402.05099, section 3, which joins two softmaxes afterwards).

`BranchCache` is a transformers `Cache`, `branch_attention` an attention function of transformers; together they serve
any unmodified decoder whose layers attend to everything before them.

Letters: G prompts, P tokens of the longest prompt, B samples, U rows, N rows of the prompt with the most, S drawn
tokens, H key-value heads, R query heads for each of them, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin

from triptych.errors import TriptychError

BRANCH_ATTENTION = "triptych_branches"
FIRST_CAPACITY = 32
"""Drawn tokens a layer has room for at first; the room doubles when it is full."""
PROMPT_SHARE = 0.75
"""Prompts without a row left are dropped once at most this share of prompts has one: dropping copies the others."""


@dataclass(frozen=True)
class Prompts:
    """What a decoder keeps of a batch of prompts.

    Attributes:
        layers: per layer the keys and the values (G, H, P, D). Prompts are padded on the right; what stands there
            is finite and not used.
        lengths: (G,) tokens of each prompt.
        positions: (G,) position id of the first token after each prompt.
    """

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    lengths: torch.Tensor
    positions: torch.Tensor

    def select(self, indices: torch.Tensor) -> Prompts:
        """Keep these prompts, without columns that are padding for all of them."""
        lengths = self.lengths[indices]
        longest = int(lengths.max())
        layers = [(keys[indices, :, :longest], values[indices, :, :longest]) for keys, values in self.layers]
        return Prompts(layers, lengths, self.positions[indices])

    @classmethod
    def join(cls, parts: Sequence[Prompts]) -> Prompts:
        """Put batches of prompts one after the other. Empties the parts, so that only one layer is ever held twice."""
        if len(parts) == 1:
            return parts[0]
        longest = max(int(part.lengths.max()) for part in parts)
        layers = []
        while parts[0].layers:
            layer = [part.layers.pop(0) for part in parts]
            layers.append(tuple(torch.cat([_padded(states[kind], longest) for states in layer]) for kind in (0, 1)))
        return cls(layers, torch.cat([part.lengths for part in parts]), torch.cat([part.positions for part in parts]))


class BranchLayer(CacheLayerMixin):
    """Keys and values of the drawn tokens in one layer, (U, H, S, D) views of buffers that are written in place.

    Args:
        max_rows: most rows there will be; may be lowered later.
    """

    is_sliding = False

    def __init__(self, max_rows: int) -> None:
        super().__init__()
        self.max_rows, self.length = max_rows, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the buffers, with the heads and head sizes of the first token (U, H, 1, D)."""
        self.keys, self.values = (
            _buffer(states[:, :, :0], self.max_rows, FIRST_CAPACITY) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one token per row, (U, H, 1, D), and return all drawn so far."""
        num_rows = len(key_states)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.length == self.keys.shape[2]:
            self.keys, self.values = (
                _buffer(part[:num_rows], self.max_rows, 2 * self.length) for part in (self.keys, self.values)
            )
        self.keys[:num_rows, :, self.length] = key_states[:, :, 0]
        self.values[:num_rows, :, self.length] = value_states[:, :, 0]
        self.length += 1
        return self.keys[:num_rows, :, : self.length], self.values[:num_rows, :, : self.length]

    def copy_rows(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Overwrite the rows `targets` by `sources`."""
        if self.is_initialized:
            for part in (self.keys, self.values):
                part[targets, :, : self.length] = part[sources, :, : self.length]

    def get_seq_length(self) -> int:
        """Number of drawn tokens held."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys that a mask would cover."""
        return self.length + query_length, 0

    def get_max_length(self) -> int:
        """No limit."""
        return -1


class BranchCache(Cache):
    """Keys and values of prompts, once each, and of what was drawn below them. At first every prompt is a row.

    Args:
        prompts: their keys and values are never written to.
        max_samples: most samples there will be, and so the most rows.
        windows: per layer how many tokens it looks back, its own included; None for all. Empty for no windows.
    """

    def __init__(self, prompts: Prompts, max_samples: int, windows: Sequence[int | None] = ()) -> None:
        super().__init__(layers=[BranchLayer(max_samples) for _ in prompts.layers])
        self.windows = windows or [None] * len(prompts.layers)
        self.prompts = prompts
        self.prompt_of_row = torch.arange(len(prompts.lengths), device=prompts.lengths.device)

    @property
    def position_ids(self) -> torch.Tensor:
        """Position ids (U, 1) of the tokens that come next."""
        return (self.prompts.positions[self.prompt_of_row] + self.get_seq_length())[:, None]

    def branch(self, row_of_sample: torch.Tensor, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Make the rows that the samples need now; rows without a sample leave.

        Most rows stay where they are, so that little is copied: the first branch of a row keeps its place, unless that
        lies beyond the number of rows now; the others fill the places that are free.

        Args:
            row_of_sample: (B,) row whose logits each sample drew from.
            token_ids: (B,) what it drew.

        Returns:
            the token of each row (U,), and the row of each sample (B,).
        """
        branches, branch_of_sample = torch.unique(row_of_sample << 32 | token_ids, return_inverse=True)
        parents = branches >> 32
        is_first = torch.ones_like(parents, dtype=torch.bool)
        is_first[1:] = parents[1:] != parents[:-1]
        # Where nothing is drawn yet there is nothing to copy, and rows in the order of their prompts are best.
        stays = is_first & (parents < len(parents)) & (self.get_seq_length() > 0)
        is_free = torch.ones_like(stays)
        is_free[parents[stays]] = False
        free = is_free.nonzero()[:, 0]
        row_of_branch = parents.masked_scatter(~stays, free)
        for layer in self.layers:
            layer.max_rows = len(row_of_sample)
            if len(free):  # a free place below the new number of rows lost all its samples: nobody copies from it
                layer.copy_rows(parents[~stays], free)
        if len(free) or len(parents) != len(self.prompt_of_row):
            self._arrange(torch.empty_like(parents).index_copy_(0, row_of_branch, self.prompt_of_row[parents]))
        row_tokens = torch.empty_like(parents).index_copy_(0, row_of_branch, branches & 0xFFFFFFFF)
        return row_tokens, row_of_branch[branch_of_sample]

    def _arrange(self, prompt_of_row: torch.Tensor) -> None:
        """Lay the rows out in a table of G x N slots, and drop prompts that have none once that is worth a copy.

        Sets `slot_of_row` (U,) and `row_of_slot` (G * N,); both None when the rows are the table. An empty slot repeats
        row 0; nobody reads what it computes.
        """
        living = prompt_of_row.unique()
        if len(living) <= PROMPT_SHARE * len(self.prompts.lengths):
            self.prompts = self.prompts.select(living)
            prompt_of_row = torch.searchsorted(living, prompt_of_row)
        self.prompt_of_row = prompt_of_row
        lengths = self.prompts.lengths
        counts = torch.bincount(prompt_of_row, minlength=len(lengths))
        self.table = (len(lengths), int(counts.max()))
        order = prompt_of_row.argsort(stable=True)
        ranks = torch.arange(len(order), device=order.device)
        prompts = prompt_of_row[order]
        slots = prompts * self.table[1] + ranks - (counts.cumsum(0) - counts)[prompts]
        self.slot_of_row = torch.empty_like(order).index_copy_(0, order, slots)
        self.row_of_slot = order.new_zeros(self.table[0] * self.table[1]).index_copy_(0, slots, order)
        if torch.equal(self.row_of_slot, ranks):
            self.slot_of_row = self.row_of_slot = None
        shortest, longest = int(lengths.min()), self.prompts.layers[0][0].shape[2]
        columns = torch.arange(shortest, longest, device=lengths.device)  # the others are padding for no prompt
        self.padding = (columns >= lengths[:, None])[:, None, None] if shortest < longest else None  # (G, 1, 1, -)

    def hidden(self, window: int | None, num_drawn: int) -> torch.Tensor | None:
        """Return what a window hides of prompts and drawn tokens, (G, 1, 1, P + S) with S = `num_drawn`, or None."""
        num_columns = self.prompts.layers[0][0].shape[2]
        if window is None or num_columns + num_drawn <= window:
            return None
        lengths = self.prompts.lengths[:, None]
        prompt = torch.arange(num_columns, device=lengths.device).expand(len(lengths), -1)
        drawn = lengths + torch.arange(num_drawn, device=lengths.device)
        places = torch.cat([prompt, drawn], dim=1)
        return (places <= lengths + num_drawn - 1 - window)[:, None, None]

    def to_slots(self, rows: torch.Tensor) -> torch.Tensor:
        """(U, H, R, x) -> (G, H, N * R, x): the rows of a prompt side by side."""
        if self.row_of_slot is not None:
            rows = rows[self.row_of_slot]
        table = rows.unflatten(0, self.table).transpose(1, 2)
        return table.flatten(2, 3)

    def to_rows(self, slots: torch.Tensor) -> torch.Tensor:
        """(G, H, N * R, x) -> (U, H, R, x), the inverse of `to_slots`."""
        rows = slots.unflatten(2, (self.table[1], -1)).transpose(1, 2).flatten(0, 1)
        return rows if self.slot_of_row is None else rows[self.slot_of_row]


def branch_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    branches: BranchCache,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend from one new token per row to its prompt and to the tokens drawn for the row.

    Args:
        module: the attention layer; its `layer_idx` finds the prompt's part.
        query: (U, H * R, 1, D).
        key: (U, H, S, D), the drawn tokens as `BranchLayer.update` returned them.
        value: as `key`.
        attention_mask: None; what is hidden is known to `branches`.
        branches: the cache that the same forward updates.
        scaling: factor of the scores; D ** -0.5 unless given.
        softcap: c where scores x become c * tanh(x / c).
        s_aux: attention sinks; must be None.

    Returns:
        (U, 1, H * R, D) and no weights.

    Raises:
        TriptychError: the decoder has attention sinks.
    """
    if s_aux is not None:
        raise TriptychError(
            "The language model has attention sinks, which the local sampler lacks; sample from it through a server."
        )
    prompt_keys, prompt_values = branches.prompts.layers[module.layer_idx]
    num_rows, num_heads = key.shape[:2]
    query = query.reshape(num_rows, num_heads, -1, query.shape[-1])
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)

    scores = [branches.to_slots(query) @ prompt_keys.transpose(2, 3), query @ key.transpose(2, 3)]
    if softcap is not None:
        scores = [softcap * torch.tanh(part / softcap) for part in scores]
    if branches.padding is not None:
        scores[0][..., -branches.padding.shape[-1] :].masked_fill_(branches.padding, -torch.inf)
    # By row, not by slot: prompts of fewer rows than others have empty slots, on which no softmax is spent.
    joined = torch.cat([branches.to_rows(scores[0]), scores[1]], dim=-1)  # (U, H, R, P + S)
    if (hidden := branches.hidden(branches.windows[module.layer_idx], key.shape[2])) is not None:
        joined.masked_fill_(hidden[branches.prompt_of_row], -torch.inf)
    weights = joined.softmax(-1, dtype=torch.float32).to(query.dtype)
    prompt_weights, own_weights = weights.split([prompt_keys.shape[2], key.shape[2]], dim=-1)
    output = branches.to_rows(branches.to_slots(prompt_weights) @ prompt_values) + own_weights @ value  # (U, H, R, D)
    return output.reshape(num_rows, 1, -1, output.shape[-1]), None


@contextmanager
def attending_to_branches(decoder: torch.nn.Module) -> Iterator[None]:
    """Let the decoder's layers use `branch_attention` inside the context."""
    before = decoder.config._attn_implementation
    decoder.config._attn_implementation = BRANCH_ATTENTION
    try:
        yield
    finally:
        decoder.config._attn_implementation = before


def _padded(states: torch.Tensor, length: int) -> torch.Tensor:
    """Pad keys or values (G, H, P, D) with zeros on the right to P = `length`."""
    return torch.nn.functional.pad(states, (0, 0, 0, length - states.shape[2]))


def _buffer(states: torch.Tensor, num_rows: int, capacity: int) -> torch.Tensor:
    """Copy keys or values (U, H, S, D) to the start of a buffer (`num_rows`, H, `capacity`, D)."""
    buffer = states.new_empty(num_rows, states.shape[1], capacity, states.shape[3])
    buffer[: len(states), :, : states.shape[2]] = states
    return buffer


AttentionInterface.register(BRANCH_ATTENTION, branch_attention)
