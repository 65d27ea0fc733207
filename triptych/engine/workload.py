"""Model FLOPs of packed batches: decoder, head and vision tower of a loaded model, added up."""

from __future__ import annotations

from typing import Any

from torch import nn

from triptych.engine.families import backbone_of
from triptych.engine.flops import (
    FORWARD,
    FORWARD_AND_BACKWARD,
    FORWARD_AND_INPUTS,
    matrix_parameters,
    training_flops,
)
from triptych.engine.trie import PackedBatch


class Workload:
    """Counts what training on a packed batch requires of a model.

    Args:
        model: with its frozen parts frozen and its adapters on; both change what the backward pass needs.
    """

    def __init__(self, model: nn.Module) -> None:
        backbone = backbone_of(model)
        decoder = next(module for name, module in backbone.named_children() if name in ("language_model", "text_model"))
        config = model.config.get_text_config()
        self._decoder_parameters = matrix_parameters(decoder)
        self._vision_parameters = matrix_parameters(backbone) - self._decoder_parameters
        self._head_parameters = model.get_output_embeddings().weight.numel()
        self._num_layers = config.num_hidden_layers
        self._width = config.num_attention_heads * (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        vision_trained = any(_trained(module) for module in backbone.children() if module is not decoder)
        self._vision_passes = FORWARD_AND_BACKWARD if vision_trained else FORWARD
        self._decoder_passes = FORWARD_AND_BACKWARD if _mostly_trained(decoder) else FORWARD_AND_INPUTS
        self._patch_pixels = _patch_pixels(model.config)

    def training_flops(self, batch: PackedBatch) -> int:
        """Return the model FLOPs of a forward and backward pass over the batch."""
        decoder = training_flops(
            0, 0, num_layers=self._num_layers, attention_width=self._width, num_attended=batch.num_attended
        )  # no weights of its own: both of its inputs get gradients, also where the weights around it are frozen
        decoder += training_flops(self._decoder_parameters, batch.num_tokens, passes=self._decoder_passes)
        head = training_flops(self._head_parameters, len(batch.predecessors), passes=self._decoder_passes)
        num_patches = sum(item.inputs["pixel_values"].numel() for item in batch.media) // self._patch_pixels
        return decoder + head + training_flops(self._vision_parameters, num_patches, passes=self._vision_passes)


def _trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _mostly_trained(module: nn.Module) -> bool:
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return 2 * trained > sum(parameter.numel() for parameter in module.parameters())


def _patch_pixels(config: Any) -> int:
    """Numbers in one patch: colours times the patch's area, times frames where a patch spans several."""
    vision = config.vision_config
    side = vision.patch_size
    area = side[0] * side[1] if isinstance(side, list | tuple) else side**2
    return 3 * area * getattr(vision, "temporal_patch_size", 1)
