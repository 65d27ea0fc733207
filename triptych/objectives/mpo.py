"""Mixed Preference Optimization (arXiv:2411.10442): a weighted sum of preference, quality and generation losses.

With the paper's weights it is 0.8 DPO + 0.2 BCO + 1.0 SFT at beta 0.1. Any subset of `LOSSES` and any weights are
allowed: DPO, KTO or SFT on the chosen answers are mixes with one term.

Some losses couple the pairs of a step (a sort, a running mean, a mean over tokens). `step_loss` therefore takes the
log-probabilities of all pairs that are coupled, and differentiates the loss with respect to them alone. The stage then
carries that gradient on into the model, one micro-batch at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch

from triptych.objectives import pointwise, preference, reference_free, transport
from triptych.objectives.names import LOSSES
from triptych.objectives.preference import PairLogps


@dataclass(frozen=True)
class Mix:
    """A weighted sum of losses and the settings they read.

    Attributes:
        loss_type: names in `LOSSES`.
        loss_weights: one weight for each.
        beta: strength of the pull towards the reference; each loss's docstring says what it scales.
        sft_per_token: see `sft_loss`; used by `sft` and `orpo`.
        label_smoothing, simpo_gamma, desirable_weight, undesirable_weight, discopop_tau: see the losses that read them.
    """

    loss_type: tuple[str, ...]
    loss_weights: tuple[float, ...]
    beta: float = 0.1
    sft_per_token: bool = False
    label_smoothing: float = 0.0
    simpo_gamma: float = 0.5
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    discopop_tau: float = 0.05

    def __post_init__(self) -> None:
        if unknown := [name for name in self.loss_type if name not in LOSSES]:
            raise ValueError(f"unknown loss_type {', '.join(unknown)}; known are {', '.join(LOSSES)}")
        if len(self.loss_type) != len(self.loss_weights):
            raise ValueError(f"{len(self.loss_type)} losses need as many weights, got {len(self.loss_weights)}")

    @property
    def needs_reference(self) -> bool:
        """True where a term compares with the reference model."""
        return any(LOSSES[name].reference for name in self.loss_type)

    @property
    def needs_rejected(self) -> bool:
        """True where a term looks at the rejected completion."""
        return any(name != "sft" for name in self.loss_type)

    @property
    def couples_pairs(self) -> bool:
        """True where the loss of a pair depends on the other pairs of the step."""
        averaged = self.sft_per_token and not {"sft", "orpo"}.isdisjoint(self.loss_type)
        return averaged or any(LOSSES[name].coupled for name in self.loss_type)


@dataclass
class RewardShift:
    """The reward shift delta of BCO: cumulative mean of the implicit rewards, chosen and rejected alike.

    The released code of the paper updates it before use with the mean over the rewards of the present batch, each
    batch counting one, starting from nothing; it is a plain mean, not an exponential one. Here a batch is the whole
    optimiser step over all micro-batches and ranks, so that the shift does not depend on how the step is cut.

    Attributes:
        mean: present delta.
        count: batches seen.
    """

    mean: float = 0.0
    count: int = 0

    def update(self, mean_reward: float) -> float:
        """Take in one batch's mean reward and return the new delta."""
        self.count += 1
        self.mean += (mean_reward - self.mean) / self.count
        return self.mean


@dataclass(frozen=True)
class MixedLoss:
    """Result of `mixed_loss`.

    Attributes:
        loss: (P,) weighted sum per pair.
        terms: unweighted term per loss type, (P,), detached.
    """

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]


def mixed_loss(logps: PairLogps, mix: Mix, *, delta: float = 0.0, kl: float = 0.0) -> MixedLoss:
    """Weigh and add the terms of a mix.

    Args:
        logps: of all pairs that are coupled, see `Mix.couples_pairs`.
        delta: present reward shift, used by `bco_pair`.
        kl: z, used by `kto`.
    """
    total = torch.zeros_like(logps.chosen)
    terms = {}
    for name, weight in zip(mix.loss_type, mix.loss_weights, strict=True):
        term = _TERMS[name](logps, mix, delta, kl)
        total = total + weight * term
        terms[name] = term.detach()
    return MixedLoss(loss=total, terms=terms)


