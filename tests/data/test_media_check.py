"""Faulty media of many rows, found together."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from triptych.data import media_check
from triptych.data.media_check import check_media
from triptych.errors import DataError
from triptych.group import Group, text_message


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "page.png").write_text("<html>")
    (tmp_path / "frames").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "frames" / "0.png")
    return tmp_path


def _row(name: str, *images: str, videos: tuple[str, ...] = ()) -> Group:
    return Group(name, [text_message("user", *[None] * len(images), "?")], list(images), list(videos))


def test_good_media_pass_and_each_file_is_looked_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, verify = [], media_check.verify_image
    monkeypatch.setattr(
        media_check,
        "verify_image",
        lambda item, *args, **options: looked.append(item) or verify(item, *args, **options),
    )
    check_media((_row(f"g{n}", "good.png", videos=("frames",)), root, "rows.jsonl") for n in range(2000))
    assert looked == ["good.png"]


def test_the_first_fault_is_told_with_its_row_and_file_and_the_others_are_listed(root: Path) -> None:
    rows = [("one", _row("g", "good.png")), ("one", _row("h", "page.png")), ("two", _row("i", "lost.png", "page.png"))]
    with pytest.raises(DataError) as caught:
        check_media((row, root, f"{file}.jsonl") for file, row in rows)
    error = caught.value
    assert (error.kind, error.file, error.row) == ("media_not_an_image", "one.jsonl", "h")
    assert error.problem.endswith("Also faulty: i (media_missing), i (media_not_an_image).")
    assert error.remedy.endswith("`triptych data check FILE --quarantine FOLDER` sets such rows aside, with reasons.")


def test_the_same_name_below_two_roots_is_two_files(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    with pytest.raises(DataError, match=r"media_missing.*row there"):
        check_media([(_row("here", "good.png"), root, "a"), (_row("there", "good.png"), other, "b")])


def test_the_search_is_given_up_when_most_is_broken(root: Path) -> None:
    rows = ((_row(f"g{n}", "lost.png"), root, "rows.jsonl") for n in range(10**9))
    with pytest.raises(DataError, match=r"row g0: .*g1 \(media_missing\).* and \d+ more"):
        check_media(rows)
