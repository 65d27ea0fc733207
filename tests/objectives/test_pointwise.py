"""Objectives that judge each completion by itself, against hand-worked numbers and limits."""

import math
from dataclasses import replace

import pytest
import torch

from tests.objectives.pairs import WORKED, pair, random_pairs
from triptych.objectives.pointwise import (
    apo_down_loss,
    apo_zero_loss,
    bco_loss,
    kl_estimate,
    kto_loss,
    nca_loss,
    sppo_hard_loss,
)
from triptych.objectives.preference import dpo_loss

AGREES = pair(-5.0, -9.0, -5.0, -9.0)
EVEN = {"desirable_weight": 1.0, "undesirable_weight": 1.0}


def logistic(x):
    return 1 / (1 + math.exp(-x))


def approx(number):
    return pytest.approx(number, abs=1e-12)


def test_bco_by_hand():
    # rewards 0.2 and -0.3, delta 0.05: s(0.15) and s(0.35)
    expected = -math.log(logistic(0.15)) - math.log(logistic(0.35))
    assert bco_loss(pair(*WORKED), beta=0.1, delta=0.05).item() == approx(expected)
    assert bco_loss(AGREES, beta=0.1, delta=0.0).item() == approx(2 * math.log(2))


def test_bco_does_not_change_where_rewards_and_delta_move_together():
    lower = pair(-3.0 - 4, -10.0 - 4, -5.0, -7.0)
    assert bco_loss(lower, beta=0.1, delta=0.05 - 0.4).item() == approx(
        bco_loss(pair(*WORKED), beta=0.1, delta=0.05).item()
    )


def test_kto_by_hand():
    # a = 2, b = -3, z = 1: 1 - s(0.1 * (2 - 1)) and 1 - s(0.1 * (1 + 3)), weights 1.5 and 0.5, mean of the two
    expected = (1.5 * (1 - logistic(0.1)) + 0.5 * (1 - logistic(0.4))) / 2
    loss = kto_loss(pair(*WORKED), beta=0.1, kl=1.0, desirable_weight=1.5, undesirable_weight=0.5)
    assert loss.item() == approx(expected)
    assert kto_loss(AGREES, beta=0.1, kl=0.0, **EVEN).item() == approx(0.5)


def test_the_kl_estimate_is_the_mean_but_never_below_zero():
    assert kl_estimate(torch.tensor([1.0, 2.0, 6.0])).item() == 3
    assert kl_estimate(torch.tensor([1.0, -4.0])).item() == 0


def test_no_gradient_flows_through_the_kl_estimate():
    assert not kl_estimate(torch.tensor([1.0], requires_grad=True)).requires_grad


def test_nca_by_hand():
    # rewards 0.2 and -0.3
    expected = -math.log(logistic(0.2)) - 0.5 * math.log(logistic(-0.2)) - 0.5 * math.log(logistic(0.3))
    assert nca_loss(pair(*WORKED), beta=0.1).item() == approx(expected)
    assert nca_loss(AGREES, beta=0.1).item() == approx(2 * math.log(2))


def test_sppo_by_hand():
    # targets +5 and -5: (2 - 5)^2 + (-3 + 5)^2
    assert sppo_hard_loss(pair(*WORKED), beta=0.1).item() == approx(13)
    assert sppo_hard_loss(AGREES, beta=0.1).item() == approx(50)


def test_apo_by_hand():
    assert apo_zero_loss(pair(*WORKED), beta=0.1).item() == approx(1 - logistic(0.2) + logistic(-0.3))
    assert apo_down_loss(pair(*WORKED), beta=0.1).item() == approx(logistic(0.2) + 1 - logistic(0.5))
    assert apo_zero_loss(AGREES, beta=0.1).item() == apo_down_loss(AGREES, beta=0.1).item() == 1


def test_only_the_margin_losses_are_blind_to_a_common_shift_of_both_rewards():
    """What BCO adds to DPO in the mix: it sees both completions become unlikely."""
    logps = random_pairs(1)
    shifted = replace(logps, chosen=logps.chosen - 3, rejected=logps.rejected - 3)
    assert dpo_loss(shifted, beta=0.1).item() == approx(dpo_loss(logps, beta=0.1).item())
    for loss in (nca_loss, sppo_hard_loss, apo_zero_loss):
        assert abs(loss(shifted, beta=0.1).item() - loss(logps, beta=0.1).item()) > 1e-3
