"""Names of the loss terms and of the conventions, apart from their mathematics so that configurations load without
torch.

`LOSSES` says of each loss what it needs; `CONVENTIONS` says how a peer's code departs from the papers. The formulas
are in `docs/objectives.md`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LossKind:
    """What one loss needs, and who has it.

    Attributes:
        metric: name of its mean in the metrics.
        reference: it compares the policy with the reference model.
        coupled: the loss of a pair depends on the other pairs of the step.
        parameters: settings it reads beside beta.
        smoothed: it is another loss where label_smoothing is 0.
        peers: conventions beside `paper` whose code has it.
    """

    metric: str
    reference: bool = True
    coupled: bool = False
    parameters: tuple[str, ...] = ()
    smoothed: bool = False
    peers: tuple[str, ...] = ("trl", "internvl")


@dataclass(frozen=True)
class Convention:
    """How a code base averages and couples the pairs of a step.

    Attributes:
        per_micro_batch: pairs are coupled and averaged within a micro-batch; a step is the mean of its micro-batches.
        sft_per_token: the generation loss is averaged over tokens, not over answers.
        shifted: `bco_pair` subtracts the reward shift delta.
        relative_weights: the weights of the preference terms are divided by their sum.
    """

    per_micro_batch: bool = False
    sft_per_token: bool = False
    shifted: bool = True
    relative_weights: bool = False


_ALL = ("trl", "internvl", "llamafactory")
_SMOOTHING = ("label_smoothing",)

LOSSES = {
    "sigmoid": LossKind("mpo/dpo", peers=_ALL),
    "cdpo": LossKind("mpo/cdpo", parameters=_SMOOTHING, smoothed=True, peers=("internvl", "llamafactory")),
    "robust": LossKind("mpo/robust", parameters=_SMOOTHING, smoothed=True),
    "hinge": LossKind("mpo/hinge", peers=_ALL),
    "ipo": LossKind("mpo/ipo", peers=_ALL),
    "sigmoid_norm": LossKind("mpo/dpo_norm", peers=("trl",)),
    "exo_pair": LossKind("mpo/exo", parameters=_SMOOTHING, smoothed=True),
    "discopop": LossKind("mpo/discopop", parameters=("discopop_tau",), peers=("trl",)),
    "bco_pair": LossKind("mpo/bco", coupled=True, peers=_ALL),
    "kto": LossKind(
        "mpo/kto", coupled=True, parameters=("desirable_weight", "undesirable_weight"), peers=("trl", "llamafactory")
    ),
    "nca_pair": LossKind("mpo/nca"),
    "sppo_hard": LossKind("mpo/sppo"),
    "apo_zero": LossKind("mpo/apo_zero"),
    "apo_down": LossKind("mpo/apo_down"),
    "aot": LossKind("mpo/aot", coupled=True, parameters=_SMOOTHING),
    "aot_unpaired": LossKind("mpo/aot_unpaired", coupled=True, parameters=_SMOOTHING),
    "orpo": LossKind("mpo/orpo", reference=False, peers=("llamafactory",)),
    "simpo": LossKind("mpo/simpo", reference=False, parameters=("simpo_gamma",), peers=("trl", "llamafactory")),
    "sft": LossKind("mpo/sft", reference=False, peers=_ALL),
}
"""Every loss by its name in `loss_type`; TRL's names where TRL has them."""

CONVENTIONS = {
    "paper": Convention(),
    "trl": Convention(per_micro_batch=True, sft_per_token=True, shifted=False),
    "internvl": Convention(per_micro_batch=True, sft_per_token=True),
    "llamafactory": Convention(per_micro_batch=True, relative_weights=True),
}
"""TRL 1.16; OpenGVLab/InternVL at 2410d1d with TRL 0.10.1; hiyouga/LLaMA-Factory at ff6d4d1."""

PARAMETERS = ("label_smoothing", "simpo_gamma", "desirable_weight", "undesirable_weight", "discopop_tau")
"""Settings that only some losses read."""
