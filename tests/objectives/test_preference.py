"""Preference objectives against hand-worked numbers and limits."""

import math

import pytest
import torch

from triptych.objectives.preference import PairLogps, bco_loss, dpo_loss, sft_loss


def pair(chosen, rejected, ref_chosen, ref_rejected, length=4.0):
    return PairLogps(
        *(torch.tensor([value], dtype=torch.float64) for value in (chosen, rejected, ref_chosen, ref_rejected, length))
    )


def test_losses_start_at_ln_2_and_2_ln_2_where_policy_equals_reference():
    same = pair(-5.0, -9.0, -5.0, -9.0)
    assert dpo_loss(same, beta=0.1).item() == pytest.approx(math.log(2), abs=1e-12)
    assert bco_loss(same, beta=0.1, delta=0.0).item() == pytest.approx(2 * math.log(2), abs=1e-12)


def test_dpo_by_hand():
    # log-ratios +2 and -3, beta 0.1: margin 0.5; log(1 + e^-0.5) = 0.47407698...
    logps = pair(-3.0, -10.0, -5.0, -7.0)
    assert dpo_loss(logps, beta=0.1).item() == pytest.approx(math.log1p(math.exp(-0.5)), abs=1e-12)


def test_bco_by_hand():
    # rewards 0.2 and -0.3, delta 0.05: s(0.15) and s(0.35)
    logps = pair(-3.0, -10.0, -5.0, -7.0)
    expected = math.log1p(math.exp(-0.15)) + math.log1p(math.exp(-0.35))
    assert bco_loss(logps, beta=0.1, delta=0.05).item() == pytest.approx(expected, abs=1e-12)


def test_sft_is_normalised_by_the_length_of_the_chosen_completion():
    assert sft_loss(pair(-6.0, -1.0, 0.0, 0.0, length=4.0)).item() == 1.5


def test_gradients_of_dpo_are_minus_and_plus_beta_times_the_wrongness():
    chosen = torch.tensor([-3.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-10.0], dtype=torch.float64, requires_grad=True)
    fixed = torch.tensor([-5.0], dtype=torch.float64), torch.tensor([-7.0], dtype=torch.float64), torch.ones(1)
    dpo_loss(PairLogps(chosen, rejected, *fixed), beta=0.1).sum().backward()
    wrongness = 1 / (1 + math.exp(0.5))
    assert chosen.grad.item() == pytest.approx(-0.1 * wrongness, abs=1e-12)
    assert rejected.grad.item() == pytest.approx(0.1 * wrongness, abs=1e-12)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        PairLogps(torch.zeros(2), torch.zeros(2), torch.zeros(2), torch.zeros(1), torch.ones(2))
