"""Videos as folders of frames, and as files."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.clips import decode_all, pattern, repeated_video_bytes, video_bytes
from triptych.data import video as video_module
from triptych.data.frame_cache import FrameCache
from triptych.data.sampling import Clip, FrameSampling
from triptych.data.video import (
    VideoShape,
    frame_keys,
    load_video,
    preview_video,
    probe_video,
    split_video,
    verify_video,
    video_key,
)
from triptych.data.video_file import VideoFile
from triptych.errors import DataError

CONTENT = video_bytes(list(range(63)), rate=30)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder, colours in (("clip", "red blue"), ("same", "red blue"), ("back", "blue red")):
        (tmp_path / folder).mkdir()
        for name, colour in zip(("2.png", "10.png"), colours.split(), strict=True):
            Image.new("RGB", (4, 2), colour).save(tmp_path / folder / f"{name:0>6}")
        (tmp_path / folder / ".hidden").write_text("no frame")
    (tmp_path / "long").mkdir()
    for number in range(60):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / "long" / f"{number:02d}.png")
    (tmp_path / "clip.mp4").write_bytes(CONTENT)
    return tmp_path


def _numbers(clip: str | Clip, root: Path) -> list[int]:
    """Numbers of the frames taken of the folder `long`."""
    return [frame.getpixel((0, 0))[0] for frame in load_video(clip, root).frames]


def test_a_folder_is_its_pictures_in_the_order_of_their_names_two_a_second(root: Path) -> None:
    video = load_video("clip", root)
    assert [frame.getpixel((0, 0)) for frame in video.frames] == [(255, 0, 0), (0, 0, 255)]
    assert video.metadata() == {"total_num_frames": 2, "fps": 2.0, "duration": 1.0, "frames_indices": [0, 1]}
    verify_video("clip", root)
    assert probe_video("clip", root) == probe_video("clip", root, decode=True) == VideoShape(2, 4, 2, 2.0)


def test_a_policy_takes_frames_of_a_folder(root: Path) -> None:
    assert _numbers("long", root) == [59 * number // 49 for number in range(50)]
    clip = Clip("long", FrameSampling(fps=0.5, start=1.0, end=9.0))
    assert _numbers(clip, root) == [2, 6, 10, 14, 18]
    assert load_video(clip, root).fps == 0.5
    assert _numbers(Clip("long", FrameSampling(num_frames=3)), root) == [0, 29, 59]
    assert load_video(Clip("long", FrameSampling(num_frames=1)), root).fps == 2.0


def test_a_preview_is_spread_over_the_frames_that_are_taken(root: Path) -> None:
    clip = Clip("long", FrameSampling(fps=1.0, start=2.0, end=12.0))  # every second one of 4 to 24, eleven in all
    preview = preview_video(clip, root, most=3)
    assert [frame.getpixel((0, 0))[0] for frame in preview.frames] == [4, 14, 24]
    assert (preview.seconds, preview.num_frames, preview.fps) == ((2.0, 7.0, 12.0), 11, 1.0)
    assert len(preview_video(clip, root, most=20).frames) == 11
    file = preview_video("clip.mp4", root, most=2)  # 63 frames, 30 a second, of which 50 are taken
    assert file.num_frames == 50
    assert file.seconds == pytest.approx((0.0, 62 / 30))
    ends = [load_video("clip.mp4", root).frames[number] for number in (0, -1)]
    assert [frame.tobytes() for frame in file.frames] == [frame.tobytes() for frame in ends]


@pytest.mark.parametrize("item", ["clip.mp4", CONTENT])
def test_a_policy_takes_frames_of_a_file(item: str | bytes, root: Path) -> None:
    every = [picture for _, picture in decode_all(CONTENT)]
    whole = load_video(item, root)
    for number, frame in enumerate(whole.frames):
        assert np.array_equal(np.asarray(frame), every[62 * number // 49])
    assert len(whole.frames) == 50 and whole.fps == pytest.approx(49 / (62 / 30), rel=1e-9)
    seconds = load_video(Clip(item, FrameSampling(fps=3.0)), root)
    assert len(seconds.frames) == 7 and seconds.fps == 3.0
    for number, frame in enumerate(seconds.frames):
        assert np.array_equal(np.asarray(frame), every[10 * number])
    shape = probe_video(item, root)
    assert shape == probe_video(item, root, decode=True) == VideoShape(50, 32, 32, whole.fps)
    assert shape.metadata() == whole.metadata()


@pytest.mark.parametrize("item", ["clip.mp4", "long"])
def test_clips_of_twenty_frames_are_the_fifty_of_the_whole(item: str, root: Path) -> None:
    whole = [frame.tobytes() for frame in load_video(item, root).frames]
    clips = split_video(item, root)
    parts = [[frame.tobytes() for frame in load_video(clip, root).frames] for clip in clips]
    assert [len(part) for part in parts] == [16, 17, 17]
    assert [frame for part in parts for frame in part] == whole
    keys = [key for clip in clips for key in frame_keys(clip, root)]
    assert keys == frame_keys(item, root)
    assert len({video_key(clip, root) for clip in [*clips, Clip(item)]}) == 4
    assert split_video(clips[0], root) == [clips[0]] and split_video("clip", root) == [Clip("clip")]
    with pytest.raises(DataError, match="part already"):
        split_video(clips[0], root, max_frames=4)


def test_a_video_is_known_by_the_frames_that_are_taken(root: Path) -> None:
    assert video_key("clip", root) == video_key("same/", root) != video_key("back", root)
    assert frame_keys("clip", root) == frame_keys("back", root)[::-1]
    assert len(set(frame_keys("clip", root))) == 2
    (root / "copy.mp4").write_bytes(CONTENT)
    assert video_key("clip.mp4", root) == video_key("copy.mp4", root) == video_key(CONTENT, root)
    half = Clip("clip.mp4", FrameSampling(num_frames=25))
    assert video_key(half, root) != video_key("clip.mp4", root)
    assert len(frame_keys(half, root)) == len(set(frame_keys(half, root))) == 25


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ("nowhere", "media_missing"),
        ("../clip", "media_path_parent"),
        ("empty", "video_empty"),
        ("mixed", "video_sizes"),
        ("empty.mp4", "media_empty"),
        (Clip("clip", FrameSampling(start=9.0)), "video_range"),
        (Clip("clip.mp4", FrameSampling(start=9.0)), "video_range"),
    ],
)
def test_faults_have_names(item: str, kind: str, root: Path) -> None:
    (root / "empty").mkdir()
    (root / "mixed").mkdir()
    (root / "empty.mp4").write_bytes(b"")
    for side in (2, 4):
        Image.new("RGB", (side, 4)).save(root / "mixed" / f"{side}.png")
    for use in (load_video, probe_video, lambda item, root: probe_video(item, root, decode=True)):
        with pytest.raises(DataError) as error:
            use(item, root)
        assert error.value.kind == kind


def test_a_frame_that_is_no_picture_is_refused(root: Path) -> None:
    (root / "clip" / "3.png").write_text("<html>")
    for use in (load_video, verify_video, probe_video):
        with pytest.raises(DataError) as error:
            use("clip", root)
        assert error.value.kind == "media_not_an_image"


def test_a_file_that_is_no_video_is_found_before_it_is_used(root: Path) -> None:
    (root / "page.mp4").write_text("<html>")
    verify_video("page.mp4", root)
    for use in (load_video, probe_video):
        with pytest.raises(DataError) as error:
            use("page.mp4", root)
        assert error.value.kind == "video_unreadable"


def test_a_file_needs_a_decoder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for item in ("clip.mp4", CONTENT):
        for use in (load_video, probe_video):
            with pytest.raises(DataError, match="pip install") as error:
                use(item, root)
            assert error.value.kind == "video_decoder"
    verify_video("clip.mp4", root)


def test_a_file_is_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, clip = FrameCache(root / "cache"), Clip("clip.mp4", FrameSampling(num_frames=5))
    first = load_video(clip, root, cache)
    monkeypatch.setattr(video_module, "VideoFile", None)
    again = load_video(clip, root, FrameCache(root / "cache"))
    assert [frame.tobytes() for frame in again.frames] == [frame.tobytes() for frame in first.frames]
    assert again.fps == first.fps
    with pytest.raises(TypeError):
        load_video(Clip("clip.mp4", FrameSampling(num_frames=6)), root, cache)
    assert load_video("clip", root, cache).fps == 2.0 and len(list((root / "cache").rglob("*.zip"))) == 1


def test_fifty_frames_of_ten_hours_are_found_by_their_times_in_constant_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One frame a second, a key frame every 250: what is decoded are the stretches from key frames to the 50.
    (root / "long.mp4").write_bytes(repeated_video_bytes(250, 144))
    decoded, original = [], VideoFile._decoded
    monkeypatch.setattr(
        VideoFile, "_decoded", lambda self: (decoded.append(frame.pts) or frame for frame in original(self))
    )
    shape = probe_video("long.mp4", root)
    assert (shape.num_frames, shape.fps) == (50, pytest.approx(49 / 35_999)) and len(decoded) == 1
    tracemalloc.start()
    video = load_video("long.mp4", root)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for number, frame in enumerate(video.frames):
        second = 35_999 * number // 49
        away = [
            np.abs(np.asarray(frame).astype(int) - pattern(other % 250)).mean()
            for other in range(second - 1, second + 2)
        ]
        assert away[1] < 4 < 50 < min(away[0], away[2])
    assert len(decoded) < 50 * 250 and peak < 2**20
