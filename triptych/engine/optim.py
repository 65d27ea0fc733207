"""Optimizers of a model: which parameter goes where, and what is done to learning rate and gradient at each step.

    settings = OptimizerSettings(optimizer="muon")
    optimizers = build_optimizers(model, settings)
    for step in range(total_steps):
        ...                                                     # forward and backward
        apply_learning_rate(optimizers, learning_rate_at(step, total_steps, settings))
        grad_norm = clip_gradients(model.parameters(), settings.max_grad_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

Muon is the recipe of Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/) as PyTorch has it. All of this
works on parameters that lie in shards over several ranks, too, and gives the same update.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Muon, Optimizer

from triptych.engine.schedule import OptimizerSettings, law_learning_rate, learning_rate_at
from triptych.engine.sharding import cut_like, whole
from triptych.errors import TriptychError

__all__ = [
    "OptimizerSettings",
    "apply_learning_rate",
    "build_optimizers",
    "clip_gradients",
    "current_learning_rate",
    "language_model_parameters",
    "law_learning_rate",
    "learning_rate_at",
]

# A weight or, in fused experts, a projection; tables of positions, query tokens and the like have other names.
_MATRIX_NAME = re.compile(r"weight|proj")


class ShardedMuon(Muon):
    """Muon on matrices in shards.

    The iteration that makes an update orthogonal needs the whole matrix, so one matrix after the other is put together,
    updated on every rank alike, and cut again. The update is that of one process to the last bit; its arithmetic is not
    shared among the ranks.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take one step; parameters without a gradient are passed over."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: DTensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        matrix = nn.Parameter(whole(parameter))
        matrix.grad = whole(parameter.grad)
        alone = Muon([{**group, "params": [matrix]}])
        if state:
            alone.state[matrix]["momentum_buffer"] = whole(state["momentum_buffer"])
        alone.step()
        parameter.copy_(cut_like(matrix, parameter))
        state["momentum_buffer"] = cut_like(alone.state[matrix]["momentum_buffer"], parameter)


@dataclass(frozen=True)
class _Kind:
    """What decides how a parameter is updated; parameters of one kind form one group."""

    muon: bool
    decayed: bool
    multiplier: float


def build_optimizers(model: nn.Module, settings: OptimizerSettings) -> list[Optimizer]:
    """Build the optimizers of all parameters that require a gradient.

    Muon takes the weight matrices inside blocks: two dimensions, below an `nn.ModuleList` (which is how Hugging Face
    models hold their layers), neither an embedding nor tied to one. AdamW takes everything else, and everything when
    `settings.optimizer` is "adamw". Norms, biases, embeddings and learned positions or queries are not decayed.

    Returns:
        [AdamW], [Muon] or [Muon, AdamW]. Each group has `initial_lr`, its peak learning rate, at which it starts.

    Raises:
        TriptychError: nothing is trainable, or a pattern of `module_learning_rates` matches no trainable parameter.
    """
    kinds = _sort_parameters(model, settings)
    peak = settings.learning_rate
    if peak == "mm1_law":
        peak = law_learning_rate(language_model_parameters(model))
    optimizers: list[Optimizer] = []
    if groups := _groups(kinds, settings.muon_learning_rate, settings.weight_decay, muon=True):
        sharded = any(isinstance(p, DTensor) for group in groups for p in group["params"])
        optimizers.append((ShardedMuon if sharded else Muon)(groups, momentum=settings.momentum))
    if groups := _groups(kinds, peak, settings.weight_decay, muon=False):
        # The fused kernel gives the same result as the loop over parameters, three times as fast on a CPU.
        fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
        optimizers.append(AdamW(groups, betas=tuple(settings.betas), eps=settings.eps, fused=fused))
    grouped = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert grouped == trainable, "the groups of the optimizers do not add up to the trainable parameters"
    return optimizers


def apply_learning_rate(optimizers: Iterable[Optimizer], share: float) -> None:
    """Set each group to `share` of its peak learning rate, `share` coming from `learning_rate_at`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share


def current_learning_rate(optimizers: Sequence[Optimizer]) -> float:
    """Return the learning rate of the last optimizer's first group: AdamW's where there is one. For the log."""
    return optimizers[-1].param_groups[0]["lr"]


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale the gradients of all parameters together so that their 2-norm is at most `max_norm`.

    Args:
        parameters: those without a gradient are passed over. All in shards, or none.
        max_norm: 0 leaves the gradients as they are.
    Returns:
        the norm before clipping; not finite where a gradient is not, in which case nothing is scaled.
    """
    parameters = [p for p in parameters if p.grad is not None]
    norm = whole(nn.utils.get_total_norm([p.grad for p in parameters]))
    if max_norm and norm.isfinite():
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm.item()


def language_model_parameters(model: nn.Module) -> int:
    """Return N of MM1's learning-rate law: the parameters of the language model without its embeddings."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    embedded = {id(module.weight) for module in decoder.modules() if isinstance(module, nn.Embedding)}
    return sum(p.numel() for p in decoder.parameters() if id(p) not in embedded)


def _sort_parameters(model: nn.Module, settings: OptimizerSettings) -> dict[_Kind, list[nn.Parameter]]:
    """Return the trainable parameters by kind, in the order of the model."""
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    stacks = tuple(
        f"{name}.".lstrip(".") for name, module in model.named_modules() if isinstance(module, nn.ModuleList)
    )
    unused = set(settings.module_learning_rates)
    kinds: dict[_Kind, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        own_name = name.rpartition(".")[2]
        is_matrix = parameter.ndim >= 2 and _MATRIX_NAME.search(own_name) is not None and "bias" not in own_name
        decayed = is_matrix and id(parameter) not in embedded
        muon = settings.optimizer == "muon" and decayed and parameter.ndim == 2 and name.startswith(stacks)
        pattern = next((p for p in settings.module_learning_rates if re.search(p, name)), None)
        unused.discard(pattern)
        kind = _Kind(muon, decayed, settings.module_learning_rates.get(pattern, 1.0))
        kinds.setdefault(kind, []).append(parameter)
    if not kinds:
        raise TriptychError("No parameter of the model requires a gradient, so there is nothing to train.")
    if unused:
        raise TriptychError(
            f"`module_learning_rates` has {sorted(unused)[0]!r}, which matches no trainable parameter. "
            f"The modules are {', '.join(sorted({name.split('.')[0] for name, _ in model.named_parameters()}))}, ..."
        )
    return kinds


def _groups(
    kinds: dict[_Kind, list[nn.Parameter]], peak: float, weight_decay: float, *, muon: bool
) -> list[dict[str, object]]:
    return [
        {
            "params": parameters,
            "lr": peak * kind.multiplier,
            "initial_lr": peak * kind.multiplier,
            "weight_decay": weight_decay if kind.decayed else 0.0,
        }
        for kind, parameters in kinds.items()
        if kind.muon == muon
    ]
