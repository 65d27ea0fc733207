"""Configuration of the stage that trains scorers of texts and videos."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from triptych.engine.settings import TrainingConfig
from triptych.errors import TriptychError

_NOT_HERE = ("row_tokens", "lora_r", "load_in_4bit", "cpu_offload")
"""Settings of models that generate."""


@dataclass(kw_only=True)
class ScorerConfig(TrainingConfig):
    """A CLIP for pictures and videos, new or fine-tuned; the defaults are CLIP's (arXiv:2103.00020, tables 18, 20).

    Captions look for their videos among those of the same step, so larger steps are harder ones.
    """

    learning_rate: float = 5e-4
    """Peak learning rate of AdamW. For a new model; CLIP4Clip fine-tunes at 1e-7 (arXiv:2104.08860)."""
    weight_decay: float = 0.2
    """Decoupled weight decay, in PyTorch's convention."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay rates of AdamW's running means of the gradient and of its square."""
    eps: float = 1e-6
    """Added to the denominator of AdamW."""
    per_device_train_batch_size: int = 128
    """Captions per micro-batch; 128 is CLIP4Clip's step."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimiser step, over all GPUs together: less memory, one more forward. All captions of the step
    are compared with each other, so the update does not depend on how a step is cut."""

    data: str | list[str]
    """Rows with pictures or videos and captions, which are their completions and `answer`: a file, or a list of files.
    Each caption of a row counts as one item."""
    root: str = ""
    """Data root of the media paths; the folder of each file where empty."""
    eval_data: str | list[str] = field(default_factory=list)
    """Files to measure retrieval on, about other pictures and videos than data."""
    model: dict[str, Any] = field(default_factory=dict)
    """A new CLIP: text_config, vision_config and projection_dim, as transformers names them; see docs/stages.md."""
    init: str = ""
    """Folder or hub name of a CLIP to fine-tune, such as openai/clip-vit-base-patch32, instead of a new one."""
    tokenizer: str = ""
    """A new CLIP reads with the tokenizer of this model folder; where empty, one is trained on the captions."""
    vocab_size: int = 512
    """Size of the tokenizer that is trained on the captions."""
    max_frames: int = 12
    """Most frames taken of a video in training, spread evenly over those that its row takes (CLIP4Clip: 12)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = [self.data] if isinstance(self.data, str) else self.data
        self.eval_data = [self.eval_data] if isinstance(self.eval_data, str) else self.eval_data
        if bool(self.model) == bool(self.init):
            raise TriptychError(
                "Give either `init`, a CLIP to fine-tune such as openai/clip-vit-base-patch32, or `model`, the sizes "
                "of a new one."
            )
        if self.init and self.tokenizer:
            raise TriptychError("`tokenizer` is for a new model; the one of `init` has its own.")
        if self.max_frames < 1:
            raise TriptychError(f"max_frames is {self.max_frames}; it must be at least 1.")
        if self.items_per_step < 2:
            raise TriptychError("A step of one caption has nothing to compare it with; make steps of at least two.")
        for name in _NOT_HERE:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise TriptychError(f"`{name}` is for models that generate; a scorer is trained whole. Leave it out.")
