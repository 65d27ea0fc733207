"""Both sides of the sampling benchmark answer what they are asked, and ask the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import sampling
from benchmarks.sampling import Case, build_model, build_processor, make_groups
from triptych.engine.encode import Encoder


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return build_model(torch.float32)


def test_the_model_is_the_one_the_figures_are_quoted_for(model: torch.nn.Module) -> None:
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == 48.6


def test_prompts_have_the_lengths_of_the_case_and_are_the_same_for_the_peer(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    groups = make_groups(Case((596, 620), 1, 1), tmp_path)
    processor = build_processor()
    encoder = Encoder(processor, model.config)
    own = [encoder.prompt(group, tmp_path) for group in groups]
    assert [len(prompt.input_ids) for prompt in own] == [596, 620]
    texts = [processor.apply_chat_template(group.prompt, add_generation_prompt=True) for group in groups]
    pictures = [Image.open(tmp_path / group.images[0]) for group in groups]
    inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
    for n, prompt in enumerate(own):
        assert inputs["input_ids"][n][inputs["attention_mask"][n] == 1].tolist() == prompt.input_ids
        assert torch.equal(inputs["pixel_values"][n], prompt.media[0].inputs["pixel_values"][0])
    assert not torch.equal(inputs["pixel_values"][0], inputs["pixel_values"][1])


def test_all_ways_draw_every_token_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "NUM_LAYERS", 2)
    case = Case((596, 600), 2, 2)
    groups = make_groups(case, tmp_path)
    for side in (sampling.ours, sampling.peer):
        for answer in side(case, groups, tmp_path, torch.float32).values():  # the sides check the lengths themselves
            assert len(answer()) == 4
