"""Mixed Preference Optimization (arXiv:2411.10442): a weighted sum of preference, quality and generation losses.

With the paper's weights it is 0.8 DPO + 0.2 BCO + 1.0 SFT at beta 0.1. Any subset and any weights are allowed: DPO,
BCO and SFT on the chosen answers are mixes with one term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from triptych.objectives.names import LOSS_TYPES
from triptych.objectives.preference import PairLogps, bco_loss, dpo_loss, sft_loss


@dataclass
class RewardShift:
    """The reward shift delta of BCO: cumulative mean of the implicit rewards, chosen and rejected alike.

    The released code of the paper updates it before use with the mean over the rewards of the present batch, each
    batch counting one, starting from nothing; it is a plain mean, not an exponential one. Here a batch is the whole
    optimiser step over all micro-batches and ranks, so that the shift does not depend on how the step is cut.

    Attributes:
        mean: present delta.
        count: optimiser steps seen.
    """

    mean: float = 0.0
    count: int = 0

    def update(self, mean_reward: float) -> float:
        """Take in one step's mean reward and return the new delta."""
        self.count += 1
        self.mean += (mean_reward - self.mean) / self.count
        return self.mean


@dataclass(frozen=True)
class MixedLoss:
    """Result of `mixed_loss`.

    Attributes:
        loss: (P,) weighted sum per pair.
        terms: unweighted term per loss type, (P,), detached.
    """

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]


def mixed_loss(
    logps: PairLogps, *, loss_type: Sequence[str], loss_weights: Sequence[float], beta: float, delta: float
) -> MixedLoss:
    """Weigh and add the named terms.

    Args:
        loss_type: any of `LOSS_TYPES`.
        loss_weights: one weight for each.
        beta: strength of the pull towards the reference.
        delta: present reward shift, used by `bco_pair` only.
    """
    total = torch.zeros_like(logps.chosen)
    terms = {}
    for name, weight in zip(loss_type, loss_weights, strict=True):
        if name == "sigmoid":
            term = dpo_loss(logps, beta=beta)
        elif name == "bco_pair":
            term = bco_loss(logps, beta=beta, delta=delta)
        elif name == "sft":
            term = sft_loss(logps)
        else:
            raise ValueError(f"unknown loss_type {name!r}; known are {', '.join(LOSS_TYPES)}")
        total = total + weight * term
        terms[name] = term.detach()
    return MixedLoss(loss=total, terms=terms)


def needs_reference(loss_type: Sequence[str]) -> bool:
    """True where a term compares with the reference model (and scores the rejected completion)."""
    return any(name != "sft" for name in loss_type)


def needs_shift(loss_type: Sequence[str]) -> bool:
    """True where a term uses the reward shift."""
    return "bco_pair" in loss_type
