"""Token paths from prompts, completions and documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from triptych.data import video
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of
from triptych.engine.paths import completion_paths, document_path, units_by_media
from triptych.group import Completion, Group, text_message


def test_targets_are_the_answer_and_its_end_and_positions_go_on(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("mm1")
    completions = [Completion("Five."), Completion("There are", truncated=True)]
    group = Group("g", [text_message("user", None, "How many?")], ["a.png"], completions=completions)
    prompt = tiny.encoder.prompt(group, tiny.root)
    whole, cut = completion_paths(tiny.encoder, backbone_of(tiny.model), prompt, completions)
    for path, text, closed in ((whole, "Five.", True), (cut, "There are", False)):
        length = len(prompt.input_ids)
        assert path.input_ids[:length] == prompt.input_ids
        assert tiny.encoder.decode(path.input_ids[length:]) == text
        assert (path.input_ids[-1] in tiny.encoder.stop_ids) == closed
        assert path.targets == [False] * length + [True] * (len(path.input_ids) - length)
        assert path.position_ids.tolist() == [list(range(len(path.input_ids)))]
        assert path.media == tuple(prompt.media)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_positions_of_an_answer_go_on_after_its_prompt(family: str, tiny_of: Callable[[str], Any]) -> None:
    # b.png has 16 x 16 pixels: 4 x 4 patches, 2 x 2 tokens, which take two positions instead of four.
    tiny = tiny_of(family)
    completions = [Completion("Five.")]
    group = Group("g", [text_message("user", None, "How many?")], ["b.png"], completions=completions)
    prompt = tiny.encoder.prompt(group, tiny.root)
    [path] = completion_paths(tiny.encoder, backbone_of(tiny.model), prompt, completions)
    first = prompt.input_ids.index(tiny.encoder.family.image_token_id)
    temporal, height, width = path.position_ids.tolist()
    before, after = list(range(first)), list(range(first + 2, len(path.input_ids) - 2))
    assert temporal == [*before, *[first] * 4, *after]
    assert height == [*before, first, first, first + 1, first + 1, *after]
    assert width == [*before, first, first + 1, first, first + 1, *after]


@pytest.mark.parametrize(("family", "interval"), [("qwen2_vl", 1), ("qwen2_5_vl", 80)])
def test_frames_of_a_video_are_apart_in_time_and_the_text_goes_on_after_their_width(
    family: str, interval: int, tiny_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three frames of 16 x 16 pixels are two patches in time of 4 x 4, 2 x 2 tokens each. At one frame a second a patch
    # is two seconds, which Qwen2.5-VL counts in `tokens_per_second`: here the second patch lies far behind the text
    # that follows.
    tiny = tiny_of(family)
    monkeypatch.setattr(video, "FOLDER_FPS", 1.0)
    monkeypatch.setattr(tiny.model.config.vision_config, "tokens_per_second", 40, raising=False)
    encoder = Encoder(tiny.processor, tiny.model.config)  # one that does not remember the video at another rate
    group = Group("v", [{"role": "user", "content": [{"type": "video"}]}], videos=["clip"])
    prompt = encoder.prompt(group, tiny.root)
    [path] = completion_paths(encoder, backbone_of(tiny.model), prompt, [Completion("Five.")])
    first = prompt.input_ids.index(encoder.family.video_token_id)
    temporal, height, width = path.position_ids.tolist()
    before, after = list(range(first)), list(range(first + 2, len(path.input_ids) - 6))
    assert temporal == [*before, *[first] * 4, *[first + interval] * 4, *after]
    assert height == [*before, *[first, first, first + 1, first + 1] * 2, *after]
    assert width == [*before, *[first, first + 1] * 4, *after]
    assert path.targets.count(True) == len(path.input_ids) - len(prompt.input_ids)


def test_a_prompt_without_completions_has_no_paths(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("mm1")
    prompt = tiny.encoder.prompt(Group("g", [text_message("user", "How many?")]), tiny.root)
    assert completion_paths(tiny.encoder, backbone_of(tiny.model), prompt, []) == []


@pytest.mark.parametrize("family", ["mm1", "qwen2_vl"])
def test_targets_of_a_document_are_its_text_but_for_the_first_token(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    parts = [{"type": "text", "text": "A star: "}, {"type": "image"}, {"type": "text", "text": " red"}]
    encoded = tiny.encoder.document(Group("d", [{"role": "document", "content": parts}], ["b.png"]), tiny.root)
    path = document_path(tiny.encoder, backbone_of(tiny.model), encoded)
    placeholder = tiny.encoder.family.image_token_id
    wanted = [index > 0 and token != placeholder for index, token in enumerate(encoded.input_ids)]
    assert path.targets == wanted and path.targets.count(False) == 1 + encoded.media[0].num_tokens
    assert path.targets[-1] and path.position_ids.shape[1] == len(encoded.input_ids)


def test_a_document_that_begins_with_a_picture_has_all_its_text_as_targets(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("mm1")
    parts = [{"type": "image"}, {"type": "text", "text": "red"}]
    encoded = tiny.encoder.document(Group("d", [{"role": "document", "content": parts}], ["b.png"]), tiny.root)
    path = document_path(tiny.encoder, backbone_of(tiny.model), encoded)
    assert path.targets == [False] * 4 + [True] * (len(encoded.input_ids) - 4)


def test_rows_with_the_same_pictures_in_the_same_order_make_one_unit(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("mm1")
    pictures = [["a.png"], [], ["a.png", "b.png"], ["a.png"], [], ["b.png", "a.png"]]
    groups = [
        Group(str(n), [text_message("user", *[None] * len(names), "How many?")], names)
        for n, names in enumerate(pictures)
    ]
    rows = [
        completion_paths(tiny.encoder, backbone_of(tiny.model), prompt, [Completion("1"), Completion("2")])
        for prompt in tiny.encoder.prompts(groups, tiny.root)
    ]
    units = units_by_media([*rows, []])
    assert units == [rows[0] + rows[3], rows[1], rows[2], rows[4], rows[5]]
