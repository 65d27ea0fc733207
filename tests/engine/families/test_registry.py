"""Which family a model belongs to, and which models cannot share prompts."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import transformers

from triptych.engine.families import family_of
from triptych.engine.families.gemma import Gemma3
from triptych.engine.families.llava import LlavaNext
from triptych.engine.families.plain import PlainFamily, _announce
from triptych.errors import TriptychError


@pytest.fixture(autouse=True)
def announce_again() -> None:
    _announce.cache_clear()


def test_known_types_are_packed() -> None:
    assert type(family_of(transformers.LlavaNextConfig())) is LlavaNext
    assert type(family_of(transformers.Gemma3Config())) is Gemma3
    assert family_of(transformers.LlavaConfig()).causal and not family_of(transformers.Gemma3Config()).causal


def test_a_decoder_with_windows_has_masks_of_its_own() -> None:
    text = transformers.MistralConfig(sliding_window=128)
    family = family_of(transformers.LlavaConfig(text_config=text))
    assert family.packed and not family.causal and family.windows == {None: 128}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (transformers.MllamaConfig(), "'mllama' are not known"),
        (transformers.LlavaConfig(vision_config=transformers.PixtralVisionConfig()), "pixtral"),
        (transformers.LlavaConfig(text_config=transformers.RwkvConfig()), "RwkvModel carries a state"),
        (
            transformers.LlavaConfig(
                text_config=transformers.Lfm2Config(num_hidden_layers=2, layer_types=["conv", "full_attention"])
            ),
            "layers of type conv",
        ),
        (transformers.LlavaConfig(text_config=transformers.Qwen3NextConfig()), "layers of type linear_attention"),
        (transformers.LlavaConfig(text_config=transformers.BloomConfig()), "BloomModel has an attention of its own"),
    ],
    ids=["type", "vision encoder", "state", "convolution", "linear attention", "biases for positions"],
)
def test_what_cannot_be_packed_takes_the_plain_path_and_says_why_once(
    config: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        families = [family_of(config), family_of(config)]
    assert all(isinstance(family, PlainFamily) and not family.packed for family in families)
    assert len(caplog.messages) == 1 and reason in caplog.messages[0]


def test_encoder_decoders_are_refused_by_name() -> None:
    with pytest.raises(TriptychError, match="florence2"):
        family_of(SimpleNamespace(model_type="florence2", is_encoder_decoder=True))
