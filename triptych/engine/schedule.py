"""Settings of the optimizer and the course of the learning rate; pure functions of numbers, without torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from triptych.errors import TriptychError


@dataclass
class OptimizerSettings:
    """How the parameters are updated. Names and defaults follow TRL and PyTorch unless said otherwise."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` orthogonalises the update of the matrices inside the blocks (Jordan et al. 2024); the rest takes AdamW."""
    learning_rate: float | Literal["mm1_law"] = 1e-4
    """Peak learning rate of AdamW. `mm1_law` takes the one MM1 fitted to the size of the language model."""
    muon_learning_rate: float = 0.02
    """Peak learning rate of Muon, in Jordan's convention: times sqrt(max(1, rows / columns)) for each matrix."""
    weight_decay: float = 0.0
    """Decoupled, in PyTorch's convention: each step takes the share `learning_rate * weight_decay` of a weight away.
    Where a paper decays by the schedule alone (Loshchilov and Hutter 2019, algorithm 2; AXLearn), its value divided by
    the peak learning rate goes here: MM1's 0.1 eta is 0.1. Norms, biases and embeddings are never decayed."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's running means of the gradient and of its square."""
    eps: float = 1e-8
    """Added to the denominator of AdamW."""
    momentum: float = 0.95
    """Nesterov momentum of Muon."""
    warmup_ratio: float = 0.03
    """Share of the steps over which the learning rate rises linearly to its peak."""
    lr_scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    """Course after the warm-up."""
    min_lr_ratio: float = 0.0
    """Where the learning rate ends, as a share of its peak. MM1 ends at 0.1."""
    max_grad_norm: float = 1.0
    """The gradient is scaled down to this norm where it is longer; 0 leaves it as it is."""
    module_learning_rates: dict[str, float] = field(default_factory=dict)
    """Multiplier of the learning rate for the parameters whose name matches a pattern (regular expression, searched
    anywhere in the name; the first match counts), such as `vision_tower: 0.1`."""

    def __post_init__(self) -> None:
        rates = {"muon_learning_rate": self.muon_learning_rate}
        rates |= {"learning_rate": self.learning_rate} if self.learning_rate != "mm1_law" else {}
        rates |= {f"module_learning_rates.{pattern}": rate for pattern, rate in self.module_learning_rates.items()}
        for name, rate in rates.items():
            if not (math.isfinite(rate) and rate > 0):
                raise TriptychError(f"`{name}` is {rate}; it must be positive. To freeze a part, do not train it.")
        for name in ("warmup_ratio", "min_lr_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise TriptychError(f"`{name}` is {getattr(self, name)}; it is a share between 0 and 1.")
        for name in ("weight_decay", "max_grad_norm"):
            if not getattr(self, name) >= 0:
                raise TriptychError(f"`{name}` is {getattr(self, name)}; it must not be negative.")
        for pattern in self.module_learning_rates:
            try:
                re.compile(pattern)
            except re.error as error:
                raise TriptychError(
                    f"`module_learning_rates`: {pattern!r} is no regular expression: {error}."
                ) from None


def learning_rate_at(step: int, total_steps: int, settings: OptimizerSettings) -> float:
    """Return the learning rate of an update as a share of its peak.

    The warm-up takes `w = ceil(warmup_ratio * total_steps)` updates, of which update i (from 0) has (i + 1) / w, so
    that none is spent at zero. After it the share falls from 1 at progress p = 0 towards `min_lr_ratio` at p = 1, where
    p = (step - w) / (total_steps - w): by (1 + cos(pi p)) / 2, linearly, or not at all.

    Args:
        step: 0-based number of the update.
        total_steps: number of updates in the whole run.
        settings: `warmup_ratio`, `lr_scheduler` and `min_lr_ratio` count here.

    Raises:
        ValueError: step is not in [0, total_steps).
    """
    if not 0 <= step < total_steps:
        raise ValueError(f"step {step} is not in [0, {total_steps})")
    warmup_steps = math.ceil(settings.warmup_ratio * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    fall = {"cosine": (1 + math.cos(math.pi * progress)) / 2, "linear": 1 - progress, "constant": 1.0}
    return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * fall[settings.lr_scheduler]


def law_learning_rate(num_parameters: int) -> float:
    """Return the peak learning rate MM1 found best for pre-training: exp(-0.4214 ln N - 0.5535).

    Fitted to grid searches at 9M, 85M, 302M and 1.2B parameters and 8-shot scores (McKinzie et al. 2024,
    arXiv:2403.09611, section 3.1); later work finds that the line bends at larger scale, so it is a starting point.

    Args:
        num_parameters: N, parameters of the language model without its embeddings.

    Raises:
        ValueError: num_parameters is not positive.
    """
    if num_parameters <= 0:
        raise ValueError(f"num_parameters is {num_parameters}; it must be positive")
    return math.exp(-0.4214 * math.log(num_parameters) - 0.5535)
