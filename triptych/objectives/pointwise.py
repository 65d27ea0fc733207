"""Preference objectives that judge each completion of a pair by itself: pure functions of log-probabilities.

Letters as in `preference.py`: P pairs; a, b the log-ratios of chosen and rejected; s the logistic function.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from triptych.objectives.preference import PairLogps


def bco_loss(logps: PairLogps, *, beta: float, delta: torch.Tensor | float) -> torch.Tensor:
    """Binary Classifier Optimization (arXiv:2404.04656), quality loss of MPO (arXiv:2411.10442, section 4.1).

    -log s(beta a - delta) - log s(-(beta b - delta)): each completion is judged against the reward shift.

    Args:
        delta: reward shift, see `RewardShift`; no gradient flows through it.

    Returns:
        (P,); 2 ln 2 where policy and reference agree and delta is 0.
    """
    chosen_rewards, rejected_rewards = logps.rewards(beta)
    return -logsigmoid(chosen_rewards - delta) - logsigmoid(-(rejected_rewards - delta))


def kto_loss(
    logps: PairLogps, *, beta: float, kl: torch.Tensor | float, desirable_weight: float, undesirable_weight: float
) -> torch.Tensor:
    """Kahneman-Tversky Optimization (Ethayarajh et al. 2024, arXiv:2402.01306) on the completions of pairs.

    The mean over the two completions of w_d (1 - s(beta (a - z))) and w_u (1 - s(beta (z - b))).

    Args:
        kl: z, see `kl_estimate`; no gradient flows through it.
        desirable_weight, undesirable_weight: w_d and w_u, 1 each where there are as many of both.

    Returns:
        (P,); 1/2 where policy and reference agree and the weights are 1.
    """
    a, b = logps.ratios()
    desirable, undesirable = torch.sigmoid(-beta * (a - kl)), torch.sigmoid(-beta * (kl - b))
    return (desirable_weight * desirable + undesirable_weight * undesirable) / 2


def kl_estimate(log_ratios: torch.Tensor) -> torch.Tensor:
    """Return KTO's z: the mean log-ratio of completions under prompts they do not belong to, at least 0.

    Args:
        log_ratios: log-probability under the policy minus that under the reference, nats, any shape.

    Returns:
        scalar, detached.
    """
    return log_ratios.detach().mean().clamp(min=0)


def nca_loss(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Noise Contrastive Alignment on pairs (Chen et al. 2024, arXiv:2402.05369).

    -log s(beta a) - (log s(-beta a) + log s(-beta b)) / 2.

    Returns:
        (P,); 2 ln 2 where policy and reference agree.
    """
    chosen_rewards, rejected_rewards = logps.rewards(beta)
    return -logsigmoid(chosen_rewards) - 0.5 * (logsigmoid(-chosen_rewards) + logsigmoid(-rejected_rewards))


def sppo_hard_loss(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Self-Play Preference Optimization with hard labels, Eq. 4.7 of Wu et al. 2024 (arXiv:2405.00675).

    (a - 1 / (2 beta))^2 + (b + 1 / (2 beta))^2.

    Args:
        beta: 1 / eta of the paper.

    Returns:
        (P,); 1 / (2 beta^2) where policy and reference agree.
    """
    a, b = logps.ratios()
    return (a - 0.5 / beta) ** 2 + (b + 0.5 / beta) ** 2


def apo_zero_loss(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """APO-zero, Eq. 7 of D'Oosterlinck et al. 2024 (arXiv:2408.06266): chosen up, rejected down.

    (1 - s(beta a)) + s(beta b).

    Returns:
        (P,); 1 where policy and reference agree.
    """
    chosen_rewards, rejected_rewards = logps.rewards(beta)
    return torch.sigmoid(-chosen_rewards) + torch.sigmoid(rejected_rewards)


def apo_down_loss(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """APO-down, Eq. 8 of D'Oosterlinck et al. 2024 (arXiv:2408.06266): both down, rejected more.

    s(beta a) + (1 - s(beta (a - b))).

    Returns:
        (P,); 1 where policy and reference agree.
    """
    chosen_rewards, _ = logps.rewards(beta)
    return torch.sigmoid(chosen_rewards) + torch.sigmoid(-beta * logps.margins())
