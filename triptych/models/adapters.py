"""Which weights are trained: freezing by name, and LoRA adapters.

Adapters are injected in place (peft behind transformers), on plain or on 4-bit weights: the model keeps its class and
its attributes, so code that calls `model.model` or `model.lm_head` does not see them. The reference model of a
preference objective is then the same weights with the adapters off, `reference_mode`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedModel

from triptych.errors import TriptychError
from triptych.models.four_bit import is_four_bit, num_weights, plain_linear, write_out
from triptych.models.onednn import use_fast_products

if TYPE_CHECKING:  # peft takes 60 MB, and most runs have no adapters
    from peft.tuners.tuners_utils import BaseTunerLayer

_NO_DROPOUT = re.compile("dropout|drop_path|drop_prob|layerdrop")


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters that are trained and that are not; a tied weight counts once."""

    trainable: int
    frozen: int

    def __str__(self) -> str:
        share = self.trainable / max(self.trainable + self.frozen, 1)
        return f"{self.trainable:,} parameters are trained ({share:.2%}), {self.frozen:,} are frozen"


@dataclass
class LoraSettings:
    """Settings of LoRA (arXiv:2106.09685); names and defaults are TRL's."""

    lora_r: int = 16
    """Rank."""
    lora_alpha: int = 32
    """The update is scaled by lora_alpha / lora_r."""
    lora_dropout: float = 0.05
    lora_target_modules: Sequence[str] = ()
    """Patterns of module names, as for `freeze`; empty: all linear layers of the language model, without its head."""

    def __post_init__(self) -> None:
        if self.lora_r < 1 or self.lora_alpha <= 0 or not 0 <= self.lora_dropout < 1:
            raise TriptychError(
                "LoRA needs lora_r >= 1, lora_alpha > 0 and 0 <= lora_dropout < 1, not "
                f"{self.lora_r}, {self.lora_alpha} and {self.lora_dropout}."
            )


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count what is trained and what is frozen."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return ParameterCounts(trainable, sum(num_weights(parameter) for parameter in model.parameters()) - trainable)


def freeze(model: nn.Module, patterns: Sequence[str]) -> ParameterCounts:
    """Stop training every module whose name matches a pattern, with all it contains.

    Args:
        patterns: names or shell-style patterns, matched against the end of the dotted module name:
            `vision_tower`, `language_model.layers.0`, `layers.*.mlp`.
    Returns:
        the counts after freezing.
    Raises:
        TriptychError: a pattern matches no module with parameters.
    """
    for pattern in patterns:
        for _, module in _matching_modules(model, pattern):
            module.requires_grad_(False)
    return count_parameters(model)


def disable_dropout(model: nn.Module) -> None:
    """Set every probability of dropout and drop-path to zero: training and evaluation mode compute the same function.

    Preference objectives compare a policy with its reference; dropout would be noise in that comparison. Adapters that
    are there already lose theirs too; those added later have that of their settings.
    """
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        # Attention and drop-path in transformers keep their probability as a number of the module.
        for name, value in vars(module).items():
            if isinstance(value, float) and _NO_DROPOUT.search(name):
                setattr(module, name, 0.0)


def add_lora(model: PreTrainedModel, settings: LoraSettings) -> PreTrainedModel:
    """Add LoRA adapters in place and freeze all other weights; returns the same model.

    Experts of a mixture-of-experts model are one tensor per layer in transformers, not linear layers, and get none.

    Raises:
        TriptychError: the model already has adapters, or a pattern matches no linear layer.
    """
    from peft import LoraConfig

    if _adapter_layers(model):
        raise TriptychError("The model has adapters already. Merge them first: merge_adapters(model).")
    if settings.lora_target_modules:
        targets = [
            name
            for pattern in settings.lora_target_modules
            for name, _ in _matching_modules(model, pattern, kind=nn.Linear)
        ]
    else:
        decoder = model.get_decoder()
        prefix = next(name for name, module in model.named_modules() if module is decoder)
        targets = [f"{prefix}.{name}" for name, module in decoder.named_modules() if isinstance(module, nn.Linear)]
    model.add_adapter(
        LoraConfig(
            r=settings.lora_r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=sorted(set(targets)),
        )
    )
    for layer in _adapter_layers(model):
        use_fast_products(layer.lora_A)
        use_fast_products(layer.lora_B)
    return model


@contextmanager
def reference_mode(model: nn.Module) -> Iterator[None]:
    """Switch the adapters off: inside, the model is the one it was before they were trained.

    Raises:
        TriptychError: the model has no adapters.
    """
    layers = _adapter_layers(model)
    if not layers:
        raise TriptychError("The model has no adapters, so its reference must be a separate model.")
    active = [layer for layer in layers if not layer.disable_adapters]
    for layer in active:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in active:
            layer.enable_adapters(True)


def merge_adapters(model: PreTrainedModel) -> PreTrainedModel:
    """Add the updates of the adapters to the weights and remove the adapters, in place; returns the same model.

    The model can then be saved as usual. One without adapters is left as it is. Below adapters, 4-bit weights are
    written out before the update is added, for rounding the sum to 4 bits again would lose most of what was learnt; the
    whole model is plain afterwards, and on the CPU, since it may not fit where it was trained.

    Raises:
        TriptychError: merging gives weights that are not finite.
    """
    layers = [(name, module) for name, module in model.named_modules() if _is_adapted(module)]
    if not layers:
        return model
    quantised = any(is_four_bit(module.get_base_layer()) for _, module in layers)
    for name, module in layers:
        try:
            model.set_submodule(name, _merged(module))
        except ValueError as error:
            raise TriptychError(f"Cannot merge the adapter of {name}: {error}") from error
    del model.peft_config
    model._hf_peft_config_loaded = False  # as transformers does when the last adapter is deleted
    return write_out(model) if quantised else model


def _merged(module: BaseTunerLayer) -> nn.Module:
    base = module.get_base_layer()
    if not is_four_bit(base):
        module.merge(safe_merge=True)
        return base
    plain = plain_linear(base)
    for adapter in module.active_adapters:
        plain.weight.data += module.get_delta_weight(adapter).detach().to(plain.weight)
    if not plain.weight.isfinite().all():
        raise ValueError(f"the adapter {adapter} gives weights that are not finite")
    return plain


def _adapter_layers(model: nn.Module) -> list[BaseTunerLayer]:
    return [module for module in model.modules() if _is_adapted(module)]


def _is_adapted(module: nn.Module) -> bool:
    return hasattr(module, "get_base_layer")


def _matching_modules(model: nn.Module, pattern: str, kind: type[nn.Module] = nn.Module) -> list[tuple[str, nn.Module]]:
    matches = [
        (name, module)
        for name, module in model.named_modules()
        if name
        and isinstance(module, kind)
        and (fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}"))
        and next(module.parameters(), None) is not None
    ]
    if not matches:
        names = ", ".join(name for name, _ in model.named_modules() if name.count(".") in (0, 1) and name)
        what = "module with parameters" if kind is nn.Module else f"{kind.__name__} layer"
        raise TriptychError(f"The pattern {pattern!r} matches no {what}. The model has, among others: {names}.")
    return matches
