"""Alignment via optimal transport (Melnyk et al. 2024, arXiv:2406.05882): distributions are compared, not pairs.

In one dimension the optimal transport between two samples joins their sorted values, so the losses sort over all the
pairs they are given: the whole optimiser step. Over a single pair both are DPO.
"""

from __future__ import annotations

import torch

from triptych.objectives.preference import PairLogps, smoothed_logistic


def aot_loss(logps: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """AOT on paired data: the margins of the policy should dominate those of the reference in distribution.

    With d = sort(lp(c) - lp(r)) - sort(ref(c) - ref(r)): -(1 - e) log s(beta d) - e log s(-beta d).

    Returns:
        (P,), in ascending order of the margins, not in that of the pairs; ln 2 where policy and reference agree.
    """
    policy = (logps.chosen - logps.rejected).sort().values
    reference = (logps.ref_chosen - logps.ref_rejected).sort().values
    return smoothed_logistic(beta * (policy - reference), label_smoothing)


def aot_unpaired_loss(logps: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """AOT on unpaired data: the log-ratios of chosen completions should dominate those of rejected ones.

    As `aot_loss` with d = sort(a) - sort(b).
    """
    a, b = logps.ratios()
    return smoothed_logistic(beta * (a.sort().values - b.sort().values), label_smoothing)
