"""Pictures inside the page: small, embedded once however often they are shown; clips are with them, as filmstrips."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from triptych.data.media import load_image
from triptych.errors import DataError
from triptych.group import Media
from triptych.report.filmstrip import Filmstrips

MAX_SIDE = 400
"""Longer sides are scaled down to this, in pixels."""
PIXEL_ART_SIDE = 96
"""Up to this side a picture is kept as it is, without loss, and shown in whole multiples of its pixels."""
SHOWN_SIDE, SHOWN_PHOTO_SIDE = 144, 220
MAX_TOTAL_BYTES = 2_500_000
"""Pictures beyond this many bytes in all are left out, and said to be."""


@dataclass(frozen=True)
class Picture:
    """A picture to show: its place among the embedded ones, or why it cannot be shown."""

    id: str
    width: int
    height: int
    alt: str
    problem: str = ""

    @property
    def shown_width(self) -> int:
        """Width on the page in CSS pixels: a whole multiple for a small picture, its own or less for a large one."""
        side = max(self.width, self.height)
        if side <= PIXEL_ART_SIDE:
            return self.width * max(1, SHOWN_SIDE // side)
        return round(self.width * min(1.0, SHOWN_PHOTO_SIDE / side))


@dataclass(frozen=True)
class Embedded:
    """What the page holds of one picture."""

    id: str
    width: int
    height: int
    uri: str


class Pictures:
    """Collects the pictures of a page by content."""

    def __init__(self) -> None:
        self.embedded: dict[str, Embedded] = {}
        self.strips = Filmstrips()
        self._num_bytes = 0

    def add(self, item: Media, root: Path, alt: str) -> Picture:
        """Embed a picture unless it is there already.

        Args:
            item: path relative to `root`, or the bytes of the file.
            alt: what the picture is, for those who cannot see it.
        """
        try:
            image = load_image(item, root)
        except DataError as error:
            return Picture("", 1, 1, alt, f"Picture not shown: {error.problem}")
        kind, content, size = _encode(image)
        key = hashlib.sha256(content).hexdigest()
        if key not in self.embedded:
            if self._num_bytes + len(content) > MAX_TOTAL_BYTES:
                return Picture("", 1, 1, alt, "Picture not shown: this page holds enough of them.")
            self._num_bytes += len(content)
            uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
            self.embedded[key] = Embedded(f"picture-{len(self.embedded) + 1}", *size, uri)
        found = self.embedded[key]
        return Picture(found.id, found.width, found.height, alt)


def _encode(image: Image.Image) -> tuple[str, bytes, tuple[int, int]]:
    buffer = io.BytesIO()
    if max(image.size) <= PIXEL_ART_SIDE:
        image.save(buffer, "png", optimize=True)
        return "png", buffer.getvalue(), image.size
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    image.save(buffer, "jpeg", quality=85)
    return "jpeg", buffer.getvalue(), image.size
