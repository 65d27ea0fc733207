"""Videos from untrusted places: a folder of frames, or a file, to pictures with their times.

A folder holds one picture per frame, in the order of their names. A file is decoded with PyAV where that is installed.
Which frames are taken is said by the row (`triptych.data.sampling`). Wherever a video is asked for, a path or bytes
stand for one with the default policy.

Faults, raised as `DataError`: those of `media.py` for paths and frames, those of `video_file.py` for files, those of
`sampling.py` for policies, `video_empty` and `video_sizes`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from triptych.data.frame_cache import FrameCache
from triptych.data.media import image_size, load_image, media_key, resolve_media, verify_file, verify_image
from triptych.data.sampling import Clip, canonical, fewest_parts, moments
from triptych.data.video_file import VideoFile
from triptych.errors import DataError
from triptych.group import Media, fingerprint

FOLDER_FPS = 2.0
"""Frames per second that a folder of frames holds: the rate at which Qwen-VL samples videos (arXiv:2409.12191)."""
CLIP_FRAMES = 20
"""Most frames of a clip that is captioned on its own (VLM-RLAIF, arXiv:2402.03746)."""


@dataclass(frozen=True)
class Video:
    """Frames of one video, all of one size, and how many of them make a second."""

    frames: tuple[Image.Image, ...]
    fps: float

    def metadata(self) -> dict[str, Any]:
        """Return what a Hugging Face processor wants to know of a video that was sampled already."""
        return _metadata(len(self.frames), self.fps)


@dataclass(frozen=True)
class VideoShape:
    """What can be known of a `Video` without its frames: how many there are, their size in pixels, and their rate."""

    num_frames: int
    width: int
    height: int
    fps: float

    def metadata(self) -> dict[str, Any]:
        """Return what `Video.metadata` does."""
        return _metadata(self.num_frames, self.fps)


def load_video(video: Media | Clip, root: str | Path, cache: FrameCache | None = None) -> Video:
    """Load the frames of a video.

    Args:
        video: path of a folder of frames or of a video file, relative to `root`, or the bytes of a file.
        root: the data root, which the path may not leave.
        cache: where frames of files are looked up and stored.

    Raises:
        DataError: the faults listed at the top of this module.
    """
    clip = _clip(video)
    key = None if cache is None or _is_folder(clip.item, root) else video_key(clip, root)
    if key is not None and (known := cache.load(key)) is not None:
        return Video(*known)
    with _opened(clip.item, root) as source:
        chosen = moments(clip.sampling, source)
        loaded = Video(tuple(source.frames(chosen)), _rate(chosen, source))
    if len({frame.size for frame in loaded.frames}) > 1:
        raise _different_sizes(clip.item)
    if key is not None:
        cache.save(key, loaded.frames, loaded.fps)
    return loaded


@dataclass(frozen=True)
class Preview:
    """Some of the frames that are taken of a video.

    Attributes:
        frames: in order.
        seconds: when each is on the screen, from the first frame of the video on.
        num_frames: how many are taken in all.
        fps: how many of these make a second.
    """

    frames: tuple[Image.Image, ...]
    seconds: tuple[float, ...]
    num_frames: int
    fps: float


def preview_video(video: Media | Clip, root: str | Path, *, most: int) -> Preview:
    """Load at most `most` of the frames that `load_video` gives, evenly spread from the first to the last.

    Only these are decoded, so that a glance at a long video costs little.

    Raises:
        DataError: the faults listed at the top of this module, but `video_sizes`.
    """
    clip = _clip(video)
    with _opened(clip.item, root) as source:
        chosen = moments(clip.sampling, source)
        last, shown = len(chosen) - 1, min(len(chosen), most)
        picked = [chosen[round(number * last / max(1, shown - 1))] for number in range(shown)]
        seconds = tuple(float((moment - source.first) * source.tick) for moment in picked)
        return Preview(tuple(source.frames(picked)), seconds, len(chosen), _rate(chosen, source))


def verify_video(video: Media | Clip, root: str | Path) -> None:
    """Raise `DataError` unless the video is a file inside `root` that holds something, or a folder of pictures."""
    item = _clip(video).item
    if not _is_folder(item, root):
        verify_file(item, root)
        return
    for name in _frame_names(item, root):
        verify_image(name, root)


def probe_video(video: Media | Clip, root: str | Path, *, decode: bool = False) -> VideoShape:
    """Return the shape of what the policy takes, or raise what `load_video` would, but for damage amid a video.

    Of a file the first frame is decoded and the last one looked for; of a folder every picture is looked at. `decode`
    loads the frames that the policy takes.

    Raises:
        DataError: the faults listed at the top of this module.
    """
    clip = _clip(video)
    if decode:
        loaded = load_video(clip, root)
        return VideoShape(len(loaded.frames), *loaded.frames[0].size, loaded.fps)
    verify_video(clip, root)
    with _opened(clip.item, root) as source:
        chosen = moments(clip.sampling, source)
        sizes = {source.size} if isinstance(source, VideoFile) else source.sizes(chosen)
        if len(sizes) > 1:
            raise _different_sizes(clip.item)
        return VideoShape(len(chosen), *sizes.pop(), _rate(chosen, source))


def frame_keys(video: Media | Clip, root: str | Path) -> list[str]:
    """Return an identity of each frame that `load_video` gives, the same in whatever company it is taken."""
    clip = _clip(video)
    with _opened(clip.item, root) as source:
        chosen = moments(clip.sampling, source)
        if isinstance(source, _Folder):
            return [media_key(source.names[number], root) for number in chosen]
    key = media_key(clip.item, root)
    return [f"{key}@{moment}" for moment in chosen]


def video_key(video: Media | Clip, root: str | Path) -> str:
    """Return 16 hexadecimal digits that stand for what is seen of a video: the frames taken of it, in order."""
    clip = _clip(video)
    if _is_folder(clip.item, root):
        return hashlib.sha256("\n".join(["video", *frame_keys(clip, root)]).encode()).hexdigest()[:16]
    verify_file(clip.item, root)
    return fingerprint(["video", media_key(clip.item, root), canonical(clip.sampling)])


def split_video(video: Media | Clip, root: str | Path, *, max_frames: int = CLIP_FRAMES) -> list[Clip]:
    """Cut what is taken of a video into as few runs as can be of at most `max_frames` frames, in order.

    Each is a `Clip` of the same video that takes some of the frames that the whole takes.

    Raises:
        DataError: the faults listed at the top of this module.
    """
    clip = _clip(video)
    with _opened(clip.item, root) as source:
        total = len(moments(clip.sampling, source))
    parts = fewest_parts(total, max_frames)
    if parts > 1 and clip.sampling.num_parts > 1:
        raise DataError(
            f"The video {_shown(clip.item)} is a part already, and parts are not cut again.",
            remedy="Split the whole video.",
            kind="video_sampling",
        )
    if parts == 1:
        return [clip]
    return [replace(clip, sampling=replace(clip.sampling, num_parts=parts, part=part)) for part in range(parts)]


class _Folder:
    """A folder of frames; a tick is a frame."""

    def __init__(self, names: list[str], root: str | Path) -> None:
        self.names, self.root = names, root
        self.first, self.last = 0, len(names) - 1
        self.rate = Fraction(str(FOLDER_FPS))
        self.tick = 1 / self.rate

    def count(self, low: int, high: int, limit: int) -> int:
        return min(high - low + 1, limit)

    def frames(self, chosen: list[int]) -> Iterator[Image.Image]:
        return (load_image(self.names[number], self.root) for number in chosen)

    def sizes(self, chosen: list[int]) -> set[tuple[int, int]]:
        """Return the sizes of frames that there are, from their headers."""
        return {image_size(self.names[number], self.root) for number in chosen}


@contextlib.contextmanager
def _opened(item: Media, root: str | Path) -> Iterator[_Folder | VideoFile]:
    if _is_folder(item, root):
        yield _Folder(_frame_names(item, root), root)
        return
    verify_file(item, root)
    with VideoFile(item if isinstance(item, bytes) else str(resolve_media(item, root)), _shown(item)) as file:
        yield file


def _is_folder(item: Media, root: str | Path) -> bool:
    return isinstance(item, str) and resolve_media(item, root).is_dir()


def _frame_names(item: str, root: str | Path) -> list[str]:
    """Return the paths of the frames of a folder, relative to `root`.

    Raises:
        DataError: kind `video_empty`, a folder without a file.
    """
    entries = resolve_media(item, root).iterdir()
    names = sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))
    if not names:
        raise DataError(
            f"The folder {item!r} holds no frame.", remedy="Put one picture per frame there.", kind="video_empty"
        )
    return [f"{item.rstrip('/')}/{name}" for name in names]


def _rate(chosen: list[int], source: _Folder | VideoFile) -> float:
    """Return how many of the frames taken make a second; for a single one the rate of the video."""
    ticks = chosen[-1] - chosen[0]
    return float((len(chosen) - 1) / (ticks * source.tick)) if ticks else float(source.rate)


def _metadata(num_frames: int, fps: float) -> dict[str, Any]:
    return {
        "total_num_frames": num_frames,
        "fps": fps,
        "duration": num_frames / fps,
        "frames_indices": list(range(num_frames)),
    }


def _different_sizes(item: Media) -> DataError:
    return DataError(
        f"The frames of {_shown(item)} differ in size.",
        remedy="Give all frames of a video the same size.",
        kind="video_sizes",
    )


def _clip(video: Media | Clip) -> Clip:
    return video if isinstance(video, Clip) else Clip(video)


def _shown(item: Media) -> str:
    return f"of {len(item)} bytes" if isinstance(item, bytes) else repr(item)
