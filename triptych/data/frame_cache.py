"""Decoded frames on disk, so that a video is decoded once: lossless, named by content, bounded.

Each entry is a zip of BMP files, one per frame, which any tool opens. Frames are not compressed: of camera pictures PNG
would save a third of the space and take fifty times as long to read, longer than many a video takes to decode. Entries
are written whole or not at all, so several processes may share a folder. When it grows beyond its bound, those used
longest ago are removed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from triptych.data.files import atomic_path

DISK_BYTES = 20 * 2**30
"""Frames kept on disk: 20 GiB, 600 videos of 50 frames of 640 x 360, or 15,000 of 50 frames of 96 x 96."""
_RATE = "fps.json"
_KEPT_SHARE = 0.9
"""What is left when room is made, so that not every new entry has to make some."""


def frame_cache_in(folder: str) -> FrameCache | None:
    """Return the cache in a folder; None where none is named."""
    return FrameCache(folder) if folder else None


class FrameCache:
    """Frames of videos by key.

    Args:
        folder: made when the first entry is written.
        max_bytes: most that the folder holds.
    """

    def __init__(self, folder: str | Path, max_bytes: int = DISK_BYTES) -> None:
        self.folder, self.max_bytes = Path(folder), max_bytes
        self._writing = threading.Lock()  # atomic_path tells processes apart, not threads
        self._known_bytes = sum(size for _, size, _ in self._entries())

    def load(self, key: str) -> tuple[tuple[Image.Image, ...], float] | None:
        """Return frames and frames per second; None where they are not stored, or damaged, which is told."""
        path = self._path(key)
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name != _RATE]
                frames = tuple(Image.open(io.BytesIO(archive.read(name)), formats=["BMP"]) for name in names)
                for frame in frames:
                    frame.load()
                rate = float(json.loads(archive.read(_RATE)))
        except FileNotFoundError:
            return None
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            warnings.warn(f"The stored frames {path} are damaged ({error}); the video is decoded again.", stacklevel=2)
            return None
        with contextlib.suppress(OSError):  # another process may have made room just now
            os.utime(path)
        return frames, rate

    def save(self, key: str, frames: Sequence[Image.Image], fps: float) -> None:
        """Store frames; more than the whole folder may hold are not stored."""
        path = self._path(key)
        with self._writing, atomic_path(path) as temporary:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                for number, frame in enumerate(frames):
                    content = io.BytesIO()
                    frame.save(content, "BMP")
                    archive.writestr(zipfile.ZipInfo(f"{number:05d}.bmp"), content.getvalue())
                archive.writestr(zipfile.ZipInfo(_RATE), json.dumps(fps))
            self._known_bytes += temporary.stat().st_size
        if self._known_bytes > self.max_bytes:
            self._make_room()

    def _make_room(self) -> None:
        """Remove the entries used longest ago; count anew, for others may have written or removed some."""
        entries = sorted(self._entries())
        self._known_bytes = sum(size for _, size, _ in entries)
        wanted = self.max_bytes * _KEPT_SHARE if self._known_bytes > self.max_bytes else self.max_bytes
        for _, size, path in entries:
            if self._known_bytes <= wanted:
                return
            path.unlink(missing_ok=True)
            self._known_bytes -= size

    def _entries(self) -> list[tuple[int, int, Path]]:
        """Return when each entry was last used (ns), its size and its path."""
        found = []
        for path in self.folder.glob("*/*.zip"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        return found

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.zip"
