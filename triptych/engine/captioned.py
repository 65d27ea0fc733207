"""Captioned pictures and videos, as a model like CLIP takes them: captions to tokens, frames to pixels.

Letters: N captions, T tokens, F frames of all of them, H and W height and width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from triptych.data.frame_cache import FrameCache
from triptych.data.media import load_image
from triptych.data.sampling import META, Clip, clips_of
from triptych.data.video import load_video
from triptych.engine.flops import FORWARD, FORWARD_AND_BACKWARD, matrix_parameters, training_flops
from triptych.errors import DataError
from triptych.group import Group
from triptych.models.scorer import tokenise

MEMORY_BYTES = 2**30
"""Pixels kept from epoch to epoch: 1 GiB, 21,800 videos of 4 frames of 64 x 64, or 590 of 12 of 224 x 224."""


@dataclass(frozen=True)
class Captioned:
    """A caption, and the row with what it is about.

    Attributes:
        text: the caption.
        group: its pictures and videos count, all of them together.
        root: data root of these.
    """

    text: str
    group: Group
    root: Path

    @property
    def subject(self) -> Hashable:
        """What tells pictures and videos apart, whichever of their frames are taken."""
        return str(self.root), *self.group.images, *self.group.videos


@dataclass(frozen=True)
class CaptionBatch:
    """Captions and frames.

    Attributes:
        texts: `input_ids` and `attention_mask`, (N, T).
        pixels: (F, 3, H, W) numbers from 0 to 255.
        counts: (N,) frames of each caption, in order.
    """

    texts: dict[str, Tensor]
    pixels: Tensor
    counts: list[int]

    @property
    def num_tokens(self) -> int:
        """Tokens of the captions."""
        return int(self.texts["attention_mask"].sum())


class CaptionEncoder:
    """Makes batches, keeping the pixels used last.

    Args:
        model: a CLIP.
        processor: its processor.
        max_frames: most frames taken of a video.
        frame_cache: where decoded frames of files are looked up and stored; None stores nothing.
        memory_bytes: of pixels to keep.
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        *,
        max_frames: int,
        frame_cache: FrameCache | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._model, self._processor, self._images = model, processor, processor.image_processor
        self._max_frames, self._frame_cache = max_frames, frame_cache
        self._known, self._free = OrderedDict[Hashable, Tensor](), memory_bytes

    def batch(self, items: Sequence[Captioned]) -> CaptionBatch:
        """Return a batch of captions.

        Raises:
            DataError: a medium that cannot be used.
        """
        frames = [self._pixels(item) for item in items]
        texts = tokenise(self._model, self._processor.tokenizer, [item.text for item in items])
        return CaptionBatch(texts, torch.cat(frames), [len(part) for part in frames])

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return what the processor makes of pixels, (F, 3, H, W) in float32, computed where they are."""
        values = pixels.float()
        if self._images.do_rescale:
            values = values * self._images.rescale_factor
        if self._images.do_normalize:
            mean, deviation = (
                values.new_tensor(numbers).view(-1, 1, 1)
                for numbers in (self._images.image_mean, self._images.image_std)
            )
            values = (values - mean) / deviation
        return values

    def _pixels(self, item: Captioned) -> Tensor:
        """Return the frames of a row, (F, 3, H, W): bytes, a quarter of what the model is given."""
        key = item.subject, repr(item.group.meta.get(META))
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        frames = frames_of(item.group, item.root, max_frames=self._max_frames, cache=self._frame_cache)
        made = self._images(images=frames, do_rescale=False, do_normalize=False, return_tensors="pt")
        self._known[key] = pixels = made["pixel_values"]
        self._free -= pixels.nbytes
        while self._free < 0:
            self._free += self._known.popitem(last=False)[1].nbytes
        return pixels


class CaptionWorkload:
    """Counts what training on a batch requires of a CLIP, frozen where it is to be.

    Args:
        model: the CLIP.
    """

    def __init__(self, model: nn.Module) -> None:
        vision = model.config.vision_config
        self._num_patches = (vision.image_size // vision.patch_size) ** 2 + 1
        self._vision = _Tower(model.vision_model, model.visual_projection, vision)
        self._text = _Tower(model.text_model, model.text_projection, model.config.text_config)

    def training_flops(self, batch: CaptionBatch) -> int:
        """Return the model FLOPs of a forward and backward pass over the batch."""
        num_frames, lengths = sum(batch.counts), batch.texts["attention_mask"].sum(dim=1)
        attended = int((lengths * (lengths + 1) // 2).sum())
        frames = self._vision.flops(num_frames, num_frames * self._num_patches, num_frames * self._num_patches**2)
        return frames + self._text.flops(len(lengths), batch.num_tokens, attended)


class _Tower:
    """One tower and its projection."""

    def __init__(self, tower: nn.Module, projection: nn.Module, config: Any) -> None:
        self._parameters, self._projected = matrix_parameters(tower), matrix_parameters(projection)
        self._shape = {"num_layers": config.num_hidden_layers, "attention_width": config.hidden_size}
        trained, projection_trained = (any(p.requires_grad for p in part.parameters()) for part in (tower, projection))
        self._passes = FORWARD_AND_BACKWARD if trained else FORWARD
        self._projection_passes = FORWARD + trained + projection_trained  # gradients of its inputs, of its weights

    def flops(self, num_items: int, num_tokens: int, num_attended: int) -> int:
        """Return the model FLOPs of items with so many tokens in all."""
        attention = {"num_attended": num_attended} | self._shape
        inside = training_flops(self._parameters, num_tokens, passes=self._passes, **attention)
        return inside + training_flops(self._projected, num_items, passes=self._projection_passes)


def frames_of(
    group: Group, root: Path, *, max_frames: int | None = None, cache: FrameCache | None = None
) -> list[Image.Image]:
    """Return the pictures of a row, and the frames of its videos that their policies take.

    Args:
        group: the row.
        root: data root of its media.
        max_frames: most frames of each video, spread evenly; None takes all that the policies do.
        cache: where frames of files are looked up and stored.

    Raises:
        DataError: a medium that cannot be used; kind `no_media`, the row has none.
    """
    require_media(group)
    try:
        pictures = [load_image(item, root) for item in group.images]
        for clip in clips_of(group):
            pictures += load_video(clip if max_frames is None else _thinned(clip, max_frames), root, cache).frames
    except DataError as error:
        raise error.located(row=group.id) from error
    return pictures


def require_media(group: Group) -> None:
    """Raise `DataError` of kind `no_media` for a row without a picture or video."""
    if not group.images and not group.videos:
        remedy = "Give it `images` or `videos`, or leave it out."
        raise DataError("The row has neither picture nor video.", remedy=remedy, kind="no_media", row=group.id)


def _thinned(clip: Clip, max_frames: int) -> Clip:
    """Return the clip with fewer frames; of one part among several, so many of that part."""
    most = min(clip.sampling.num_frames, max_frames * clip.sampling.num_parts)
    return replace(clip, sampling=replace(clip.sampling, num_frames=most))
