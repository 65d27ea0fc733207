"""One model over several ranks: FSDP2 (`fully_shard`) around every layer and around what is left.

Each rank holds a slice of every parameter, of its gradient and of its optimizer state. A layer is put together right
before it runs and taken apart after it; what lies outside of the layers (embeddings, head, norms, connector) forms one
unit with the root, whole from the start of a forward until the end of its backward.

The engine does not call `model(...)`: it calls the body, the vision tower and the head one by one, and reads the
weight of the head. So the root's unit is opened around a whole function, `call_sharded(model, function, ...)`, inside
which every weight that the function touches is an ordinary tensor. Where the ranks cannot go through the layers side by
side, as when each draws answers of its own, `call_whole` has the whole model put together for as long as that takes.

Gradients are summed over ranks, not averaged: each rank divides its loss by the number of items of the whole step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from triptych.engine.distributed import any_rank, is_main, on_main, world_size
from triptych.engine.encode import Encoder
from triptych.engine.stand_in import StandIn
from triptych.models.lean import keep_less_in, lean_layers
from triptych.models.reward import RewardModel

Result = TypeVar("Result")

_ENTRY, _SHARDS = "_call_with_whole_weights", "_shards"


@dataclass
class _Shards:
    """What a model in shards belongs to.

    Attributes:
        root: the model itself, or the module that holds it and the others on its body.
        heads: scalar heads that are units of their own; open with the root.
        stand_in: joins in the passes of other ranks.
        is_open: inside of a call, where the root's unit is put together.
    """

    root: nn.Module
    heads: list[FSDPModule]
    stand_in: StandIn
    is_open: bool = False


class _OnOneBody(nn.Module):
    """Holds models that share a body, for what they have of their own to lie in one unit."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)


def shard(
    model: nn.Module,
    encoder: Encoder,
    *,
    beside: Sequence[nn.Module] = (),
    bf16: bool = False,
    cpu_offload: bool = False,
) -> None:
    """Spread a model over the ranks, in place.

    Every rank comes with the same weights, or rank 0 with all of them and the others with none (`loading_device`).
    Quantised weights (integers, frozen) stay whole on every rank.

    Args:
        model: a model of transformers, frozen where it is to be, with its adapters.
        encoder: of the model; makes what a rank without pictures computes in their place, see `StandIn`.
        beside: models with heads of their own on the body of the model, such as a critic on a reward model. They are
            spread with it, and whichever of them is called, the heads of all are within reach.
        bf16: gather weights and compute in bfloat16, but for scalar heads; gradients are added up and weights kept in
            float32.
        cpu_offload: keep slices of parameters, gradients and optimizer states in main memory; the optimizer runs there.
    """
    root = _OnOneBody([model, *beside]) if beside else model
    from_main = any_rank(any(parameter.is_meta for parameter in root.parameters()))
    weights = {name: parameter.detach() for name, parameter in root.named_parameters()} if from_main else {}
    if from_main:
        keep_less_in(root, on_main(lambda: lean_layers(root)))
    settings = _settings(root, cpu_offload)
    heads = [item.score for item in (model, *beside) if bf16 and isinstance(item, RewardModel)]
    for head in heads:
        fully_shard(head, mp_policy=_precision(None), **settings)
    for unit in [*dict.fromkeys(_layers(root)), root]:
        fully_shard(unit, mp_policy=_precision(torch.bfloat16 if bf16 else None), **settings)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction than the sum
    if from_main:
        _send_weights(root, weights, cpu_offload=cpu_offload)
    setattr(root, _ENTRY, lambda function: function())
    register_fsdp_forward_method(root, _ENTRY)
    shards = _Shards(root, heads, StandIn(model, encoder))
    for item in (model, *beside):
        setattr(item, _SHARDS, shards)


def _settings(root: nn.Module, cpu_offload: bool) -> dict[str, Any]:
    """Return the arguments of `fully_shard` that all units of a model share."""
    on_gpu = torch.cuda.is_available()
    return {
        "mesh": init_device_mesh("cuda" if on_gpu else "cpu", (world_size(),)),
        "offload_policy": CPUOffloadPolicy(pin_memory=on_gpu) if cpu_offload else OffloadPolicy(),
        "ignored_params": {parameter for parameter in root.parameters() if not parameter.is_floating_point()},
    }


def _precision(dtype: torch.dtype | None) -> MixedPrecisionPolicy:
    """Gather weights in a precision, and leave the casts inside a layer to autocast, as in one process."""
    return MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)


def is_sharded(model: nn.Module) -> bool:
    """Tell whether `shard` has spread the model over ranks."""
    return hasattr(model, _SHARDS)


