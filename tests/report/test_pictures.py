import base64
import io

import pytest
from PIL import Image

from triptych.report import pictures
from triptych.report.pictures import Pictures


def _png(path, size=(48, 48), colour="red"):
    Image.new("RGB", size, colour).save(path)


def _decoded(embedded):
    return Image.open(io.BytesIO(base64.b64decode(embedded.uri.partition(",")[2])))


def test_a_small_picture_is_embedded_without_loss_and_shown_in_whole_multiples(tmp_path):
    _png(tmp_path / "a.png")
    store = Pictures()
    shown = store.add("a.png", tmp_path, "a red square")
    assert (shown.alt, shown.problem, shown.shown_width) == ("a red square", "", 144)
    image = _decoded(store.embedded.popitem()[1])
    assert (image.format, image.size, image.getpixel((0, 0))) == ("PNG", (48, 48), (255, 0, 0))


def test_the_same_picture_is_embedded_once_whatever_its_name(tmp_path):
    for name in ("a.png", "b.png"):
        _png(tmp_path / name)
    _png(tmp_path / "c.png", colour="blue")
    store = Pictures()
    ids = [store.add(name, tmp_path, name).id for name in ("a.png", "b.png", "c.png")]
    assert ids == ["picture-1", "picture-1", "picture-2"]
    assert len(store.embedded) == 2


def test_a_large_picture_is_scaled_down(tmp_path):
    _png(tmp_path / "large.png", (2000, 1000))
    store = Pictures()
    shown = store.add("large.png", tmp_path, "")
    assert _decoded(store.embedded.popitem()[1]).size == (400, 200)
    assert shown.shown_width == 220


def test_encoded_bytes_are_shown_like_files(tmp_path):
    _png(tmp_path / "a.png")
    store = Pictures()
    assert store.add((tmp_path / "a.png").read_bytes(), tmp_path, "").id == store.add("a.png", tmp_path, "").id


@pytest.mark.parametrize("path", ["none.png", "../secret.png", "text.png"])
def test_a_picture_that_cannot_be_read_says_why(tmp_path, path):
    (tmp_path / "text.png").write_text("no picture")
    store = Pictures()
    assert store.add(path, tmp_path, "").problem.startswith("Picture not shown: ")
    assert not store.embedded


def test_the_page_stops_taking_pictures_when_it_holds_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_TOTAL_BYTES", 150)
    for name in ("red", "blue"):
        _png(tmp_path / f"{name}.png", colour=name)
    store = Pictures()
    assert store.add("red.png", tmp_path, "").problem == ""
    assert "enough" in store.add("blue.png", tmp_path, "").problem
    assert store.add("red.png", tmp_path, "").problem == ""
