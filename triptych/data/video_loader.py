"""Videos that are seen again and again: those used last stay in memory, and frames of files on disk where wanted."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from triptych.data.frame_cache import FrameCache
from triptych.data.sampling import Clip
from triptych.data.video import Video, load_video, video_key
from triptych.group import Media

MEMORY_BYTES = 2**30
"""Frames kept in memory: 1 GiB, 4,800 videos of 8 frames of 96 x 96, or 31 of 50 frames of 640 x 360."""


class VideoLoader:
    """Loads videos, each once while it is remembered.

    Args:
        cache: where frames of files are looked up and stored; None stores nothing.
        max_bytes: of frames to keep in memory, those used last.
    """

    def __init__(self, cache: FrameCache | None = None, max_bytes: int = MEMORY_BYTES) -> None:
        self._cache, self._free = cache, max_bytes
        self._known = OrderedDict[str, Video]()

    def load(self, video: Media | Clip, root: Path) -> Video:
        """Return what `load_video` gives, and raise what it raises."""
        key = video_key(video, root)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        self._known[key] = loaded = load_video(video, root, self._cache)
        self._free -= _num_bytes(loaded)
        while self._free < 0:
            self._free += _num_bytes(self._known.popitem(last=False)[1])
        return loaded


def _num_bytes(video: Video) -> int:
    return sum(3 * frame.width * frame.height for frame in video.frames)
