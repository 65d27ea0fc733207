"""What stands in the place of a video in the text of a prompt, before any frame is decoded: for counting tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

from triptych.data.video import VideoShape
from triptych.engine.encode import Encoder
from triptych.errors import DataError


class VideoTexts:
    """Fills the places of videos as the processor would, but with each run of placeholders cut down to one.

    A processor writes one placeholder for each token of a video, thousands of them, and may write times and markers
    between them. Cut down, the text is tokenised as fast as any other and to the same tokens.

    Args:
        encoder: of a model that takes videos.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        processor, family = encoder.processor, encoder.family
        tokens = {family.image_token_id: processor.image_token, family.video_token_id: processor.video_token}
        names = "|".join(re.escape(token) for number, token in tokens.items() if number is not None)
        self._runs = re.compile(rf"({names})\1+")
        self._known: dict[VideoShape, tuple[str, int]] = {}

    def fill(self, text: str, shapes: Sequence[VideoShape]) -> tuple[str, int]:
        """Return a prompt with the places of its videos filled, and how many placeholders were left out.

        Args:
            text: of the prompt, a placeholder for each video.
            shapes: of the videos, in order.

        Raises:
            DataError: kinds `processor_refused`, `video_lengths`, the processor does not take such videos;
                `template_without_image`, `placeholder_in_text`, the text holds another number of placeholders.
        """
        parts = text.split(self._encoder.processor.video_token)
        self._check(len(parts) - 1, shapes)
        filled, left_out = [parts[0]], 0
        for shape, part in zip(shapes, parts[1:], strict=True):
            written, fewer = self._written(shape)
            filled += [written, part]
            left_out += fewer
        return "".join(filled), left_out

    def _written(self, shape: VideoShape) -> tuple[str, int]:
        """Return what is written for a video, cut down, and how many placeholders were left out."""
        if shape not in self._known:
            try:
                written = self._encoder.family.video_text(self._encoder.processor, shape)
            except ValueError as error:
                raise DataError(
                    f"The processor of this model refuses a video of {shape.num_frames} frame(s) of {shape.width} x "
                    f"{shape.height} pixels: {error}",
                    remedy="Take more or other frames of it (`meta.video`), or leave the row out.",
                    kind="processor_refused",
                ) from error
            runs = [len(run[0]) // len(run[1]) for run in self._runs.finditer(written)]
            self._known[shape] = self._runs.sub(r"\1", written), sum(runs) - len(runs)
        return self._known[shape]

    def _check(self, num_places: int, shapes: Sequence[VideoShape]) -> None:
        if num_places != len(shapes):
            few = num_places < len(shapes)
            raise DataError(
                f"The text made of this prompt holds {num_places} video placeholder(s) for {len(shapes)} video(s).",
                remedy="Give the processor a chat template that writes its video placeholder for video parts."
                if few
                else "Take the placeholder out of the text; videos are parts of their own.",
                kind="template_without_image" if few else "placeholder_in_text",
            )
        counts = sorted({shape.num_frames for shape in shapes})
        if len(counts) > 1 and not self._encoder.family.mixes_video_lengths:
            raise DataError(
                f"This model takes videos of one number of frames in a prompt; here they have {counts}.",
                remedy="Set `num_frames` in `meta.video` so that all give as many.",
                kind="video_lengths",
            )
