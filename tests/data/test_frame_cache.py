"""Decoded frames on disk."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from triptych.data.frame_cache import FrameCache


def _frames(*colours: str) -> tuple[Image.Image, ...]:
    return tuple(Image.new("RGB", (8, 6), colour) for colour in colours)


def _noise(number: int) -> tuple[Image.Image, ...]:
    return (Image.frombytes("RGB", (16, 16), bytes((n * (number + 7)) % 251 for n in range(768))),)


def test_frames_come_back_as_they_were(tmp_path: Path) -> None:
    frames = _frames("red", "#102030", "blue")
    FrameCache(tmp_path).save("ab12", frames, 2.5)
    found, fps = FrameCache(tmp_path).load("ab12")
    assert [frame.tobytes() for frame in found] == [frame.tobytes() for frame in frames] and fps == 2.5
    assert FrameCache(tmp_path).load("ab13") is None


def test_an_entry_is_a_zip_of_pictures(tmp_path: Path) -> None:
    FrameCache(tmp_path).save("ab12", _frames("red", "blue"), 2.0)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["ab/ab12.zip"]
    with zipfile.ZipFile(tmp_path / "ab" / "ab12.zip") as archive:
        assert archive.namelist() == ["00000.bmp", "00001.bmp", "fps.json"]


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        FrameCache(tmp_path / name).save("ab12", _frames("red"), 2.0)
    assert (tmp_path / "one/ab/ab12.zip").read_bytes() == (tmp_path / "two/ab/ab12.zip").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_entry_is_told_and_counts_as_none(tmp_path: Path, share: float) -> None:
    cache = FrameCache(tmp_path)
    cache.save("ab12", _noise(1), 2.0)
    path = tmp_path / "ab" / "ab12.zip"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.warns(UserWarning, match=r"ab12\.zip are damaged"):
        assert cache.load("ab12") is None
    cache.save("ab12", _noise(1), 2.0)
    assert cache.load("ab12") is not None


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    FrameCache(tmp_path).save("probe", _noise(0), 1.0)
    size = (tmp_path / "pr" / "probe.zip").stat().st_size
    cache = FrameCache(tmp_path, max_bytes=int(size * 3.5))
    for number, key in enumerate(("a1", "b2")):
        cache.save(key, _noise(number + 1), 1.0)
    for second, path in enumerate((tmp_path / "pr/probe.zip", tmp_path / "a1/a1.zip", tmp_path / "b2/b2.zip")):
        os.utime(path, (second, second))
    assert cache.load("probe") is not None  # used just now
    cache.save("c3", _noise(4), 1.0)
    assert sorted(path.stem for path in tmp_path.rglob("*.zip")) == ["b2", "c3", "probe"]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.zip")) <= cache.max_bytes


def test_the_bound_counts_what_others_wrote(tmp_path: Path) -> None:
    first = FrameCache(tmp_path)
    first.save("a1", _noise(1), 1.0)
    size = (tmp_path / "a1/a1.zip").stat().st_size
    second = FrameCache(tmp_path, max_bytes=int(size * 1.5))
    os.utime(tmp_path / "a1/a1.zip", (0, 0))
    second.save("b2", _noise(2), 1.0)
    assert [path.stem for path in tmp_path.rglob("*.zip")] == ["b2"]
