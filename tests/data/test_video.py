"""Videos as folders of frames, and as files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from triptych.data.video import FILE_FRAMES, frame_keys, load_video, verify_video, video_key
from triptych.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder, colours in (("clip", "red blue"), ("same", "red blue"), ("back", "blue red")):
        (tmp_path / folder).mkdir()
        for name, colour in zip(("2.png", "10.png"), colours.split(), strict=True):
            Image.new("RGB", (4, 2), colour).save(tmp_path / folder / f"{name:0>6}")
        (tmp_path / folder / ".hidden").write_text("no frame")
    return tmp_path


def test_a_folder_is_its_pictures_in_the_order_of_their_names_two_a_second(root: Path) -> None:
    video = load_video("clip", root)
    assert [frame.getpixel((0, 0)) for frame in video.frames] == [(255, 0, 0), (0, 0, 255)]
    assert video.metadata() == {"total_num_frames": 2, "fps": 2.0, "duration": 1.0, "frames_indices": [0, 1]}
    verify_video("clip", root)


def test_a_video_is_known_by_its_frames_in_order(root: Path) -> None:
    assert video_key("clip", root) == video_key("same/", root) != video_key("back", root)
    assert frame_keys("clip", root) == frame_keys("back", root)[::-1]
    assert len(set(frame_keys("clip", root))) == 2
    (root / "a.mp4").write_bytes(b"1"), (root / "b.mp4").write_bytes(b"1")
    assert video_key("a.mp4", root) == video_key("b.mp4", root) == video_key(b"1", root)


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ("nowhere", "media_missing"),
        ("../clip", "media_path_parent"),
        ("empty", "video_empty"),
        ("mixed", "video_sizes"),
    ],
)
def test_faults_have_names(item: str, kind: str, root: Path) -> None:
    (root / "empty").mkdir()
    (root / "mixed").mkdir()
    for side in (2, 4):
        Image.new("RGB", (side, 4)).save(root / "mixed" / f"{side}.png")
    with pytest.raises(DataError) as error:
        load_video(item, root)
    assert error.value.kind == kind


def test_a_frame_that_is_no_picture_is_refused(root: Path) -> None:
    (root / "clip" / "3.png").write_text("<html>")
    for use in (load_video, verify_video):
        with pytest.raises(DataError) as error:
            use("clip", root)
        assert error.value.kind == "media_not_an_image"


def test_a_file_needs_a_decoder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (root / "clip.mp4").write_bytes(b"1")
    for item in ("clip.mp4", b"1"):
        with pytest.raises(DataError, match="pip install av") as error:
            load_video(item, root)
        assert error.value.kind == "video_decoder"
    verify_video("clip.mp4", root)


class FakeAv:
    """As much of PyAV as is used: a video of `num_frames` grey frames, 30 a second, each darker than the next."""

    class FFmpegError(Exception):
        """What PyAV raises."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames

    def open(self, source: Any) -> Any:
        stream = SimpleNamespace(average_rate=30)
        greys = (Image.new("L", (2, 2), number) for number in range(self.num_frames))
        pictures = (SimpleNamespace(to_image=lambda picture=picture: picture) for picture in greys)
        container = SimpleNamespace(streams=SimpleNamespace(video=[stream]), decode=lambda stream: pictures)
        return _Managed(container)


class _Managed:
    def __init__(self, container: Any) -> None:
        self.container = container

    def __enter__(self) -> Any:
        return self.container

    def __exit__(self, *error: Any) -> None:
        return None


@pytest.mark.parametrize(("total", "taken"), [(5, [0, 1, 2, 3, 4]), (63, list(range(0, 63, 2)))])
def test_a_file_gives_frames_at_equal_distances(
    total: int, taken: list[int], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", FakeAv(total))
    (root / "clip.mp4").write_bytes(b"1")
    video = load_video("clip.mp4", root)
    assert [frame.getpixel((0, 0))[0] for frame in video.frames] == taken
    assert len(taken) <= FILE_FRAMES and video.fps == 30 * len(taken) / total
    assert len(set(frame_keys("clip.mp4", root))) == len(taken)


def test_a_file_without_a_frame_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", FakeAv(0))
    with pytest.raises(DataError) as error:
        load_video(b"1", root)
    assert error.value.kind == "video_unreadable"
