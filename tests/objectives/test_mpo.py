"""The mixed objective: weights, the reward shift, values at the start, and the loss that a step hands to its parts."""

import math
from dataclasses import replace

import pytest
import torch

from tests.objectives.pairs import pair, random_pairs
from triptych.objectives.mpo import Mix, RewardShift, join_logps, mixed_loss, start_value, step_loss
from triptych.objectives.names import LOSSES

PAPER = Mix(("sigmoid", "bco_pair", "sft"), (0.8, 0.2, 1.0))
AGREES = pair([-5.0, -3.0], [-9.0, -4.0], [-5.0, -3.0], [-9.0, -4.0], [10.0, 6.0], [3.0, 2.0])


def mix_of(name, weight=1.0, **settings):
    smoothing = 0.1 if LOSSES[name].smoothed else 0.0
    return Mix((name,), (weight,), **{"label_smoothing": smoothing, "beta": 0.2} | settings)


def test_at_step_0_the_paper_mix_is_ln_2_times_1_point_2_plus_the_generation_loss():
    # 0.8 ln 2 + 0.2 * 2 ln 2 + 5 / 10 (arXiv:2411.10442)
    loss = mixed_loss(AGREES, PAPER).loss
    assert loss.tolist() == pytest.approx([1.2 * math.log(2) + 0.5] * 2, abs=1e-12)


def test_the_mix_is_the_weighted_sum_of_its_terms():
    result = mixed_loss(random_pairs(), PAPER, delta=0.3)
    expected = 0.8 * result.terms["sigmoid"] + 0.2 * result.terms["bco_pair"] + result.terms["sft"]
    torch.testing.assert_close(result.loss, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_a_term_of_one_value_per_pair(name):
    term = mixed_loss(random_pairs(), mix_of(name), delta=0.1, kl=0.2).terms[name]
    assert term.shape == (6,)
    assert term.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_starts_where_it_is_said_to(name):
    value = start_value(name, mix_of(name))
    if LOSSES[name].reference:
        assert mixed_loss(AGREES, mix_of(name)).terms[name].tolist() == pytest.approx([value] * 2, abs=1e-12)
    else:
        assert value is None


def test_start_values_by_hand():
    settings = {"beta": 0.2, "label_smoothing": 0.1, "desirable_weight": 1.5}
    known = {"sigmoid": 0.6931471805599453, "bco_pair": 1.3862943611198906, "hinge": 1, "ipo": 6.25, "sppo_hard": 12.5}
    known |= {"kto": 0.625, "exo_pair": 0.5108256237659907}  # (1.5 + 1) / 4; -ln(4 * 0.09) / 2
    for name, value in known.items():
        assert start_value(name, mix_of(name, **settings)) == pytest.approx(value, abs=1e-12)


def test_reward_shift_is_the_plain_mean_of_the_batches_updated_before_use():
    shift = RewardShift()
    # means of three steps 0, 3, 6: running 0, 1.5, 3
    assert [shift.update(value) for value in (0.0, 3.0, 6.0)] == [0.0, 1.5, 3.0]


def test_reward_shift_equals_the_mean_over_all_steps_so_far():
    shift, means = RewardShift(), [0.0, -0.25, 0.5, 1.75, -3.0]
    running = [shift.update(value) for value in means]
    assert running == pytest.approx([sum(means[: n + 1]) / (n + 1) for n in range(len(means))], abs=1e-12)


def test_delta_and_z_move_only_the_losses_that_read_them():
    logps, names = random_pairs(), ("sigmoid", "bco_pair", "kto", "sft")
    mix = Mix(names, (1.0,) * 4)
    plain, shifted = mixed_loss(logps, mix), mixed_loss(logps, mix, delta=1.0, kl=1.0)
    changed = [name for name in names if not torch.equal(plain.terms[name], shifted.terms[name])]
    assert changed == ["bco_pair", "kto"]


def test_unknown_terms_and_missing_weights_are_refused():
    with pytest.raises(ValueError, match="unknown loss_type dpo; known are sigmoid"):
        Mix(("dpo",), (1.0,))
    with pytest.raises(ValueError, match="2 losses need as many weights"):
        Mix(("sft", "sigmoid"), (1.0,))


@pytest.mark.parametrize(
    ("names", "reference", "rejected", "coupled"),
    [
        (["sft"], False, False, False),
        (["simpo", "sft"], False, True, False),
        (["sft", "sigmoid"], True, True, False),
        (["bco_pair"], True, True, True),
        (["aot"], True, True, True),
    ],
)
def test_a_mix_knows_what_it_needs(names, reference, rejected, coupled):
    mix = Mix(tuple(names), (1.0,) * len(names))
    assert (mix.needs_reference, mix.needs_rejected, mix.couples_pairs) == (reference, rejected, coupled)


def test_an_average_over_tokens_couples_pairs():
    assert mix_of("sft", sft_per_token=True).couples_pairs
    assert not mix_of("sigmoid", sft_per_token=True).couples_pairs


@pytest.mark.parametrize("name", LOSSES)
def test_the_step_loss_carries_value_and_gradient_of_the_loss(name):
    """Through `at` a model behind the log-probabilities gets what differentiating the whole loss gives it."""
    logps, mix = random_pairs(), mix_of(name, weight=0.7)
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)  # stands for a model
    whole = replace(logps, chosen=scale * logps.chosen, rejected=scale**2 * logps.rejected)
    direct = mixed_loss(whole, mix, delta=0.1, kl=0.2).loss.sum() / 6
    [expected] = torch.autograd.grad(direct, scale, retain_graph=True)
    loss = step_loss(logps, mix, share=1 / 6, delta=0.1, kl=0.2)
    cuts = [slice(0, 2), slice(2, 6)]
    parts = [loss.rows(cut.start, cut.stop).at(whole.chosen[cut], whole.rejected[cut]) for cut in cuts]
    assert sum(part.item() for part in parts) == pytest.approx(direct.item(), abs=1e-12)
    [gradient] = torch.autograd.grad(sum(parts), scale)
    assert gradient.item() == pytest.approx(expected.item(), abs=1e-12)


def test_parts_join_in_order():
    joined = join_logps([random_pairs(2), random_pairs(3, seed=1)])
    assert len(joined) == 5
    assert torch.equal(joined.chosen[2:], random_pairs(3, seed=1).chosen)
