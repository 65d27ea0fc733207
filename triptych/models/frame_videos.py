"""Video processors on Pillow, for machines without torchvision: frames in, the tensors of the family's own layout out.

Each class stands in the place of the transformers class of its family (version 5.23) and takes the same settings.
Frames are resized by Pillow where torchvision would resize tensors; all else is the same arithmetic. Frames are taken
as they come: which frames of a video are taken is decided before.

Letters: N videos, F frames, H x W pixels, S patch size, L patches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.utils import PushToHubMixin
from transformers.video_utils import VideoMetadata

from triptych.errors import TriptychError

Frames = Sequence[Image.Image]
BICUBIC, LANCZOS = 3, 1


class VideoProcessorStub(PushToHubMixin):
    """Stands where a video processor would: holds its configuration, and refuses videos.

    Args:
        config: the content of the video processor's file.
    """

    model_input_names: tuple[str, ...] = ()
    _auto_class = None
    num_frames = fps = None  # SmolVLM asks for them whenever it renders a chat

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration, as the processor writes it into its own file."""
        return self.config

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Refuse."""
        raise TriptychError("Videos of this model family need torchvision: `pip install torchvision`.")


class FrameVideoProcessor(VideoProcessorStub):
    """What the families have in common: resize, rescale, normalise.

    Attributes:
        defaults: settings where the configuration has none, those of the transformers class.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "resample": BICUBIC,
        "rescale_factor": 1 / 255,
        "image_mean": OPENAI_CLIP_MEAN,
        "image_std": OPENAI_CLIP_STD,
    }

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        given = {name: value for name, value in config.items() if value is not None}
        self.settings: dict[str, Any] = {**FrameVideoProcessor.defaults, **self.defaults, **given}

    def __call__(self, videos: Sequence[Frames], video_metadata: Sequence[Any] = (), **kwargs: Any) -> dict[str, Any]:
        """Return the tensors of videos, and their metadata.

        Args:
            videos: N lists of frames, those of one video of equal size.
            video_metadata: of each, as `VideoMetadata` takes it.
            kwargs: settings for torchvision, which have no meaning here.

        Raises:
            TriptychError: the configuration switches a step off, or the videos do not go together.
        """
        if off := [name for name in ("do_resize", "do_rescale", "do_normalize") if self.settings.get(name) is False]:
            raise TriptychError(f"Without torchvision, videos cannot be prepared with {off[0]} switched off.")
        return {**self.layout(videos), "video_metadata": [VideoMetadata(**item) for item in video_metadata]}

    def layout(self, videos: Sequence[Frames]) -> dict[str, Any]:
        """Return the tensors of the family."""
        raise NotImplementedError

    def pixels(self, frames: Frames, height: int, width: int) -> torch.Tensor:
        """Return the normalised pixels (F, 3, H, W) of frames."""
        resized = [frame.resize((width, height), self.settings["resample"]) for frame in frames]
        values = torch.from_numpy(np.stack([np.asarray(frame, np.float32) for frame in resized])).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(self.settings[name])[:, None, None] for name in ("image_mean", "image_std"))
        return (values * self.settings["rescale_factor"] - mean) / std

    def stacked(self, videos: Sequence[Frames]) -> torch.Tensor:
        """Return the pixels (N, F, 3, H, W) of videos that have one number of frames, at the size of the settings."""
        if len({len(frames) for frames in videos}) > 1:
            raise TriptychError("This model takes videos of one number of frames in a prompt.")
        size = self.settings["size"]
        return torch.stack([self.pixels(frames, size["height"], size["width"]) for frames in videos])


class SquareFrames(FrameVideoProcessor):
    """LLaVA-OneVision and InternVL: every frame at one size."""

    defaults: ClassVar[Mapping[str, Any]] = {"size": {"height": 384, "width": 384}}

    def layout(self, videos: Sequence[Frames]) -> dict[str, Any]:
        """Return `pixel_values_videos` (N, F, 3, H, W)."""
        return {"pixel_values_videos": self.stacked(videos)}


class SmolVLMFrames(FrameVideoProcessor):
    """SmolVLM: every frame squeezed into the square of a tile, after the longest side was brought to its size."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "resample": LANCZOS,
        "size": {"longest_edge": 4 * 364},
        "max_image_size": {"longest_edge": 364},
        "image_mean": IMAGENET_STANDARD_MEAN,
        "image_std": IMAGENET_STANDARD_STD,
    }

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        sampling = self.settings.get("video_sampling", {})
        size = config.get("size") or sampling.get("video_size") or self.settings["size"]
        self._longest = size["longest_edge"]
        side = self.settings["max_image_size"]["longest_edge"]
        self.settings["size"] = {"height": side, "width": side}

    def layout(self, videos: Sequence[Frames]) -> dict[str, Any]:
        """Return `pixel_values` (N, F, 3, H, W) and `pixel_attention_mask` (N, F, H, W), all ones."""
        pixels = self.stacked([[self._enlarged(frame) for frame in frames] for frames in videos])
        return {
            "pixel_values": pixels,
            "pixel_attention_mask": torch.ones(pixels.shape[:2] + pixels.shape[3:], dtype=torch.long),
        }

    def _enlarged(self, frame: Image.Image) -> Image.Image:
        """Bring the longest side to its size, the other to an even number, as the model's own resizing does."""
        ratio, longest = frame.width / frame.height, self._longest
        if frame.width >= frame.height:
            width, height = longest, int(longest / ratio)
            height += height % 2
        else:
            width, height = int(longest * ratio), longest
            width += width % 2
        return frame.resize((max(width, 1), max(height, 1)), self.settings["resample"])


