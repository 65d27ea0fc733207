"""The mixed objective: weights, the reward shift, and TRL's own functions as oracle."""

import math

import pytest
import torch

from triptych.objectives.mpo import RewardShift, mixed_loss, needs_reference, needs_shift
from triptych.objectives.preference import PairLogps

PAPER = {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0], "beta": 0.1}


def random_pairs(num_pairs=6):
    generator = torch.Generator().manual_seed(0)
    values = [-20 * torch.rand(num_pairs, generator=generator, dtype=torch.float64) for _ in range(4)]
    return PairLogps(*values, torch.arange(1, num_pairs + 1, dtype=torch.float64))


def test_at_step_0_the_paper_mix_is_ln_2_times_1_point_2_plus_the_generation_loss():
    # 0.8 ln 2 + 0.2 * 2 ln 2 + NLL = 0.8318 + NLL (mpo.md 1.1)
    values = torch.tensor([-5.0], dtype=torch.float64), torch.tensor([-9.0], dtype=torch.float64)
    logps = PairLogps(*values, *values, torch.tensor([10.0], dtype=torch.float64))
    assert mixed_loss(logps, **PAPER, delta=0.0).loss.item() == pytest.approx(1.2 * math.log(2) + 0.5, abs=1e-12)


def test_the_mix_is_the_weighted_sum_of_its_terms():
    result = mixed_loss(random_pairs(), **PAPER, delta=0.3)
    expected = 0.8 * result.terms["sigmoid"] + 0.2 * result.terms["bco_pair"] + result.terms["sft"]
    torch.testing.assert_close(result.loss, expected, rtol=0, atol=1e-12)


def test_reward_shift_is_the_plain_mean_of_the_batches_updated_before_use():
    shift = RewardShift()
    # means of three steps 0, 3, 6: running 0, 1.5, 3
    assert [shift.update(value) for value in (0.0, 3.0, 6.0)] == [0.0, 1.5, 3.0]


def test_reward_shift_equals_the_mean_over_all_steps_so_far():
    shift, means = RewardShift(), [0.0, -0.25, 0.5, 1.75, -3.0]
    running = [shift.update(value) for value in means]
    assert running == pytest.approx([sum(means[: n + 1]) / (n + 1) for n in range(len(means))], abs=1e-12)


def test_delta_shifts_only_bco():
    logps = random_pairs()
    low, high = (mixed_loss(logps, **PAPER, delta=delta) for delta in (0.0, 1.0))
    assert torch.equal(low.terms["sigmoid"], high.terms["sigmoid"])
    assert not torch.equal(low.terms["bco_pair"], high.terms["bco_pair"])


def test_unknown_terms_and_missing_weights_are_refused():
    with pytest.raises(ValueError, match="unknown loss_type"):
        mixed_loss(random_pairs(), loss_type=["kto"], loss_weights=[1.0], beta=0.1, delta=0.0)
    with pytest.raises(ValueError):
        mixed_loss(random_pairs(), loss_type=["sft", "sigmoid"], loss_weights=[1.0], beta=0.1, delta=0.0)


def test_sft_alone_needs_neither_reference_nor_shift():
    assert not needs_reference(["sft"])
    assert needs_reference(["sft", "sigmoid"])
    assert needs_shift(["bco_pair"]) and not needs_shift(["sigmoid", "sft"])