@dataclass(frozen=True)
class StepLoss:
    """The loss of some pairs as a linear function of the policy's log-probabilities: its value and gradient.

    Attributes:
        logps: where the loss was taken, detached.
        loss: (P,) each pair's share of the loss of the step.
        terms: unweighted and unshared term per loss type, (P,).
        chosen_slopes, rejected_slopes: (P,) derivative of the step's loss by each log-probability.
    """

    logps: PairLogps
    loss: torch.Tensor
    terms: dict[str, torch.Tensor]
    chosen_slopes: torch.Tensor
    rejected_slopes: torch.Tensor

    def rows(self, start: int, end: int) -> StepLoss:
        """Return the pairs from `start` up to `end`."""
        return StepLoss(
            logps=PairLogps(*(value[start:end] for value in vars(self.logps).values())),
            loss=self.loss[start:end],
            terms={name: value[start:end] for name, value in self.terms.items()},
            chosen_slopes=self.chosen_slopes[start:end],
            rejected_slopes=self.rejected_slopes[start:end],
        )

    def at(self, chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        """Return a scalar with the value of the loss and, for the policy behind the arguments, its gradient.

        Args:
            chosen, rejected: (P,) the same log-probabilities as `logps`, with the graph that leads to the policy.
        """
        change = self.chosen_slopes * (chosen - self.logps.chosen)
        change = change + self.rejected_slopes * (rejected - self.logps.rejected)
        return self.loss.sum() + change.sum()


def step_loss(logps: PairLogps, mix: Mix, *, share: float, delta: float = 0.0, kl: float = 0.0) -> StepLoss:
    """Take the loss of coupled pairs and its gradient with respect to their log-probabilities.

    Args:
        logps: of all pairs that are coupled; detached here.
        share: weight of each pair in the loss of the step, such as 1 / P.
        delta, kl: see `mixed_loss`.
    """
    fixed = PairLogps(*(value.detach() for value in vars(logps).values()))
    with torch.enable_grad():
        chosen, rejected = fixed.chosen.clone().requires_grad_(), fixed.rejected.clone().requires_grad_()
        mixed = mixed_loss(replace(fixed, chosen=chosen, rejected=rejected), mix, delta=delta, kl=kl)
        loss = share * mixed.loss
        slopes = torch.autograd.grad(loss.sum(), (chosen, rejected), materialize_grads=True, allow_unused=True)
    return StepLoss(fixed, loss.detach(), mixed.terms, *slopes)


def join_logps(parts: list[PairLogps]) -> PairLogps:
    """Return the pairs of all parts, in order."""
    return PairLogps(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(PairLogps)))


def start_value(name: str, mix: Mix) -> float | None:
    """Return a term where policy and reference agree and delta and z are 0; None where that depends on the policy."""
    beta, smoothing = mix.beta, mix.label_smoothing
    values = dict.fromkeys(("sigmoid", "cdpo", "robust", "sigmoid_norm", "aot", "aot_unpaired"), math.log(2))
    values |= dict.fromkeys(("bco_pair", "nca_pair"), 2 * math.log(2))
    values |= dict.fromkeys(("hinge", "apo_zero", "apo_down"), 1.0)
    values |= {"ipo": 1 / (4 * beta**2), "sppo_hard": 1 / (2 * beta**2), "discopop": (1 + math.log(2)) / 2}
    values |= {"kto": (mix.desirable_weight + mix.undesirable_weight) / 4}
    if smoothing:
        values["exo_pair"] = -math.log(4 * smoothing * (1 - smoothing)) / 2
    return values.get(name)


_TERMS: dict[str, Callable[[PairLogps, Mix, float, float], torch.Tensor]] = {
    "sigmoid": lambda logps, mix, delta, kl: preference.dpo_loss(logps, beta=mix.beta),
    "cdpo": lambda logps, mix, delta, kl: preference.cdpo_loss(
        logps, beta=mix.beta, label_smoothing=mix.label_smoothing
    ),
    "robust": lambda logps, mix, delta, kl: preference.robust_dpo_loss(
        logps, beta=mix.beta, label_smoothing=mix.label_smoothing
    ),
    "hinge": lambda logps, mix, delta, kl: preference.hinge_loss(logps, beta=mix.beta),
    "ipo": lambda logps, mix, delta, kl: preference.ipo_loss(logps, beta=mix.beta),
    "sigmoid_norm": lambda logps, mix, delta, kl: preference.dpo_norm_loss(logps, beta=mix.beta),
    "exo_pair": lambda logps, mix, delta, kl: preference.exo_loss(
        logps, beta=mix.beta, label_smoothing=mix.label_smoothing
    ),
    "discopop": lambda logps, mix, delta, kl: preference.discopop_loss(
        logps, beta=mix.beta, discopop_tau=mix.discopop_tau
    ),
    "bco_pair": lambda logps, mix, delta, kl: pointwise.bco_loss(logps, beta=mix.beta, delta=delta),
    "kto": lambda logps, mix, delta, kl: pointwise.kto_loss(
        logps,
        beta=mix.beta,
        kl=kl,
        desirable_weight=mix.desirable_weight,
        undesirable_weight=mix.undesirable_weight,
    ),
    "nca_pair": lambda logps, mix, delta, kl: pointwise.nca_loss(logps, beta=mix.beta),
    "sppo_hard": lambda logps, mix, delta, kl: pointwise.sppo_hard_loss(logps, beta=mix.beta),
    "apo_zero": lambda logps, mix, delta, kl: pointwise.apo_zero_loss(logps, beta=mix.beta),
    "apo_down": lambda logps, mix, delta, kl: pointwise.apo_down_loss(logps, beta=mix.beta),
    "aot": lambda logps, mix, delta, kl: transport.aot_loss(logps, beta=mix.beta, label_smoothing=mix.label_smoothing),
    "aot_unpaired": lambda logps, mix, delta, kl: transport.aot_unpaired_loss(
        logps, beta=mix.beta, label_smoothing=mix.label_smoothing
    ),
    "orpo": lambda logps, mix, delta, kl: reference_free.orpo_loss(logps, beta=mix.beta, per_token=mix.sft_per_token),
    "simpo": lambda logps, mix, delta, kl: reference_free.simpo_loss(logps, beta=mix.beta, simpo_gamma=mix.simpo_gamma),
    "sft": lambda logps, mix, delta, kl: reference_free.sft_loss(logps, per_token=mix.sft_per_token),
}
