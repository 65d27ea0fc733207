"""Layers that keep less against the layers they replace."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint
from transformers import CLIPVisionConfig, LlamaConfig, Qwen2Config
from transformers.models.clip.modeling_clip import CLIPMLP
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP

from triptych.models.lean import LeanGatedLayer, LeanNorm, LeanPlainLayer, keep_less

D, INNER = 32, 48
LLAMA = LlamaConfig(hidden_size=D, intermediate_size=INNER)


def llama_norm() -> nn.Module:
    norm = LlamaRMSNorm(D, eps=1e-5)
    nn.init.normal_(norm.weight)
    return norm


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "norm": llama_norm,
    "gated": lambda: LlamaMLP(LLAMA),
    "gated with biases": lambda: Qwen2_5_VLMLP(Qwen2Config(hidden_size=D, intermediate_size=INNER), bias=True),
    "plain": lambda: CLIPMLP(CLIPVisionConfig(hidden_size=D, intermediate_size=INNER, num_attention_heads=4)),
    "gated with gelu": lambda: LlamaMLP(LlamaConfig(hidden_size=D, intermediate_size=INNER, hidden_act="gelu")),
}


@pytest.fixture(params=LAYERS)
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    """A layer as transformers has it, and the same with less to keep."""
    torch.manual_seed(0)
    layer = LAYERS[request.param]()
    lean = copy.deepcopy(layer)
    keep_less(lean)
    assert isinstance(lean, LeanNorm | LeanGatedLayer | LeanPlainLayer) and isinstance(lean, type(layer))
    return layer, lean


def run(layer: nn.Module, inputs: torch.Tensor, *, recompute: bool = False) -> tuple[torch.Tensor, list[torch.Tensor]]:
    leaf = inputs.clone().requires_grad_()
    outputs = checkpoint(layer, leaf, use_reentrant=False) if recompute else layer(leaf)
    trained = [leaf, *(parameter for parameter in layer.parameters() if parameter.requires_grad)]
    weights = torch.linspace(-1, 2, outputs.numel()).view(outputs.shape).to(outputs.dtype)
    return outputs, list(torch.autograd.grad((outputs * weights).sum(), trained))


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float = 2e-6) -> None:
    for value, other in zip(found, expected, strict=True):
        scale = other.abs().max()
        torch.testing.assert_close(value / scale, other / scale, rtol=0, atol=tolerance)


def test_values_are_the_same_bits_and_gradients_the_same_but_for_rounding(pair: tuple[nn.Module, nn.Module]) -> None:
    inputs = 3 * torch.randn(2, 5, D)
    (expected, gradients), (found, lean_gradients) = (run(layer, inputs) for layer in pair)
    assert torch.equal(found, expected)
    assert_same(lean_gradients, gradients)


def test_in_bfloat16_too(pair: tuple[nn.Module, nn.Module]) -> None:
    inputs = torch.randn(2, 5, D).bfloat16()
    (expected, gradients), (found, lean_gradients) = (run(layer.bfloat16(), inputs) for layer in pair)
    assert torch.equal(found, expected) and found.dtype == torch.bfloat16
    assert_same(lean_gradients, gradients, tolerance=0.02)


def test_under_autocast_too(pair: tuple[nn.Module, nn.Module]) -> None:
    inputs = torch.randn(2, 5, D)
    with torch.autocast("cpu", torch.bfloat16):
        (expected, gradients), (found, lean_gradients) = (run(layer, inputs) for layer in pair)
    assert torch.equal(found, expected)
    assert_same(lean_gradients, gradients, tolerance=0.02)


def test_frozen_weights_pass_the_gradient_on(pair: tuple[nn.Module, nn.Module]) -> None:
    inputs = torch.randn(2, 5, D)
    (_, expected), (_, found) = (run(layer.requires_grad_(False), inputs) for layer in pair)
    assert_same(found, expected)


def test_recomputed_in_the_backward_pass_they_give_the_same(pair: tuple[nn.Module, nn.Module]) -> None:
    inputs = torch.randn(2, 5, D)
    (_, expected), (_, found) = (run(pair[1], inputs, recompute=recompute) for recompute in (False, True))
    assert all(map(torch.equal, found, expected))


def test_half_as_much_is_kept(pair: tuple[nn.Module, nn.Module]) -> None:
    inputs = torch.randn(50, D)
    kept = [kept_numbers(layer, inputs) for layer in pair]
    assert kept[1] <= 0.67 * kept[0]


def test_a_layer_with_an_adapter_keeps_one_tensor_less() -> None:
    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base, self.added = base, nn.Linear(INNER, D, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + self.added(x)

    torch.manual_seed(0)
    layer = LlamaMLP(LLAMA)
    layer.down_proj = Adapted(layer.down_proj)
    lean = copy.deepcopy(layer)
    keep_less(lean)
    inputs = torch.randn(50, D)
    (expected, gradients), (found, lean_gradients) = (run(item, inputs) for item in (layer, lean))
    assert torch.equal(found, expected)
    assert_same(lean_gradients, gradients)
    assert kept_numbers(lean, inputs) == kept_numbers(layer, inputs) - 50 * INNER


def test_a_norm_with_another_formula_is_left_alone() -> None:
    class Shifted(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden_states) + 1

    class Gated(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden_states) * gate

    model = nn.ModuleList([Shifted(D), Gated(D), GemmaRMSNorm(D), llama_norm()])
    keep_less(model)
    assert [isinstance(module, LeanNorm) for module in model] == [False, False, False, True]


def test_an_activation_with_weights_is_left_alone() -> None:
    layer = LlamaMLP(LLAMA)
    layer.act_fn = nn.PReLU()
    keep_less(layer)
    assert type(layer) is LlamaMLP


def test_a_second_time_changes_nothing_and_the_meta_device_is_left_alone() -> None:
    norm = llama_norm()
    keep_less(norm)
    kind = type(norm)
    keep_less(norm)
    assert type(norm) is kind and kind.__name__ == "LlamaRMSNorm"
    with torch.device("meta"):
        there = LlamaRMSNorm(D)
    keep_less(there)
    assert type(there) is LlamaRMSNorm


def kept_numbers(layer: nn.Module, inputs: torch.Tensor) -> int:
    """Count what the forward pass keeps for the backward pass, each storage once, weights and inputs aside."""
    inputs = inputs.clone().requires_grad_()
    given = {tensor.data_ptr() for tensor in (inputs, *layer.parameters())}
    storages: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.data_ptr()] = tensor.numel()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        outputs = layer(inputs)
    del outputs
    return sum(size for place, size in storages.items() if place not in given)
