import base64
import io

import pytest
from PIL import Image

from triptych.data.sampling import Clip, FrameSampling
from triptych.group import Group
from triptych.report import filmstrip
from triptych.report.filmstrip import Filmstrips, strips_of


@pytest.fixture
def root(tmp_path):
    for number in range(11):  # two a second, so that the last one comes after 5 seconds
        path = tmp_path / "clip" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 12), (20 * number, 0, 0)).save(path)
    return tmp_path


def _reds(strips, strip):
    """Return the red of the middle of each frame."""
    image = Image.open(io.BytesIO(base64.b64decode(strips.embedded_uri(strip).partition(",")[2]))).convert("RGB")
    assert image.size == (strip.total, strip.height)
    return [image.getpixel((number * strip.pitch + strip.width // 2, 6))[0] for number in range(len(strip.times))]


class _Strips(Filmstrips):
    def embedded_uri(self, strip):
        return next(item.uri for item in self.embedded.values() if item.id == strip.id)


def test_a_strip_holds_eight_frames_from_the_first_to_the_last_with_their_times(root):
    strips = _Strips()
    strip = strips.add(Clip("clip"), root, "Clip of row 1")
    # Eleven frames in seven steps of 10/7: 0, 1, 3, 4, 6, 7, 9, 10, half a second each.
    assert strip.times == ("0.0 s", "0.5 s", "1.5 s", "2.0 s", "3.0 s", "3.5 s", "4.5 s", "5.0 s")
    assert strip.note == "8 of the 11 frames that the row takes"
    assert strip.alt == "Clip of row 1: 8 frames, 0.0 s to 5.0 s"
    assert (strip.width, strip.height, strip.pitch, strip.total) == (20, 12, 32, 256)
    assert _reds(strips, strip) == pytest.approx([0, 20, 60, 80, 120, 140, 180, 200], abs=6)


def test_a_strip_shows_the_frames_that_the_row_takes(root):
    strips = _Strips()
    strip = strips.add(Clip("clip", FrameSampling(fps=1.0, start=1.0, end=4.0)), root, "")
    assert strip.times == ("1.0 s", "2.0 s", "3.0 s", "4.0 s")
    assert strip.note == ""
    assert _reds(strips, strip) == pytest.approx([40, 80, 120, 160], abs=6)


def test_a_clip_is_decoded_and_embedded_once_but_described_each_time(root, monkeypatch):
    strips = Filmstrips()
    first = strips.add(Clip("clip"), root, "first")
    monkeypatch.setattr(filmstrip, "preview_video", None)
    second = strips.add(Clip("clip"), root, "second")
    assert (first.id, second.id, len(strips.embedded)) == ("strip-1", "strip-1", 1)
    assert second.alt.startswith("second: ")


def test_large_frames_are_scaled_down(tmp_path):
    (tmp_path / "large").mkdir()
    Image.new("RGB", (880, 1760), "red").save(tmp_path / "large" / "0.png")
    strip = Filmstrips().add(Clip("large"), tmp_path, "")
    assert (strip.width, strip.height, strip.pitch) == (88, 176, 96)


@pytest.mark.parametrize("name", ["none", "../clip", "text.mp4", "empty"])
def test_a_clip_that_cannot_be_read_says_why(root, name):
    (root / "text.mp4").write_text("no video")
    (root / "empty").mkdir()
    strips = Filmstrips()
    strip = strips.add(Clip(name), root, "Clip of row 1")
    assert strip.problem.startswith("Clip not shown: ")
    assert (strip.alt, strips.embedded, strips.any_asked) == ("Clip of row 1", {}, True)


def test_a_policy_that_cannot_be_followed_stands_in_place_of_each_clip(root):
    prompt = [{"role": "user", "content": [{"type": "video"}, {"type": "video"}]}]
    group = Group("g", prompt, videos=["clip", "clip"], meta={"video": {"speed": 3}})
    found = list(strips_of(group, root, Filmstrips(), "row g"))
    assert len(found) == 2
    assert all("unknown field" in strip.problem for strip in found)


def test_the_clips_of_a_row_are_told_apart(root):
    prompt = [{"role": "user", "content": [{"type": "video"}, {"type": "video"}]}]
    policies = [{"num_frames": 2}, {"num_frames": 3}]
    group = Group("g", prompt, videos=["clip", "clip"], meta={"video": policies})
    first, second = strips_of(group, root, Filmstrips(), "row g")
    assert (first.alt, second.alt) == ("Clip 1 of row g: 2 frames, 0.0 s to 5.0 s", second.alt)
    assert (len(first.times), len(second.times)) == (2, 3)


def test_the_page_stops_taking_clips_when_it_holds_enough(root, monkeypatch):
    strips = Filmstrips()
    strips.add(Clip("clip"), root, "")
    monkeypatch.setattr(filmstrip, "MAX_TOTAL_BYTES", 100)
    assert "enough" in strips.add(Clip("clip", FrameSampling(num_frames=2)), root, "").problem
    assert strips.add(Clip("clip"), root, "").problem == ""
