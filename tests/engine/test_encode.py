"""Encoding of groups, against the family's own processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import PICTURE_SIZES
from tests.support.tiny_models import FAMILIES
from triptych.engine import encode
from triptych.engine.encode import Encoder
from triptych.errors import DataError
from triptych.group import Group, text_message

END_TOKENS = {
    "llava": "</s>",
    "llava_onevision": "<|im_end|>",
    "internvl": "<|im_end|>",
    "qwen2_vl": "<|im_end|>",
    "qwen2_5_vl": "<|im_end|>",
    "qwen3_vl": "<|im_end|>",
    "smolvlm": "<end_of_utterance>",
    "idefics3": "<end_of_utterance>",
    "mm1": "<|end|>",
    "mm1_sub_images": "<|end|>",
}
GROUPS = [
    Group("one", [text_message("user", None, "How many circles?")], ["a.png"]),
    Group(
        "two", [text_message("system", "Be brief."), text_message("user", None, "or", None, "?")], ["b.png", "a.png"]
    ),
    Group("none", [text_message("user", "Count to five.")]),
    Group(
        "turns",
        [text_message("user", None, "Red?"), text_message("assistant", "Yes."), text_message("user", "And now?")],
        ["c.png"],
    ),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.id)
def test_a_prompt_has_the_tokens_and_pictures_the_processor_makes(
    family: str, group: Group, tiny_of: Callable[[str], Any]
) -> None:
    tiny = tiny_of(family)
    expected = _processed(tiny, group)
    encoded = tiny.encoder.prompt(group, tiny.root)
    assert encoded.input_ids == expected.pop("input_ids")[0].tolist()
    assert len(encoded.media) == len(group.images)
    image_tokens = encoded.input_ids.count(tiny.encoder.family.image_token_id)
    assert image_tokens == sum(item.num_tokens for item in encoded.media)
    if group.images:
        merged = tiny.encoder.family.merge_media([item.inputs for item in encoded.media])
        for name, tensor in merged.items():
            wanted = expected[name]
            if family == "llava_onevision" and name == "pixel_values" and len(group.images) > 1:
                assert not wanted[:, 1:].any(), "the processor pads pictures in company, which have a base tile only"
                wanted = wanted[:, :1]
            assert torch.equal(tensor, wanted), name


@pytest.mark.parametrize("family", FAMILIES)
def test_many_prompts_at_once_are_the_same_as_one_by_one(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    together = Encoder(tiny.processor, tiny.model.config).prompts(GROUPS, tiny.root)
    for group, encoded in zip(GROUPS, together, strict=True):
        alone = Encoder(tiny.processor, tiny.model.config).prompt(group, tiny.root)
        assert encoded.input_ids == alone.input_ids
        assert [item.key for item in encoded.media] == [item.key for item in alone.media]
        assert [item.num_tokens for item in encoded.media] == [item.num_tokens for item in alone.media]
        for one, other in zip(encoded.media, alone.media, strict=True):
            assert one.inputs.keys() == other.inputs.keys()
            assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in one.inputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_ends_with_the_token_that_closes_the_turn(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    end = tiny.encoder.tokenizer.convert_tokens_to_ids(END_TOKENS[family])
    text = "There are three circles."
    ids = tiny.encoder.completion(text)
    assert ids[-1] == end and end not in ids[:-1]
    assert tiny.encoder.completion(text, end_of_turn=False) == ids[:-1]
    assert tiny.encoder.decode(ids) == text
    assert tiny.encoder.stop_ids == {end}


@pytest.mark.parametrize("family", ["mm1", "qwen2_vl", "llava"])
def test_a_document_is_its_parts_in_order_closed_by_the_end_of_text_token(
    family: str, tiny_of: Callable[[str], Any]
) -> None:
    tiny = tiny_of(family)
    tokenizer, image = tiny.encoder.tokenizer, tiny.encoder.family.image_placeholder(tiny.processor)
    parts = [{"type": "text", "text": "A circle: "}, {"type": "image"}, {"type": "text", "text": " and a star."}]
    group = Group("d", [{"role": "document", "content": parts}], ["b.png"])
    inputs = tiny.processor(
        text=[f"A circle: {image} and a star."], images=[[_open(tiny, "b.png")]], return_tensors="pt"
    )
    ids = inputs["input_ids"][0].tolist()
    assert tiny.encoder.document(group, tiny.root).input_ids == [*ids, tokenizer.eos_token_id]
    assert tiny.encoder.prompt(group, tiny.root).input_ids == ids, "a document as a prompt is left open"
    assert (ids[0] == tokenizer.bos_token_id) == (family == "llava")


@pytest.mark.parametrize("family", ["mm1", "smolvlm"])
def test_a_prompt_without_media_keeps_the_text_alone(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    encoded = tiny.encoder.prompt(GROUPS[0], tiny.root, without_media=True)
    text_only = Group("x", [text_message("user", "How many circles?")])
    assert encoded == tiny.encoder.prompt(text_only, tiny.root)
    assert encoded.media == []


@pytest.mark.parametrize("family", ["mm1", "internvl"])
def test_a_prefix_follows_the_prompt_without_an_end(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    plain = tiny.encoder.prompt(GROUPS[0], tiny.root)
    begun = tiny.encoder.prompt(GROUPS[0], tiny.root, prefix="There are")
    assert tiny.encoder.decode(begun.input_ids[len(plain.input_ids) :]) == "There are"
    assert begun.input_ids[: len(plain.input_ids)] == plain.input_ids
    assert not set(begun.input_ids[len(plain.input_ids) :]) & tiny.encoder.stop_ids


def test_a_template_that_begins_with_the_first_token_gets_no_second_one(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("llava")
    template = tiny.processor.chat_template
    bos = tiny.encoder.tokenizer.bos_token_id
    try:
        tiny.processor.chat_template = "<s>" + template
        ids = [tiny.encoder.prompt(group, tiny.root).input_ids for group in (GROUPS[0], GROUPS[2])]
    finally:
        tiny.processor.chat_template = template
    assert ids == [tiny.encoder.prompt(group, tiny.root).input_ids for group in (GROUPS[0], GROUPS[2])]
    assert all(sequence.count(bos) == 1 for sequence in ids)


def test_each_distinct_picture_is_decoded_once_while_it_is_remembered(
    tiny_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny_of("mm1")
    decoded: list[Any] = []
    load = encode.load_image
    monkeypatch.setattr(encode, "load_image", lambda item, root: decoded.append(item) or load(item, root))
    encoder = Encoder(tiny.processor, tiny.model.config)
    first = encoder.prompts(GROUPS, tiny.root)
    assert decoded == ["a.png", "b.png", "c.png"]
    again = encoder.prompts(GROUPS, tiny.root)
    assert decoded == ["a.png", "b.png", "c.png"]
    assert again[0].media[0] is first[0].media[0] is first[1].media[1]

    size = first[0].media[0].inputs["pixel_values"].nbytes
    monkeypatch.setattr(encode, "MEDIA_CACHE_BYTES", 2 * size)
    forgetful = Encoder(tiny.processor, tiny.model.config)
    forgetful.prompts(GROUPS, tiny.root)  # a, b, c: a is forgotten
    decoded.clear()
    forgetful.prompts([_group("c.png"), _group("b.png")], tiny.root)
    assert decoded == []
    forgetful.prompts([_group("a.png")], tiny.root)  # c, used before b, is forgotten
    forgetful.prompts([_group("b.png"), _group("c.png")], tiny.root)
    assert decoded == ["a.png", "c.png"]


def test_the_bytes_of_a_picture_are_the_same_as_its_file(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("mm1")
    by_path, by_bytes = _group("a.png"), _group((tiny.root / "a.png").read_bytes())
    [first, second] = Encoder(tiny.processor, tiny.model.config).prompts([by_path, by_bytes], tiny.root)
    assert first.media[0] is second.media[0]


@pytest.mark.parametrize("family", ["mm1", "qwen3_vl"])
def test_faults_name_the_row(family: str, tiny_of: Callable[[str], Any], tmp_path: Path) -> None:
    tiny = tiny_of(family)
    image_token = tiny.processor.image_token
    faults = {
        "media_missing": Group("missing", GROUPS[0].prompt, ["nowhere.png"]),
        "video_unsupported": Group("video", [{"role": "user", "content": [{"type": "video"}]}], videos=["v.mp4"]),
        "placeholder_in_text": Group("stray", [text_message("user", f"What is {image_token}?")]),
    }
    for kind, group in faults.items():
        with pytest.raises(DataError) as error:
            tiny.encoder.prompts([GROUPS[2], group], tiny.root)
        assert (error.value.kind, error.value.row) == (kind, group.id)
    for group in (faults["video_unsupported"],):
        with pytest.raises(DataError, match="videos"):
            tiny.encoder.document(group, tiny.root)
    with pytest.raises(DataError) as error:
        tiny.encoder.completion(f"It is {image_token}.")
    assert error.value.kind == "placeholder_in_text"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stray_placeholder_beside_a_picture_is_refused(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    group = Group("stray", [text_message("user", None, f"What is {tiny.processor.image_token}?")], ["a.png"])
    with pytest.raises(DataError) as error:
        tiny.encoder.prompt(group, tiny.root)
    assert error.value.kind in ("placeholder_in_text", "processor_refused") and error.value.row == "stray"


@pytest.mark.parametrize(("family", "kind"), [("mm1", "template_without_image"), ("internvl", "processor_refused")])
def test_a_template_that_drops_pictures_is_refused(family: str, kind: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    template = tiny.processor.chat_template
    try:
        tiny.processor.chat_template = "{{ messages[0]['content'][1]['text'] }}"
        with pytest.raises(DataError) as error:
            tiny.encoder.prompt(GROUPS[0], tiny.root)
    finally:
        tiny.processor.chat_template = template
    assert (error.value.kind, error.value.row) == (kind, "one")


def test_a_template_that_refuses_a_role_names_the_row(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("mm1")
    template = tiny.processor.chat_template
    try:
        tiny.processor.chat_template = "{{ raise_exception('roles must alternate') }}"
        with pytest.raises(DataError, match="roles must alternate") as error:
            tiny.encoder.prompt(GROUPS[0], tiny.root)
    finally:
        tiny.processor.chat_template = template
    assert (error.value.kind, error.value.row) == ("template_refused", "one")


def test_a_model_without_any_end_token_is_refused(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("llava")
    tokenizer = SimpleNamespace(eos_token_id=None)
    with pytest.raises(ValueError, match="neither an end-of-text token"):
        Encoder(SimpleNamespace(tokenizer=tokenizer, chat_template=None), tiny.model.config)


def _group(picture: str | bytes) -> Group:
    return Group("g", [text_message("user", None, "How many?")], [picture])


def _open(tiny: Any, name: str) -> Image.Image:
    with Image.open(tiny.root / name) as image:
        assert image.size == PICTURE_SIZES[name]
        return image.convert("RGB")


def _processed(tiny: Any, group: Group) -> dict[str, torch.Tensor]:
    """Let the processor do all of it, as its documentation shows: messages that hold the pictures."""
    pictures = iter([_open(tiny, name) for name in group.images])
    messages = [
        {
            "role": message["role"],
            "content": [
                {"type": "image", "image": next(pictures)} if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in group.prompt
    ]
    return dict(
        tiny.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    )
