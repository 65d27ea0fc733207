"""Sampling from models whose prompts cannot be shared: `model.generate`, with our own draws.

Each sample draws from its own stream of uniform numbers, as in the local sampler: a logits processor draws the token
and leaves it as the only one that `generate` can take.

Letters: B samples, T drawn tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from triptych.engine.encode import EncodedPrompt
from triptych.engine.families.plain import continued, placed
from triptych.engine.families.vision import base_model_of
from triptych.errors import TriptychError
from triptych.generation.draw import draw, uniforms
from triptych.generation.protocol import SamplingParams
from triptych.generation.window import Drawn


def draw_plain(
    model: Any, encoded: EncodedPrompt, stop_ids: set[int], seeds: list[int], params: SamplingParams, batch: int
) -> Drawn:
    """Draw one sample with each seed.

    Args:
        model: any Hugging Face model that generates, bare or under PEFT.
        encoded: the prompt of a family that is not packed.
        batch: most samples decoded together. Prompts with several pictures are decoded one sample at a time, since the
            tensors of their pictures cannot be repeated without knowing their layout.

    Raises:
        TriptychError: the model's logits are not numbers.
    """
    inputs = placed(continued(encoded.media[0].inputs, encoded.input_ids), model)
    batch = batch if all(len(value) == 1 for value in inputs.values()) else 1
    stops = torch.tensor(sorted(stop_ids), dtype=torch.long)
    settings = GenerationConfig(
        max_new_tokens=params.max_new_tokens, eos_token_id=stops.tolist(), pad_token_id=0, do_sample=False
    )
    drawn = Drawn([], [])
    distinct = seeds if params.temperature else seeds[:1]  # else all samples are the same
    for first in range(0, len(distinct), batch):
        uniform = uniforms(distinct[first : first + batch], params.max_new_tokens).to(inputs["input_ids"].device)
        rows = inputs
        if len(uniform) > 1:
            rows = {name: value.repeat_interleave(len(uniform), 0) for name, value in inputs.items()}
        drawing = LogitsProcessorList([_Draw(uniform, params, len(encoded.input_ids))])
        with _settings(model, settings):
            output = base_model_of(model).generate(**rows, logits_processor=drawing)
        for ids in output[:, len(encoded.input_ids) :].cpu():
            ends = torch.isin(ids, stops).nonzero()[:, 0].tolist()
            drawn.token_ids.append(ids[: ends[0] + 1 if ends else None].tolist())
            drawn.stopped.append(bool(ends))
    times = len(seeds) // len(distinct)
    return Drawn(drawn.token_ids * times, drawn.stopped * times)


class _Draw(LogitsProcessor):
    """Draws a token per sample and hides all others.

    Args:
        uniform: (B, T) in [0, 1).
        num_prompt: tokens before the first drawn one.
    """

    def __init__(self, uniform: torch.Tensor, params: SamplingParams, num_prompt: int) -> None:
        self._uniform, self._params, self._num_prompt = uniform, params, num_prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (B, V) that are 0 for the token drawn and -inf for all others."""
        check_logits(scores)
        step = input_ids.shape[1] - self._num_prompt
        rows = torch.arange(len(scores), device=scores.device)
        tokens = draw(scores, rows, self._uniform[:, step], self._params)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)


def check_logits(logits: torch.Tensor) -> None:
    """Raise `TriptychError` where logits are not numbers."""
    if logits.isnan().any():
        raise TriptychError(
            "The model's logits are not numbers: its weights diverged in training, or its dtype overflows "
            "(then use bfloat16 or float32)."
        )


@contextmanager
def _settings(model: Any, settings: GenerationConfig) -> Iterator[None]:
    """Let the model generate with these settings alone: those of its checkpoint may hold a penalty or a filter."""
    base = base_model_of(model)
    before, base.generation_config = base.generation_config, settings
    try:
        yield
    finally:
        base.generation_config = before
