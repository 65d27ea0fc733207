"""What the sampler must equal: the model by itself, `generate` or one whole forward per token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych.engine.encode import Encoder
from triptych.engine.families.plain import continued
from triptych.engine.families.vision import modality_of
from triptych.generation.draw import stream_seeds, uniforms
from triptych.generation.protocol import Request, SamplingParams


def inputs_of(encoder: Encoder, request: Request, root: Path) -> dict[str, torch.Tensor]:
    """The whole prompt as the model itself takes it, pixels and all."""
    encoded = encoder.prompt(request.group, root, without_media=request.without_media, prefix=request.prefix)
    if not encoder.family.packed:
        return continued(encoded.media[0].inputs, encoded.input_ids)
    inputs = {"input_ids": torch.tensor([encoded.input_ids])}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for modality in ("image", "video"):
        media = [item.inputs for item in encoded.media if modality_of(item.inputs) == modality]
        inputs |= encoder.family.merge_media(media) if media else {}
        if media and "second_per_grid_ts" in media[0]:
            inputs["second_per_grid_ts"] = torch.cat([item["second_per_grid_ts"] for item in media])
    if "image_grid_thw" in inputs or "video_grid_thw" in inputs:
        ids, family = inputs["input_ids"], encoder.family
        inputs["mm_token_type_ids"] = (ids == family.image_token_id).int() + 2 * (ids == family.video_token_id).int()
    if encoder.family.model_types == ("gemma3",):
        inputs["token_type_ids"] = (inputs["input_ids"] == encoder.family.image_token_id).int()
    if encoder.family.model_types == ("paligemma",):  # 0 for the prompt, 1 for what follows
        inputs["token_type_ids"] = torch.arange(len(encoded.input_ids))[None] >= encoded.two_way[0][1]
    return inputs


def generated(model: Any, encoder: Encoder, request: Request, num_tokens: int, root: Path) -> list[int]:
    """What greedy `model.generate` makes of one request, its stop token included."""
    inputs = inputs_of(encoder, request, root)
    output = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=num_tokens,
        eos_token_id=sorted(encoder.stop_ids),
        pad_token_id=0,
    )
    return output[0, inputs["input_ids"].shape[1] :].tolist()


def drawn_alone(
    model: Any, encoder: Encoder, request: Request, number: int, params: SamplingParams, root: Path
) -> list[int]:
    """One sample by the book: a whole forward per token, and the inverse CDF in double precision."""
    inputs = inputs_of(encoder, request, root)
    uniform = uniforms(stream_seeds(request)[number : number + 1], params.max_new_tokens)[0].double().numpy()
    drawn: list[int] = []
    while len(drawn) < params.max_new_tokens and not (drawn and drawn[-1] in encoder.stop_ids):
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1].double().numpy() / params.temperature
        weights = np.exp(logits - logits.max())
        drawn.append(int(np.searchsorted(weights.cumsum() / weights.sum(), uniform[len(drawn)], side="right")))
        inputs = continued(inputs, [*inputs["input_ids"][0].tolist(), drawn[-1]])
    return drawn
