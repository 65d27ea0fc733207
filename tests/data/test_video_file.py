"""Frames of files by their times, against a full decode."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.data.clips import SIDE, decode_all, pattern, video_bytes
from triptych.data import video_file
from triptych.data.video_file import VideoFile
from triptych.errors import DataError

STEADY = list(range(60))
UNEVEN = [0, 1, 2, 10, 11, 30, 31, 32, 33, 90, 91, 92, 150]
"""Times of a variable rate, in tenths of a second."""

H264 = {"codec": "libx264", "options": {"preset": "ultrafast", "g": "12", "bf": "0"}}
WITH_B_FRAMES = {"codec": "libx264", "options": {"preset": "veryfast", "g": "12", "bf": "3"}}
OPEN_GROUPS = {"codec": "libx264", "options": {"preset": "veryfast", "g": "12", "bf": "3", "x264-params": "open-gop=1"}}
FILES = {
    "mp4": video_bytes(STEADY, **H264),
    "b-frames": video_bytes(STEADY, **WITH_B_FRAMES),
    "open groups": video_bytes(STEADY, **OPEN_GROUPS),
    "one group": video_bytes(STEADY, codec="libx264", options={"g": "1000"}),
    "mpeg-4": video_bytes(STEADY),
    "matroska": video_bytes(STEADY, container="matroska", **WITH_B_FRAMES),
    "mpeg-ts": video_bytes(STEADY, container="mpegts", **WITH_B_FRAMES),
    "mpeg-4 in mpeg-ts": video_bytes(STEADY, container="mpegts", options={"g": "12", "bf": "2"}),
    "avi": video_bytes(STEADY, container="avi"),
    "uneven mp4": video_bytes(UNEVEN, **WITH_B_FRAMES),
    "uneven matroska": video_bytes(UNEVEN, container="matroska", **H264),
    "one frame": video_bytes([0]),
}


def _nearest(file: VideoFile, frames: list[tuple[Fraction, np.ndarray]], moment: int) -> np.ndarray:
    """Return the last of all frames whose time is not later."""
    seconds = (moment - file.first) * file.tick
    return [picture for time, picture in frames if time <= seconds][-1]


@pytest.mark.parametrize(("reach", "threaded"), [(0, False), (250, False), (0, True), (250, True)])
@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_the_one_that_a_full_decode_shows(
    name: str, reach: int, threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a reach of 0 the file is searched for every frame, with 250 it is decoded straight on.
    monkeypatch.setattr(video_file, "THREADED_PIXELS", 0 if threaded else SIDE * SIDE)
    monkeypatch.setattr(video_file, "KEY_FRAME_DISTANCE", reach)
    frames = decode_all(FILES[name])
    with VideoFile(FILES[name], "it") as file:
        assert (file.last - file.first) * file.tick == frames[-1][0]
        for step in (1, 7, 23):
            ticks = [file.first + int(Fraction(number, 10) / file.tick) for number in range(0, 151, step)]
            moments = [moment for moment in ticks if moment <= file.last]
            for moment, shown in zip(moments, file.frames(moments), strict=True):
                assert np.array_equal(np.asarray(shown), _nearest(file, frames, moment)), moment
        moments = [file.first, file.first + 1, file.last - 1, file.last]
        for moment, shown in zip(moments, file.frames(moments), strict=True):
            assert np.array_equal(np.asarray(shown), _nearest(file, frames, max(moment, file.first)))


def test_a_decoded_frame_looks_like_the_one_that_was_written() -> None:
    with VideoFile(video_bytes(STEADY, codec="libx264", options={"crf": "5"}), "it") as file:
        [shown] = file.frames([file.first + int(Fraction(17, 10) / file.tick)])
    assert np.abs(np.asarray(shown).astype(int) - pattern(17)).mean() < 4
    assert np.abs(np.asarray(shown).astype(int) - pattern(18)).mean() > 50


@pytest.mark.parametrize("name", FILES)
def test_frames_on_the_screen_are_counted_without_decoding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [time for time, _ in decode_all(FILES[name])]
    with VideoFile(FILES[name], "it") as file:
        monkeypatch.setattr(file, "_decoded", None)
        length = file.last - file.first
        for low, high in ((0, length), (0, 0), (length // 3, length // 2), (length, length)):
            later = sum(low * file.tick < time <= high * file.tick for time in times)
            assert file.count(file.first + low, file.first + high, 1000) == 1 + later
            assert file.count(file.first + low, file.first + high, 2) == min(2, 1 + later)


def test_ten_hours_cost_no_more_than_what_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    # 300 frames, one every two minutes, a key frame every fifth: a file of ten hours as far as time goes.
    content = video_bytes([1200 * n for n in range(300)], codec="libx264", options={"g": "5", "preset": "ultrafast"})
    frames = decode_all(content)
    decoded = []
    original = VideoFile._decoded
    monkeypatch.setattr(
        VideoFile, "_decoded", lambda self: (decoded.append(frame.pts) or frame for frame in original(self))
    )
    monkeypatch.setattr(video_file, "KEY_FRAME_DISTANCE", 0)
    with VideoFile(content, "it") as file:
        assert (file.last - file.first) * file.tick == 35_880
        moments = np.linspace(file.first, file.last, 8).astype(int).tolist()
        for moment, shown in zip(moments, file.frames(moments), strict=True):
            assert np.array_equal(np.asarray(shown), _nearest(file, frames, moment))
    assert len(decoded) < 8 * 12


def test_only_two_frames_are_held() -> None:
    content = video_bytes(list(range(400)), options={"g": "50"})
    with VideoFile(content, "it") as file:
        moments = list(range(file.first, file.last, (file.last - file.first) // 399))
        tracemalloc.start()
        for shown in file.frames(moments):
            del shown
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 40 * 3 * SIDE * SIDE  # of Python's own memory; all 400 frames would be ten times that


def test_a_turned_video_is_upright() -> None:
    content = bytearray(video_bytes([0, 1]))
    at = content.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of other fields
    quarter = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]  # turn by 90 degrees clockwise, as phones write it
    content[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter)
    [plain] = decode_all(bytes(content))[:1]
    with VideoFile(bytes(content), "it") as file:
        [shown] = file.frames([file.first])
    assert np.array_equal(np.asarray(shown), np.rot90(plain[1], -1))


def _fault(content: bytes | str) -> DataError:
    with pytest.raises(DataError) as error, VideoFile(content, "'x.mp4'") as file:
        list(file.frames([file.first, file.last]))
    assert "'x.mp4'" in error.value.problem
    return error.value


def test_a_file_that_is_no_video_is_named() -> None:
    assert _fault(b"<html>not found</html>").kind == "video_unreadable"
    assert _fault(b"\0" * 5000).kind == "video_unreadable"


def test_a_file_whose_index_was_cut_off_is_named() -> None:
    content = FILES["mp4"]  # its index is at the end
    assert _fault(content[: len(content) // 2]).kind == "video_unreadable"


@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
def test_a_file_whose_frames_were_cut_off_is_named(share: float) -> None:
    content = video_bytes(STEADY, muxer={"moov_size": "4096"}, **H264)  # its index is at the start
    error = _fault(content[: int(len(content) * share)])
    assert error.kind == "video_truncated" and "its header promises 6.00 s" in error.problem


def test_a_file_without_a_frame_is_named() -> None:
    import av

    file = __import__("io").BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    assert _fault(file.getvalue()).kind == "video_empty"


def test_frames_too_large_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_file, "MAX_PIXELS", SIDE * SIDE - 1)
    assert _fault(FILES["mp4"]).kind == "media_too_large"


def test_a_stream_without_times_is_named() -> None:
    content = video_bytes(STEADY, container="h264", **H264)
    assert _fault(content).kind in ("video_times", "video_unreadable")


@pytest.mark.parametrize(
    "lines",
    [
        ("#EXTM3U", "#EXT-X-TARGETDURATION:6", "#EXTINF:6,", "secret.ts", "#EXT-X-ENDLIST", ""),
        ("ffconcat version 1.0", "file secret.ts", ""),
    ],
)
def test_a_playlist_does_not_open_other_files(lines: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "secret.ts").write_bytes(FILES["mpeg-ts"])
    (tmp_path / "x.mp4").write_text("\n".join(lines))
    with pytest.raises(DataError) as error, VideoFile(str(tmp_path / "x.mp4"), "'x.mp4'"):
        pass
    assert error.value.kind == "video_unreadable"


def test_pyav_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(DataError, match=r"triptych\[video\]") as error:
        VideoFile(b"1", "it")
    assert error.value.kind == "video_decoder"
