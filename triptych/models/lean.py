"""Norms and feed-forward layers that keep less for the backward pass; what they compute stays the same bits.

Root-mean-square norms of transformers keep their input twice, scaled and not; here it is kept once. A gated
feed-forward layer keeps four tensors as wide as its inner size, a plain one two to four; here they keep the two, or the
one, that come out of their first products and compute the rest again, which is element-wise work. Together that is
about a third of what a layer keeps.

Letters: B tokens (all leading dimensions), D hidden size, I inner size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from triptych.models.onednn import OneDnnLinear, linear, linear_gradients

_SAMPLE = 3
"""Tokens on which a layer is compared with the formula it is taken for."""


def keep_less(model: nn.Module) -> None:
    """Exchange the norms and feed-forward layers of a model whose formula is a common one.

    Modules, names and weights stay; `module.__class__` becomes a subclass with another `forward`. A class of layers is
    recognised by its attributes and by a comparison on a few random tokens, once per model and class.
    """
    known: dict[type, bool] = {}
    for module in model.modules():
        lean = _lean_class(module)
        if lean is None or isinstance(module, lean):
            continue
        kind = type(module)
        if kind not in known:
            known[kind] = lean.computes_the_same(module)
        if known[kind]:
            module.__class__ = _combined(lean, kind)


def lean_layers(model: nn.Module) -> list[str]:
    """Return the names of the layers that `keep_less` has exchanged."""
    return [name for name, module in model.named_modules() if isinstance(module, _LEAN)]


def keep_less_in(model: nn.Module, names: Sequence[str]) -> None:
    """Exchange layers of a model without weights, which cannot be compared: those that were in one with weights."""
    for name in names:
        module = model.get_submodule(name)
        if not isinstance(module, _LEAN):
            module.__class__ = _combined(_lean_class(module), type(module))


class LeanNorm:
    """Forward of `weight * x / sqrt(mean(x ** 2) + epsilon)` in float32 that keeps x and one number per token."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return _RMSNorm.apply(hidden_states, self.weight, self.variance_epsilon)

    @staticmethod
    def computes_the_same(module: nn.Module) -> bool:
        """Say whether a layer's own forward gives the same bits."""
        return _same_bits(module, LeanNorm.forward, module)


class LeanGatedLayer:
    """Forward of `down(act(gate(x)) * up(x))` that keeps gate and up; a `down` that is adapted keeps its input."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return _down(self.down_proj, self.act_fn, self.gate_proj(x), self.up_proj(x))

    @staticmethod
    def computes_the_same(module: nn.Module) -> bool:
        """Say whether a layer's own forward gives the same bits."""
        return _same_bits(module, LeanGatedLayer.forward, module.gate_proj)


class LeanPlainLayer:
    """Forward of `fc2(act(fc1(x)))` that keeps what `fc1` returns; an `fc2` that is adapted keeps its input."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return _down(self.fc2, self.activation_fn, self.fc1(hidden_states))

    @staticmethod
    def computes_the_same(module: nn.Module) -> bool:
        """Say whether a layer's own forward gives the same bits."""
        return _same_bits(module, LeanPlainLayer.forward, module.fc1)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = x.to(torch.float32)
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(x, weight, scale)
        normed = (wide * scale).to(x.dtype)
        return normed.mul_(weight) if weight.dtype == x.dtype else weight * normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        normed = x.to(torch.float32) * scale
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad_output * normed.to(x.dtype)).flatten(0, -2).sum(0).to(weight.dtype)
        grad_normed = (grad_output * weight).to(torch.float32)
        along = (grad_normed * normed).mean(-1, keepdim=True)
        return grad_normed.sub_(normed.mul_(along)).mul_(scale).to(x.dtype), grad_weight, None


def _down(layer: nn.Module, act: nn.Module, *inner: Tensor) -> Tensor:
    """Return layer(act(inner[0]) * inner[1]), or layer(act(inner[0])) without a second factor: (..., I) -> (..., D)."""
    plain = type(layer) in (nn.Linear, OneDnnLinear) and not layer._forward_hooks and not layer._forward_pre_hooks
    if plain and not torch.is_autocast_enabled(inner[0].device.type):
        return _ActivatedDown.apply(act, layer.weight, layer.bias, *inner)
    return layer(_Activated.apply(act, *inner))


