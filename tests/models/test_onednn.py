"""Linear layers through oneDNN against PyTorch's own."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from triptych.models import onednn
from triptych.models.onednn import OneDnnLinear, cpu_description, onednn_is_faster, use_fast_products

SHAPE, INPUTS, OUTPUTS = (3, 70), 96, 160

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is without oneDNN")


@pytest.fixture(autouse=True)
def faster_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(onednn, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(onednn, "WORTHWHILE_PRODUCTS", 2**16)
    yield


def layers(*, bias: bool) -> tuple[nn.Linear, nn.Linear]:
    """The same layer as PyTorch has it and through oneDNN."""
    torch.manual_seed(0)
    own = nn.Linear(INPUTS, OUTPUTS, bias=bias)
    other = copy.deepcopy(own)
    use_fast_products(other)
    assert type(own) is nn.Linear and type(other) is OneDnnLinear
    return own, other


def values_and_gradients(layer: nn.Linear, inputs: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    inputs = inputs.clone().requires_grad_()
    outputs = layer(inputs)
    (outputs * weights).sum().backward()
    return [outputs, inputs.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_those_of_pytorch(bias: bool) -> None:
    own, other = layers(bias=bias)
    inputs, weights = torch.randn(*SHAPE, INPUTS), torch.randn(OUTPUTS, *SHAPE).permute(1, 2, 0)
    expected, found = (values_and_gradients(layer, inputs, weights) for layer in (own, other))
    assert len(found) == 3 + bias
    for value, other_value in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other_value, rtol=1e-5, atol=5e-5)


def test_large_products_and_no_others_go_through_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    _, layer = layers(bias=True)
    calls = []
    original = onednn._Linear.apply
    monkeypatch.setattr(onednn._Linear, "apply", lambda *args: calls.append(args[0].shape) or original(*args))
    rows_needed = -(-(2**16) // (INPUTS * OUTPUTS))
    layer(torch.randn(rows_needed, INPUTS))
    assert len(calls) == 1
    layer(torch.randn(rows_needed - 1, INPUTS))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(*SHAPE, INPUTS)).dtype == torch.bfloat16
    layer.double()(torch.randn(*SHAPE, INPUTS, dtype=torch.float64))
    assert len(calls) == 1


def test_frozen_weights_get_no_gradient_and_pass_it_on() -> None:
    own, other = (layer.requires_grad_(False) for layer in layers(bias=True))
    inputs = torch.randn(*SHAPE, INPUTS)
    expected, found = (values_and_gradients(layer, inputs, torch.ones(())) for layer in (own, other))
    assert found[2:] == [None, None]
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=5e-5)


def test_special_linear_layers_are_left_alone() -> None:
    class Quantised(nn.Linear):
        pass

    model = nn.ModuleList([Quantised(4, 4), nn.Linear(4, 4)])
    use_fast_products(model)
    assert [type(layer) for layer in model] == [Quantised, OneDnnLinear]
    assert list(model.state_dict()) == list(nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]).state_dict())


@pytest.mark.parametrize(
    ("capability", "cpu", "faster"),
    [
        ("AVX512", "vendor_id : AuthenticAMD", True),
        ("AVX512", "vendor_id : GenuineIntel", False),
        ("AVX2", "vendor_id : AuthenticAMD", False),
        ("DEFAULT", "", False),
    ],
)
def test_it_is_faster_with_avx512_on_processors_that_are_not_intels(
    monkeypatch: pytest.MonkeyPatch, capability: str, cpu: str, faster: bool
) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(onednn, "cpu_description", lambda: cpu)
    assert onednn_is_faster.__wrapped__() == faster


def test_the_description_of_the_processor_is_a_text() -> None:
    assert isinstance(cpu_description(), str)
