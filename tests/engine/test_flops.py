import time

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from triptych.engine.flops import (
    FORWARD,
    FORWARD_AND_INPUTS,
    machine_matrix_rate,
    matrix_parameters,
    model_flops_utilisation,
    training_flops,
)

T, D = 7, 16


def counted(model, *, backward):
    """FLOPs that PyTorch's own counter sees for a row of T tokens with full attention; an independent oracle."""
    embeddings = torch.randn(1, T, D, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        loss = model(embeddings).sum()
        if backward:
            loss.backward()
    return counter.get_total_flops()


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)

    def forward(self, hidden):
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        return self.out((query @ key.transpose(1, 2)).softmax(-1) @ value)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_the_formula_equals_the_count_of_pytorch(num_layers):
    model = nn.Sequential(*(Attention() for _ in range(num_layers)))
    shape = {"num_layers": num_layers, "attention_width": D, "num_attended": T * T}
    formula = training_flops(matrix_parameters(model), T, **shape, passes=FORWARD)
    assert formula == counted(model, backward=False)
    assert training_flops(matrix_parameters(model), T, **shape) == counted(model, backward=True)


def test_a_frozen_part_that_gradients_pass_through_costs_two_passes():
    model = Attention().requires_grad_(False)
    attention = training_flops(0, T, num_layers=1, attention_width=D, num_attended=T * T)  # no weights, all gradients
    matrices = training_flops(matrix_parameters(model), T, passes=FORWARD_AND_INPUTS)
    assert matrices + attention == counted(model, backward=True)


def test_without_attention_it_is_six_per_parameter_and_token():
    assert training_flops(1000, 10) == 60_000


def test_matrices_and_kernels_count_and_embeddings_norms_and_biases_do_not():
    model = nn.Sequential(nn.Embedding(50, D), nn.Conv2d(3, D, 2), nn.LayerNorm(D), nn.Linear(D, 5))
    assert matrix_parameters(model) == 3 * D * 4 + D * 5


def test_a_head_tied_to_the_embedding_counts_where_it_is_passed_itself():
    embedding, head = nn.Embedding(50, D), nn.Linear(D, 50, bias=False)
    head.weight = embedding.weight
    assert matrix_parameters(nn.ModuleList([embedding, head])) == 0
    assert matrix_parameters(head) == 50 * D


def test_the_rate_of_the_machine_is_measured_once_and_quickly():
    start = time.perf_counter()
    rate = machine_matrix_rate()
    assert time.perf_counter() - start < 2
    start = time.perf_counter()
    assert machine_matrix_rate() == rate
    assert time.perf_counter() - start < 0.01
    assert 1e8 < rate < 1e16


def test_the_fastest_products_are_at_least_as_fast_as_the_plain_ones():
    plain, fastest = (machine_matrix_rate(fastest=fastest) for fastest in (False, True))
    assert 1e8 < plain < 1.5 * fastest, "up to other work on the machine"


def test_utilisation_is_one_for_a_step_that_is_nothing_but_the_measured_products():
    rate = machine_matrix_rate(torch.float32, "cpu")
    assert model_flops_utilisation(2 * rate, 2.0) == pytest.approx(1.0)
    assert model_flops_utilisation(rate, 4.0) == pytest.approx(0.25)
