"""InternVL: tiles of one picture follow each other, and a video is a row of pictures of one tile."""

from __future__ import annotations

from typing import Any

from triptych.engine.families.base import Family, Tensors, runs


class InternVL(Family):
    """Each picture, and each frame of a video, is one run of image tokens between its markers."""

    model_types = ("internvl",)
    fixed_tokens_per_image = False
    takes_videos = True
    frames_are_images = True
    mixes_video_lengths = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.tokens_per_tile: int = config.image_seq_length

    def tokens_per_image(self, input_ids: list[int], inputs: Tensors, num_images: int, processor: Any) -> list[int]:
        """Read the lengths of the runs of image tokens."""
        return [end - start for start, end in runs(input_ids, self.image_token_id)]

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """A tile has `image_seq_length` tokens, so the counts give the tiles."""
        tiles = [count // self.tokens_per_tile for count in counts]
        return [("", {"pixel_values": part}) for part in inputs["pixel_values"].split(tiles)]
