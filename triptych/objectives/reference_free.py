"""Objectives without a reference model: pure functions of the policy's log-probabilities.

Letters as in `preference.py`. m_c, m_r: log-probability per token of the chosen and the rejected completion.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import logsigmoid

from triptych.objectives.preference import PairLogps


def sft_loss(logps: PairLogps, *, per_token: bool = False) -> torch.Tensor:
    """Generation loss of MPO (arXiv:2411.10442, section 4.1): negative log-probability of the chosen completion.

    Args:
        per_token: False divides each by its own length, -lp(c) / |c|, so that every answer weighs the same; True
            divides all by their mean length, so that every token weighs the same.

    Returns:
        (P,); its mean is the mean over the answers, or over the tokens of all answers given.
    """
    return -logps.chosen / (logps.chosen_lengths.mean() if per_token else logps.chosen_lengths)


def orpo_loss(logps: PairLogps, *, beta: float, per_token: bool = False) -> torch.Tensor:
    """Odds Ratio Preference Optimization, Eq. 6 and 7 of Hong et al. 2024 (arXiv:2403.07691): SFT and odds ratio.

    -lp(c) / |c| - beta log s(log odds(c) - log odds(r)), odds = p / (1 - p) with p the probability per token (the
    geometric mean over the completion).

    Args:
        beta: the paper's lambda.
        per_token: see `sft_loss`.

    Returns:
        (P,).
    """
    chosen, rejected = logps.token_means()
    log_odds_ratio = (chosen - log1mexp(chosen)) - (rejected - log1mexp(rejected))
    return sft_loss(logps, per_token=per_token) - beta * logsigmoid(log_odds_ratio)


def simpo_loss(logps: PairLogps, *, beta: float, simpo_gamma: float) -> torch.Tensor:
    """SimPO, Eq. 6 of Meng et al. 2024 (arXiv:2405.14734): -log s(beta (m_c - m_r) - gamma).

    Args:
        beta: scale of the reward, 2.0 to 2.5 in the paper.
        simpo_gamma: target margin of the rewards; 0.3 to 1.6 in the paper.

    Returns:
        (P,).
    """
    chosen, rejected = logps.token_means()
    return -logsigmoid(beta * (chosen - rejected) - simpo_gamma)


def log1mexp(logps: torch.Tensor) -> torch.Tensor:
    """Return log(1 - exp(x)) for x <= 0 without cancellation on either side of -ln 2 (Maechler 2012).

    At x = 0, a certain completion, x is taken one rounding below it, so that odds and gradient stay finite.
    """
    x = logps.clamp(max=-torch.finfo(logps.dtype).eps)
    near = x > -math.log(2)
    # `where` passes gradients of both sides, so each side only sees arguments it is finite for.
    return torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, x, -1.0))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, x))),
    )
