"""Optimal transport between distributions of margins: sorted, not paired."""

import math
from itertools import permutations

import pytest
import torch

from tests.objectives.pairs import WORKED, pair, random_pairs
from triptych.objectives.preference import PairLogps, cdpo_loss, dpo_loss
from triptych.objectives.transport import aot_loss, aot_unpaired_loss


def minus_log_s(x):
    return math.log1p(math.exp(-x))


def test_paired_by_hand():
    # margins of the policy 1 and 4, of the reference 3 and 2: sorted differences 1 - 2 and 4 - 3, where pairs give
    # 1 - 3 and 4 - 2
    logps = pair([0.0, 0.0], [-1.0, -4.0], [0.0, 0.0], [-3.0, -2.0], [1.0, 1.0], [1.0, 1.0])
    assert aot_loss(logps, beta=0.5).tolist() == pytest.approx([minus_log_s(-0.5), minus_log_s(0.5)], abs=1e-12)


def test_unpaired_by_hand():
    # log-ratios of chosen 3 and 1, of rejected 2 and -4: sorted differences 1 + 4 and 3 - 2
    logps = pair([3.0, 1.0], [2.0, -4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0])
    assert aot_unpaired_loss(logps, beta=0.5).tolist() == pytest.approx([minus_log_s(2.5), minus_log_s(0.5)], abs=1e-12)


def test_one_pair_alone_is_dpo_with_smoothing_cdpo():
    logps = pair(*WORKED)
    for loss in (aot_loss, aot_unpaired_loss):
        assert loss(logps, beta=0.1).item() == pytest.approx(dpo_loss(logps, beta=0.1).item(), abs=1e-12)
        expected = cdpo_loss(logps, beta=0.1, label_smoothing=0.2).item()
        assert loss(logps, beta=0.1, label_smoothing=0.2).item() == pytest.approx(expected, abs=1e-12)


def test_sorting_is_the_cheapest_transport_for_a_convex_cost():
    """Brute force over all ways to join the margins of policy and reference."""
    logps = random_pairs(5)
    policy, reference = logps.chosen - logps.rejected, logps.ref_chosen - logps.ref_rejected
    costs = [
        torch.nn.functional.softplus(-0.1 * (policy - reference[list(order)])).sum().item()
        for order in permutations(range(5))
    ]
    assert aot_loss(logps, beta=0.1).sum().item() == pytest.approx(min(costs), abs=1e-12)


def test_the_order_of_the_pairs_does_not_matter():
    logps, order = random_pairs(6), torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled = PairLogps(*(value[order] for value in vars(logps).values()))
    for loss in (aot_loss, aot_unpaired_loss):
        assert torch.equal(loss(logps, beta=0.1), loss(shuffled, beta=0.1))


def test_gradients_reach_each_pair_where_it_stands():
    logps = pair([0.0, 0.0], [-4.0, -1.0], [0.0, 0.0], [-3.0, -2.0], [1.0, 1.0], [1.0, 1.0])
    logps.chosen.requires_grad_()
    aot_loss(logps, beta=0.5).sum().backward()
    # sorted differences: 4 - 3 for the first pair, 1 - 2 for the second
    expected = [-0.5 / (1 + math.exp(0.5)), -0.5 / (1 + math.exp(-0.5))]
    assert logps.chosen.grad.tolist() == pytest.approx(expected, abs=1e-12)