class Qwen2Frames(FrameVideoProcessor):
    """Qwen2-VL and Qwen2.5-VL: patches that span two frames; the budget of pixels is one for each frame."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.patch_size: int = self.settings["patch_size"]
        self.merge_size: int = self.settings["merge_size"]
        self.temporal_patch_size: int = self.settings["temporal_patch_size"]
        size = dict(self.settings["size"])
        for name, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
            size[edge] = self.settings.get(name, size.get(edge))
        self.settings["size"] = size

    def layout(self, videos: Sequence[Frames]) -> dict[str, Any]:
        """Return `pixel_values_videos` (L, 3 * 2 * S * S) and `video_grid_thw` (N, 3)."""
        patches, grids = zip(*(self._patches(frames) for frames in videos), strict=True)
        return {"pixel_values_videos": torch.cat(patches), "video_grid_thw": torch.tensor(grids)}

    def resized(self, num_frames: int, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the frames."""
        factor, size = self.patch_size * self.merge_size, self.settings["size"]
        return smart_resize(height, width, factor, size["shortest_edge"], size["longest_edge"])

    def get_num_of_video_patches(
        self, num_frames: int, height: int, width: int, videos_kwargs: Mapping[str, Any] | None = None
    ) -> int:
        """Return how many patches a video has, as the transformers class does; settings are those of the model."""
        tall, wide = self.resized(num_frames, height, width)
        return -(-num_frames // self.temporal_patch_size) * (tall // self.patch_size) * (wide // self.patch_size)

    def _patches(self, frames: Frames) -> tuple[torch.Tensor, list[int]]:
        """Return the patches of one video, and how many there are in time, height and width.

        Patches that are merged later follow each other. The last frame is repeated where a patch lacks one.
        """
        if self.settings.get("cap_pixels_per_frame"):
            raise TriptychError("Without torchvision, `cap_pixels_per_frame` of the video processor must be off.")
        height, width = self.resized(len(frames), frames[0].height, frames[0].width)
        span, merge, side = self.temporal_patch_size, self.merge_size, self.patch_size
        pixels = self.pixels([*frames, *[frames[-1]] * (-len(frames) % span)], height, width)
        grid = [len(pixels) // span, height // side, width // side]
        blocks = pixels.view(grid[0], span, 3, grid[1] // merge, merge, side, grid[2] // merge, merge, side)
        return blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(math.prod(grid), -1), grid


class Qwen3Frames(Qwen2Frames):
    """Qwen3-VL: as Qwen2-VL, but the budget of pixels is one for all frames together."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768},
        "image_mean": IMAGENET_STANDARD_MEAN,
        "image_std": IMAGENET_STANDARD_STD,
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }

    def resized(self, num_frames: int, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the frames.

        Raises:
            TriptychError: fewer frames than a patch spans, or proportions beyond 200 to 1.
        """
        factor, size = self.patch_size * self.merge_size, self.settings["size"]
        if num_frames < self.temporal_patch_size:
            raise TriptychError(f"A video of this model has at least {self.temporal_patch_size} frames.")
        if min(height, width) < factor:
            scale = factor / min(height, width)
            height, width = int(height * scale), int(width * scale)
        if max(height, width) > 200 * min(height, width):
            raise TriptychError(f"Frames of {width} x {height} pixels are too narrow for this model.")
        tall, wide = (round(side / factor) * factor for side in (height, width))
        total = round(num_frames / self.temporal_patch_size) * self.temporal_patch_size * tall * wide
        if total > size["longest_edge"]:
            shrink = math.sqrt(num_frames * height * width / size["longest_edge"])
            return tuple(max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
        if total < size["shortest_edge"]:
            grow = math.sqrt(size["shortest_edge"] / (num_frames * height * width))
            return tuple(math.ceil(side * grow / factor) * factor for side in (height, width))
        return tall, wide


BY_MODEL_TYPE: dict[str, type[FrameVideoProcessor]] = {
    "llava_onevision": SquareFrames,
    "internvl": SquareFrames,
    "smolvlm": SmolVLMFrames,
    "qwen2_vl": Qwen2Frames,
    "qwen2_5_vl": Qwen2Frames,
    "qwen3_vl": Qwen3Frames,
    "qwen3_vl_moe": Qwen3Frames,
    "qwen3_5": Qwen3Frames,
    "qwen3_5_moe": Qwen3Frames,
}
