"""One forward over a packed batch: log-probabilities of every target token, and their sums along paths.

The LM head runs only on the positions that predict a target, in chunks that are recomputed in the backward pass when
there is more than one, so that logits of a batch are never held.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from triptych.engine.families import Family, ImageFeatures, as_encoder_output, backbone_of, encode_images
from triptych.engine.trie import PackedBatch

HEAD_CHUNK_ELEMENTS = 2**25
"""Most logits (positions x vocabulary) computed at once: 128 MiB in float32."""


@dataclass(frozen=True)
class Scores:
    """What one forward tells of a packed batch.

    Attributes:
        per_token_logps: (N,) log-probability of each distinct target token, nats, float32.
        logps: (C,) summed over the target tokens of each path, nats.
        num_targets: (C,) number of target tokens of each path.
    """

    per_token_logps: torch.Tensor
    logps: torch.Tensor
    num_targets: torch.Tensor


def score(
    model: torch.nn.Module, family: Family, batch: PackedBatch, features: list[ImageFeatures] | None = None
) -> Scores:
    """Score every path of a packed batch with one forward.

    Args:
        model: any supported causal vision-language model, bare or under PEFT.
        batch: see `PackedBatch`; moved to the model's device.
        features: of `batch.media`, where they are already known (a frozen vision tower).
    """
    batch = batch.to(next(model.parameters()).device)
    hidden = hidden_states(model, family, batch, features)
    logps = target_logps(model, hidden.flatten(0, 1), batch)
    sums = torch.zeros(batch.num_paths, device=logps.device)
    sums = sums.index_add(0, batch.path_of_target, logps[batch.path_targets])
    counts = torch.bincount(batch.path_of_target, minlength=batch.num_paths)
    return Scores(per_token_logps=logps, logps=sums, num_targets=counts)


def hidden_states(
    model: torch.nn.Module, family: Family, batch: PackedBatch, features: list[ImageFeatures] | None = None
) -> torch.Tensor:
    """Return the last hidden states (B, T, D) of the packed rows; each distinct picture is encoded once."""
    backbone = backbone_of(model)
    if features is None:
        media = batch.media
        features = encode_images(model, family, [item.inputs for item in media], [item.num_tokens for item in media])
    images = {}
    if batch.image_order:
        images["mm_encoder_outputs"] = {"image": as_encoder_output([features[n] for n in batch.image_order])}
    dtype = backbone.get_input_embeddings().weight.dtype  # other weights may be quantised
    return backbone(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask(dtype),
        position_ids=batch.position_ids,
        use_cache=False,
        **images,
    ).last_hidden_state


def target_logps(model: torch.nn.Module, hidden: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
    """Return log p(target) for each distinct target, (N,) float32, from flat hidden states (B * T, D)."""
    head = model.get_output_embeddings()
    states = hidden[batch.predecessors]
    rows_per_chunk = max(1, HEAD_CHUNK_ELEMENTS // head.weight.shape[0])
    if len(states) <= rows_per_chunk:
        return _token_logps(head, states, batch.target_ids)
    chunks = zip(states.split(rows_per_chunk), batch.target_ids.split(rows_per_chunk), strict=True)
    return torch.cat([checkpoint(_token_logps, head, *chunk, use_reentrant=False) for chunk in chunks])


def _token_logps(head: torch.nn.Module, states: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    return -torch.nn.functional.cross_entropy(head(states).float(), token_ids, reduction="none")
