"""Clips inside the page: up to eight of the frames that a row takes of its video, drawn once as one picture.

The page looks at that picture through one window for each frame, so that it may put the frames in one line or in two.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from triptych.data.sampling import Clip, clips_of
from triptych.data.video import Preview, preview_video
from triptych.errors import DataError
from triptych.group import Group
from triptych.report.wording import clock

MAX_FRAMES = 8
"""Frames shown of a clip."""
FRAME_SIDE = 176
"""Longer sides of frames are scaled down to this, in pixels."""
BLOCK = 16
"""Frames begin at multiples of this, in pixels, the blocks that WebP codes, so that none shines into the next."""
WEBP = {"quality": 72, "method": 4}
MAX_TOTAL_BYTES = 2_500_000
"""Filmstrips beyond this many bytes in all are left out, and said to be."""


@dataclass(frozen=True)
class EmbeddedStrip:
    """What the page holds of a filmstrip."""

    id: str
    width: int
    height: int
    uri: str


@dataclass(frozen=True)
class Strip:
    """A filmstrip to show: its place among the embedded ones, or why it cannot be shown."""

    id: str
    width: int
    """Of a frame, in pixels, as is `height`."""
    height: int
    times: tuple[str, ...]
    """When each frame is on the screen."""
    alt: str
    note: str = ""
    """What of the clip is not shown."""
    problem: str = ""

    @property
    def pitch(self) -> int:
        """Pixels from the beginning of a frame to that of the next."""
        return -(-self.width // BLOCK) * BLOCK

    @property
    def total(self) -> int:
        """Width of the whole picture in pixels."""
        return self.pitch * len(self.times)


class Filmstrips:
    """Collects the filmstrips of a page; each clip is decoded once."""

    def __init__(self) -> None:
        self.embedded: dict[str, EmbeddedStrip] = {}
        self._known: dict[tuple[Clip, Path], Strip] = {}
        self._num_bytes = 0

    @property
    def any_asked(self) -> bool:
        """Tell whether a clip is on the page, or the reason why it is not."""
        return bool(self._known)

    def add(self, clip: Clip, root: Path, alt: str) -> Strip:
        """Embed a filmstrip unless it is there already.

        Args:
            clip: the video, a path relative to `root` or bytes, and the policy of its row.
            alt: what the clip is, for those who cannot see it.
        """
        key = (_without_bytes(clip), root)
        if key not in self._known:
            try:
                self._known[key] = self._embed(preview_video(clip, root, most=MAX_FRAMES))
            except DataError as error:
                self._known[key] = unseen(error)
        found = self._known[key]
        span = f"{found.times[0]} to {found.times[-1]}" if found.times else "not shown"
        return replace(found, alt=f"{alt}: {len(found.times)} frames, {span}" if found.times else alt)

    def _embed(self, preview: Preview) -> Strip:
        frames = _small(preview.frames)
        width, height = frames[0].size
        times = tuple(map(clock, preview.seconds))
        left_out = preview.num_frames - len(frames)
        note = f"{len(frames)} of the {preview.num_frames} frames that the row takes" if left_out else ""
        strip = Strip("", width, height, times, "", note)
        content = _drawn(frames, strip.pitch)
        key = hashlib.sha256(content).hexdigest()
        if key not in self.embedded:
            if self._num_bytes + len(content) > MAX_TOTAL_BYTES:
                return replace(strip, times=(), problem="Clip not shown: this page holds enough of them.")
            self._num_bytes += len(content)
            uri = f"data:image/webp;base64,{base64.b64encode(content).decode()}"
            self.embedded[key] = EmbeddedStrip(f"strip-{len(self.embedded) + 1}", strip.total, height, uri)
        return replace(strip, id=self.embedded[key].id)


def strips_of(group: Group, root: Path, strips: Filmstrips, name: str) -> Iterator[Strip]:
    """Yield the filmstrip of each video of a row, as its policy takes it.

    Args:
        name: what the row is called, as in `row 12`.
    """
    try:
        clips = clips_of(group)
    except DataError as error:
        yield from (unseen(error) for _ in group.videos)
        return
    for number, clip in enumerate(clips, start=1):
        which = f"Clip {number}" if len(clips) > 1 else "Clip"
        yield strips.add(clip, root, f"{which} of {name}")


def unseen(error: DataError) -> Strip:
    """Return what stands in place of a clip that cannot be shown."""
    return Strip("", 1, 1, (), "", problem=f"Clip not shown: {error.problem}")


def _without_bytes(clip: Clip) -> Clip:
    """Return what two clips have in common that need to be decoded only once; bytes are not kept for it."""
    return replace(clip, item=hashlib.sha256(clip.item).digest()) if isinstance(clip.item, bytes) else clip


def _small(frames: tuple[Image.Image, ...]) -> list[Image.Image]:
    """Scale frames down to one size, that of the first."""
    scale = min(1.0, FRAME_SIDE / max(frames[0].size))
    size = tuple(max(1, round(side * scale)) for side in frames[0].size)
    return [frame if frame.size == size else frame.resize(size, Image.Resampling.LANCZOS) for frame in frames]


def _drawn(frames: list[Image.Image], pitch: int) -> bytes:
    """Return the frames side by side as a WebP file."""
    strip = Image.new("RGB", (pitch * len(frames), frames[0].height))
    for number, frame in enumerate(frames):
        strip.paste(frame.convert("RGB"), (number * pitch, 0))
    file = io.BytesIO()
    strip.save(file, "webp", **WEBP)
    return file.getvalue()
