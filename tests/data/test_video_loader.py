"""Videos kept in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.clips import SIDE, video_bytes
from triptych.data import video_loader
from triptych.data.frame_cache import FrameCache
from triptych.data.sampling import Clip, FrameSampling
from triptych.data.video_loader import VideoLoader

FRAMES = 6
VIDEO_BYTES = 3 * SIDE * SIDE * FRAMES


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is decoded, in order."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(video_bytes(list(range(FRAMES)), rate=10 + ord(name[0])))
    (tmp_path / "copy.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    asked: list[Any] = []
    load = video_loader.load_video
    monkeypatch.setattr(
        video_loader,
        "load_video",
        lambda video, *args: asked.append(getattr(video, "item", video)) or load(video, *args),
    )
    return asked


def test_a_video_is_loaded_once_whatever_its_name(loaded: list[Any], tmp_path: Path) -> None:
    loader = VideoLoader()
    first = loader.load("a.mp4", tmp_path)
    assert loader.load("copy.mp4", tmp_path) is first is loader.load(Clip("a.mp4"), tmp_path)
    few = loader.load(Clip("a.mp4", FrameSampling(num_frames=2)), tmp_path)
    assert loaded == ["a.mp4", "a.mp4"] and (len(first.frames), len(few.frames)) == (FRAMES, 2)


def test_a_file_that_has_changed_is_loaded_anew(loaded: list[Any], tmp_path: Path) -> None:
    loader = VideoLoader()
    first = loader.load("a.mp4", tmp_path)
    (tmp_path / "a.mp4").write_bytes((tmp_path / "b.mp4").read_bytes())
    assert loader.load("a.mp4", tmp_path).fps != first.fps and len(loaded) == 2


def test_those_used_last_are_kept_as_far_as_memory_goes(loaded: list[Any], tmp_path: Path) -> None:
    loader = VideoLoader(max_bytes=2 * VIDEO_BYTES)
    for name in ("a.mp4", "b.mp4", "a.mp4", "c.mp4", "a.mp4", "b.mp4"):  # c takes the place of b
        loader.load(name, tmp_path)
    assert loaded == ["a.mp4", "b.mp4", "c.mp4", "b.mp4"]
    small = VideoLoader(max_bytes=VIDEO_BYTES - 1)
    assert len(small.load("a.mp4", tmp_path).frames) == FRAMES and len(small.load("a.mp4", tmp_path).frames) == FRAMES


def test_what_memory_has_forgotten_comes_from_the_disk(loaded: list[Any], tmp_path: Path) -> None:
    first = VideoLoader(FrameCache(tmp_path / "cache")).load("a.mp4", tmp_path)
    again = VideoLoader(FrameCache(tmp_path / "cache")).load("a.mp4", tmp_path)
    assert [frame.tobytes() for frame in again.frames] == [frame.tobytes() for frame in first.frames]
    assert len(list((tmp_path / "cache").rglob("*.zip"))) == 1
