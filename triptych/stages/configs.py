"""Configuration of every stage: typed, flat, and named as TRL names things.

The doc string under a field is its help text on the command line. Defaults come from the papers, which are named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from triptych.engine.settings import TrainingConfig
from triptych.errors import TriptychError
from triptych.objectives.names import LOSS_TYPES


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model and self.init:
            raise TriptychError(
                "`model` describes a new model and `init` names one to continue from; give one of them."
            )


@dataclass(kw_only=True)
class SftConfig(TrainingConfig):
    """Supervised fine-tuning: imitates every completion of its rows."""

    model: str
    """Folder of the model to start from."""
    sources: list[Source]
    """The mixture of demonstrations."""


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
    """Terms of the loss: sigmoid (DPO), bco_pair (BCO with reward shift), sft (on the chosen completion)."""
    loss_weights: list[float] = field(default_factory=lambda: [0.8, 0.2, 1.0])
    """One weight per term."""
    beta: float = 0.1
    """Strength of the pull towards the reference."""
    reference_cache: str = ""
    """Folder of stored reference log-probabilities; .triptych beside the first data file where empty."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = [self.data] if isinstance(self.data, str) else self.data
        if not self.loss_type:
            raise TriptychError(f"loss_type is empty; name at least one of {', '.join(LOSS_TYPES)}.")
        if unknown := [name for name in self.loss_type if name not in LOSS_TYPES]:
            raise TriptychError(f"Unknown loss_type {', '.join(unknown)}; known are {', '.join(LOSS_TYPES)}.")
        if len(self.loss_weights) != len(self.loss_type):
            raise TriptychError(
                f"loss_type names {len(self.loss_type)} term(s), loss_weights {len(self.loss_weights)}; give one each."
            )
        if self.beta <= 0:
            raise TriptychError(f"beta is {self.beta}; it must be positive (the paper uses 0.1).")


@dataclass(kw_only=True)
class PairsConfig:
    """Makes preference pairs without annotators."""

    method: Literal["correctness", "dropout_ntp"]
    """correctness: samples checked against the answer of each row; dropout_ntp: second half re-told without media."""
    model: str
    """Folder of the model that answers."""
    data: str
    """Rows with prompts, and answers where the method is correctness."""
    out: str
    """Run directory; pairs.jsonl is the result."""
    root: str = ""
    """Data root of the media paths; the folder of the rows where empty."""
    num_samples: int = 32
    """Answers drawn per prompt (MPO: up to 32). dropout_ntp uses completions already in the row instead, if any."""
    temperature: float = 1.0
    """Of the answers; for dropout_ntp of the chosen ones."""
    continuation_temperature: float = 1.0
    """Of the continuations without media."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of tokens that reaches this probability."""
    max_new_tokens: int = 256
    """Most tokens of an answer."""
    max_pairs: int = 15
    """Most pairs with a wrong answer per prompt (MPO: 15)."""
    max_format_pairs: int = 3
    """Most pairs per prompt whose rejected answer could not be parsed."""
    keep_ratio: float = 0.5
    """Share of the chosen answer's tokens kept before the media are dropped (MPO: 0.5)."""
    answer_style: Literal["final_answer", "boxed", "direct"] = "final_answer"
    """How an answer is marked in the text."""
    answer_kind: Literal["auto", "number", "choice", "yes_no", "text", "list", "expression"] = "auto"
    """What an answer is; auto infers it from each truth."""
    cot_prompt: Literal["", "plain", "knowledge", "visual", "grounded"] = ""
    """Wrap questions in this chain-of-thought instruction; empty leaves the prompts as they are."""
    seed: int = 0
    """Seed of every sample."""
    block_size: int = 512
    """Prompts sampled and stored at once; a job resumes at a block."""
    batch_sequences: int = 256
    """Sequences decoded together."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the model."""

    def __post_init__(self) -> None:
        _check_at_least(1, self, "num_samples", "block_size", "batch_sequences")
        _check_at_least(0, self, "max_pairs", "max_format_pairs")


@dataclass(kw_only=True)
class Task:
    """One measurement of an evaluation."""

    name: str
    """Name of the result: direct, cot, describe, or your own."""
    data: str
    """Rows with prompts and answers (accuracy) or reference texts (description)."""
    kind: Literal["accuracy", "vqa", "description"] = "accuracy"
    """accuracy checks answers; vqa compares with ten human answers in meta.answers; description scores free text."""
    answer_style: Literal["final_answer", "boxed", "direct"] = "direct"
    """How an answer is marked in the text."""
    answer_kind: Literal["auto", "number", "choice", "yes_no", "text", "list", "expression"] = "auto"
    """What an answer is; auto infers it from each truth."""
    scorer: str = ""
    """description: function that checks a text against its row, as module:function."""
    temperature: float = 0.0
    """0 decodes greedily."""
    max_new_tokens: int = 64
    """Most tokens of an answer."""
    limit: int = 0
    """Use only the first rows; 0 uses all."""
    cot_prompt: Literal["", "plain", "knowledge", "visual", "grounded"] = ""
    """Wrap questions in this chain-of-thought instruction."""

    def __post_init__(self) -> None:
        _check_at_least(0, self, "limit")


@dataclass(kw_only=True)
class EvaluateConfig:
    """Measures a model."""

    model: str
    """Folder of the model."""
    out: str
    """Run directory of the evaluation."""
    tasks: list[Task] = field(default_factory=list)
    """What is measured."""
    data: str = ""
    """Rows with answers: short for one more task named accuracy, with direct answers."""
    root: str = ""
    """Data root of the media paths; the folder of each task's rows where empty."""
    seed: int = 0
    """Seed of sampled answers."""
    block_size: int = 1024
    """Prompts answered and stored at once."""
    batch_sequences: int = 256
    """Sequences decoded together."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the model."""

    def __post_init__(self) -> None:
        _check_at_least(1, self, "block_size", "batch_sequences")
        if not self.tasks and not self.data:
            raise TriptychError("There is nothing to measure: give `data`, or a list of `tasks`.")
        names = [task.name for task in self.all_tasks]
        if len(set(names)) != len(names):
            raise TriptychError(f"Two tasks have the same name: {', '.join(names)}.")

    @property
    def all_tasks(self) -> list[Task]:
        """The tasks, with the one that `data` stands for."""
        return self.tasks + ([Task(name="accuracy", data=self.data)] if self.data else [])


def _check_at_least(least: int, config: PairsConfig | Task | EvaluateConfig, *names: str) -> None:
    """Refuse settings below what they can be."""
    for name in names:
        if getattr(config, name) < least:
            raise TriptychError(f"{name} is {getattr(config, name)}; it must be at least {least}.")