def _activate(act: Callable[[Tensor], Tensor], first: Tensor, *second: Tensor) -> Tensor:
    activated = act(first)
    if not second:
        return activated
    in_place = not torch.is_grad_enabled() and activated is not first
    return activated.mul_(second[0]) if in_place else activated * second[0]


def _activate_again(act: nn.Module, inner: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Return leaves with the values of `inner`, and their activation with its graph."""
    with torch.enable_grad():
        leaves = [part.detach().requires_grad_() for part in inner]
        return leaves, _activate(act.forward, *leaves)  # hooks on the module have had their turn in the forward pass


class _Activated(torch.autograd.Function):
    """`_activate`, keeping what is activated."""

    @staticmethod
    def forward(ctx: Any, act: nn.Module, *inner: Tensor) -> Tensor:
        ctx.save_for_backward(*inner)
        ctx.act = act
        return _activate(act, *inner)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        leaves, activated = _activate_again(ctx.act, ctx.saved_tensors)
        return None, *torch.autograd.grad(activated, leaves, grad_output)


class _ActivatedDown(torch.autograd.Function):
    """A linear layer after `_activate`, keeping what is activated."""

    @staticmethod
    def forward(ctx: Any, act: nn.Module, weight: Tensor, bias: Tensor | None, *inner: Tensor) -> Tensor:
        ctx.save_for_backward(weight, *inner)
        ctx.act = act
        return linear(_activate(act, *inner).flatten(0, -2), weight, bias).view(*inner[0].shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        weight, *inner = ctx.saved_tensors
        leaves, activated = _activate_again(ctx.act, inner)
        rows = activated.detach().flatten(0, -2)
        _, of_weight, of_bias, *_ = ctx.needs_input_grad
        grad_rows, grad_weight, grad_bias = linear_gradients(
            grad_output.flatten(0, -2), rows, weight, of_rows=True, of_weight=of_weight, of_bias=of_bias
        )
        return None, grad_weight, grad_bias, *torch.autograd.grad(activated, leaves, grad_rows.view(activated.shape))


_LEAN = (LeanNorm, LeanGatedLayer, LeanPlainLayer)


def _lean_class(module: nn.Module) -> type[LeanNorm | LeanGatedLayer | LeanPlainLayer] | None:
    """Return what a layer may be exchanged for, by its attributes."""
    if _has_parts(module, "act_fn", "gate_proj", "up_proj", "down_proj"):
        return LeanGatedLayer
    if _has_parts(module, "activation_fn", "fc1", "fc2"):
        return LeanPlainLayer
    return LeanNorm if _is_norm(module) else None


def _is_norm(module: nn.Module) -> bool:
    weight, epsilon = (getattr(module, name, None) for name in ("weight", "variance_epsilon"))
    return isinstance(weight, Tensor) and weight.ndim == 1 and isinstance(epsilon, float) and _takes_one_tensor(module)


def _has_parts(module: nn.Module, *names: str) -> bool:
    """Say whether a layer has these modules, the first of them an activation without weights."""
    parts = [getattr(module, name, None) for name in names]
    known = all(isinstance(part, nn.Module) for part in parts) and _takes_one_tensor(module)
    return known and not any(True for _ in parts[0].parameters())


def _takes_one_tensor(module: nn.Module) -> bool:
    return len(inspect.signature(module.forward).parameters) == 1


@torch.no_grad()
def _same_bits(module: nn.Module, forward: Callable[[nn.Module, Tensor], Tensor], first: nn.Module) -> bool:
    """Compare a layer with another forward on a few random tokens; False on the meta device, which has no numbers.

    Args:
        first: the part that takes the input; the last dimension of its weight is D.
    """
    weight = first.weight
    if weight.device.type == "meta":
        return False
    size = getattr(first, "in_features", weight.shape[-1])
    dtype = weight.dtype if weight.dtype.is_floating_point else torch.float32
    sample = torch.randn(1, _SAMPLE, size, generator=torch.Generator().manual_seed(0)).to(weight.device, dtype)
    return torch.equal(module(sample), forward(module, sample))


@cache
def _combined(lean: type, kind: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass of a layer with the lean forward, under the layer's name."""
    return type(kind.__name__, (lean, kind), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
