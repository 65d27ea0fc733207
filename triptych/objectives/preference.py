"""Preference objectives over pairs of completions: pure functions of log-probabilities.

All take sums of log-probabilities over completion tokens, in nats, and return one unreduced loss per pair. The stage
reduces them once, by the number of pairs of the optimiser step, so that micro-batches and ranks do not change the
gradient.

Letters: P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class PairLogps:
    """Log-probabilities of the two completions of each pair, nats, (P,) each.

    Attributes:
        chosen, rejected: under the policy, summed over completion tokens.
        ref_chosen, ref_rejected: under the frozen reference.
        chosen_lengths: number of tokens of the chosen completions.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    ref_chosen: torch.Tensor
    ref_rejected: torch.Tensor
    chosen_lengths: torch.Tensor

    def __post_init__(self) -> None:
        shapes = {name: tuple(value.shape) for name, value in vars(self).items()}
        if len(set(shapes.values())) != 1 or len(self.chosen.shape) != 1:
            raise ValueError(f"log-probabilities of pairs need one shape (P,), got {shapes}")

    def rewards(self, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Implicit rewards of chosen and rejected: beta times the log-ratio to the reference, (P,) each."""
        return beta * (self.chosen - self.ref_chosen), beta * (self.rejected - self.ref_rejected)


def dpo_loss(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Direct Preference Optimization, Eq. 7 of Rafailov et al. 2023 (arXiv:2305.18290): -log s(r_c - r_r).

    Returns:
        (P,); ln 2 where policy and reference agree.
    """
    chosen_rewards, rejected_rewards = logps.rewards(beta)
    return -logsigmoid(chosen_rewards - rejected_rewards)


def bco_loss(logps: PairLogps, *, beta: float, delta: torch.Tensor | float) -> torch.Tensor:
    """Binary Classifier Optimization, quality loss of MPO (arXiv:2411.10442, section 4.1).

    -log s(r_c - delta) - log s(-(r_r - delta)): each completion is judged by itself against the reward shift.

    Args:
        delta: reward shift, see `RewardShift`; no gradient flows through it.

    Returns:
        (P,); 2 ln 2 where policy and reference agree and delta is 0.
    """
    chosen_rewards, rejected_rewards = logps.rewards(beta)
    return -logsigmoid(chosen_rewards - delta) - logsigmoid(-(rejected_rewards - delta))


def sft_loss(logps: PairLogps) -> torch.Tensor:
    """Generation loss of MPO: negative log-probability of the chosen completion per token, -log p(c) / |c|, (P,)."""
    return -logps.chosen / logps.chosen_lengths
