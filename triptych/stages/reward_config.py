"""Configuration of the stage that trains reward models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from triptych.engine.settings import TrainingConfig
from triptych.errors import TriptychError
from triptych.objectives.rl_names import Centring


@dataclass(kw_only=True)
class RewardConfig(TrainingConfig):
    """Reward model from preference pairs; the defaults are those of VLM-RLAIF's released code (arXiv:2402.03746)."""

    learning_rate: float | Literal["mm1_law"] = 2e-5
    """Peak learning rate of AdamW."""
    lr_scheduler: Literal["cosine", "linear", "constant"] = "constant"
    """Course after the warm-up."""
    max_grad_norm: float = 0.3
    """The gradient is scaled down to this norm where it is longer; 0 leaves it as it is."""
    gradient_accumulation_steps: int = 2
    """Micro-batches per optimiser step, over all GPUs together; the update does not depend on how a step is cut."""

    model: str
    """Folder of the model to start from: one that generates, whose head is exchanged for a new one at zero, or a reward
    model."""
    data: str | list[str]
    """File of groups with pairs, or a list of such files."""
    root: str = ""
    """Data root of the media paths; where empty, the one `pairs` worked with, or the folder of each file."""
    max_pairs: int = 0
    """Train on the first pairs alone, of those that are not held out; 0 takes all."""
    balance_lengths: bool = False
    """Leave out pairs for training until the chosen answer is the longer one as often as the shorter one: a judge's
    habit of length is what a reward model learns first, and a policy exploits."""
    eval_share: float = 0.1
    """Share of the pictures and videos whose pairs are held out; which ones, their paths decide, not the seed."""
    eval_data: str | list[str] = field(default_factory=list)
    """Files of pairs to measure on, about other pictures and videos than data; eval_share is not used then."""
    eval_steps: int = 0
    """Steps between measurements on the held-out pairs, a multiple of logging_steps; 0 measures at the end alone."""
    center_rewards_coefficient: float = 1e-3
    """Weight of the term that keeps rewards near 0, where pairs alone would leave their level open."""
    centring: Centring = "square"
    """square: of (chosen + rejected)^2 of each pair. absolute: of |mean(chosen + rejected)| over a micro-batch, as in
    the released code; the update then depends on how a step is cut."""
    label_smoothing: float = 0.0
    """Probability that a pair is the wrong way round, below 0.5."""
    margin_scale: float = 0.0
    """Rewards of a pair are to differ by this times its margin (Llama 2, arXiv:2307.09288); 0 asks for no distance."""
    feature_cache: str = ""
    """Folder of stored features of a frozen vision tower; where empty they are kept in memory only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = [self.data] if isinstance(self.data, str) else self.data
        self.eval_data = [self.eval_data] if isinstance(self.eval_data, str) else self.eval_data
        if self.max_pairs < 0:
            raise TriptychError(f"max_pairs is {self.max_pairs}; it must not be negative.")
        if not 0 <= self.eval_share < 1:
            raise TriptychError(f"eval_share is {self.eval_share}; it must be at least 0 and below 1.")
        if self.eval_steps < 0 or self.eval_steps % self.logging_steps:
            raise TriptychError(
                f"eval_steps is {self.eval_steps}; it must be a multiple of logging_steps ({self.logging_steps}), for "
                "what is measured goes into the logged line of its step."
            )
        if self.eval_steps and not (self.eval_share or self.eval_data):
            raise TriptychError("eval_steps measures on held-out pairs; set eval_share, or name eval_data.")
        if not 0 <= self.label_smoothing < 0.5:
            raise TriptychError(f"label_smoothing is {self.label_smoothing}; it must be at least 0 and below 0.5.")
        for name in ("center_rewards_coefficient", "margin_scale"):
            if not getattr(self, name) >= 0:
                raise TriptychError(f"{name} is {getattr(self, name)}; it must not be negative.")
