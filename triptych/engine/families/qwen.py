"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: any resolution, native video, three-dimensional positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from triptych.data.video import VideoShape
from triptych.engine.families.base import Family, ImageFeatures, Tensors


class QwenVL(Family):
    """Any-resolution patches in one long tensor, sized by a grid of (frames, height, width)."""

    model_types = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    fixed_tokens_per_image = False
    takes_videos = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.video_token_id = config.video_token_id
        self.patches_per_token: int = config.vision_config.spatial_merge_size**2

    def tokens_per_image(self, input_ids: list[int], inputs: Tensors, num_images: int, processor: Any) -> list[int]:
        """The patch grid after merging `spatial_merge_size` x `spatial_merge_size` neighbours."""
        return (inputs["image_grid_thw"].prod(-1) // self.patches_per_token).tolist()

    def image_placeholder(self, processor: Any) -> str:
        """The placeholder stands between the vision markers."""
        return f"<|vision_start|>{processor.image_token}<|vision_end|>"

    def video_placeholder(self, processor: Any) -> str:
        """The placeholder stands between the vision markers."""
        return f"<|vision_start|>{processor.video_token}<|vision_end|>"

    def _video_outline(self, processor: Any, shape: VideoShape) -> dict[str, Any]:
        """Patches in time, and how many there are in each; their height and width make no difference."""
        videos = processor.video_processor
        num_patches = videos.get_num_of_video_patches(shape.num_frames, shape.height, shape.width, {})
        in_time = -(-shape.num_frames // videos.temporal_patch_size)
        grid = torch.tensor([[in_time, num_patches // in_time, 1]])
        return super()._video_outline(processor, shape) | {"video_grid_thw": grid}

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """Patches are cut by the product of each grid."""
        grids = inputs["image_grid_thw"]
        pixels = inputs["pixel_values"].split(grids.prod(-1).tolist())
        return [("", {"pixel_values": part, "image_grid_thw": grids[n : n + 1]}) for n, part in enumerate(pixels)]

    def split_videos(self, inputs: Tensors, input_ids: list[int]) -> list[tuple[int, Tensors]]:
        """As for pictures; Qwen2.5-VL also needs to know how many seconds apart the frames are, for their positions."""
        grids = inputs["video_grid_thw"]
        pixels = inputs["pixel_values_videos"].split(grids.prod(-1).tolist())
        videos = [{"pixel_values_videos": part, "video_grid_thw": grids[n : n + 1]} for n, part in enumerate(pixels)]
        if "second_per_grid_ts" in inputs:
            seconds = torch.as_tensor(inputs["second_per_grid_ts"])
            videos = [item | {"second_per_grid_ts": seconds[n : n + 1]} for n, item in enumerate(videos)]
        return [(int(grid.prod()) // self.patches_per_token, item) for grid, item in zip(grids, videos, strict=True)]

    def cut_video(self, inputs: Tensors, num_tokens: int, max_values: int) -> list[tuple[int, Tensors]]:
        """Stretches of time: a patch attends to those of its own moment alone."""
        if "pixel_values_videos" not in inputs:
            return super().cut_video(inputs, num_tokens, max_values)
        patches, [[_, height, width]] = inputs["pixel_values_videos"], inputs["video_grid_thw"].tolist()
        per_moment = height * width
        runs = patches.split(max(1, max_values // (per_moment * patches.shape[1])) * per_moment)
        grids = [torch.tensor([[len(run) // per_moment, height, width]]) for run in runs]
        return [
            (len(run) // self.patches_per_token, {"pixel_values_videos": run, "video_grid_thw": grid})
            for run, grid in zip(runs, grids, strict=True)
        ]

    def join_video(self, parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """Put the tokens of all moments in a row."""
        layers = zip(*(part.deepstack for part in parts), strict=True)
        return ImageFeatures(torch.cat([part.tokens for part in parts]), tuple(torch.cat(layer) for layer in layers))

    def merge_media(self, media: Sequence[Tensors]) -> Tensors:
        """Patches and grids one after the other; the encoder does not look at seconds."""
        return super().merge_media([{key: item[key] for key in item if key != "second_per_grid_ts"} for item in media])

    def position_ids(self, backbone: Any, input_ids: list[int], media: Sequence[Tensors]) -> torch.Tensor:
        """M-RoPE (3, T), from the model's own `get_rope_index`."""
        ids = torch.tensor([input_ids])
        if not media:
            return torch.arange(len(input_ids)).expand(3, -1)
        names = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")
        grids = {name: [item[name] for item in media if name in item] for name in names}
        positions, _ = backbone.get_rope_index(
            ids,
            mm_token_type_ids=(ids == self.image_token_id).int() + 2 * (ids == self.video_token_id).int(),
            **{name: torch.cat(parts) for name, parts in grids.items() if parts},
        )
        return positions[:, 0]
