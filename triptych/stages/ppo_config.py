"""Configuration of the stage that trains on rewards of its own samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from triptych.engine.settings import TrainingConfig
from triptych.errors import TriptychError
from triptych.objectives.rl_names import GroupScale, KlEstimator, TokenAverage

_POSITIVE = (
    "prompts_per_step", "num_samples", "max_new_tokens", "num_ppo_epochs", "batch_sequences", "kl_horizon",
    "cliprange", "cliprange_value", "score_clip", "kl_target", "kl_limit", "value_limit", "approx_kl_limit",
    "reward_scale", "temperature",
)  # fmt: skip
"""Settings that must be above 0 where they are set."""
_NOT_NEGATIVE = ("kl_coef", "vf_coef", "entropy_coef", "missing_eos_penalty", "length_penalty", "critic_lora_r")


@dataclass(kw_only=True)
class PpoConfig(TrainingConfig):
    """PPO, RLOO or GRPO on the rewards of sampled answers; the defaults are those of VLM-RLAIF (arXiv:2402.03746) where
    docs/ppo.md does not say why not."""

    learning_rate: float | Literal["mm1_law"] = 3e-5
    """Peak learning rate of AdamW."""
    warmup_ratio: float = 0.013
    """Share of the steps over which the learning rate rises linearly to its peak: 5 of 390."""
    per_device_train_batch_size: int = 8
    """Prompts, with all their answers, per micro-batch of an update."""
    gradient_accumulation_steps: int = 16
    """Micro-batches per update, over all GPUs together; the update does not depend on how it is cut."""
    logging_steps: int = 1
    """Steps between lines of metrics.jsonl; a step draws answers once and updates on them several times."""
    save_steps: int = 10
    """Steps between checkpoints; 0 saves none before the end."""

    model: str
    """Folder of the model to start from, which is also the reference."""
    reward_model: str
    """What rewards answers: folder of a reward model, or a function module:function of (text, group)."""
    data: str | list[str]
    """File of rows with prompts, or a list of such files; completions are passed over."""
    root: str = ""
    """Data root of the media paths; where empty, the folder of each file."""
    algorithm: Literal["ppo", "rloo", "grpo"] = "ppo"
    """ppo: a critic says what to expect. rloo, grpo: the other answers to the prompt say it."""

    prompts_per_step: int = 256
    """Prompts that are answered before the answers are trained on."""
    num_samples: int = 1
    """Answers per prompt; at least 2 for rloo and grpo."""
    max_new_tokens: int = 896
    """Most tokens of an answer."""
    temperature: float = 1.0
    """Divides the logits when answers are drawn, and in the probabilities of policy and reference: the policy that is
    trained is the one at this temperature."""
    batch_sequences: int = 256
    """Most answers drawn together; memory grows with it."""
    num_ppo_epochs: int = 2
    """Passes over the answers of a step, in updates of per_device_train_batch_size x gradient_accumulation_steps
    prompts."""

    kl_coef: float = 0.1
    """Price of a nat of divergence from the reference; at the start, where kl_target is set."""
    kl_estimator: KlEstimator | None = None
    """How the divergence that is paid for is estimated; where empty k1, and k3 for grpo. The paper: k1_clamped."""
    kl_target: float | None = None
    """Nats per answer that kl_coef is steered towards; where empty, kl_coef stays."""
    kl_horizon: int = 10_000
    """Answers over which kl_coef follows."""
    score_clip: float | None = None
    """Rewards are clipped to +- this first."""
    missing_eos_penalty: float = 0.0
    """Taken off where an answer was cut off at max_new_tokens. The paper: 8."""
    length_penalty: float = 0.0
    """Taken off an answer of max_new_tokens, in proportion off a shorter one. The paper: 10."""
    reward_scale: float = 1.0
    """Factor of all rewards. The paper: 10."""
    whiten_rewards: bool = False
    """Divide the rewards of tokens by their standard deviation."""

    gamma: float = 1.0
    """Discount (ppo)."""
    lam: float = 1.0
    """Lambda of generalized advantage estimation (ppo)."""
    whiten_advantages: bool = True
    """Bring the advantages of a step to mean 0 and standard deviation 1 (ppo)."""
    group_scale: GroupScale = "group"
    """grpo: divide by the standard deviation of a prompt's rewards; none: do not (Dr. GRPO)."""
    cliprange: float = 0.2
    """The ratio of new to old probability earns nothing beyond 1 +- this."""
    entropy_coef: float = 0.0
    """Weight of a bonus for the entropy of the policy at each token; of rloo for its sum over an answer."""
    average: TokenAverage = "token"
    """What a token weighs in an update: see docs/rlaif-objectives.md (ppo, grpo)."""

    vf_coef: float = 0.1
    """Weight of the critic's loss (ppo)."""
    cliprange_value: float | None = 0.2
    """Values earn nothing beyond the old ones +- this (ppo); empty: they are not clipped."""
    critic_base: Literal["auto", "reward", "policy"] = "auto"
    """Whose body the critic reads: the reward model's, as in the paper, or that of the model to start from; auto takes
    the reward model's where there is one."""
    critic_lora_r: int = 0
    """Rank of the critic's own adapters; 0: its body stands still and only its head is trained, at hardly any cost. The
    paper: 64."""

    critic: str = ""
    """File of a critic to go on with (ppo), the critic.safetensors of a run that arranged it alike; where empty, a new
    one."""

    kl_limit: float | None = 200.0
    """Training stops where answers are further from the reference, in nats per answer."""
    value_limit: float | None = 1000.0
    """Training stops where a value of the critic is larger."""
    approx_kl_limit: float | None = None
    """Training stops where an update has moved further since the answers were drawn, in nats per token."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = [self.data] if isinstance(self.data, str) else self.data
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TriptychError(f"{name} is {value}; it must be above 0.")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise TriptychError(f"{name} is {getattr(self, name)}; it must not be negative.")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise TriptychError(f"{name} is {getattr(self, name)}; it must lie in [0, 1].")
        if self.whiten_rewards and self.reward_scale != 1:
            raise TriptychError("whiten_rewards sets the scale of the rewards; leave reward_scale at 1.")
        self._check_choices()

    def _check_choices(self) -> None:
        if self.algorithm != "ppo" and self.num_samples < 2:
            raise TriptychError(
                f"{self.algorithm} compares the answers to a prompt with each other; set num_samples to 2 or more."
            )
        if self.algorithm != "ppo" and self.critic:
            raise TriptychError(f"{self.algorithm} has no critic; leave `critic` out.")
        if self.algorithm == "grpo" and self.kl_estimator in ("k1", "k1_clamped"):
            raise TriptychError(
                f"In grpo the divergence is a term of the loss, and {self.kl_estimator} has no gradient there that "
                "restrains the policy; choose k2 or k3."
            )
        if self.lora_dropout:
            raise TriptychError(
                "lora_dropout would make the policy another one than that which drew the answers; leave it at 0."
            )
        if self.cpu_offload:
            raise TriptychError(
                "Answers are drawn with the whole policy on every GPU, which is what cpu_offload would spare; leave it "
                "out. A policy that does not fit may do so with load_in_4bit."
            )

    @property
    def estimator(self) -> KlEstimator:
        """How the divergence that is paid for is estimated."""
        return self.kl_estimator or ("k3" if self.algorithm == "grpo" else "k1")
