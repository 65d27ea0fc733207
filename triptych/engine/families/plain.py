"""The plain path: models whose paths cannot be packed have an ordinary forward for each path.

Nothing is assumed of the model but what every Hugging Face image-text-to-text model offers: its processor makes inputs
of a prompt, and `model(**inputs).logits` are the scores of the next tokens. A completion is appended to the inputs as
`generate` appends new tokens. It costs what separate forwards cost, and it is exact for whatever the model does.
"""

from __future__ import annotations

import functools
import inspect
import logging
from typing import Any, ClassVar

import torch

from triptych.engine.families.base import Family, Tensors
from triptych.engine.families.vision import base_model_of
from triptych.errors import TriptychError

PER_TOKEN = ("attention_mask", "token_type_ids", "mm_token_type_ids", "cross_attention_mask")
"""Inputs (1, T, ...) with a row per token; a new token repeats the last row, as in `generate`."""
_POINTERS = ("position_ids", "image_patches_indices", "image_embeds_position_mask")
"""Inputs with a row per token that cannot be continued by repeating the last one."""
_LOGGER = logging.getLogger(__name__)


class PlainFamily(Family):
    """Any model: what its processor makes of a prompt is kept as a whole.

    Args:
        reason: what keeps its paths from being packed; logged once.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    packed = False
    fixed_tokens_per_image = False
    takes_videos = True

    def __init__(self, config: Any, reason: str) -> None:
        self.config = config
        token = getattr(config, "image_token_id", None)
        self.image_token_id = -1 if token is None else token
        self.windows, self.causal = None, False
        _announce(config.model_type, reason)

    def image_placeholder(self, processor: Any) -> str:
        """Return the placeholder.

        Raises:
            TriptychError: the processor does not say which it is.
        """
        return _placeholder(processor, "image_token")

    def video_placeholder(self, processor: Any) -> str:
        """Return the placeholder; raises as `image_placeholder`."""
        return _placeholder(processor, "video_token")

    def check_document(self) -> None:
        """The tokens of pictures are no targets, so they must be known."""
        if self.image_token_id < 0:
            raise TriptychError(
                f"A model of type {self.config.model_type!r} does not name its image token, so it cannot be trained on "
                "documents."
            )


@functools.cache
def _announce(model_type: str, reason: str) -> None:
    _LOGGER.warning(
        "Completions of this %s model cannot share a prompt, because %s: each has a forward of its own, exact but "
        "several times slower.",
        model_type,
        reason,
    )


def _placeholder(processor: Any, name: str) -> str:
    token = getattr(processor, name, None)
    if not isinstance(token, str):
        raise TriptychError(
            f"The {type(processor).__name__} does not name its placeholder (`{name}`), so documents with media cannot "
            "be written for this model."
        )
    return token


def prompt_inputs(inputs: Tensors) -> Tensors:
    """Return the tensors of a processor that its model takes.

    Raises:
        TriptychError: one of them points from tokens into other tensors, in a way that new tokens cannot continue.
    """
    kept = {name: value for name, value in inputs.items() if name != "labels"}
    if pointers := [name for name in _POINTERS if name in kept]:
        raise TriptychError(
            f"This model's processor gives {', '.join(pointers)}, which cannot be continued over a completion."
        )
    return kept


def continued(inputs: Tensors, input_ids: list[int]) -> Tensors:
    """Return the inputs of a prompt that is continued to `input_ids`: per-token tensors repeat their last row."""
    more = {"input_ids": torch.tensor([input_ids])}
    num_new = len(input_ids) - inputs["input_ids"].shape[1]
    for name in (name for name in PER_TOKEN if name in inputs):
        tensor = inputs[name]
        more[name] = torch.cat([tensor, tensor[:, -1:].expand(-1, num_new, *tensor.shape[2:])], dim=1)
    return {**inputs, **more}


def placed(inputs: Tensors, model: Any) -> Tensors:
    """Return the inputs on the model's device, numbers in its dtype."""
    base = base_model_of(model)
    return {
        name: value.to(base.device, base.dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
    }


def forward_logits(model: Any, inputs: Tensors, num_last: int) -> torch.Tensor:
    """Return the logits (num_last, V) of the last tokens of one sequence, by the model's own forward."""
    inputs = placed(inputs, model)
    if "logits_to_keep" in _forward_parameters(type(base_model_of(model))):
        inputs["logits_to_keep"] = num_last
    return model(**inputs, use_cache=False).logits[0, -num_last:]


@functools.cache
def _forward_parameters(model_class: type) -> frozenset[str]:
    return frozenset(inspect.signature(model_class.forward).parameters)
