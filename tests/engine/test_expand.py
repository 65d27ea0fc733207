"""Media of prompts: each decoded once, cut apart as the family needs it, in the order of their placeholders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.prompts import GROUPS, VIDEO_PROMPT, processed
from tests.support.tiny_models import VIDEO
from triptych.data import video_loader
from triptych.data.media import media_key
from triptych.data.video import frame_keys, video_key
from triptych.engine import expand
from triptych.engine.encode import Encoder
from triptych.errors import DataError
from triptych.group import Group, text_message


def test_image_tokens_of_gemma_3_attend_to_each_other_picture_by_picture(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("gemma3")
    encoded = tiny.encoder.prompt(GROUPS[1], tiny.root)
    types = processed(tiny, GROUPS[1])["token_type_ids"][0].tolist()
    inside = [any(start <= n < end for start, end in encoded.two_way) for n in range(len(types))]
    assert [int(flag) for flag in inside] == types and [end - start for start, end in encoded.two_way] == [9, 9]
    assert tiny.encoder.prompt(GROUPS[2], tiny.root).two_way == ()


def test_crops_of_one_picture_of_gemma_3_belong_to_it_and_of_several_are_refused(
    tiny_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny_of("gemma3")
    settings = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 4, "pan_and_scan_max_num_crops": 4}
    settings["pan_and_scan_min_ratio_to_activate"] = 1.2
    monkeypatch.setattr(tiny.processor, "images_kwargs", settings)
    encoded = tiny.encoder.prompt(GROUPS[0], tiny.root)  # 30 x 20: the whole and two crops
    [picture] = encoded.media
    assert picture.num_tokens == 27 and picture.inputs["pixel_values"].shape[0] == len(encoded.two_way) == 3
    with pytest.raises(DataError) as error:
        tiny.encoder.prompt(GROUPS[1], tiny.root)
    assert (error.value.kind, error.value.row) == ("pan_and_scan", "two")


def test_each_distinct_picture_is_decoded_once_while_it_is_remembered(
    tiny_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny_of("mm1")
    decoded: list[Any] = []
    load = expand.load_image
    monkeypatch.setattr(expand, "load_image", lambda item, root: decoded.append(item) or load(item, root))
    encoder = Encoder(tiny.processor, tiny.model.config)
    first = encoder.prompts(GROUPS, tiny.root)
    assert decoded == ["a.png", "b.png", "c.png"]
    again = encoder.prompts(GROUPS, tiny.root)
    assert decoded == ["a.png", "b.png", "c.png"]
    assert again[0].media[0] is first[0].media[0] is first[1].media[1]

    size = first[0].media[0].inputs["pixel_values"].nbytes
    monkeypatch.setattr(expand, "MEDIA_CACHE_BYTES", 2 * size)
    forgetful = Encoder(tiny.processor, tiny.model.config)
    forgetful.prompts(GROUPS, tiny.root)  # a, b, c: a is forgotten
    decoded.clear()
    forgetful.prompts([_group("c.png"), _group("b.png")], tiny.root)
    assert decoded == []
    forgetful.prompts([_group("a.png")], tiny.root)  # c, used before b, is forgotten
    forgetful.prompts([_group("b.png"), _group("c.png")], tiny.root)
    assert decoded == ["a.png", "c.png"]


def test_each_distinct_video_of_mm1_is_decoded_once_while_it_is_remembered(
    tiny_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny_of("mm1")
    decoded: list[Any] = []
    load = video_loader.load_video
    monkeypatch.setattr(video_loader, "load_video", lambda clip, *args: decoded.append(clip.item) or load(clip, *args))
    encoder = Encoder(tiny.processor, tiny.model.config)
    groups = [Group(name, VIDEO_PROMPT, videos=[name]) for name in ("clip", "other", "clip")]
    first, _, last = encoder.prompts(groups, tiny.root)
    assert decoded == ["clip", "other"] and first.media[0] is last.media[0]
    assert encoder.prompt(groups[0], tiny.root).media[0] is first.media[0]
    few = Group("few", VIDEO_PROMPT, videos=["clip"], meta={"video": {"num_frames": 2}})
    assert encoder.prompt(few, tiny.root).media[0].num_tokens == first.media[0].num_tokens - 1
    assert decoded == ["clip", "other", "clip"]


def test_the_bytes_of_a_picture_are_the_same_as_its_file(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("mm1")
    by_path, by_bytes = _group("a.png"), _group((tiny.root / "a.png").read_bytes())
    [first, second] = Encoder(tiny.processor, tiny.model.config).prompts([by_path, by_bytes], tiny.root)
    assert first.media[0] is second.media[0]


@pytest.mark.parametrize("family", VIDEO)
def test_media_stand_in_the_order_of_their_placeholders(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    if not tiny.encoder.family.mixes_videos_with_images:
        return
    parts = [{"type": "image"}, {"type": "video"}, {"type": "image"}, {"type": "video"}]
    group = Group("g", [{"role": "user", "content": parts}], ["a.png", "c.png"], ["clip", "clip"])
    encoded = tiny.encoder.prompt(group, tiny.root)
    keys = [item.key.rstrip("+") for item in encoded.media]
    first, second = (media_key(name, tiny.root) for name in group.images)
    video = [key + "f" for key in frame_keys("clip", tiny.root)]
    if not tiny.encoder.family.frames_are_images:
        video = [video_key("clip", tiny.root)]
    assert keys == [first, *video, second, *video]
    for kind, token in (("image", tiny.encoder.family.image_token_id), ("video", tiny.encoder.family.video_token_id)):
        tokens = sum(item.num_tokens for item in encoded.media if (item.token_id is None) == (kind == "image"))
        assert encoded.input_ids.count(token) == tokens


@pytest.mark.parametrize("family", ["mm1", "qwen2_vl", "llava_onevision"])
def test_a_video_placeholder_in_a_text_is_refused(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    with pytest.raises(DataError) as error:
        tiny.encoder.prompt(Group("stray", [text_message("user", tiny.processor.video_token)]), tiny.root)
    assert (error.value.kind, error.value.row) == ("placeholder_in_text", "stray")
    with pytest.raises(DataError):
        tiny.encoder.completion(f"It is {tiny.processor.video_token}.")


@pytest.mark.parametrize("family", ["mm1", "qwen2_vl"])
def test_a_video_that_is_missing_names_the_row(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    with pytest.raises(DataError) as error:
        tiny.encoder.prompt(Group("gone", VIDEO_PROMPT, videos=["nowhere"]), tiny.root)
    assert (error.value.kind, error.value.row) == ("media_missing", "gone")


@pytest.mark.parametrize("family", VIDEO)
def test_the_policy_of_a_row_decides_which_frames_are_seen(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    whole = Group("v", VIDEO_PROMPT, videos=["clip"])
    part = Group("v", VIDEO_PROMPT, videos=["clip"], meta={"video": {"num_frames": 2}})
    one, two = (tiny.encoder.prompt(group, tiny.root) for group in (whole, part))
    assert {item.key for item in one.media} != {item.key for item in two.media}
    bad = Group("bad", VIDEO_PROMPT, videos=["clip"], meta={"video": {"num_frames": 0}})
    with pytest.raises(DataError) as error:
        tiny.encoder.prompt(bad, tiny.root)
    assert (error.value.kind, error.value.row) == ("video_sampling", "bad")


def _group(picture: str | bytes) -> Group:
    return Group("g", [text_message("user", None, "How many?")], [picture])
