"""Configurations of the training stages: typed, flat, and named as TRL names things.

The doc string under a field is its help text on the command line. Defaults come from the papers, which are named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from triptych.engine.settings import TrainingConfig
from triptych.errors import TriptychError
from triptych.objectives.names import CONVENTIONS, LOSSES, PARAMETERS


@dataclass(kw_only=True)
class Source:
    """One source of a mixture."""

    path: str
    """Rows, JSONL or Parquet."""
    weight: float = 1.0
    """Share of the mixture, relative to the other sources."""
    name: str = ""
    """Name in metrics; the file name where empty."""
    root: str = ""
    """Data root of the media paths; the folder of the rows where empty."""


@dataclass(kw_only=True)
class PretrainConfig(TrainingConfig):
    """Pre-training on documents (MM1): captions, synthetic captions, interleaved documents and text."""

    sources: list[Source]
    """The mixture. MM1's is 45 % captions, 45 % interleaved documents, 10 % text."""
    model: dict[str, Any] = field(default_factory=dict)
    """Configuration of a new MM1 model; see docs/stages.md. Leave out when init is given."""
    init: str = ""
    """Folder of a model to continue from, instead of a new one."""
    vocab_size: int = 512
    """Size of the tokenizer trained on the sources when a new model is built."""
    position_init: Literal["random", "sincos"] = "random"
    """How the position embeddings of a new model's vision encoder start: as its library draws them, or as sines and
    cosines of row and column at the scale of patches. Pooled tokens, such as those of videos, need the latter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model and self.init:
            raise TriptychError(
                "`model` describes a new model and `init` names one to continue from; give one of them."
            )
        if self.load_in_4bit and not self.init:
            raise TriptychError("load_in_4bit is for a model to continue from (`init`), not for a new one.")


@dataclass(kw_only=True)
class MpoConfig(TrainingConfig):
    """Preference optimisation; the defaults are MPO (arXiv:2411.10442, section 7)."""

    learning_rate: float | Literal["mm1_law"] = 5e-6
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    """Decoupled weight decay, in PyTorch's convention."""
    warmup_ratio: float = 0.05
    """Share of the steps over which the learning rate rises linearly to its peak."""

    model: str
    """Folder of the model to start from; frozen, it is the reference too."""
    data: str | list[str]
    """File of groups with pairs, or a list of such files."""
    root: str = ""
    """Data root of the media paths; where empty, the one `pairs` worked with, or the folder of each file."""
    loss_type: list[str] = field(default_factory=lambda: ["sigmoid", "bco_pair", "sft"])
    """Terms of the loss, under TRL's names: sigmoid (DPO), bco_pair (BCO), sft, ipo, ...; see docs/objectives.md."""
    loss_weights: list[float] = field(default_factory=lambda: [0.8, 0.2, 1.0])
    """One weight per term."""
    beta: float = 0.1
    """Strength of the pull towards the reference; simpo, orpo and ipo read it in their own sense."""
    tokens_per_step: int = 0
    """Steps of about so many packed tokens, texts of like length together, in place of a number of pairs; 0: pairs."""
    label_smoothing: float = 0.0
    """cdpo, robust, aot: probability that a pair is the wrong way round, below 0.5. exo_pair: its small constant."""
    simpo_gamma: float = 0.5
    """simpo: target margin of the rewards."""
    desirable_weight: float = 1.0
    """kto: weight of the chosen completions."""
    undesirable_weight: float = 1.0
    """kto: weight of the rejected completions."""
    discopop_tau: float = 0.05
    """discopop: temperature of the blend."""
    sft_average: Literal["answer", "token"] | None = None
    """sft and orpo: every answer weighs the same, or every token; empty does as the convention does (paper: answer)."""
    convention: Literal["paper", "trl", "internvl", "llamafactory"] = "paper"
    """Whose averages are taken where code departs from the papers; all but paper depend on how a step is cut."""
    reference: Literal["cached", "live"] = "cached"
    """Reference log-probabilities: computed before the first step and kept, or computed in every step."""
    reference_cache: str = ""
    """Folder of stored reference log-probabilities; .triptych beside the first data file where empty."""
    feature_cache: str = ""
    """Folder of stored features of a frozen vision tower; where empty they are kept in memory only."""
    sync_ref_model: bool = False
    """TR-DPO: move the reference towards the policy now and then; needs reference: live."""
    ref_model_sync_steps: int = 512
    """TR-DPO: optimiser steps between two moves."""
    ref_model_mixup_alpha: float = 0.6
    """TR-DPO: share of the policy in the moved reference."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = [self.data] if isinstance(self.data, str) else self.data
        if self.tokens_per_step < 0:
            raise TriptychError(f"tokens_per_step is {self.tokens_per_step}; it must not be negative.")
        self._check_losses()
        self._check_parameters()
        self._check_reference()
        if self.lora_dropout:
            raise TriptychError(
                f"lora_dropout is {self.lora_dropout}, but dropout is noise where a policy is compared with its "
                "reference, and all dropout of the model is off here. Set lora_dropout to 0."
            )

    def _check_losses(self) -> None:
        known = ", ".join(LOSSES)
        if not self.loss_type:
            raise TriptychError(f"loss_type is empty; name at least one of {known}.")
        if unknown := [name for name in self.loss_type if name not in LOSSES]:
            raise TriptychError(f"Unknown loss_type {', '.join(unknown)}; known are {known}.")
        if len(set(self.loss_type)) != len(self.loss_type):
            raise TriptychError(f"loss_type names a term twice: {', '.join(self.loss_type)}; add up its weights.")
        if len(self.loss_weights) != len(self.loss_type):
            raise TriptychError(
                f"loss_type names {len(self.loss_type)} term(s), loss_weights {len(self.loss_weights)}; give one each."
            )
        known_there = [name for name, kind in LOSSES.items() if self.convention in ("paper", *kind.peers)]
        if foreign := [name for name in self.loss_type if name not in known_there]:
            raise TriptychError(
                f"There is no {', '.join(foreign)} in the code that convention {self.convention} follows; it has "
                f"{', '.join(known_there)}. Use convention: paper."
            )
        if CONVENTIONS[self.convention].relative_weights and not self._preference_weight > 0:
            raise TriptychError(f"The weights of the preference terms add up to {self._preference_weight}.")

    def _check_parameters(self) -> None:
        if self.beta <= 0:
            raise TriptychError(f"beta is {self.beta}; it must be positive (the paper uses 0.1).")
        used = {name for loss in self.loss_type for name in LOSSES[loss].parameters}
        for name in PARAMETERS:
            readers = [loss for loss, kind in LOSSES.items() if name in kind.parameters]
            if name not in used and getattr(self, name) != type(self).__dataclass_fields__[name].default:
                hint = " cDPO is loss_type: [cdpo]." if name == "label_smoothing" else ""
                raise TriptychError(
                    f"{name} is read by {', '.join(readers)} only, which loss_type does not name.{hint}"
                )
        if not 0 <= self.label_smoothing < 0.5:
            raise TriptychError(f"label_smoothing is {self.label_smoothing}; it must be at least 0 and below 0.5.")
        if not self.label_smoothing and (plain := [name for name in self.loss_type if LOSSES[name].smoothed]):
            raise TriptychError(
                f"{', '.join(plain)} needs label_smoothing above 0 (0.1, or 0.001 for exo_pair); with 0 it is not the "
                "loss it is named for."
            )
        if self.discopop_tau <= 0:
            raise TriptychError(f"discopop_tau is {self.discopop_tau}; it must be positive (the paper uses 0.05).")
        if self.sft_average and {"sft", "orpo"}.isdisjoint(self.loss_type):
            raise TriptychError("sft_average is read by sft and orpo only, which loss_type does not name.")

    def _check_reference(self) -> None:
        if "kto" in self.loss_type and self.reference == "cached" and CONVENTIONS[self.convention].per_micro_batch:
            raise TriptychError(
                f"With convention {self.convention}, kto's mismatched pairs depend on how a step is cut, so their "
                "reference log-probabilities cannot be stored before. Set reference: live, or convention: paper."
            )
        if not self.sync_ref_model:
            return
        if self.reference != "live":
            raise TriptychError(
                "sync_ref_model moves the reference, so stored values would be stale. Set reference: live."
            )
        if self.lora_r:
            raise TriptychError("sync_ref_model mixes all weights of policy and reference; it does not go with lora_r.")
        if not any(LOSSES[name].reference for name in self.loss_type):
            raise TriptychError(f"sync_ref_model moves a reference that {', '.join(self.loss_type)} does not use.")
        if self.ref_model_sync_steps < 1 or not 0 < self.ref_model_mixup_alpha <= 1:
            raise TriptychError(
                "ref_model_sync_steps must be at least 1, and ref_model_mixup_alpha above 0 and at most 1."
            )

    @property
    def mix(self) -> dict[str, Any]:
        """Arguments of `Mix`, with the weights and averages of the convention."""
        convention = CONVENTIONS[self.convention]
        scale = 1 / self._preference_weight if convention.relative_weights else 1.0
        weights = zip(self.loss_type, self.loss_weights, strict=True)
        per_token = self.sft_average == "token" if self.sft_average else convention.sft_per_token
        return {
            "loss_type": tuple(self.loss_type),
            "loss_weights": tuple(weight * (1.0 if name == "sft" else scale) for name, weight in weights),
            "beta": self.beta,
            "sft_per_token": per_token,
        } | {name: getattr(self, name) for name in PARAMETERS}

    @property
    def _preference_weight(self) -> float:
        """Sum of the weights of all terms but sft; 1 where there is no other."""
        weights = zip(self.loss_type, self.loss_weights, strict=True)
        return sum(weight for name, weight in weights if name != "sft") if self.loss_type != ["sft"] else 1.0
