"""Float32 products through oneDNN on CPUs where PyTorch's default is slow.

PyTorch hands float32 products to MKL. On a processor that is not Intel's, MKL stays with its AVX2 kernels also where
there is AVX-512; oneDNN, which comes with PyTorch too, goes by the instruction set. On a core of an AMD EPYC with full
AVX-512 large products run at 225 instead of 100 GFLOP/s. Results differ by rounding.

Letters: B rows of the input (all leading dimensions), I input features, O output features.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WORTHWHILE_PRODUCTS = 2**21
"""Multiplications from which oneDNN is faster in spite of its cost per call, about 15 microseconds."""


def use_fast_products(model: nn.Module) -> None:
    """Have the plain linear layers of a model compute through oneDNN, where that is faster on this CPU.

    Weights, names and gradients stay as they are. Quantised and other special layers are left alone.
    """
    if not onednn_is_faster():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDnnLinear


@cache
def onednn_is_faster() -> bool:
    """Say whether this is a CPU with AVX-512 that is not Intel's, and PyTorch has MKL and oneDNN. Decided by kind, not
    by timing, so that every run on a machine computes alike."""
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "GenuineIntel" not in cpu_description()
    )


def cpu_description() -> str:
    """Return what the operating system says of the processor, its vendor included."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text() if cpuinfo.exists() else platform.processor()


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return rows weight^T + bias, (B, O), without autograd; through oneDNN where that is faster.

    Args:
        rows: (B, I); like `weight` contiguous or the transpose of a contiguous matrix, others are slow.
        weight: (O, I).
        bias: (O,).
    """
    if goes_through_onednn(rows, weight):
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return nn.functional.linear(rows, weight, bias)


def linear_gradients(
    grad_output: Tensor, rows: Tensor | None, weight: Tensor, *, of_rows: bool, of_weight: bool, of_bias: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of `linear` by rows (B, I), weight (O, I) and bias (O,), those that are asked for.

    Args:
        grad_output: (B, O).
        rows: needed for the gradient of the weight.
    """
    grad_output = grad_output.contiguous()
    return (
        linear(grad_output, weight.t()) if of_rows else None,
        linear(grad_output.t(), rows.t()) if of_weight else None,
        grad_output.sum(0) if of_bias else None,
    )


def goes_through_onednn(rows: Tensor, weight: Tensor) -> bool:
    """Say whether a product (..., I) x (O, I) is large, of plain float32 on the CPU, and oneDNN is faster here."""
    return (
        rows.numel() * weight.shape[0] >= WORTHWHILE_PRODUCTS
        and rows.dtype == weight.dtype == torch.float32
        and rows.device.type == "cpu"
        and onednn_is_faster()
    )


class OneDnnLinear(nn.Linear):
    """A linear layer that takes oneDNN for large float32 inputs on the CPU, outside autocast."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        if torch.is_autocast_enabled("cpu") or not goes_through_onednn(input, self.weight):
            return super().forward(input)
        return _Linear.apply(input, self.weight, self.bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = input.reshape(-1, input.shape[-1])
        ctx.save_for_backward(rows, weight)
        ctx.input_shape = input.shape
        return linear(rows, weight, bias).view(*input.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        grad_rows, *others = linear_gradients(
            grad_output.flatten(0, -2), rows, weight, of_rows=of_rows, of_weight=of_weight, of_bias=of_bias
        )
        return grad_rows if grad_rows is None else grad_rows.view(ctx.input_shape), *others
