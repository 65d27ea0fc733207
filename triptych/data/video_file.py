"""One video file, read with PyAV: when its frames appear, and the frames at given moments, exactly.

A frame is found by its time, not by its number, so that a file of ten hours costs no more than the stretches that are
decoded: where wanted frames are far apart, the file is searched for the key frame before the next one. At most two
frames are held at a time.

A container may refer to other files and to addresses (playlists do). Only formats that hold their frames themselves are
opened, so that what is read is the one file that the row names.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from types import TracebackType
from typing import Any

from PIL import Image

from triptych.data.media import MAX_PIXELS
from triptych.errors import DataError

FORMATS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ogg", "asf", "gif", "ivf")
"""Demuxers of FFmpeg that may be used: MP4, QuickTime, WebM, Matroska, AVI, MPEG, Flash, Ogg, WMV, GIF and IVF."""
THREADED_PIXELS = 2**18
"""Frames of more pixels (512 x 512) are decoded by several threads; for smaller ones these take longer to start."""
KEY_FRAME_DISTANCE = 250
"""Frames between key frames that are assumed until longer distances are met: the default of x264. Up to here the next
wanted frame is reached by decoding on, beyond it by a search."""
_MICROSECONDS = Fraction(1, 1_000_000)
_LOST_FRAMES, _LOST_SHARE = 5, Fraction(1, 50)
"""A file that ends this much before its header says is called truncated: so many frames and this share of its time."""


class VideoFile:
    """A file opened for reading; a context manager, and the `Timeline` of `triptych.data.sampling`.

    Args:
        source: path of the file, or its bytes.
        shown: what errors call it.

    Raises:
        DataError: kinds `video_decoder`, PyAV is not installed; `video_unreadable`, FFmpeg refuses it; `video_empty`,
            it holds no frame; `video_truncated`, its end is missing; `video_times`, its frames have no times;
            `media_too_large`, frames of more than `MAX_PIXELS`.
    """

    def __init__(self, source: str | bytes, shown: str) -> None:
        self._av, self.shown = _pyav(shown), shown
        self._converter = self._av.video.reformatter.VideoReformatter()
        self._source = source

    def __enter__(self) -> VideoFile:
        with contextlib.ExitStack() as stack:
            with self._faults():
                options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
                source = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source
                self._container = stack.enter_context(self._av.open(source, options=options))
            self._measure()
            self._close = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close.close()

    def count(self, low: int, high: int, limit: int) -> int:
        """Return how many frames are on the screen at some time from `low` to `high`, or `limit` if they are more.

        Nothing is decoded: the packets from `low` on are counted, as far as needed.
        """
        number = 1
        with self._faults():
            for packet in self._from_key(low, self._packets, "is_keyframe"):
                if packet.pts is not None and low < packet.pts <= high:
                    number += 1
                if number >= limit or (packet.dts is not None and packet.dts > high):
                    break
        return min(number, limit)

    def frames(self, moments: Sequence[int]) -> Iterator[Image.Image]:
        """Yield the frame on the screen at each moment, upright RGB.

        Args:
            moments: in ticks, ascending, none before `first`.

        Raises:
            DataError: kind `video_unreadable`, damage in the middle of the file.
        """
        shown = following = None
        decoder: Iterator[Any] = iter(())
        for moment in moments:
            if shown is None or moment - shown.pts > self._reach:
                decoder = self._from_key(moment, self._decoded, "key_frame")
                shown, following = next(decoder, None), next(decoder, None)
                if shown is None:
                    raise self._empty("holds no frame that can be decoded")
            while following is not None and following.pts <= moment:
                shown, following = following, next(decoder, None)
            yield self._picture(shown)

    def _measure(self) -> None:
        """Learn the ticks, the first frame and the last."""
        if not self._container.streams.video:
            raise self._empty("holds no video stream")
        stream = self._stream = self._container.streams.video[0]
        if stream.width * stream.height > MAX_PIXELS:
            raise DataError(
                f"The video {self.shown} has frames of {stream.width} x {stream.height} pixels (limit {MAX_PIXELS:,}).",
                remedy="Scale it down.",
                kind="media_too_large",
            )
        if stream.width * stream.height > THREADED_PIXELS:
            stream.thread_type = "AUTO"
        else:
            stream.codec_context.thread_count = 1
        self.tick = Fraction(stream.time_base)
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 1)
        self._reach = int(KEY_FRAME_DISTANCE / (self.rate * self.tick))
        with self._faults():
            first = next(self._decoded(), None)
        if first is None:
            raise self._empty("holds no frame that can be decoded")
        self.first: int = first.pts
        turned = first.rotation % 180 == 90
        self.size: tuple[int, int] = (first.height, first.width) if turned else (first.width, first.height)
        self.last = self._last()
        self._refuse_truncated()

    def _last(self) -> int:
        """Return the time of the last frame: the latest of the packets from the last key frame on."""
        with self._faults():
            end = self._end()
            packets = self._packets() if end is None else self._from_key(end, self._packets, "is_keyframe")
            return max((packet.pts for packet in packets if packet.pts is not None), default=self.first)

    def _end(self) -> int | None:
        """Return when the file ends, in ticks, as its header has it."""
        if self._stream.duration is not None:
            return (self._stream.start_time or 0) + self._stream.duration
        if self._container.duration is not None:
            return int(self._container.duration * _MICROSECONDS / self.tick)
        return None

    def _refuse_truncated(self) -> None:
        """Compare with the length of the stream in the header; the length of the file may be that of its sound."""
        if self._stream.duration is None:
            return
        frame = 1 / (self.rate * self.tick)
        missing = self._end() - (self.last + frame)
        if missing > max(_LOST_FRAMES * frame, _LOST_SHARE * self._stream.duration):
            found = float((self.last - self.first) * self.tick)
            raise DataError(
                f"The video {self.shown} breaks off: frames come until {found:.2f} s, and its header promises "
                f"{float(self._stream.duration * self.tick):.2f} s.",
                remedy="Write or download the file again.",
                kind="video_truncated",
            )

    def _from_key(self, moment: int, read: Callable[[], Iterator[Any]], is_key: str) -> Iterator[Any]:
        """Return what `read` gives, packets or frames, from a key frame at or before the moment on.

        After a search the first frames may refer to what was passed over, so they are left out until a key frame
        comes. If that is too late (some formats are searched by decoding time), the search goes further back.

        Args:
            is_key: attribute that tells a key frame.
        """
        back = 0
        with self._faults():
            while moment - back > self.first:
                self._search(moment - back)
                found = read()
                key = next((item for item in found if getattr(item, is_key)), None)
                if key is not None and key.pts is not None and key.pts <= moment:
                    self._reach = max(self._reach, moment - key.pts)
                    return itertools.chain([key], found)
                back = max(2 * back, self._reach, 1)
            self._rewind()
        return read()

    def _decoded(self) -> Iterator[Any]:
        with self._faults():
            for frame in self._container.decode(self._stream):
                if frame.pts is None:
                    raise DataError(
                        f"The frames of {self.shown} have no times.",
                        remedy="Put the stream into a container: `ffmpeg -i FILE -c copy FILE.mp4`.",
                        kind="video_times",
                    )
                yield frame

    def _packets(self) -> Iterator[Any]:
        return (packet for packet in self._container.demux(self._stream) if packet.size and not packet.is_discard)

    def _search(self, moment: int) -> None:
        self._container.seek(moment, stream=self._stream)

    def _rewind(self) -> None:
        """Go to the start of the file, where even formats without an index can go."""
        self._container.seek(min(self.first, self._stream.start_time or 0, 0), stream=self._stream)

    def _picture(self, frame: Any) -> Image.Image:
        # `to_image` would set a converter up anew for every frame, which takes twenty times as long for small ones
        image = Image.fromarray(self._converter.reformat(frame, format="rgb24", threads=1).to_ndarray())
        return image.rotate(frame.rotation, expand=True) if frame.rotation else image

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Name what FFmpeg finds wrong."""
        try:
            yield
        except self._av.FFmpegError as error:
            raise DataError(
                f"The video {self.shown} cannot be decoded: {error.strerror}.",
                remedy="Write it again, for example as H.264 in MP4, or give a folder of frames.",
                kind="video_unreadable",
            ) from error

    def _empty(self, problem: str) -> DataError:
        remedy = "Write or download the file again, or leave the row out."
        return DataError(f"The file {self.shown} {problem}.", remedy=remedy, kind="video_empty")


def _pyav(shown: str) -> Any:
    try:
        import av
    except ImportError:
        raise DataError(
            f"The video {shown} is a file, and PyAV, which decodes files, is not installed.",
            remedy="`pip install triptych[video]`, or give a folder with one picture per frame.",
            kind="video_decoder",
        ) from None
    return av
