"""What differs between model families: how pictures are cut out of a processor's output, joined again, and placed.

Everything else in the engine is the same for all of them. A family knows four things: which token stands for image
features, how many of them each picture takes, how the vision tensors of one picture are taken from and put back into
a batch, and which position ids the tokens of a prompt have (M-RoPE).

Letters: N pictures, T tokens, P image tokens of one picture, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from triptych.errors import TriptychError

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ImageFeatures:
    """Features of one picture.

    Attributes:
        tokens: (P, D), spliced into the token stream.
        deepstack: per injected layer (P, D), added inside the decoder (Qwen3-VL); empty elsewhere.
    """

    tokens: torch.Tensor
    deepstack: tuple[torch.Tensor, ...] = ()

    def detach(self) -> ImageFeatures:
        """Return the same features cut off from the graph."""
        return ImageFeatures(self.tokens.detach(), tuple(layer.detach() for layer in self.deepstack))


class EncoderOutput(BaseModelOutputWithPooling):
    """What `mm_encoder_outputs["image"]` must offer: `pooler_output`, and `deepstack_features` where used."""

    deepstack_features: Any = None


class FeatureList(list):
    """Features of pictures, N times (P, D): most models join the list themselves, InternVL calls `to` on a tensor."""

    def to(self, *args: Any) -> torch.Tensor:
        """Return the joined features (sum of P, D), moved as `Tensor.to` does."""
        return torch.cat(self).to(*args)


class Family:
    """Models with a fixed number of tokens per picture and one tensor of pixels per picture: LLaVA, MM1."""

    model_types: tuple[str, ...] = ("llava", "triptych_mm1")
    fixed_tokens_per_image = True

    def __init__(self, config: Any) -> None:
        self.config = config
        self.image_token_id: int = config.image_token_id

    def image_placeholder(self, processor: Any) -> str:
        """Return what stands for one picture in the text given to the processor."""
        return processor.image_token

    def tokens_per_image(self, input_ids: list[int], inputs: Tensors, num_images: int, processor: Any) -> list[int]:
        """Return how many image tokens each picture of a prompt takes, in order."""
        total = input_ids.count(self.image_token_id)
        return [total // num_images] * num_images

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """Cut the processor's vision tensors into pictures: a tag that the content key needs, and the tensors."""
        return [("", {"pixel_values": inputs["pixel_values"][n : n + 1]}) for n in range(len(counts))]

    def merge_rank(self, inputs: Tensors) -> int:
        """Return where a picture stands in `merge_media`, which is called with pictures in ascending order."""
        return 0

    def merge_media(self, media: Sequence[Tensors]) -> Tensors:
        """Join the tensors of several pictures into the arguments of `get_image_features`."""
        return {key: torch.cat([item[key] for item in media]) for key in media[0]}

    def position_ids(self, backbone: Any, input_ids: list[int], media: Sequence[Tensors]) -> torch.Tensor:
        """Return the positions of a prompt's tokens, (A, T) with A = 1, or 3 for M-RoPE."""
        return torch.arange(len(input_ids)).unsqueeze(0)