def call_sharded(model: nn.Module, function: Callable[..., Result], *args: Any) -> Result:
    """Call `function(*args)` with the weights of `model` within reach; the gradient of what it returns finds its way.

    All ranks call it alike: the layers that run, and their order, must be the same. A model in one piece needs none of
    this, nor does one inside of such a call, and the function is just called.
    """
    shards = getattr(model, _SHARDS, None)
    if shards is None or shards.is_open:
        return function(*args)
    results: list[Result] = []

    def run() -> list[Tensor]:
        shards.is_open = True
        for head in shards.heads:
            head.unshard()
        try:
            results.append(function(*args))
        finally:
            shards.is_open = False
        # Of a view the tensor it looks at: the hooks that FSDP sets do not survive changes of a view in place.
        return [
            tensor._base if tensor._is_view() else tensor for tensor in _tensors(results[0]) if tensor.requires_grad
        ]

    if not getattr(shards.root, _ENTRY)(run):
        for unit in (shards.root, *shards.heads):  # which else the backward takes apart
            unit.reshard()
    return results[0]


@torch.no_grad()
def call_whole(model: nn.Module, function: Callable[..., Result], *args: Any) -> Result:
    """Call `function(*args)`, without gradients, while every rank holds the whole of `model` in its memory.

    The ranks enter and leave together. In between each may go through the layers as often as it likes, and in any
    order. What it costs is the memory of the weights, in the precision that they are computed in, and to gather them
    once; to draw answers from a model in slices would mean to gather them for every token.
    """
    if not is_sharded(model):
        return function(*args)

    def run() -> Result:
        with _together(getattr(model, _SHARDS)):
            return function(*args)

    return call_sharded(model, run)


@contextmanager
def _together(shards: _Shards) -> Iterator[None]:
    """Keep all units below an open root put together, and the ranks from waiting for each other's pictures."""
    layers = [item for item in shards.root.modules() if isinstance(item, FSDPModule) and item is not shards.root]
    for layer in layers:
        layer.set_reshard_after_forward(False, recurse=False)
        layer.unshard()
    shards.stand_in.active = False
    try:
        yield
    finally:
        shards.stand_in.active = True
        for layer in layers:
            layer.set_reshard_after_forward(True, recurse=False)
            layer.reshard()


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor in one piece; of a sharded one all ranks must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, sharded: Tensor) -> Tensor:
    """Return this rank's slice of a tensor that all ranks hold, cut as `sharded` is; the tensor where that is whole."""
    if not isinstance(sharded, DTensor):
        return tensor
    return distribute_tensor(tensor, sharded.device_mesh, sharded.placements, src_data_rank=None)


def unshard_on_main(model: nn.Module) -> None:
    """Put the model together on rank 0, in main memory, and end its sharding; on other ranks it is of no use then."""
    pieces: dict[nn.Parameter, nn.Parameter | None] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not isinstance(parameter, DTensor):
                continue
            if parameter not in pieces:  # a tied one has two names
                full = parameter.detach().full_tensor()
                kept = nn.Parameter(full.cpu(), requires_grad=parameter.requires_grad) if is_main() else None
                pieces[parameter] = kept
            setattr(module, name, pieces[parameter])
        if isinstance(module, FSDPModule):
            module.__class__ = type(module).__bases__[1]  # `fully_shard` derived a class named FSDP...
    delattr(model, _SHARDS)


@torch.no_grad()
def _send_weights(model: nn.Module, weights: Mapping[str, Tensor], *, cpu_offload: bool) -> None:
    """Give every rank its slices of the weights, and the buffers, that rank 0 has read.

    Args:
        weights: by name, whole; those of rank 0 count.
    """
    device = _mesh_device()
    if not is_main():
        model.to_empty(device="cpu" if cpu_offload else device)
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            module._buffers[name] = buffer.to(device)  # offloading is for parameters only
            dist.broadcast(module._buffers[name], src=0)
    for name, parameter in model.named_parameters():
        whole_weight = weights[name].to(device) if is_main() else torch.empty_like(weights[name], device=device)
        if isinstance(parameter, DTensor):
            own = distribute_tensor(whole_weight, parameter.device_mesh, parameter.placements, src_data_rank=0)
            parameter.to_local().copy_(own.to_local())


def _mesh_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost layers of transformers: decoder layers, and blocks of the vision tower."""
    for child in model.children():
        if isinstance(child, GradientCheckpointingLayer):
            yield child
        else:
            yield from _layers(child)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in records, mappings and sequences."""
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        yield from _tensors(vars(value))
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
