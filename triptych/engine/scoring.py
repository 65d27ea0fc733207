"""One forward over a packed batch: log-probabilities of every target token, and their sums along paths.

The LM head runs only on the positions that predict a target, in chunks that are recomputed in the backward pass when
there is more than one, so that logits of a batch are never held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from triptych.engine.attention import attends_by_block
from triptych.engine.families import Family, ImageFeatures, as_encoder_outputs, backbone_of, encode_images
from triptych.engine.plain import PlainBatch, plain_token_scores
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
        entropies: (N,) of the distribution that each distinct target was drawn from, nats, where they are asked for.
    """

    per_token_logps: torch.Tensor
    logps: torch.Tensor
    num_targets: torch.Tensor
    entropies: torch.Tensor | None = None


def score(
    model: torch.nn.Module,
    family: Family,
    batch: PackedBatch | PlainBatch,
    features: list[ImageFeatures] | None = None,
    *,
    temperature: float = 1.0,
    entropies: bool = False,
) -> Scores:
    """Score every path of a packed batch with one forward, or every path of a plain batch with one of its own.

    Args:
        model: any supported causal vision-language model, bare or under PEFT.
        batch: see `PackedBatch`; moved to the model's device.
        features: of `batch.media`, where they are already known (a frozen vision tower).
        temperature: divides the logits.
        entropies: tell them too.
    """
    batch = batch.to(next(model.parameters()).device)
    if isinstance(batch, PlainBatch):
        found = plain_token_scores(model, batch, temperature=temperature, entropies=entropies)
    else:
        hidden = hidden_states(model, family, batch, features).flatten(0, 1)
        found = _target_scores(model, hidden, batch, family.logit_softcap, temperature, entropies)
    logps = found[0]
    sums = torch.zeros(batch.num_paths, device=logps.device)
    sums = sums.index_add(0, batch.path_of_target, logps[batch.path_targets])
    counts = torch.bincount(batch.path_of_target, minlength=batch.num_paths)
    return Scores(per_token_logps=logps, logps=sums, num_targets=counts, entropies=found[1] if entropies else None)


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
        media = [batch.media[n].inputs for n in batch.image_order]
        images["mm_encoder_outputs"] = as_encoder_outputs([features[n] for n in batch.image_order], media)
    return backbone(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        use_cache=False,
        **_attention(backbone, family, batch),
        **images,
    ).last_hidden_state


def can_attend_by_block(model: torch.nn.Module, family: Family) -> bool:
    """Say whether batches for this model may be packed `by_block`."""
    return family.causal and attends_by_block(backbone_of(model).get_decoder())


def _attention(backbone: torch.nn.Module, family: Family, batch: PackedBatch) -> dict[str, Any]:
    """Return the arguments of a forward that tell who attends to whom."""
    if batch.blocks is not None and family.causal and attends_by_block(backbone.get_decoder()):
        # Attention that did not read `packed` would show it: every number would be NaN.
        nothing = torch.full((1, 1, 1, 1), torch.nan, device=batch.input_ids.device)
        return {"attention_mask": nothing, "packed": batch}
    dtype = backbone.get_input_embeddings().weight.dtype  # other weights may be quantised
    if family.causal:
        return {"attention_mask": batch.attention_mask(dtype)}
    return {"attention_mask": family.attention_mask(batch.subtree_end, batch.block_end, dtype)}


def target_logps(
    model: torch.nn.Module,
    hidden: torch.Tensor,
    batch: PackedBatch,
    softcap: float | None = None,
    *,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return log p(target) for each distinct target, (N,) float32, from flat hidden states (B * T, D).

    Args:
        softcap: see `Family.logit_softcap`.
        temperature: divides the logits.
    """
    return _target_scores(model, hidden, batch, softcap, temperature, False)[0]


def _target_scores(
    model: torch.nn.Module,
    hidden: torch.Tensor,
    batch: PackedBatch,
    softcap: float | None,
    temperature: float,
    entropies: bool,
) -> tuple[torch.Tensor, ...]:
    """Return log p(target) of each distinct target and, where asked for, the entropies: (N,) each."""
    head = model.get_output_embeddings()
    states, how = hidden[batch.predecessors], (softcap, temperature, entropies)
    rows_per_chunk = max(1, HEAD_CHUNK_ELEMENTS // head.weight.shape[0])
    if len(states) <= rows_per_chunk:
        return _token_scores(head, states, batch.target_ids, *how)
    chunks = zip(states.split(rows_per_chunk), batch.target_ids.split(rows_per_chunk), strict=True)
    parts = [checkpoint(_token_scores, head, *chunk, *how, use_reentrant=False) for chunk in chunks]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _token_scores(
    head: torch.nn.Module,
    states: torch.Tensor,
    token_ids: torch.Tensor,
    softcap: float | None,
    temperature: float,
    entropies: bool,
) -> tuple[torch.Tensor, ...]:
    logits = head(states)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.float()
    if temperature != 1:
        logits = logits / temperature
    if entropies:
        return _LogSoftmaxAndEntropy.apply(logits, token_ids)
    return (_LogSoftmaxAt.apply(logits, token_ids),)


def _probabilities(logits: torch.Tensor, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn logits (N, V) into probabilities, in place, and return these and the log of that of a token each, (N, 1)."""
    highest = logits.amax(1, keepdim=True)
    chosen = logits.gather(1, token_ids) - highest
    probabilities = logits.detach().sub_(highest).exp_()
    total = probabilities.sum(1, keepdim=True)
    return probabilities.div_(total), chosen - total.log_()


class _LogSoftmaxAt(torch.autograd.Function):
    """log softmax(logits) at one token each: (N, V), (N,) -> (N,).

    It turns the logits into probabilities and these into the gradient in place, so that one tensor of that size is
    held instead of three. Nothing else reads the output of the head; if something did, autograd would raise.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
        token_ids = token_ids.unsqueeze(1)
        probabilities, logps = _probabilities(logits, token_ids)
        ctx.save_for_backward(probabilities, token_ids)
        return logps.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        probabilities, token_ids = ctx.saved_tensors
        grad_output = grad_output.unsqueeze(1)
        return probabilities.mul_(-grad_output).scatter_add_(1, token_ids, grad_output), None


class _LogSoftmaxAndEntropy(torch.autograd.Function):
    """The same, and the entropy of the whole distribution: (N, V), (N,) -> (N,), (N,).

    With H = -sum_v p_v log p_v the gradient of H by the logit of v is -p_v (log p_v + H).
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        token_ids = token_ids.unsqueeze(1)
        probabilities, logps = _probabilities(logits, token_ids)
        entropies = torch.special.entr(probabilities).sum(1)
        ctx.save_for_backward(probabilities, token_ids, entropies)
        return logps.squeeze(1), entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logps: torch.Tensor, grad_entropies: torch.Tensor) -> tuple[torch.Tensor, None]:
        probabilities, token_ids, entropies = ctx.saved_tensors
        grad_logps, grad_entropies = grad_logps.unsqueeze(1), grad_entropies.unsqueeze(1)
        of_entropy = torch.special.entr(probabilities).sub_(probabilities * entropies.unsqueeze(1)).mul_(grad_entropies)
        grad = probabilities.mul_(-grad_logps).scatter_add_(1, token_ids, grad_logps)
        return grad.add_(of_entropy), None