class LlavaOnevision(Family):
    """Tiles per picture, padded to the largest number; a picture in company of others has its base tile alone."""

    model_types = ("llava_onevision",)
    fixed_tokens_per_image = False

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """Tag pictures that came in company: their features differ from those of the same picture alone."""
        alone = len(counts) == 1
        tag, company = ("", 1) if alone else ("+", 2)
        return [
            (
                tag,
                {
                    "pixel_values": inputs["pixel_values"][n : n + 1, : None if alone else 1],
                    "image_sizes": inputs["image_sizes"][n : n + 1],
                    "batch_num_images": torch.tensor([company]),
                },
            )
            for n in range(len(counts))
        ]

    def merge_rank(self, inputs: Tensors) -> int:
        """Pictures in company come last."""
        return int(inputs["batch_num_images"])

    def merge_media(self, media: Sequence[Tensors]) -> Tensors:
        """Pad the tiles to the largest number, and say which pictures are tiled.

        The model reads from `batch_num_images`, the number of pictures of each sample, that the pictures of a sample
        of one are tiled. So every tiled picture counts as a sample and all others together as one; that last sample
        is given at least two pictures, of which the model takes as many as there are.
        """
        most = max(item["pixel_values"].shape[1] for item in media)
        pixels = [
            torch.nn.functional.pad(item["pixel_values"], (0, 0) * 3 + (0, most - item["pixel_values"].shape[1]))
            for item in media
        ]
        num_alone = sum(self.merge_rank(item) == 1 for item in media)
        num_in_company = len(media) - num_alone
        return {
            "pixel_values": torch.cat(pixels),
            "image_sizes": torch.cat([item["image_sizes"] for item in media]),
            "batch_num_images": torch.tensor([1] * num_alone + [max(2, num_in_company)] * (num_in_company > 0)),
        }


