"""Batches of captions and frames."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.support.tiny_scorer import SIZES, tiny_clip
from triptych.data.frame_cache import FrameCache
from triptych.data.media import load_image
from triptych.engine.captioned import Captioned, CaptionEncoder, CaptionWorkload, frames_of
from triptych.errors import DataError
from triptych.group import Group, text_message
from triptych.models.adapters import freeze
from triptych.models.scorer import load_scorer, picture_features, text_features


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return load_scorer(tiny_clip(tmp_path_factory.mktemp("clip")))


def row(name="r", images=(), videos=(), **meta):
    parts = [{"type": "image"} for _ in images] + [{"type": "video"} for _ in videos]
    prompt = [{"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}]
    return Group(name, prompt, list(images), list(videos), meta=meta)


def test_pixels_are_those_of_the_processor(clip, picture_root):
    model, processor = clip
    items = [
        Captioned("a red one", row(images=["a.png"]), picture_root),
        Captioned("b", row(images=["c.png"], videos=["clip"]), picture_root),
    ]
    encoder = CaptionEncoder(model, processor, max_frames=9)
    batch = encoder.batch(items)
    assert batch.counts == [1, 4] and batch.pixels.dtype == torch.uint8
    names = ["a.png", "c.png", "clip/0.png", "clip/1.png", "clip/2.png"]
    pictures = [load_image(name, picture_root) for name in names]
    expected = processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder.normalised(batch.pixels), expected, rtol=0, atol=1e-5)
    assert batch.num_tokens == batch.texts["attention_mask"].sum()


def test_of_a_video_as_many_frames_are_taken_as_wanted_spread_evenly(picture_root):
    frames = frames_of(row(videos=["other"]), picture_root, max_frames=2)
    expected = [load_image(f"other/{number}.png", picture_root) for number in (0, 3)]
    assert [np.array(frame).tolist() for frame in frames] == [np.array(frame).tolist() for frame in expected]
    assert len(frames_of(row(videos=["other", "clip"]), picture_root, max_frames=9)) == 7


def test_of_a_part_of_a_video_frames_of_that_part_are_taken(picture_root):
    second = row(videos=["other"], video={"num_parts": 2, "part": 1})
    for most, names in ((None, (2, 3)), (2, (2, 3)), (1, (3,))):
        frames = frames_of(second, picture_root, max_frames=most)
        expected = [load_image(f"other/{number}.png", picture_root) for number in names]
        assert [np.array(frame).tolist() for frame in frames] == [np.array(frame).tolist() for frame in expected]


def test_what_is_about_nothing_or_about_what_is_not_there_is_an_error_with_the_row(picture_root):
    with pytest.raises(DataError, match=r"no_media.*row r"):
        frames_of(Group("r", [text_message("user", "?")]), picture_root)
    with pytest.raises(DataError, match=r"media_missing.*row r"):
        frames_of(row(images=["none.png"]), picture_root)


def test_pixels_are_kept_as_long_as_there_is_room(clip, picture_root, monkeypatch):
    model, processor = clip
    loaded = []

    def counting(group, *args, **options):
        loaded.append(group.id)
        return frames_of(group, *args, **options)

    monkeypatch.setattr("triptych.engine.captioned.frames_of", counting)
    items = [Captioned("x", row(name, images=[name]), picture_root) for name in ("a.png", "b.png", "c.png")]
    bytes_of_two = 2 * 3 * 16 * 16
    encoder = CaptionEncoder(model, processor, max_frames=9, memory_bytes=bytes_of_two)
    first = encoder.batch(items).pixels
    assert torch.equal(encoder.batch(items[1:]).pixels, first[1:])  # still there
    assert loaded == ["a.png", "b.png", "c.png"]
    encoder.batch(items[:1])
    encoder.batch(items[2:])
    assert loaded == ["a.png", "b.png", "c.png", "a.png"]  # b, used longest ago, went


def test_frames_of_files_go_through_the_cache(clip, tmp_path):
    from tests.data.clips import video_bytes

    (tmp_path / "v.mp4").write_bytes(video_bytes(range(6)))
    cache = FrameCache(tmp_path / "cache")
    encoder = CaptionEncoder(*clip, max_frames=3, frame_cache=cache)
    assert encoder.batch([Captioned("x", row(videos=["v.mp4"]), tmp_path)]).counts == [3]
    assert len(list((tmp_path / "cache").rglob("*.zip"))) == 1


def test_the_subject_is_the_medium_not_the_row_nor_its_frames(picture_root):
    first, second, other = (
        Captioned("x", row("1", videos=["clip"]), picture_root),
        Captioned("y", row("2", videos=["clip"], video={"num_frames": 2}), picture_root),
        Captioned("x", row("3", videos=["other"]), picture_root),
    )
    assert first.subject == second.subject != other.subject


@pytest.mark.parametrize("frozen", [[], ["vision_model"]])
def test_flops_are_those_that_pytorch_counts(clip, picture_root, monkeypatch, tmp_path, frozen):
    monkeypatch.setattr("triptych.models.loading.keep_less", lambda model: None)
    model, processor = load_scorer(tiny_clip(tmp_path))
    model.set_attn_implementation("eager")
    freeze(model, frozen)
    encoder = CaptionEncoder(model, processor, max_frames=9)
    batch = encoder.batch([Captioned("red square", row(videos=["clip"]), picture_root)])
    with FlopCounterMode(display=False) as counter:
        pictures = picture_features(model, {"pixel_values": encoder.normalised(batch.pixels)})
        (pictures.sum() + text_features(model, batch.texts).sum()).backward()
    ours, theirs = CaptionWorkload(model).training_flops(batch), counter.get_total_flops()
    # PyTorch counts the upper half of causal attention too; patches are no class token, and pixels have no gradient.
    text, tokens = SIZES["text_config"], batch.num_tokens
    theirs -= 3 * 4 * text["num_hidden_layers"] * text["hidden_size"] * (tokens**2 - tokens * (tokens + 1) // 2)
    patch, passes = 2 * 3 * 8 * 8 * SIZES["vision_config"]["hidden_size"], 1 if frozen else 3
    theirs += 3 * patch * (passes * 5 - max(1, passes - 1) * 4)
    assert ours == theirs
