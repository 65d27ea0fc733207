"""Preference objectives on margins against hand-worked numbers and limits."""

import math

import pytest
import torch

from tests.objectives.pairs import WORKED, pair, random_pairs
from triptych.objectives.preference import (
    PairLogps,
    cdpo_loss,
    discopop_loss,
    dpo_loss,
    dpo_norm_loss,
    exo_loss,
    hinge_loss,
    ipo_loss,
    robust_dpo_loss,
)

AGREES = pair(-5.0, -9.0, -5.0, -9.0)
GOOD, BAD = math.log1p(math.exp(-0.5)), math.log1p(math.exp(0.5))  # -log s(0.5) and -log s(-0.5)


def value(loss):
    return loss.item()


def approx(number):
    return pytest.approx(number, abs=1e-12)


def test_dpo_by_hand():
    assert value(dpo_loss(pair(*WORKED), beta=0.1)) == approx(GOOD)
    assert value(dpo_loss(AGREES, beta=0.1)) == approx(math.log(2))


def test_cdpo_by_hand():
    # labels wrong with probability 0.1: 0.9 * 0.4740770 + 0.1 * 0.9740770
    assert value(cdpo_loss(pair(*WORKED), beta=0.1, label_smoothing=0.1)) == approx(0.9 * GOOD + 0.1 * BAD)
    assert value(cdpo_loss(AGREES, beta=0.1, label_smoothing=0.1)) == approx(math.log(2))


def test_robust_dpo_by_hand():
    # (0.9 * 0.4740770 - 0.1 * 0.9740770) / 0.8
    expected = (0.9 * GOOD - 0.1 * BAD) / 0.8
    assert value(robust_dpo_loss(pair(*WORKED), beta=0.1, label_smoothing=0.1)) == approx(expected)
    assert value(robust_dpo_loss(AGREES, beta=0.1, label_smoothing=0.3)) == approx(math.log(2))


def test_robust_dpo_over_flipped_labels_is_dpo_on_clean_ones():
    """The property it is made for: its expectation under flips with probability e is the loss of the true label."""
    logps, flipped = pair(*WORKED), pair(-10.0, -3.0, -7.0, -5.0)
    losses = [value(robust_dpo_loss(item, beta=0.1, label_smoothing=0.2)) for item in (logps, flipped)]
    assert 0.8 * losses[0] + 0.2 * losses[1] == approx(GOOD)


def test_without_smoothing_cdpo_and_robust_dpo_are_dpo():
    logps = random_pairs()
    for loss in (cdpo_loss, robust_dpo_loss):
        torch.testing.assert_close(loss(logps, beta=0.3, label_smoothing=0.0), dpo_loss(logps, beta=0.3))


def test_hinge_by_hand_and_flat_beyond_the_margin():
    assert value(hinge_loss(pair(*WORKED), beta=0.1)) == approx(0.5)
    assert value(hinge_loss(pair(*WORKED), beta=0.2)) == 0
    assert value(hinge_loss(AGREES, beta=0.1)) == 1


def test_ipo_by_hand():
    # 2 / 4 + 3 / 6 = 1, target 1 / (2 * 0.1) = 5: (1 - 5)^2
    assert value(ipo_loss(pair(*WORKED), beta=0.1)) == approx(16)
    assert value(ipo_loss(AGREES, beta=0.1)) == approx(25)


def test_length_normalised_dpo_by_hand():
    assert value(dpo_norm_loss(pair(*WORKED), beta=0.5)) == approx(GOOD)  # 0.5 * (2 / 4 + 3 / 6)
    assert value(dpo_norm_loss(AGREES, beta=0.5)) == approx(math.log(2))


def test_exo_by_hand_and_zero_where_the_policy_has_the_smoothed_label():
    q, e = 1 / (1 + math.exp(-0.5)), 0.1
    expected = q * math.log(q / (1 - e)) + (1 - q) * math.log((1 - q) / e)
    assert value(exo_loss(pair(*WORKED), beta=0.1, label_smoothing=e)) == approx(expected)
    assert value(exo_loss(pair(*WORKED), beta=0.1, label_smoothing=1 - q)) == approx(0)


def test_discopop_by_hand():
    # w = s(0.5 / 0.25) = s(2) = 0.8807971: (1 - w) * 0.4740770 + w * exp(-0.5)
    w = 1 / (1 + math.exp(-2))
    expected = (1 - w) * GOOD + w * math.exp(-0.5)
    assert value(discopop_loss(pair(*WORKED), beta=0.1, discopop_tau=0.25)) == approx(expected)
    assert value(discopop_loss(AGREES, beta=0.1, discopop_tau=0.05)) == approx((1 + math.log(2)) / 2)


def test_gradients_of_dpo_are_minus_and_plus_beta_times_the_wrongness():
    logps = pair(*WORKED)
    logps.chosen.requires_grad_()
    logps.rejected.requires_grad_()
    dpo_loss(logps, beta=0.1).sum().backward()
    wrongness = 1 / (1 + math.exp(0.5))
    assert logps.chosen.grad.item() == approx(-0.1 * wrongness)
    assert logps.rejected.grad.item() == approx(0.1 * wrongness)


def test_rewards_and_means():
    logps = pair(*WORKED)
    assert [reward.item() for reward in logps.rewards(0.1)] == approx([0.2, -0.3])
    assert [mean.item() for mean in logps.token_means()] == approx([-3 / 4, -10 / 6])
    assert logps.mean_margins().item() == approx(1)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        PairLogps(*[torch.zeros(2)] * 5, torch.ones(1))
