"""Inputs of models whose paths are not packed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from triptych.engine.families.plain import PlainFamily, continued, prompt_inputs
from triptych.errors import TriptychError


def test_a_continued_prompt_repeats_the_last_row_of_what_has_a_row_per_token() -> None:
    inputs = {
        "input_ids": torch.tensor([[5, 6]]),
        "attention_mask": torch.ones(1, 2),
        "mm_token_type_ids": torch.tensor([[1, 0]]),
        "cross_attention_mask": torch.tensor([[[[1, 0]], [[1, 1]]]]),
        "pixel_values": torch.zeros(1, 2, 3),
    }
    longer = continued(inputs, [5, 6, 7, 8])
    assert longer["input_ids"].tolist() == [[5, 6, 7, 8]]
    assert longer["attention_mask"].tolist() == [[1, 1, 1, 1]]
    assert longer["mm_token_type_ids"].tolist() == [[1, 0, 0, 0]]
    assert longer["cross_attention_mask"].tolist() == [[[[1, 0]], [[1, 1]], [[1, 1]], [[1, 1]]]]
    assert longer["pixel_values"] is inputs["pixel_values"]
    assert inputs["input_ids"].tolist() == [[5, 6]]


def test_pointers_from_tokens_into_pictures_are_refused() -> None:
    kept = {"input_ids": torch.zeros(1, 2), "pixel_values": torch.zeros(1)}
    assert prompt_inputs(kept | {"labels": torch.zeros(1, 2)}) == kept
    with pytest.raises(TriptychError, match="image_patches_indices"):
        prompt_inputs(kept | {"image_patches_indices": torch.zeros(1, 2)})


def test_documents_need_to_know_the_tokens_of_pictures() -> None:
    config = SimpleNamespace(model_type="other")
    with pytest.raises(TriptychError, match="image token"):
        PlainFamily(config, "test").check_document()
    with pytest.raises(TriptychError, match="placeholder"):
        PlainFamily(config, "test").image_placeholder(SimpleNamespace())
    family = PlainFamily(SimpleNamespace(model_type="other", image_token_id=3), "test")
    family.check_document()
    assert family.image_placeholder(SimpleNamespace(image_token="<i>")) == "<i>"
