"""LLaVA-NeXT and LLaVA-OneVision: tiles per picture, features without the margins, and a newline after each row."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

from triptych.engine.families.base import Family, ImageFeatures, Tensors


class LlavaNext(Family):
    """Tiles per picture, padded to the largest number; the model reads from `image_sizes` how many there are."""

    model_types = ("llava_next",)
    fixed_tokens_per_image = False

    def tokens_per_image(self, input_ids: list[int], inputs: Tensors, num_images: int, processor: Any) -> list[int]:
        """Ask the processor what it put in the place of each picture, for nothing separates two pictures."""
        texts = (processor.replace_image_token(inputs, n) for n in range(num_images))
        return [text.count(processor.image_token) for text in texts]

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """Cut off the tiles that pad a picture to the largest number among its company."""
        side, pinpoints = self.config.vision_config.image_size, self.config.image_grid_pinpoints
        media = []
        for pixels, size in zip(inputs["pixel_values"].split(1), inputs["image_sizes"].split(1), strict=True):
            num_tiles = image_size_to_num_patches(size[0], pinpoints, side)
            media.append(("", {"pixel_values": pixels[:, :num_tiles], "image_sizes": size}))
        return media

    def merge_media(self, media: Sequence[Tensors]) -> Tensors:
        """Pad the tiles to the largest number."""
        return {
            "pixel_values": _stack_tiles([item["pixel_values"] for item in media]),
            "image_sizes": torch.cat([item["image_sizes"] for item in media]),
        }


class LlavaOnevision(Family):
    """Tiles per picture, padded to the largest number; a picture in company of others has its base tile alone.

    Frames of a video are pooled, and one newline ends them.
    """

    model_types = ("llava_onevision",)
    fixed_tokens_per_image = False
    takes_videos = True
    mixes_video_lengths = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.video_token_id = config.video_token_id

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

    def split_videos(self, inputs: Tensors, input_ids: list[int]) -> list[tuple[int, Tensors]]:
        """Videos of one prompt have the same number of frames, and so of tokens."""
        videos = inputs["pixel_values_videos"].split(1)
        return [(input_ids.count(self.video_token_id) // len(videos), {"pixel_values_videos": item}) for item in videos]

    def cut_video(self, inputs: Tensors, num_tokens: int, max_values: int) -> list[tuple[int, Tensors]]:
        """Runs of frames; each ends with a newline."""
        if "pixel_values_videos" not in inputs:
            return super().cut_video(inputs, num_tokens, max_values)
        frames = inputs["pixel_values_videos"]
        per_frame = (num_tokens - 1) // frames.shape[1]
        runs = frames.split(max(1, max_values // frames[0, 0].numel()), dim=1)
        return [(run.shape[1] * per_frame + 1, {"pixel_values_videos": run}) for run in runs]

    def join_video(self, parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """Leave out the newlines but for the last."""
        *before, last = (part.tokens for part in parts)
        return ImageFeatures(torch.cat([*(tokens[:-1] for tokens in before), last]))

    def call_key(self, inputs: Tensors) -> Hashable:
        """Videos of different numbers of frames cannot be stacked."""
        return inputs["pixel_values_videos"].shape[1] if "pixel_values_videos" in inputs else 0

    def merge_rank(self, inputs: Tensors) -> int:
        """Pictures in company come last."""
        return int(inputs["batch_num_images"]) if "batch_num_images" in inputs else 0

    def merge_media(self, media: Sequence[Tensors]) -> Tensors:
        """Pad the tiles to the largest number, and say which pictures are tiled.

        The model reads from `batch_num_images`, the number of pictures of each sample, that the pictures of a sample
        of one are tiled. So every tiled picture counts as a sample and all others together as one; that last sample
        is given at least two pictures, of which the model takes as many as there are.
        """
        if "pixel_values_videos" in media[0]:
            return super().merge_media(media)
        num_alone = sum(self.merge_rank(item) == 1 for item in media)
        num_in_company = len(media) - num_alone
        return {
            "pixel_values": _stack_tiles([item["pixel_values"] for item in media]),
            "image_sizes": torch.cat([item["image_sizes"] for item in media]),
            "batch_num_images": torch.tensor([1] * num_alone + [max(2, num_in_company)] * (num_in_company > 0)),
        }


def _stack_tiles(pixels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join tiles of pictures (1, K, 3, S, S) to (N, most K, 3, S, S), zeros behind."""
    most = max(item.shape[1] for item in pixels)
    return torch.cat([torch.nn.functional.pad(item, (0, 0) * 3 + (0, most - item.shape[1])) for item in pixels])
