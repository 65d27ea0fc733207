"""The distribution of what the local sampler draws, against plain forwards and transformers' processors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tests.generation.alone import inputs_of
from tests.generation.conftest import GROUPS
from tests.generation.test_local import ask, ids_of, show_ids
from triptych.engine.encode import Encoder
from triptych.generation.protocol import Request, SamplingParams

NUM_SAMPLES = 6000
FEWEST_EXPECTED = 5
"""Outcomes expected more seldom are counted together, as the chi-square test asks for."""


@torch.no_grad()
def two_token_probabilities(model: Any, inputs: dict[str, torch.Tensor], params: SamplingParams) -> torch.Tensor:
    """Probabilities (V, V) of the first two tokens, from forwards of the prompt and of each token after it."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(params.temperature)])
    if params.top_k:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    output = model(**inputs, use_cache=True)
    first = warpers(None, output.logits[:, -1]).double().softmax(-1)
    output.past_key_values.batch_repeat_interleave(first.shape[-1])
    every_token = torch.arange(first.shape[-1])[:, None]
    logits = model(input_ids=every_token, past_key_values=output.past_key_values).logits
    second = warpers(None, logits[:, -1]).double().softmax(-1)
    return first[0][:, None] * second


def p_value(drawn: list[int], probabilities: torch.Tensor) -> float:
    """Pearson's chi-square test of outcomes drawn against probabilities that sum to 1."""
    expected = probabilities.flatten().numpy() * len(drawn)
    counts = np.bincount(drawn, minlength=len(expected))
    assert not counts[expected == 0].any(), "an outcome of no probability was drawn"
    often = expected >= FEWEST_EXPECTED
    observed, wanted = (np.append(column[often], column[~often].sum()) for column in (counts, expected))
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    assert len(wanted) > 3, "the test should see several outcomes"
    return chisquare(observed, wanted).pvalue


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_new_tokens=2),
        SamplingParams(max_new_tokens=2, temperature=0.4),
        SamplingParams(max_new_tokens=2, top_k=4),
        SamplingParams(max_new_tokens=2, temperature=1.3, top_k=50, top_p=0.8),
    ],
    ids=["plain", "colder", "top-k", "all"],
)
def test_first_and_second_tokens_come_with_the_frequencies_of_the_softmax(
    params: SamplingParams,
    loaded: Callable[[str], tuple[Any, Encoder]],
    picture_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, encoder = loaded("llava")
    encoder.stop_ids = set()
    request = Request(GROUPS[0], num_samples=NUM_SAMPLES)
    joint = two_token_probabilities(model, inputs_of(encoder, request, picture_root), params)
    show_ids(encoder, monkeypatch)
    (samples,) = ask(model, encoder, [request], params, picture_root, batch_sequences=NUM_SAMPLES)
    first, second = zip(*(ids_of(sample) for sample in samples), strict=True)
    both = [joint.shape[1] * one + other for one, other in zip(first, second, strict=True)]
    p_values = [p_value(list(first), joint.sum(1)), p_value(list(second), joint.sum(0)), p_value(both, joint)]
    assert min(p_values) > 1e-3, p_values
