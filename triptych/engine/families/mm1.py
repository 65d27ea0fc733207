"""MM1: pictures of one number of tokens, and videos whose frames are pooled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from triptych.engine.families.base import Family, ImageFeatures, Tensors
from triptych.models.connectors import pool_frames


class MM1(Family):
    """LLaVA with videos, where the model has a placeholder for them.

    Frames of several videos stand in a row, so that videos of any numbers of frames go through the encoder together.
    """

    model_types = ("triptych_mm1",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.video_token_id = config.video_token_id
        self.takes_videos = self.video_token_id is not None

    def split_videos(self, inputs: Tensors, input_ids: list[int]) -> list[tuple[int, Tensors]]:
        """Videos are cut by their numbers of frames; each has a token for a frame, and one for a place in a frame."""
        counts: list[int] = inputs["num_video_frames"].tolist()
        frames = inputs["pixel_values_videos"].split(counts)
        videos = [
            {"pixel_values_videos": part, "num_video_frames": torch.tensor([count])}
            for part, count in zip(frames, counts, strict=True)
        ]
        return [(count + self.config.num_image_tokens, item) for count, item in zip(counts, videos, strict=True)]

    def cut_video(self, inputs: Tensors, num_tokens: int, max_values: int) -> list[tuple[int, Tensors]]:
        """Runs of frames, as pictures: pooling comes when they are joined."""
        if "pixel_values_videos" not in inputs:
            return super().cut_video(inputs, num_tokens, max_values)
        frames = inputs["pixel_values_videos"]
        runs = frames.split(max(1, max_values // frames[0].numel()))
        return [(len(run) * self.config.num_image_tokens, {"pixel_values": run}) for run in runs]

    def join_video(self, parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """Pool the tokens of all frames, (F * M, D) to (F + M, D)."""
        tokens = torch.cat([part.tokens for part in parts])
        return ImageFeatures(pool_frames(tokens.unflatten(0, (-1, self.config.num_image_tokens))))
