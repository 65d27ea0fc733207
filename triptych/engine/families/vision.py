"""From vision tensors to features, and from features to what a model takes in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling

from triptych.engine.distributed import world_size
from triptych.engine.families.base import Family, ImageFeatures, Tensors

PASS_VALUES = 2**25
"""Most pixel values in one pass through a vision tower: 128 MiB in float32, 99 frames of 336 x 336. Without gradients
memory is bounded by this; with them each layer keeps what it needs, unless it is asked to compute it again."""


class EncoderOutput(BaseModelOutputWithPooling):
    """What `mm_encoder_outputs["image"]` must offer: `pooler_output`, and `deepstack_features` where used."""

    deepstack_features: Any = None


class FeatureList(list):
    """Features of pictures, N times (P, D): most models join the list themselves, some call methods of a tensor."""

    def to(self, *args: Any) -> torch.Tensor:
        """Return the joined features (sum of P, D), moved as `Tensor.to` does."""
        return torch.cat(self).to(*args)

    def flatten(self, *dimensions: int) -> torch.Tensor:
        """Return the joined features (sum of P, D), which is what flattening (N, P, D) gives."""
        return torch.cat(self)


def base_model_of(model: Any) -> Any:
    """Return the Hugging Face model, without PEFT around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def backbone_of(model: Any) -> Any:
    """Return the multimodal body under the head (and under PEFT): it maps inputs to last hidden states."""
    base = base_model_of(model)
    return getattr(base, "model", base)


def encode_images(model: Any, family: Family, media: Sequence[Tensors], counts: Sequence[int]) -> list[ImageFeatures]:
    """Run the vision tower and the connector over distinct pictures and videos, in as few passes as memory allows.

    A pass holds at most `PASS_VALUES` pixel values; longer videos are cut into runs of frames. Where there are several
    passes and the layers of the tower are trained with gradient checkpointing, the backward pass makes each again.

    Args:
        media: vision tensors per picture or video.
        counts: tokens of each.

    Returns:
        features per picture or video, in order.
    """
    cut = [
        family.cut_video(inputs, count, PASS_VALUES) if _num_values(inputs) > PASS_VALUES else [(count, inputs)]
        for inputs, count in zip(media, counts, strict=True)
    ]
    parts = [part for own in cut for part in own]
    passes = list(_passes(family, [inputs for _, inputs in parts]))
    encode = _recomputed if len(passes) > 1 and _recomputes(backbone_of(model)) else _encode
    found: dict[int, ImageFeatures] = {}
    for numbers in passes:
        encoded = encode(model, family, [parts[n][1] for n in numbers], [parts[n][0] for n in numbers])
        found |= dict(zip(numbers, encoded, strict=True))
    features = (found[n] for n in range(len(parts)))
    return [family.join_video(list(islice(features, len(own)))) if len(own) > 1 else next(features) for own in cut]


def modality_of(inputs: Tensors) -> str:
    """Return "video" for the tensors of a video that has features of its own, else "image"."""
    return "video" if "pixel_values_videos" in inputs else "image"


def as_encoder_outputs(features: Sequence[ImageFeatures], media: Sequence[Tensors]) -> dict[str, EncoderOutput]:
    """Pack features, in the order of their placeholders, as the model's `mm_encoder_outputs`.

    Args:
        features: per picture or video.
        media: vision tensors of each, which tell pictures from videos.
    """
    by_modality: dict[str, list[ImageFeatures]] = {}
    for item, inputs in zip(features, media, strict=True):
        by_modality.setdefault(modality_of(inputs), []).append(item)
    outputs = {}
    for modality, items in by_modality.items():
        outputs[modality] = EncoderOutput(pooler_output=FeatureList(item.tokens for item in items))
        if items[0].deepstack:
            layers = range(len(items[0].deepstack))
            outputs[modality].deepstack_features = [[item.deepstack[layer] for item in items] for layer in layers]
    return outputs


def _passes(family: Family, media: Sequence[Tensors]) -> Iterator[list[int]]:
    """Yield which pictures, or which videos, go through the tower together."""
    alike: dict[Any, list[int]] = {}
    for n in sorted(range(len(media)), key=lambda n: family.merge_rank(media[n])):
        alike.setdefault((modality_of(media[n]), family.call_key(media[n])), []).append(n)
    for numbers in alike.values():
        part, num_values = [], 0
        for n in numbers:
            num_values += _num_values(media[n])
            if part and num_values > PASS_VALUES:
                yield part
                part, num_values = [], _num_values(media[n])
            part.append(n)
        yield part


def _num_values(inputs: Tensors) -> int:
    return sum(value.numel() for key, value in inputs.items() if key.startswith("pixel_values"))


def _recomputes(backbone: torch.nn.Module) -> bool:
    """Say whether layers of the tower are trained, and asked to compute again what they need in the backward pass.

    Over several ranks a pass is not made again as a whole: the ranks make their passes together, and in the backward
    pass none waits for another.
    """
    if not torch.is_grad_enabled() or world_size() > 1:
        return False
    decoder = {id(module) for module in backbone.get_decoder().modules()}
    layers = (m for m in backbone.modules() if isinstance(m, GradientCheckpointingLayer) and id(m) not in decoder)
    return any(m.gradient_checkpointing and any(p.requires_grad for p in m.parameters()) for m in layers)


def _recomputed(model: Any, family: Family, media: Sequence[Tensors], lengths: list[int]) -> list[ImageFeatures]:
    return checkpoint(_encode, model, family, media, lengths, use_reentrant=False)


def _encode(model: Any, family: Family, media: Sequence[Tensors], lengths: list[int]) -> list[ImageFeatures]:
    backbone = backbone_of(model)
    device = next(backbone.parameters()).device
    inputs = {key: value.to(device) for key, value in family.merge_media(media).items()}
    encode = backbone.get_video_features if modality_of(media[0]) == "video" else backbone.get_image_features
    output = encode(**inputs, return_dict=True)
    tokens = _flat(output.pooler_output).split(lengths)
    layers = [_flat(layer).split(lengths) for layer in getattr(output, "deepstack_features", None) or ()]
    return [ImageFeatures(tokens[n], tuple(layer[n] for layer in layers)) for n in range(len(lengths))]


def _flat(features: Any) -> torch.Tensor:
    if isinstance(features, list | tuple):
        return torch.cat([item.reshape(-1, item.shape[-1]) for item in features])
    return features.reshape(-1, features.shape[-1])
