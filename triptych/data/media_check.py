"""Every fault of the media of many rows, each file looked at once: for `triptych data check` and before long jobs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from triptych.data.media import MAX_PIXELS, verify_image
from triptych.data.sampling import Clip, clips_of
from triptych.data.video import probe_video
from triptych.errors import DataError
from triptych.group import Group, Media

ROWS_AT_ONCE = 512
MOST_FAULTS = 100
"""After so many faults the search before a job is given up."""
_SHOWN = 5
_MediaKey = tuple[str, Media | Clip]


class MediaChecker:
    """Verifies each file below a data root once, however many rows show it.

    Args:
        root: data root.
        max_pixels: of a picture.
        decode: decode all of it; otherwise damage in the middle goes unseen.
        without_decoder: pass files of videos that cannot be looked into because PyAV is not installed.
    """

    def __init__(
        self, root: Path, *, max_pixels: int = MAX_PIXELS, decode: bool = False, without_decoder: bool = False
    ) -> None:
        self.root, self._max_pixels = root, max_pixels
        self._decode, self._without_decoder = decode, without_decoder
        self._known: dict[_MediaKey, DataError | None] = {}

    def verify(self, groups: Iterable[Group], pool: ThreadPoolExecutor) -> None:
        """Verify the files that were not seen yet. Decoding releases the interpreter lock, so there threads pay."""
        new = {key: None for group in groups for key in _media_keys(group) if _is_file(key)}
        new = [key for key in new if key not in self._known]
        decoded = [key for key in new if self._decode or key[0] == "video"]
        self._known.update(zip(decoded, pool.map(self._fault, decoded), strict=True))
        self._known.update((key, self._fault(key)) for key in new if key not in self._known)

    def faults(self, group: Group) -> Iterator[DataError]:
        """Yield the faults of the media of a verified group, and of what it records about its videos."""
        for key in _media_keys(group):
            error = self._known[key] if _is_file(key) else self._fault(key)
            if error is not None:
                yield error
        try:
            clips_of(group)
        except DataError as error:
            yield error

    def _fault(self, key: _MediaKey) -> DataError | None:
        kind, item = key
        try:
            if kind == "image":
                verify_image(item, self.root, max_pixels=self._max_pixels, decode=self._decode)
            else:
                probe_video(item, self.root, decode=self._decode)
        except DataError as error:
            return None if error.kind == "video_decoder" and self._without_decoder else error
        return None


def check_media(rows: Iterable[tuple[Group, Path, str]]) -> None:
    """Raise the faults of all media that rows show, before a job begins that would meet them one by one.

    Args:
        rows: groups, the data root of the media of each, and the file each comes from.

    Raises:
        DataError: of the kind of the first fault, which it describes; the other rows are listed.
    """
    checkers: dict[Path, MediaChecker] = {}
    faults: list[DataError] = []
    waiting = iter(rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while (part := list(islice(waiting, ROWS_AT_ONCE))) and len(faults) < MOST_FAULTS:
            for root in dict.fromkeys(root for _, root, _ in part):
                checker = checkers.setdefault(root, MediaChecker(root))
                checker.verify([group for group, its_root, _ in part if its_root == root], pool)
            faults += [
                fault.located(file=file, row=group.id)
                for group, root, file in part
                for fault in checkers[root].faults(group)
            ]
    if faults:
        raise joined(faults)


def joined(faults: Sequence[DataError]) -> DataError:
    """Return the first of several faults, with the rows of the others, and with what sets all of them aside."""
    first = faults[0]
    others = list(dict.fromkeys(f"{fault.row} ({fault.kind})" for fault in faults[1:]))
    problem, remedy = first.problem, first.remedy
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        problem += f" Also faulty: {', '.join(others[:_SHOWN])}{more}."
    if first.kind.startswith(("media_", "video_")):
        remedy += " `triptych data check FILE --quarantine FOLDER` sets such rows aside, with reasons."
    return DataError(problem, remedy=remedy, kind=first.kind, file=first.file, row=first.row)


def _media_keys(group: Group) -> list[_MediaKey]:
    """Return the media of a group; its videos as they are, where what it records about them is faulty."""
    try:
        videos: Sequence[Media | Clip] = clips_of(group)
    except DataError:
        videos = group.videos
    return [("image", item) for item in group.images] + [("video", item) for item in videos]


def _is_file(key: _MediaKey) -> bool:
    item = key[1]
    return isinstance(item.item if isinstance(item, Clip) else item, str)
