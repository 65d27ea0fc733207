"""The pictures and clips of a page: each distinct one embedded once, up to a limit, and named where it cannot be shown.

A medium is described by an object that the page understands:

| field | of | meaning |
| --- | --- | --- |
| `name` | all but bytes | path relative to the data root |
| `problem` | what cannot be shown | why |
| `width`, `height` | pictures, clips | of the original, in pixels |
| `picture` | embedded pictures | number among the embedded thumbnails |
| `frames` | clips | numbers of thumbnails at equal distances |
| `num_frames`, `fps` | clips | frames that the policy of the row takes, and how many of them make a second |
| `start` | clips | second of the first of them, unless the clip is a later part of a video |

A picture with neither `problem` nor `picture` is shown from its own file, `name`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from triptych.data.media import image_size, load_image
from triptych.data.sampling import Clip, FrameSampling, clips_of
from triptych.data.video import preview_video
from triptych.errors import DataError
from triptych.group import Group, Media
from triptych.report.view.thumbnails import FRAME, PICTURE, thumbnail

MAX_FRAMES = 8
"""Frames shown of a clip."""
MANY_PICTURES = 8
"""A row with more pictures than this has them as small as frames."""
MAX_THREADS = 4
"""Pictures decoded at a time; one may take 200 MB while it is large."""

DEFAULT_SAMPLING = FrameSampling()

Kind = Literal["picture", "frame", "clip"]


@dataclass(frozen=True)
class Medium:
    """A picture or clip of a row and how it is shown."""

    kind: Kind
    item: Media
    sampling: FrameSampling = DEFAULT_SAMPLING
    """Which frames of a clip are taken."""
    problem: str = ""
    """Why it cannot be shown, where the row itself tells."""

    @property
    def key(self) -> Medium:
        """What two media have in common that need to be decoded only once; bytes are not kept for it."""
        if isinstance(self.item, bytes):
            return replace(self, item=hashlib.sha256(self.item).digest())
        return self

    def described(self, **facts: Any) -> dict[str, Any]:
        """Return the description with these facts, see the table at the top."""
        return ({} if isinstance(self.item, bytes) else {"name": self.item}) | facts


@dataclass(frozen=True)
class _Loaded:
    """A medium as decoded: what is known of it, and its thumbnails."""

    facts: dict[str, Any]
    thumbnails: tuple[str, ...] = ()


def media_of(group: Group) -> list[Medium]:
    """Return the media of a row in the order of the parts of its prompt."""
    kind: Kind = "frame" if len(group.images) > MANY_PICTURES else "picture"
    try:
        clips = [Medium("clip", clip.item, clip.sampling) for clip in clips_of(group)]
    except DataError as error:
        clips = [Medium("clip", item, problem=error.problem) for item in group.videos]
    media = {"image": iter([Medium(kind, item) for item in group.images]), "video": iter(clips)}
    parts = (part["type"] for message in group.prompt for part in message["content"])
    return [next(media[part]) for part in parts if part != "text"]


class Album:
    """Collects the media of a page.

    Args:
        root: the data root.
        max_bytes: of the thumbnails in the page, as base64. From the first that would go beyond, pictures are shown
            from their files and clips are not shown.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root, self.max_bytes = root, max_bytes
        self.full = False
        self.num_bytes = self.num_pictures = 0
        self._described: dict[Medium, dict[str, Any]] = {}
        self._numbers: dict[bytes, int] = {}
        self._new: list[str] = []
        self._threads = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1))
        self._one_clip = threading.Lock()

    def __enter__(self) -> Album:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def add(self, media: Iterable[Medium]) -> None:
        """Decode and embed what is not there yet, several at a time."""
        missing = {key: medium for medium in media if (key := medium.key) not in self._described}
        load = functools.partial(self._load, full=self.full)  # as it is now, so that the page does not depend on timing
        for (key, medium), loaded in zip(missing.items(), self._threads.map(load, missing.values()), strict=True):
            self._described[key] = medium.described(**self._embed(medium, loaded))

    def describe(self, medium: Medium) -> dict[str, Any]:
        """Return the description of a medium that was added."""
        return self._described[medium.key]

    def take_new(self) -> list[str]:
        """Return the thumbnails embedded since the last call, in the order of their numbers."""
        new, self._new = self._new, []
        return new

    @property
    def num_problems(self) -> int:
        """Number of media that cannot be shown."""
        return sum("problem" in item for item in self._described.values())

    def _load(self, medium: Medium, *, full: bool) -> _Loaded:
        if medium.problem:
            return _Loaded({"problem": medium.problem})
        try:
            if medium.kind == "clip":
                return _Loaded({}) if full else self._load_clip(medium)
            if full:
                width, height = image_size(medium.item, self.root)
                return _Loaded({"width": width, "height": height})
            return self._load_picture(medium)
        except DataError as error:
            return _Loaded({"problem": error.problem})

    def _load_picture(self, medium: Medium) -> _Loaded:
        image = load_image(medium.item, self.root)
        small = thumbnail(image, FRAME if medium.kind == "frame" else PICTURE)
        return _Loaded({"width": image.width, "height": image.height}, (small,))

    def _load_clip(self, medium: Medium) -> _Loaded:
        with self._one_clip:  # its frames together take as much memory as several pictures
            clip = preview_video(Clip(medium.item, medium.sampling), self.root, most=MAX_FRAMES)
            small = tuple(thumbnail(frame, FRAME) for frame in clip.frames)
        width, height = clip.frames[0].size
        facts = {"width": width, "height": height, "num_frames": clip.num_frames, "fps": clip.fps}
        if medium.sampling.num_parts == 1:
            facts["start"] = medium.sampling.start
        return _Loaded(facts, small)

    def _embed(self, medium: Medium, loaded: _Loaded) -> dict[str, Any]:
        if "problem" in loaded.facts:
            return loaded.facts
        numbers = [self._number(line) for line in loaded.thumbnails]
        if numbers and None not in numbers:
            return loaded.facts | ({"frames": numbers} if medium.kind == "clip" else {"picture": numbers[0]})
        if medium.kind == "clip" or isinstance(medium.item, bytes):
            return {"problem": f"The page holds its {self.max_bytes / 1e6:g} MB of pictures already."}
        return loaded.facts

    def _number(self, line: str) -> int | None:
        """Embed a thumbnail unless it is there already; None where the page holds enough."""
        key = hashlib.sha256(line.encode()).digest()[:16]
        if key not in self._numbers:
            self.full = self.full or self.num_bytes + len(line) > self.max_bytes
            if self.full:
                return None
            self._numbers[key] = self.num_pictures
            self.num_pictures += 1
            self.num_bytes += len(line)
            self._new.append(line)
        return self._numbers[key]
