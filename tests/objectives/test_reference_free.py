"""Objectives without a reference model, against hand-worked numbers and limits."""

import math

import pytest
import torch

from tests.objectives.pairs import pair
from triptych.objectives.reference_free import log1mexp, orpo_loss, sft_loss, simpo_loss

HALF_AND_QUARTER = pair(4 * math.log(0.5), 6 * math.log(0.25), 0.0, 0.0, 4.0, 6.0)
"""Probability per token 1/2 in the chosen, 1/4 in the rejected completion."""


def approx(number):
    return pytest.approx(number, abs=1e-12)


def test_sft_gives_every_answer_or_every_token_the_same_weight():
    # 6 nats over 4 tokens and 2 nats over 1 token
    logps = pair([-6.0, -2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [4.0, 1.0], [1.0, 1.0])
    assert sft_loss(logps).tolist() == [1.5, 2.0]
    assert sft_loss(logps).mean().item() == 1.75
    assert sft_loss(logps, per_token=True).mean().item() == approx(8 / 5)


def test_orpo_by_hand():
    # odds 1 and 1/3: ratio 3, s(ln 3) = 3/4; -log p(c) / |c| = ln 2
    expected = math.log(2) - 0.1 * math.log(0.75)
    assert orpo_loss(HALF_AND_QUARTER, beta=0.1).item() == approx(expected)


def test_orpo_averages_its_imitation_term_over_tokens_on_request():
    logps = pair([-6.0, -2.0], [-8.0, -8.0], [0.0, 0.0], [0.0, 0.0], [4.0, 1.0], [4.0, 4.0])
    difference = orpo_loss(logps, beta=0.1, per_token=True) - orpo_loss(logps, beta=0.1)
    assert difference.tolist() == approx([6 / 2.5 - 1.5, 2 / 2.5 - 2])


def test_orpo_of_a_certain_completion_is_finite_and_so_is_its_gradient():
    logps = pair(0.0, -3.0, 0.0, 0.0)
    logps.chosen.requires_grad_()
    loss = orpo_loss(logps, beta=0.1)
    loss.sum().backward()
    assert math.isfinite(loss.item()) and math.isfinite(logps.chosen.grad.item())


def test_simpo_by_hand():
    # 2 * (ln 1/2 - ln 1/4) - 0.5 = 2 ln 2 - 0.5
    expected = math.log1p(math.exp(-(2 * math.log(2) - 0.5)))
    assert simpo_loss(HALF_AND_QUARTER, beta=2.0, simpo_gamma=0.5).item() == approx(expected)


def test_log1mexp_is_exact_on_both_sides():
    x = torch.tensor([-1e-10, -1e-3, -0.69, -0.70, -40.0], dtype=torch.float64)
    # log(1 - exp(-x)): ln x for tiny x; -exp(-x) for large x
    middle = [math.log(-math.expm1(value)) for value in (-1e-3, -0.69, -0.7)]
    expected = [math.log(1e-10) - 0.5e-10, *middle, -math.exp(-40)]
    assert log1mexp(x).tolist() == pytest.approx(expected, rel=1e-12)
