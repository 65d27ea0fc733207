"""Position embeddings that a new vision encoder starts from."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModel, CLIPVisionConfig, SiglipVisionConfig, SwinConfig, ViTConfig

from triptych.errors import TriptychError
from triptych.models.mm1.positions import init_positions, sincos_positions

SIZES = {"image_size": 12, "patch_size": 4, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}


def test_sines_and_cosines_by_hand() -> None:
    # two frequencies for a width of 8: 2 radians a patch, and 2 / (2 * 3) of one
    positions = sincos_positions(3, 8)
    assert positions.shape == (9, 8)
    column, row = 2, 1
    expected = [f(a) for at in (column, row) for f in (math.sin, math.cos) for a in (2.0 * at, at / 3)]
    assert positions[row * 3 + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_every_place_differs_from_every_other() -> None:
    positions = sincos_positions(8, 128)
    distances = torch.cdist(positions, positions) + torch.eye(64) * 100
    assert distances.min() > 1.0


@pytest.mark.parametrize("config", [SiglipVisionConfig, CLIPVisionConfig, ViTConfig])
def test_encoders_of_several_families_start_from_them(config: type) -> None:
    encoder = AutoModel.from_config(config(**SIZES, num_attention_heads=2))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    init_positions(encoder, 3, 8)
    changed = [name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) == 1
    after, old = encoder.state_dict()[changed[0]], before[changed[0]]
    assert torch.equal(after[..., -9:, :].reshape(9, 8), sincos_positions(3, 8))
    assert torch.equal(after[..., :-9, :], old[..., :-9, :])  # of the class token, where there is one


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(TriptychError, match="multiple of 4"):
        sincos_positions(3, 6)
    encoder = AutoModel.from_config(SwinConfig(image_size=12, patch_size=4, embed_dim=8, depths=[1], num_heads=[2]))
    with pytest.raises(TriptychError, match="no learnt embeddings of 3 x 3"):
        init_positions(encoder, 3, 8)
