"""Where the reference log-probabilities of a preference objective come from: a store, or the model itself.

`StoredReference` looks them up (`reference.py` computed them before the first step). `LiveReference` computes them in
every step, on the batch the policy has just been scored on: with adapters the reference is the policy with its
adapters off, and otherwise a frozen copy of the start model. A copy can follow the policy (TR-DPO).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Protocol

import torch

from triptych.engine.distributed import world_size
from triptych.engine.encode import Encoder
from triptych.engine.pairs import Place, ScoredCompletions, score_packed
from triptych.engine.sharding import call_sharded, cut_like, shard
from triptych.errors import TriptychError
from triptych.models.adapters import reference_mode


class Reference(Protocol):
    """Gives the reference log-probabilities of completions."""

    def logps(self, policy: torch.nn.Module, encoder: Encoder, scored: ScoredCompletions) -> Mapping[Place, float]:
        """Return nats, summed over completion tokens, of every completion that was scored under the policy."""


class StoredReference:
    """Reference log-probabilities that are known already.

    Args:
        values: nats per completion.
    """

    def __init__(self, values: Mapping[Place, float]) -> None:
        self._values = values

    def logps(self, policy: torch.nn.Module, encoder: Encoder, scored: ScoredCompletions) -> Mapping[Place, float]:
        """See `Reference`."""
        return self._values


class LiveReference:
    """Scores completions with the reference model itself.

    Args:
        start: the start model, before it is trained; it is copied. None where the policy has adapters.
        encoder: of that model.
        bf16: compute in bfloat16.
    """

    def __init__(self, start: torch.nn.Module | None, encoder: Encoder, *, bf16: bool = False) -> None:
        self.model: torch.nn.Module | None = None
        self._bf16 = bf16
        if start is not None:
            self.model = copy.deepcopy(start).requires_grad_(False).eval()
            if world_size() > 1:
                shard(self.model, encoder, bf16=bf16)

    @torch.no_grad()
    def logps(self, policy: torch.nn.Module, encoder: Encoder, scored: ScoredCompletions) -> Mapping[Place, float]:
        """See `Reference`.

        Raises:
            TriptychError: a value is not finite.
        """
        model = policy if self.model is None else self.model
        device = next(model.parameters()).device.type
        adapters_off = reference_mode(policy) if self.model is None else nullcontext()
        with adapters_off, torch.autocast(device, torch.bfloat16, enabled=self._bf16):
            again = call_sharded(model, score_packed, model, encoder, scored.packed)
        values = dict(zip(again.logps, torch.stack(list(again.logps.values())).tolist(), strict=True))
        if bad := [place for place, value in values.items() if not math.isfinite(value)]:
            raise TriptychError(
                f"The reference model gives completion {bad[0][1]} of group {bad[0][0]} the log-probability "
                f"{values[bad[0]]}: its weights are damaged, or its dtype overflows (then use bf16 or float32)."
            )
        return values

    @torch.no_grad()
    def follow(self, policy: torch.nn.Module, mixup_alpha: float) -> None:
        """Move the copy towards the policy: reference <- alpha policy + (1 - alpha) reference.

        TR-DPO (Gorbatovski et al. 2024, arXiv:2404.09656); alpha of 1 is its hard update.
        """
        for mine, theirs in zip(self.model.parameters(), policy.parameters(), strict=True):
            if theirs.requires_grad:  # a frozen weight is the reference's own
                mine.mul_(1 - mixup_alpha).add_(theirs, alpha=mixup_alpha)

    def state(self) -> dict[str, Any]:
        """Return the weights of the copy by name: the tensors themselves, so that what is kept stays up to date."""
        return dict(self.model.named_parameters())

    @torch.no_grad()
    def load_state(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take over weights that `state` returned in the run that is gone on with."""
        for name, parameter in self.model.named_parameters():
            parameter.copy_(cut_like(weights[name].to(parameter.device), parameter))
