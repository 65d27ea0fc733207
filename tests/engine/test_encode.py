"""Encoding of groups, against the family's own processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.engine.prompts import GROUPS, VIDEO_PROMPT, open_picture, processed
from tests.support.tiny_models import FAMILIES, VIDEO
from triptych.engine.encode import Encoder
from triptych.errors import DataError, TriptychError
from triptych.group import Group, text_message

END_TOKENS = {
    "llava": "</s>",
    "llava_window": "</s>",
    "llava_next": "</s>",
    "gemma3": "<end_of_turn>",
    "paligemma": "<eos>",
    "paligemma2": "<eos>",
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
CHATTING = [family for family in FAMILIES if not family.startswith("paligemma")]
"""Families with a chat template."""


@pytest.mark.parametrize("family", CHATTING)
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.id)
def test_a_prompt_has_the_tokens_and_pictures_the_processor_makes(
    family: str, group: Group, tiny_of: Callable[[str], Any]
) -> None:
    tiny = tiny_of(family)
    expected = processed(tiny, group)
    encoded = tiny.encoder.prompt(group, tiny.root)
    assert encoded.input_ids == expected.pop("input_ids")[0].tolist()
    assert len(encoded.media) == len(group.images)
    image_tokens = encoded.input_ids.count(tiny.encoder.family.image_token_id)
    assert image_tokens == sum(item.num_tokens for item in encoded.media)
    if group.images:
        merged = tiny.encoder.family.merge_media([item.inputs for item in encoded.media])
        for name, tensor in merged.items():
            wanted = expected[name]
            if family == "llava_next" and name == "pixel_values":
                tensor = torch.nn.functional.pad(tensor, (0, 0) * 3 + (0, wanted.shape[1] - tensor.shape[1]))
            if family == "llava_onevision" and name == "pixel_values" and len(group.images) > 1:
                assert not wanted[:, 1:].any(), "the processor pads pictures in company, which have a base tile only"
                wanted = wanted[:, :1]
            assert torch.equal(tensor, wanted), name


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_a_prompt_of_paligemma_is_pictures_then_text_and_a_newline(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    parts = [None, "Left", None, " or right?"]
    encoded = tiny.encoder.prompt(Group("g", [text_message("user", *parts)], ["b.png", "a.png"]), tiny.root)
    inputs = tiny.processor(
        text=["<image><image>Left or right?"],
        images=[[open_picture(tiny, "b.png"), open_picture(tiny, "a.png")]],
        return_tensors="pt",
    )
    assert encoded.input_ids == inputs["input_ids"][0].tolist()
    assert not inputs["token_type_ids"].any() and encoded.two_way == ((0, len(encoded.input_ids)),)
    assert torch.equal(torch.cat([item.inputs["pixel_values"] for item in encoded.media]), inputs["pixel_values"])
    text = "<image>" * 18 + "<s>Left or right?\n"
    assert tiny.encoder.tokenizer.decode(encoded.input_ids) == text
    begun = tiny.encoder.prompt(GROUPS[2], tiny.root, prefix="One")
    assert tiny.encoder.tokenizer.decode(begun.input_ids) == "<s>Count to five.\nOne"
    num_prefix = len(tiny.encoder.completion("One", end_of_turn=False))
    assert begun.two_way == ((0, len(begun.input_ids) - num_prefix),), "what the answer begins with is causal"


def test_paligemma_takes_one_message_of_a_user_and_no_documents(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("paligemma")
    for group in (GROUPS[1], GROUPS[3]):
        with pytest.raises(DataError, match="one user message") as error:
            tiny.encoder.prompt(group, tiny.root)
        assert (error.value.kind, error.value.row) == ("template_refused", group.id)
    with pytest.raises(TriptychError, match="documents"):
        tiny.encoder.document(Group("d", [{"role": "document", "content": [{"type": "text", "text": "a"}]}]), tiny.root)


@pytest.mark.parametrize("family", CHATTING)
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
        text=[f"A circle: {image} and a star."], images=[[open_picture(tiny, "b.png")]], return_tensors="pt"
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


@pytest.mark.parametrize("family", ["mm1", "qwen3_vl"])
def test_faults_name_the_row(family: str, tiny_of: Callable[[str], Any], tmp_path: Path) -> None:
    tiny = tiny_of(family)
    image_token = tiny.processor.image_token
    faults = {
        "media_missing": Group("missing", GROUPS[0].prompt, ["nowhere.png"]),
        "placeholder_in_text": Group("stray", [text_message("user", f"What is {image_token}?")]),
    }
    for kind, group in faults.items():
        with pytest.raises(DataError) as error:
            tiny.encoder.prompts([GROUPS[2], group], tiny.root)
        assert (error.value.kind, error.value.row) == (kind, group.id)
    with pytest.raises(DataError) as error:
        tiny.encoder.completion(f"It is {image_token}.")
    assert error.value.kind == "placeholder_in_text"


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in VIDEO])
def test_a_video_is_refused_where_the_model_takes_none(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    group = Group("video", VIDEO_PROMPT, videos=["clip"])
    calls = [tiny.encoder.prompt, lambda group, root: tiny.encoder.prompts([GROUPS[2], group], root)]
    if tiny.encoder.family.packed and not family.startswith("paligemma"):
        calls.append(tiny.encoder.document)
    for encode in calls:
        with pytest.raises(DataError, match="no videos") as error:
            encode(group, tiny.root)
        assert (error.value.kind, error.value.row) == ("video_unsupported", "video")


def test_smolvlm_takes_videos_or_pictures_in_a_prompt(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("smolvlm")
    both = [{"role": "user", "content": [{"type": "video"}, {"type": "image"}]}]
    with pytest.raises(DataError, match="not both") as error:
        tiny.encoder.prompt(Group("both", both, ["a.png"], ["clip"]), tiny.root)
    assert (error.value.kind, error.value.row) == ("video_unsupported", "both")


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