class InternVL(Family):
    """Tiles of one picture follow each other; each picture is one run of image tokens between its markers."""

    model_types = ("internvl",)
    fixed_tokens_per_image = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.tokens_per_tile: int = config.image_seq_length

    def tokens_per_image(self, input_ids: list[int], inputs: Tensors, num_images: int, processor: Any) -> list[int]:
        """Read the lengths of the runs of image tokens."""
        return [length for _, length in _runs(input_ids, self.image_token_id)]

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """A tile has `image_seq_length` tokens, so the counts give the tiles."""
        tiles = [count // self.tokens_per_tile for count in counts]
        return [("", {"pixel_values": part}) for part in inputs["pixel_values"].split(tiles)]


class QwenVL(Family):
    """Any-resolution patches in one long tensor, sized by `image_grid_thw`; positions are three-dimensional."""

    model_types = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    fixed_tokens_per_image = False

    def tokens_per_image(self, input_ids: list[int], inputs: Tensors, num_images: int, processor: Any) -> list[int]:
        """The patch grid after merging `spatial_merge_size` x `spatial_merge_size` neighbours."""
        merge = self.config.vision_config.spatial_merge_size
        return (inputs["image_grid_thw"].prod(-1) // merge**2).tolist()

    def image_placeholder(self, processor: Any) -> str:
        """The placeholder stands between the vision markers."""
        return f"<|vision_start|>{processor.image_token}<|vision_end|>"

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """Patches are cut by the product of each grid."""
        grids = inputs["image_grid_thw"]
        pixels = inputs["pixel_values"].split(grids.prod(-1).tolist())
        return [("", {"pixel_values": part, "image_grid_thw": grids[n : n + 1]}) for n, part in enumerate(pixels)]

    def position_ids(self, backbone: Any, input_ids: list[int], media: Sequence[Tensors]) -> torch.Tensor:
        """M-RoPE (3, T), from the model's own `get_rope_index`."""
        ids = torch.tensor([input_ids])
        if not media:
            return torch.arange(len(input_ids)).expand(3, -1)
        positions, _ = backbone.get_rope_index(
            ids,
            mm_token_type_ids=(ids == self.image_token_id).int(),
            image_grid_thw=torch.cat([item["image_grid_thw"] for item in media]),
        )
        return positions[:, 0]


class SmolVLM(Family):
    """Tiles then a global view per picture, all in dimension 1; padding masks per tile."""

    model_types = ("smolvlm", "idefics3")
    fixed_tokens_per_image = False

    def tokens_per_image(self, input_ids: list[int], inputs: Tensors, num_images: int, processor: Any) -> list[int]:
        """Add up runs until the one that follows the global-view marker, which ends a picture."""
        global_token = getattr(processor, "global_image_token", None) or processor.global_image_tag
        marker = processor.tokenizer.convert_tokens_to_ids(global_token)
        counts, current = [], 0
        for start, length in _runs(input_ids, self.image_token_id):
            current += length
            if input_ids[start - 1] == marker:
                counts.append(current)
                current = 0
        return counts

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """Every tile has the same number of tokens, so counts give tiles."""
        total_tiles = inputs["pixel_values"].shape[1]
        per_tile = sum(counts) // total_tiles
        tiles = [count // per_tile for count in counts]
        keys = [key for key in ("pixel_values", "pixel_attention_mask") if key in inputs]
        parts = {key: inputs[key].split(tiles, dim=1) for key in keys}
        return [("", {key: parts[key][n] for key in keys}) for n in range(len(counts))]

    def merge_media(self, media: Sequence[Tensors]) -> Tensors:
        """All tiles in one sample; smaller tiles are padded and masked as the processor does."""
        height = max(item["pixel_values"].shape[-2] for item in media)
        width = max(item["pixel_values"].shape[-1] for item in media)
        merged: Tensors = {}
        for key in media[0]:
            padded = [
                torch.nn.functional.pad(item[key], (0, width - item[key].shape[-1], 0, height - item[key].shape[-2]))
                for item in media
            ]
            merged[key] = torch.cat(padded, dim=1)
        return merged


FAMILIES: tuple[type[Family], ...] = (Family, LlavaOnevision, InternVL, QwenVL, SmolVLM)


def family_of(config: Any) -> Family:
    """Return the family of a model configuration.

    Raises:
        TriptychError: the model type is not one that can be packed.
    """
    vision_type = getattr(getattr(config, "vision_config", None), "model_type", None)
    for family in FAMILIES:
        if config.model_type in family.model_types and vision_type != "pixtral":
            return family(config)
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    what = f"{config.model_type!r}" + (f" with the vision encoder {vision_type!r}" if vision_type else "")
    raise TriptychError(f"Models of type {what} are not supported yet; supported are {known}, without Pixtral.")


def backbone_of(model: Any) -> Any:
    """Return the multimodal body under the head (and under PEFT): it maps inputs to last hidden states."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.model


def encode_images(model: Any, family: Family, media: Sequence[Tensors], counts: Sequence[int]) -> list[ImageFeatures]:
    """Run the vision tower and the connector once over distinct pictures.

    Args:
        media: vision tensors per picture.
        counts: image tokens per picture.

    Returns:
        features per picture, in order.
    """
    if not media:
        return []
    backbone = backbone_of(model)
    device = next(backbone.parameters()).device
    order = sorted(range(len(media)), key=lambda n: family.merge_rank(media[n]))
    inputs = {key: value.to(device) for key, value in family.merge_media([media[n] for n in order]).items()}
    output = backbone.get_image_features(**inputs, return_dict=True)
    lengths = [counts[n] for n in order]
    tokens = _flat(output.pooler_output).split(lengths)
    layers = [_flat(layer).split(lengths) for layer in getattr(output, "deepstack_features", None) or ()]
    features = {n: ImageFeatures(tokens[i], tuple(layer[i] for layer in layers)) for i, n in enumerate(order)}
    return [features[n] for n in range(len(media))]


def as_encoder_output(features: Sequence[ImageFeatures]) -> EncoderOutput:
    """Pack features, in the order of their placeholders, as the model's `mm_encoder_outputs["image"]`."""
    output = EncoderOutput(pooler_output=FeatureList(item.tokens for item in features))
    if features[0].deepstack:
        output.deepstack_features = [
            [item.deepstack[layer] for item in features] for layer in range(len(features[0].deepstack))
        ]
    return output


def _flat(features: Any) -> torch.Tensor:
    if isinstance(features, list | tuple):
        return torch.cat([item.reshape(-1, item.shape[-1]) for item in features])
    return features.reshape(-1, features.shape[-1])


def _runs(ids: list[int], token: int) -> list[tuple[int, int]]:
    """Return (start, length) of each run of `token`."""
    runs, start = [], None
    for index, value in enumerate([*ids, None]):
        if value == token and start is None:
            start = index
        elif value != token and start is not None:
            runs.append((start, index - start))
            start = None
    return runs
