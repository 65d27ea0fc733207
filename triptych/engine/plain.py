"""Batches of paths that are not packed, and their scores: one ordinary forward for each path.

Letters: C paths, N target tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from triptych.engine.distributed import world_size
from triptych.engine.families.plain import continued, forward_logits, placed
from triptych.engine.families.vision import backbone_of
from triptych.errors import DataError, TriptychError

if TYPE_CHECKING:
    from triptych.engine.encode import EncodedMedia
    from triptych.engine.trie import TokenPath


@dataclass(frozen=True)
class PlainBatch:
    """Paths side by side, nothing shared; told by the names of `PackedBatch`."""

    paths: tuple[TokenPath, ...]
    device: torch.device | str = "cpu"

    @property
    def num_paths(self) -> int:
        """C."""
        return len(self.paths)

    @cached_property
    def num_tokens(self) -> int:
        """Tokens computed."""
        return sum(len(path.input_ids) for path in self.paths)

    @property
    def num_plain_tokens(self) -> int:
        """The same: separate forwards are what it is."""
        return self.num_tokens

    @property
    def num_attended(self) -> int:
        """Sum over the tokens of how many tokens each attends to in a causal layer."""
        return sum(len(path.input_ids) * (len(path.input_ids) + 1) // 2 for path in self.paths)

    @property
    def media(self) -> list[EncodedMedia]:
        """The inputs of each path, again for each: each is encoded anew."""
        return list(chain.from_iterable(path.media for path in self.paths))

    @cached_property
    def path_of_target(self) -> torch.Tensor:
        """(N,) path of each target."""
        counts = torch.tensor([sum(path.targets) for path in self.paths])
        return torch.arange(self.num_paths).repeat_interleave(counts).to(self.device)

    @cached_property
    def path_targets(self) -> torch.Tensor:
        """(N,) every target is one path's alone."""
        return torch.arange(len(self.path_of_target), device=self.device)

    @property
    def predecessors(self) -> torch.Tensor:
        """(N,) places on which the head runs, numbered through."""
        return self.path_targets

    def to(self, device: torch.device | str) -> PlainBatch:
        """Return the batch with its indices on `device`; paths are moved one by one, before their forwards."""
        return PlainBatch(self.paths, device)


def plain_batch(units: Sequence[Sequence[TokenPath]], row_tokens: int) -> PlainBatch:
    """Put the paths of all units into one batch.

    Raises:
        DataError: kind `too_long`, a path has more tokens than a row.
    """
    paths = tuple(chain.from_iterable(units))
    longest = max(len(path.input_ids) for path in paths)
    if longest > row_tokens:
        raise DataError(
            f"A prompt with its completion takes {longest} tokens; a row holds {row_tokens}.",
            remedy="Raise `row_tokens`, shorten the text, or lower the resolution of the pictures.",
            kind="too_long",
        )
    return PlainBatch(paths)


def plain_token_scores(
    model: Any, batch: PlainBatch, *, temperature: float = 1.0, entropies: bool = False
) -> tuple[torch.Tensor, ...]:
    """Return the log-probability of each target and, where asked for, the entropies: (N,) each, path after path.

    Args:
        temperature: divides the logits.

    Raises:
        TriptychError: several ranks; their numbers of forwards would differ, and they would wait for each other.
    """
    _refuse_several_ranks()
    parts = [_path_scores(model, path, temperature, entropies) for path in batch.paths]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def plain_states(model: Any, batch: PlainBatch) -> Iterator[torch.Tensor]:
    """Yield the last hidden states (T, D) of each path, from a forward of the model's body.

    Raises:
        TriptychError: several ranks; see `plain_token_scores`.
    """
    _refuse_several_ranks()
    for path in batch.paths:
        inputs = placed(continued(path.media[0].inputs, path.input_ids), model)
        yield backbone_of(model)(**inputs, use_cache=False).last_hidden_state[0]


def _refuse_several_ranks() -> None:
    if world_size() > 1:
        raise TriptychError("This model has a forward for each completion, which works in one process only.")


def _path_scores(model: Any, path: TokenPath, temperature: float, entropies: bool) -> tuple[torch.Tensor, ...]:
    first = path.targets.index(True) if True in path.targets else len(path.targets)
    device = next(model.parameters()).device
    if first == len(path.targets):
        return (torch.zeros(0, device=device),) * (1 + entropies)
    inputs = continued(path.media[0].inputs, path.input_ids)
    logits = forward_logits(model, inputs, len(path.input_ids) - first + 1)[:-1].float()
    kept = torch.tensor(path.targets[first:], device=device)
    logps = (logits[kept] / temperature).log_softmax(-1)
    targets = torch.tensor(path.input_ids[first:], device=device)[kept]
    chosen = logps.gather(1, targets.unsqueeze(1)).squeeze(1)
    return (chosen, -(logps.exp() * logps).sum(-1)) if entropies else (chosen,)
