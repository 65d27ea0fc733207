"""Log-probabilities of pairs for the tests of objectives."""

from __future__ import annotations

import torch

from triptych.objectives.preference import PairLogps


def pair(chosen, rejected, ref_chosen, ref_rejected, chosen_length=4.0, rejected_length=5.0):
    """One pair, or several where lists are given."""
    values = (chosen, rejected, ref_chosen, ref_rejected, chosen_length, rejected_length)
    return PairLogps(*(torch.tensor(value, dtype=torch.float64).reshape(-1) for value in values))


WORKED = (-3.0, -10.0, -5.0, -7.0, 4.0, 6.0)
"""Log-ratios a = +2 and b = -3 of 4 and 6 tokens: with beta 0.1 the rewards are 0.2 and -0.3, the margin 0.5."""


def random_pairs(num_pairs=6, seed=0):
    """Pairs of 1 to 9 tokens with log-probabilities down to -20."""
    generator = torch.Generator().manual_seed(seed)
    values = [-20 * torch.rand(num_pairs, generator=generator, dtype=torch.float64) for _ in range(4)]
    lengths = [torch.randint(1, 10, (num_pairs,), generator=generator).double() for _ in range(2)]
    return PairLogps(*values, *lengths)
