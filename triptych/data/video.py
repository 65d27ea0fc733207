"""Videos from untrusted places: a folder of frames, or a file, to pictures with their times.

A folder holds one picture per frame, in the order of their names. A file is decoded with PyAV where that is installed.
Faults, raised as `DataError`: those of `media.py` for paths and frames, `video_empty`, `video_sizes`, `video_decoder`,
`video_unreadable`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from triptych.data.media import load_image, media_key, resolve_media, verify_file, verify_image
from triptych.errors import DataError
from triptych.group import Media

FOLDER_FPS = 2.0
"""Frames per second that a folder of frames holds: the rate at which Qwen-VL samples videos (arXiv:2409.12191)."""
FILE_FRAMES = 32
"""Most frames taken from a file, at equal distances."""


@dataclass(frozen=True)
class Video:
    """Frames of one video, all of one size, and how many of them make a second."""

    frames: tuple[Image.Image, ...]
    fps: float

    def metadata(self) -> dict[str, Any]:
        """Return what a Hugging Face processor wants to know of a video that was sampled already."""
        num_frames = len(self.frames)
        return {
            "total_num_frames": num_frames,
            "fps": self.fps,
            "duration": num_frames / self.fps,
            "frames_indices": list(range(num_frames)),
        }


def load_video(item: Media, root: str | Path) -> Video:
    """Load the frames of a video.

    Args:
        item: path of a folder of frames or of a video file, relative to `root`, or the bytes of a file.
        root: the data root, which the path may not leave.

    Raises:
        DataError: the faults listed at the top of this module.
    """
    if names := _frame_names(item, root):
        video = Video(tuple(load_image(name, root) for name in names), FOLDER_FPS)
    else:
        video = _decode(item, root)
    if len({frame.size for frame in video.frames}) > 1:
        raise DataError(
            f"The frames of {_shown(item)} differ in size.",
            remedy="Give all frames of a video the same size.",
            kind="video_sizes",
        )
    return video


def verify_video(item: Media, root: str | Path, *, decode: bool = False) -> None:
    """Raise `DataError` unless the video is a file inside `root`, or a folder of pictures that can be read."""
    if names := _frame_names(item, root):
        for name in names:
            verify_image(name, root, decode=decode)
    else:
        verify_file(item, root)


def frame_keys(item: Media, root: str | Path) -> list[str]:
    """Return an identity of each frame that `load_video` gives."""
    if names := _frame_names(item, root):
        return [media_key(name, root) for name in names]
    key = media_key(item, root)
    return [f"{key}@{number}" for number in range(len(load_video(item, root).frames))]


def video_key(item: Media, root: str | Path) -> str:
    """Return 16 hexadecimal digits that stand for the content of a video: its frames in order, or its file."""
    names = _frame_names(item, root)
    keys = [media_key(name, root) for name in names] if names else [media_key(item, root)]
    return hashlib.sha256("\n".join(["video", *keys]).encode()).hexdigest()[:16]


def _frame_names(item: Media, root: str | Path) -> list[str]:
    """Return the paths of the frames of a folder, relative to `root`; none for a file.

    Raises:
        DataError: kind `video_empty`, a folder without a file.
    """
    if isinstance(item, bytes):
        return []
    folder = resolve_media(item, root)
    if not folder.is_dir():
        return []
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    if not names:
        raise DataError(
            f"The folder {item!r} holds no frame.", remedy="Put one picture per frame there.", kind="video_empty"
        )
    return [f"{item.rstrip('/')}/{name}" for name in names]


def _decode(item: Media, root: str | Path) -> Video:
    """Take up to `FILE_FRAMES` frames of a file, at equal distances from the first to the last."""
    verify_file(item, root)
    try:
        import av
    except ImportError:
        raise DataError(
            f"The video {_shown(item)} is a file, and PyAV, which decodes files, is not installed.",
            remedy="`pip install av`, or give a folder with one picture per frame.",
            kind="video_decoder",
        ) from None
    source = io.BytesIO(item) if isinstance(item, bytes) else str(resolve_media(item, root))
    try:
        rate, total = _measure(av, source)
        wanted = np.linspace(0, total - 1, min(total, FILE_FRAMES)).round().astype(int)
        frames = tuple(frame.to_image().convert("RGB") for frame in _at(av, source, set(wanted.tolist())))
        return Video(frames, rate * len(frames) / total)
    except (av.FFmpegError, IndexError, ZeroDivisionError) as error:
        raise DataError(
            f"The video {_shown(item)} cannot be decoded: {error}.",
            remedy="Write it again, for example as H.264 in MP4, or give a folder of frames.",
            kind="video_unreadable",
        ) from error


def _measure(av: Any, source: Any) -> tuple[float, int]:
    """Return frames per second, and the number of frames that decode."""
    with _opened(av, source) as container:
        stream = container.streams.video[0]
        total = sum(1 for _ in container.decode(stream))
        return float(stream.average_rate), total


def _at(av: Any, source: Any, numbers: set[int]) -> Iterator[Any]:
    with _opened(av, source) as container:
        for number, frame in enumerate(container.decode(container.streams.video[0])):
            if number in numbers:
                yield frame


def _opened(av: Any, source: Any) -> Any:
    if isinstance(source, io.BytesIO):
        source.seek(0)
    return av.open(source)


def _shown(item: Media) -> str:
    return f"of {len(item)} bytes" if isinstance(item, bytes) else repr(item)
