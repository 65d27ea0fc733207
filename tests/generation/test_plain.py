"""Sampling by `model.generate`; equality of its draws with forwards of their own is in test_local."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from tests.generation.conftest import GROUPS
from triptych.engine.encode import Encoder
from triptych.errors import TriptychError
from triptych.generation.local import LocalGenerator
from triptych.generation.plain import check_logits
from triptych.generation.protocol import Request, Sample, SamplingParams

SAMPLED = SamplingParams(max_new_tokens=6)
GREEDY = SamplingParams(temperature=0, max_new_tokens=6)
Loaded = Callable[[str], tuple[Any, Encoder]]


def ask(
    model: Any, encoder: Encoder, requests: list[Request], params: SamplingParams, root: Path, **settings: Any
) -> list[list[Sample]]:
    return list(LocalGenerator(model, encoder, **settings).generate(requests, params, root=root))


class Rows:
    """Counts the rows of each forward of a model."""

    def __init__(self, model: Any) -> None:
        self.seen: list[int] = []
        model.get_decoder().register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.seen.append(
            len(kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else kwargs["input_ids"])
        )


@pytest.mark.parametrize("family", ["mllama", "qwen3_5"])
def test_samples_do_not_depend_on_how_many_are_drawn_together(family: str, loaded: Loaded, picture_root: Path) -> None:
    model, encoder = loaded(family)
    requests = [Request(group, num_samples=3, seed=1) for group in GROUPS]
    together = ask(model, encoder, requests, SAMPLED, picture_root)
    assert together == ask(model, encoder, requests[::-1], SAMPLED, picture_root, batch_sequences=1)[::-1]
    assert len({sample.text for sample in together[0]}) > 1


def test_samples_of_one_prompt_are_decoded_together_where_its_tensors_allow(loaded: Loaded, picture_root: Path) -> None:
    for family, expected in (("mllama", {3}), ("qwen3_5", {1})):  # patches of Qwen lie in one long row
        model, encoder = loaded(family)
        rows = Rows(model)
        ask(model, encoder, [Request(GROUPS[0], num_samples=3)], SAMPLED, picture_root)
        assert set(rows.seen) == expected


def test_greedy_samples_are_drawn_once(loaded: Loaded, picture_root: Path) -> None:
    model, encoder = loaded("mllama")
    rows = Rows(model)
    (samples,) = ask(model, encoder, [Request(GROUPS[4], num_samples=4)], GREEDY, picture_root)
    assert set(rows.seen) == {1} and len(rows.seen) <= 6
    assert len(samples) == 4 and len({sample.text for sample in samples}) == 1


def test_settings_of_the_checkpoint_do_not_change_what_is_drawn(loaded: Loaded, picture_root: Path) -> None:
    model, encoder = loaded("mllama")
    requests = [Request(group) for group in GROUPS]
    expected = ask(model, encoder, requests, GREEDY, picture_root)
    penalty = model.generation_config = GenerationConfig(repetition_penalty=50.0, do_sample=True, top_k=1, max_length=7)
    assert ask(model, encoder, requests, GREEDY, picture_root) == expected
    assert model.generation_config is penalty


def test_the_model_keeps_its_dtype(loaded: Loaded, picture_root: Path) -> None:
    model, encoder = loaded("mllama")
    model.to(torch.bfloat16)
    ((sample,),) = ask(model, encoder, [Request(GROUPS[0])], GREEDY, picture_root)
    assert sample.num_tokens > 0


def test_weights_that_diverged_are_named(loaded: Loaded, picture_root: Path) -> None:
    with pytest.raises(TriptychError, match="diverged"):
        check_logits(torch.tensor([1.0, float("nan")]))
    model, encoder = loaded("mllama")
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TriptychError, match="diverged"):
        ask(model, encoder, [Request(GROUPS[4])], SAMPLED, picture_root)
