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
from triptych.models.four_bit import num_weights


class Workload:
    """Counts what training on a packed batch requires of a model.

    Args:
        model: with its frozen parts frozen and its adapters on; both change what the backward pass needs.
    """

    def __init__(self, model: nn.Module) -> None:
        backbone = backbone_of(model)
        decoder = model.get_decoder()
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
        # Attention has no weights: both of its inputs get gradients, also where the weights around it are frozen.
        return self._flops(batch, FORWARD_AND_BACKWARD, self._decoder_passes, self._vision_passes)

    def forward_flops(self, batch: PackedBatch) -> int:
        """Return the model FLOPs of a forward pass over the batch."""
        return self._flops(batch, FORWARD, FORWARD, FORWARD)

    def num_patches(self, batch: PackedBatch) -> int:
        """Return the patches that pass through the vision tower; 0 where the model does not say how large they are."""
        pixels = [
            tensor.numel() for item in batch.media for name, tensor in item.inputs.items() if "pixel_values" in name
        ]
        return sum(pixels) // self._patch_pixels if self._patch_pixels else 0

    def _flops(self, batch: PackedBatch, attention_passes: int, decoder_passes: int, vision_passes: int) -> int:
        flops = training_flops(
            0,
            0,
            num_layers=self._num_layers,
            attention_width=self._width,
            num_attended=batch.num_attended,
            passes=attention_passes,
        )
        flops += training_flops(self._decoder_parameters, batch.num_tokens, passes=decoder_passes)
        flops += training_flops(self._head_parameters, len(batch.predecessors), passes=decoder_passes)
        return flops + training_flops(self._vision_parameters, self.num_patches(batch), passes=vision_passes)


def _trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _mostly_trained(module: nn.Module) -> bool:
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return 2 * trained > sum(num_weights(parameter) for parameter in module.parameters())


def _patch_pixels(config: Any) -> int | None:
    """Numbers in one patch: colours times the patch's area, times frames where a patch spans several."""
    vision = getattr(config, "vision_config", None)
    side = getattr(vision, "patch_size", None)
    if side is None:
        return None
    area = side[0] * side[1] if isinstance(side, list | tuple) else side**2
    return 3 * area * getattr(vision, "temporal_patch_size", 1)
