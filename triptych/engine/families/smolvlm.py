"""SmolVLM and Idefics3: tiles, then a global view; a video of SmolVLM is a row of global views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from triptych.engine.families.base import Family, Tensors, runs


class Idefics3(Family):
    """Tiles then a global view per picture, all in dimension 1; padding masks per tile."""

    model_types = ("idefics3",)
    fixed_tokens_per_image = False

    def tokens_per_image(self, input_ids: list[int], inputs: Tensors, num_images: int, processor: Any) -> list[int]:
        """Add up runs until the one that follows the global-view marker, which ends a picture."""
        global_token = getattr(processor, "global_image_token", None) or processor.global_image_tag
        marker = processor.tokenizer.convert_tokens_to_ids(global_token)
        counts, current = [], 0
        for start, end in runs(input_ids, self.image_token_id):
            current += end - start
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


class SmolVLM(Idefics3):
    """Idefics3 with videos: each frame is a global view, told with its time."""

    model_types = ("smolvlm",)
    takes_videos = True
    frames_are_images = True
    mixes_videos_with_images = False
    mixes_video_lengths = False

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """Several videos come as several samples; their frames stand in a row here."""
        keys = [key for key in ("pixel_values", "pixel_attention_mask") if key in inputs]
        return super().split_media({key: inputs[key].flatten(0, 1).unsqueeze(0) for key in keys}, counts)
