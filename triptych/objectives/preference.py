"""Preference objectives on the margin of a pair: pure functions of log-probabilities.

All take sums of log-probabilities over completion tokens, in nats, and return one unreduced loss per pair. The stage
reduces them once, by the number of pairs of the optimiser step, so that micro-batches and ranks do not change the
gradient.

Letters: P pairs. a, b: log-ratios of policy to reference of the chosen and the rejected completion. s: the logistic
function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class PairLogps:
    """Log-probabilities of the two completions of each pair, nats, (P,) each.

    Attributes:
        chosen, rejected: under the policy, summed over completion tokens.
        ref_chosen, ref_rejected: under the reference.
        chosen_lengths, rejected_lengths: numbers of completion tokens.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    ref_chosen: torch.Tensor
    ref_rejected: torch.Tensor
    chosen_lengths: torch.Tensor
    rejected_lengths: torch.Tensor

    def __post_init__(self) -> None:
        shapes = {name: tuple(value.shape) for name, value in vars(self).items()}
        if len(set(shapes.values())) != 1 or len(self.chosen.shape) != 1:
            raise ValueError(f"log-probabilities of pairs need one shape (P,), got {shapes}")

    def __len__(self) -> int:
        return len(self.chosen)

    def ratios(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-ratios a and b of policy to reference, (P,) each."""
        return self.chosen - self.ref_chosen, self.rejected - self.ref_rejected

    def margins(self) -> torch.Tensor:
        """Return a - b, (P,)."""
        a, b = self.ratios()
        return a - b

    def mean_margins(self) -> torch.Tensor:
        """Return a per chosen token minus b per rejected token, (P,)."""
        a, b = self.ratios()
        return a / self.chosen_lengths - b / self.rejected_lengths

    def token_means(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the policy's log-probability per token of chosen and rejected, (P,) each."""
        return self.chosen / self.chosen_lengths, self.rejected / self.rejected_lengths

    def rewards(self, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the implicit rewards of chosen and rejected: beta times the log-ratio, (P,) each."""
        a, b = self.ratios()
        return beta * a, beta * b


def dpo_loss(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Direct Preference Optimization, Eq. 7 of Rafailov et al. 2023 (arXiv:2305.18290): -log s(beta (a - b)).

    Returns:
        (P,); ln 2 where policy and reference agree.
    """
    return -logsigmoid(beta * logps.margins())


def cdpo_loss(logps: PairLogps, *, beta: float, label_smoothing: float) -> torch.Tensor:
    """Conservative DPO (Mitchell 2023): the cross-entropy to labels that are wrong with a known probability.

    -(1 - e) log s(beta (a - b)) - e log s(-beta (a - b)).

    Args:
        label_smoothing: e, the probability that a pair is the wrong way round, in [0, 0.5).

    Returns:
        (P,); ln 2 where policy and reference agree.
    """
    return smoothed_logistic(beta * logps.margins(), label_smoothing)


def robust_dpo_loss(logps: PairLogps, *, beta: float, label_smoothing: float) -> torch.Tensor:
    """Robust DPO (Chowdhury et al. 2024, arXiv:2403.00409): DPO's loss, unbiased under flipped labels.

    [-(1 - e) log s(beta (a - b)) + e log s(-beta (a - b))] / (1 - 2 e), with e as in `cdpo_loss`.

    Returns:
        (P,); ln 2 where policy and reference agree. Not bounded below.
    """
    logits = beta * logps.margins()
    clean, flipped = -logsigmoid(logits), -logsigmoid(-logits)
    return ((1 - label_smoothing) * clean - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def hinge_loss(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Hinge loss of RSO (Liu et al. 2023, arXiv:2309.06657) and SLiC: max(0, 1 - beta (a - b)).

    Returns:
        (P,); 1 where policy and reference agree.
    """
    return torch.relu(1 - beta * logps.margins())


def ipo_loss(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Identity Preference Optimization, Eq. 17 of Azar et al. 2023 (arXiv:2310.12036), on log-ratios per token.

    (a / |c| - b / |r| - 1 / (2 beta))^2. The paper writes sums; its authors used means (TRL's `ipo` says so), and so
    does every public trainer.

    Args:
        beta: the paper's tau.

    Returns:
        (P,); 1 / (4 beta^2) where policy and reference agree.
    """
    return (logps.mean_margins() - 1 / (2 * beta)) ** 2


def dpo_norm_loss(logps: PairLogps, *, beta: float) -> torch.Tensor:
    """Length-normalised DPO (Lambert et al. 2024, arXiv:2411.15124): -log s(beta (a / |c| - b / |r|)).

    Returns:
        (P,); ln 2 where policy and reference agree.
    """
    return -logsigmoid(beta * logps.mean_margins())


def exo_loss(logps: PairLogps, *, beta: float, label_smoothing: float) -> torch.Tensor:
    """EXO on pairs, Eq. 16 of Ji et al. 2024 (arXiv:2402.00856): reverse KL to the smoothed label.

    With q = s(beta (a - b)): q log(q / (1 - e)) + (1 - q) log((1 - q) / e).

    Args:
        label_smoothing: e > 0; the paper uses 1e-3.

    Returns:
        (P,); -ln(4 e (1 - e)) / 2 where policy and reference agree.
    """
    logits = beta * logps.margins()
    log_q, log_rest = logsigmoid(logits), logsigmoid(-logits)
    return log_q.exp() * (log_q - math.log1p(-label_smoothing)) + log_rest.exp() * (
        log_rest - math.log(label_smoothing)
    )


def discopop_loss(logps: PairLogps, *, beta: float, discopop_tau: float) -> torch.Tensor:
    """DiscoPOP, Eq. 5 of Lu et al. 2024 (arXiv:2406.08414): a blend of the logistic and the exponential loss.

    With h = beta (a - b) and w = s(h / tau): (1 - w) (-log s(h)) + w exp(-h).

    Returns:
        (P,); (1 + ln 2) / 2 where policy and reference agree.
    """
    logits = beta * logps.margins()
    weight = torch.sigmoid(logits / discopop_tau)
    return (1 - weight) * -logsigmoid(logits) + weight * torch.exp(-logits)


def smoothed_logistic(logits: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """-(1 - e) log s(x) - e log s(-x): cross-entropy of a logit to a label of probability 1 - e."""
    return -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)
