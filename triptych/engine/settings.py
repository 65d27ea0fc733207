"""Settings that every training stage shares; light, so that a command line can show them without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych.engine.schedule import OptimizerSettings
from triptych.errors import TriptychError


@dataclass(kw_only=True)
class TrainingConfig(OptimizerSettings):
    """What every training stage shares."""

    out: str
    """Run directory of this stage; holds configuration, metrics, checkpoints and the final model."""
    max_steps: int = 0
    """Optimiser steps; 0 derives them from num_train_epochs."""
    num_train_epochs: float = 1.0
    """Passes over the data where max_steps is 0."""
    per_device_train_batch_size: int = 8
    """Items (documents, rows or pairs) per micro-batch."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimiser step, over all GPUs together; the update does not depend on how a step is cut."""
    row_tokens: int = 8192
    """Most tokens of a prompt with all its completions, and of a padded row; more are cut apart between completions."""
    seed: int = 0
    """Decides the order of the data and every random draw."""
    bf16: bool = False
    """Compute in bfloat16; weights and optimiser stay in float32."""
    freeze: list[str] = field(default_factory=list)
    """Modules that are not trained, by name, such as model.vision_tower."""
    lora_r: int = 0
    """Rank of LoRA adapters on the language model; 0 trains the weights themselves."""
    lora_alpha: int = 16
    """Scale of the adapters, as in peft."""
    lora_dropout: float = 0.0
    """Dropout inside the adapters."""
    lora_target_modules: list[str] = field(default_factory=list)
    """Names of the linear layers that get an adapter; empty takes all of the language model."""
    load_in_4bit: bool = False
    """Keep the language model in 4 bits (NF4) and train adapters on it: QLoRA. Needs lora_r and the extra `qlora`."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    cpu_offload: bool = False
    """On several GPUs: keep the shards of weights, gradients and optimizer in main memory. Saves memory, costs time."""
    frame_cache: str = ""
    """Folder of stored frames of video files, for all epochs and stages that are given it; where empty they are decoded
    each time."""
    logging_steps: int = 10
    """Steps between lines of metrics.jsonl."""
    save_steps: int = 200
    """Steps between checkpoints; 0 saves none before the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "row_tokens", "logging_steps"):
            if getattr(self, name) < 1:
                raise TriptychError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("max_steps", "save_steps"):
            if getattr(self, name) < 0:
                raise TriptychError(f"{name} is {getattr(self, name)}; it must not be negative.")
        if self.load_in_4bit and not self.lora_r:
            raise TriptychError("load_in_4bit trains adapters on 4-bit weights; set lora_r, to 16 for instance.")
        if not self.max_steps and not self.num_train_epochs > 0:
            raise TriptychError(f"num_train_epochs is {self.num_train_epochs}; it must be positive, or set max_steps.")

    @property
    def extent(self) -> dict[str, float | None]:
        """How long training goes on, as `plan_steps` takes it: steps, or passes over the data."""
        return {
            "num_steps": self.max_steps or None,
            "epochs": None if self.max_steps else self.num_train_epochs,
        }

    @property
    def compute_dtype(self) -> str:
        """Name of the precision that matrix products are computed in."""
        return "bfloat16" if self.bf16 else "float32"

    @property
    def items_per_step(self) -> int:
        """Items in one optimiser step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps
