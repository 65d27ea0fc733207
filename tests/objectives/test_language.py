"""The next-token loss: one denominator for the whole step."""

import pytest
import torch

from triptych.objectives.language import token_loss


def test_it_is_the_mean_negative_log_probability():
    # probabilities 1/2, 1/4 and 1/8: (1 + 2 + 3) ln 2 / 3
    logps = torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64).log()
    assert token_loss(logps, 3).item() == pytest.approx(1.3862943611198906, abs=1e-12)


def test_the_parts_of_a_step_add_up_to_its_loss_and_gradient_however_unevenly_it_is_cut():
    logps = torch.tensor([-1.0, -2.0, -4.0, -8.0], requires_grad=True)
    parts = [token_loss(part, 4) for part in (logps[:1], logps[1:])]
    assert sum(part.item() for part in parts) == 3.75  # the mean of the parts' means would be 2.83
    sum(parts).backward()
    assert logps.grad.tolist() == [-0.25] * 4


def test_a_part_without_targets_adds_nothing():
    assert token_loss(torch.zeros(0, requires_grad=True), 4).item() == 0


def test_a_step_without_any_target_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="No token of this step is a target"):
        token_loss(torch.zeros(0), 0)
