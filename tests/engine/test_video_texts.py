"""Places of videos in texts, filled and cut down; that the tokens are those of the processor is in test_preflight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from triptych.data.video import VideoShape
from triptych.engine.encode import Encoder
from triptych.engine.video_texts import VideoTexts
from triptych.errors import DataError

THREE, TWO = VideoShape(3, 20, 16, 2.0), VideoShape(2, 20, 16, 2.0)


def _texts(tiny: Any) -> VideoTexts:
    return VideoTexts(Encoder(tiny.processor, tiny.model.config))


def test_a_run_of_placeholders_becomes_one(tiny_of: Callable[[str], Any]) -> None:
    video = tiny_of("mm1").processor.video_token
    text, left_out = _texts(tiny_of("mm1")).fill(f"See {video} and {video}.", [THREE, TWO])
    assert text == f"See {video} and {video}." and left_out == (3 + 4 - 1) + (2 + 4 - 1)


def test_times_and_markers_stay(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("qwen3_vl")
    start, video, end = "<|vision_start|>", tiny.processor.video_token, "<|vision_end|>"
    text, left_out = _texts(tiny).fill(f"{start}{video}{end}", [VideoShape(4, 64, 64, 2.0)])
    one = f"{start}{video}{end}"
    assert text == f"{start}<0.2 seconds>{one}<1.2 seconds>{one}{end}" and left_out % 2 == 0 and left_out > 0


def test_a_video_of_the_same_shape_is_written_once(tiny_of: Callable[[str], Any], monkeypatch: Any) -> None:
    tiny, written = tiny_of("internvl"), []
    texts = _texts(tiny)
    original = type(tiny.processor).replace_video_token
    monkeypatch.setattr(type(tiny.processor), "replace_video_token", lambda *args: written.append(1) or original(*args))
    for _ in range(3):
        texts.fill(tiny.processor.video_token, [THREE])
    assert len(written) == 1


@pytest.mark.parametrize(("places", "kind"), [(1, "template_without_image"), (3, "placeholder_in_text")])
def test_another_number_of_places_than_videos_is_a_fault(places: int, kind: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("mm1")
    with pytest.raises(DataError) as caught:
        _texts(tiny).fill(tiny.processor.video_token * places, [THREE, TWO])
    assert caught.value.kind == kind and f"holds {places} video placeholder(s) for 2 video(s)" in caught.value.problem
