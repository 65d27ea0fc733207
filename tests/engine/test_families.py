"""What differs between families; equality of packed scores with the models themselves is in test_scoring."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from triptych.engine.families import ImageFeatures, as_encoder_outputs, backbone_of, encode_images
from triptych.engine.families.llava import LlavaOnevision
from triptych.engine.families.smolvlm import SmolVLM
from triptych.group import Group, text_message

NAMES = ["a.png", "b.png", "c.png"]
# Tokens of a.png (30 x 20 pixels, width x height), b.png (16 x 16) and c.png (20 x 40), each by itself.
TOKENS = {
    # cropped to 24 x 24, patches of 8
    "llava": [9, 9, 9],
    "llava_window": [9, 9, 9],
    # as for LLaVA-OneVision
    "llava_next": [4 + 2 * 5, 4 + 2 * 3, 4 + 4 * 3],
    # 6 x 6 patches pooled by 2; 3 x 3 patches
    "gemma3": [9, 9, 9],
    "paligemma": [9, 9, 9],
    "paligemma2": [9, 9, 9],
    # 4 of the base tile and, with a newline per row of features: 2 rows of 4 (a canvas of 4 x 4 less its margins for
    # the proportions 3 : 2), 2 rows of 2, 4 rows of 2
    "llava_onevision": [4 + 2 * 5, 4 + 2 * 3, 4 + 4 * 3],
    # 4 per tile of 16 x 16; two tiles and the thumbnail, one tile, two tiles and the thumbnail
    "internvl": [3 * 4, 4, 3 * 4],
    # sides rounded to multiples of 8 (30 x 20 to 32 x 16, and 20 x 40 to 16 x 40), one token for 8 x 8
    "qwen2_vl": [4 * 2, 2 * 2, 2 * 5],
    "qwen2_5_vl": [4 * 2, 2 * 2, 2 * 5],
    "qwen3_vl": [4 * 2, 2 * 2, 2 * 5],
    # longest side 32, other side up to a multiple of 16; 4 per tile of 16 x 16, and the whole once more
    "smolvlm": [5 * 4, 5 * 4, 3 * 4],
    "idefics3": [5 * 4, 5 * 4, 3 * 4],
    # 4 per view; four parts and the whole
    "mm1": [4, 4, 4],
    "mm1_sub_images": [5 * 4, 5 * 4, 5 * 4],
}


@pytest.mark.parametrize("family", TOKENS)
def test_pictures_take_the_tokens_their_size_implies(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    assert [_media(tiny, [name])[0].num_tokens for name in NAMES] == TOKENS[family]
    # pictures of LLaVA-OneVision in company have the base tile and a newline
    together = [4 + 1] * 3 if family == "llava_onevision" else TOKENS[family]
    assert [item.num_tokens for item in _media(tiny, NAMES)] == together


@pytest.mark.parametrize("family", TOKENS)
def test_features_do_not_depend_on_what_else_is_encoded(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    media = [*_media(tiny, ["c.png", "b.png"]), *_media(tiny, ["a.png"]), *_media(tiny, ["c.png"])]
    together = _features(tiny, media)
    for item, features in zip(media, together, strict=True):
        [alone] = _features(tiny, [item])
        assert len(features.tokens) == item.num_tokens
        assert len(features.deepstack) == len(alone.deepstack) == (family == "qwen3_vl")
        for one, other in zip((features.tokens, *features.deepstack), (alone.tokens, *alone.deepstack), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_picture_in_company_has_another_identity_than_alone_where_it_is_tiled(tiny_of: Callable[[str], Any]) -> None:
    for family, same in (("llava_onevision", False), ("qwen2_vl", True), ("mm1", True)):
        tiny = tiny_of(family)
        assert (_media(tiny, ["a.png"])[0].key == _media(tiny, ["a.png", "b.png"])[0].key) is same


def test_untiled_pictures_come_last_and_count_as_one_sample() -> None:
    def picture(num_tiles: int, company: int) -> dict[str, torch.Tensor]:
        sizes, numbers = torch.tensor([[16, 16]]), torch.tensor([company])
        return {"pixel_values": torch.ones(1, num_tiles, 3, 2, 2), "image_sizes": sizes, "batch_num_images": numbers}

    family = LlavaOnevision(_config(video_token_id=6))
    assert family.merge_rank(picture(3, 1)) < family.merge_rank(picture(1, 2))
    merged = family.merge_media([picture(3, 1), picture(5, 1), picture(1, 2), picture(1, 2), picture(1, 2)])
    assert merged["batch_num_images"].tolist() == [1, 1, 3]
    assert merged["pixel_values"][:, :, 0, 0, 0].tolist() == [[1, 1, 1, 0, 0], [1] * 5, *[[1, 0, 0, 0, 0]] * 3]
    assert family.merge_media([picture(3, 1), picture(1, 2)])["batch_num_images"].tolist() == [1, 2]


def test_smaller_tiles_are_padded_below_and_to_the_right_and_masked() -> None:
    small = {"pixel_values": torch.ones(1, 1, 1, 1, 2), "pixel_attention_mask": torch.ones(1, 1, 1, 2)}
    large = {"pixel_values": torch.ones(1, 2, 1, 2, 3), "pixel_attention_mask": torch.ones(1, 2, 2, 3)}
    merged = SmolVLM(_config()).merge_media([small, large])
    expected = [[[1, 1, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]], [[1, 1, 1], [1, 1, 1]]]
    assert merged["pixel_values"][0, :, 0].tolist() == expected
    assert merged["pixel_attention_mask"][0].tolist() == expected


def test_encoder_output_serves_models_that_want_a_list_and_those_that_want_a_tensor() -> None:
    features = [
        ImageFeatures(torch.ones(2, 3), (torch.zeros(2, 3),)),
        ImageFeatures(torch.ones(1, 3), (torch.ones(1, 3),)),
    ]
    pixels = {"pixel_values": torch.ones(1)}
    output = as_encoder_outputs(features, [pixels, pixels])["image"]
    assert torch.equal(torch.cat(output.pooler_output), torch.ones(3, 3))
    assert torch.equal(output.pooler_output.to("cpu", torch.float64), torch.ones(3, 3, dtype=torch.float64))
    assert torch.equal(torch.cat(output.deepstack_features[0]), torch.tensor([[0.0] * 3, [0.0] * 3, [1.0] * 3]))


def test_detached_features_are_the_same_without_a_graph() -> None:
    weight = torch.ones(2, 3, requires_grad=True)
    detached = ImageFeatures(weight * 2, (weight * 3,)).detach()
    assert not detached.tokens.requires_grad and not detached.deepstack[0].requires_grad
    assert torch.equal(detached.deepstack[0], torch.full((2, 3), 3.0))


def test_the_body_is_found_under_an_adapter(tiny_of: Callable[[str], Any]) -> None:
    model = tiny_of("mm1").model
    adapted = SimpleNamespace(get_base_model=lambda: model)
    assert backbone_of(model) is backbone_of(adapted) is model.model


def _config(**settings: Any) -> SimpleNamespace:
    return SimpleNamespace(image_token_id=5, get_text_config=SimpleNamespace, **settings)


def _media(tiny: Any, names: list[str]) -> list[Any]:
    return tiny.encoder.prompt(Group("g", [text_message("user", *[None] * len(names))], names), tiny.root).media


def _features(tiny: Any, media: list[Any]) -> list[ImageFeatures]:
    with torch.no_grad():
        inputs, counts = [item.inputs for item in media], [item.num_tokens for item in media]
        return encode_images(tiny.model, tiny.encoder.family, inputs, counts)
