"""Attention of a packed row, block by block: what is forbidden is not computed.

In a trie laid out in depth-first order the keys of a segment (a run of tokens without a branch) are seen by the segment
itself, each token up to itself, and by everything below it, which is one run of columns. So the allowed part of the
attention matrix is one triangle and at most one rectangle per segment. Each block is computed with a flash kernel;
blocks of the same queries are joined by their log-sum-exp, as in ring attention (Liu et al. 2023, arXiv:2310.01889).
It is exact: the softmax of a query runs over all its keys.

The function is registered with transformers under `BLOCK_ATTENTION`; the packed batch reaches it as a keyword of the
forward, so that recomputed activations see the batch they belong to. Without one it is plain `sdpa`.

Letters: H query heads, G key heads, T tokens, D head size, S queries of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from triptych.engine.segments import Block
from triptych.engine.trie import PackedBatch

BLOCK_ATTENTION = "triptych_blocks"
"""Name under which transformers knows `block_attention`."""


def attends_by_block(decoder: torch.nn.Module) -> bool:
    """Say whether the layers of a decoder can use `block_attention`, and let them.

    They can where the decoder hands its attention to a registered function (`_supports_attention_backend`) and is set
    to `sdpa`. A forward without a packed batch is computed by `sdpa` as before. Layers must be plainly causal
    (`Family.causal`).
    """
    config = decoder.config
    if config._attn_implementation == "sdpa" and decoder._supports_attention_backend:
        config._attn_implementation = BLOCK_ATTENTION
    return config._attn_implementation == BLOCK_ATTENTION


def block_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: PackedBatch | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend by the blocks of a packed row, or as `sdpa` does where there is none.

    Args:
        module: the attention layer.
        query: (B, H, T, D); B is 1 for a packed row.
        key: (B, G, T, D), with H a multiple of G.
        value: as `key`.
        attention_mask: of `sdpa`; not read for a packed row.
        packed: the packed batch, with `blocks`.
        dropout: share of attention weights dropped; above 0 a packed row takes its dense mask.
        scaling: factor of the scores; D ** -0.5 unless given.

    Returns:
        (B, T, H, D) and no weights.
    """
    if packed is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if dropout > 0 or value.shape[-1] != query.shape[-1] or kwargs.get("softcap") is not None:
        mask = packed.attention_mask(query.dtype)
        return sdpa_attention_forward(module, query, key, value, mask, dropout=dropout, scaling=scaling, **kwargs)
    device = query.device.type
    if torch.is_autocast_enabled(device):  # the kernels below are not on autocast's lists
        query, key, value = (part.to(torch.get_autocast_dtype(device)) for part in (query, key, value))
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if device == "cpu":
        return _BlockAttention.apply(query, key, value, packed.blocks, scaling), None
    return _flex(query, key, value, packed, scaling), None


class _BlockAttention(torch.autograd.Function):
    """Flash attention on the CPU over blocks: (1, H, T, D), (1, G, T, D) twice -> (1, T, H, D).

    Sums over blocks are kept in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[Block], scaling: float
    ) -> torch.Tensor:
        _, num_heads, num_tokens, size = query.shape
        wide_key, wide_value = (repeat_kv(part, num_heads // key.shape[1]) for part in (key, value))
        output = query.new_zeros((1, num_tokens, num_heads, size), dtype=torch.float32).transpose(1, 2)
        logsumexp = query.new_zeros((1, num_tokens, num_heads), dtype=torch.float32).transpose(1, 2)
        filled = 0  # columns before this one have met their first block
        for block in blocks:
            part, part_logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[:, :, block.queries], wide_key[:, :, block.keys], wide_value[:, :, block.keys],
                0.0, block.causal, scale=scaling,
            )  # fmt: skip
            here, sums = output[:, :, block.queries], logsumexp[:, :, block.queries]
            if block.queries.start >= filled:
                here.copy_(part)
                sums.copy_(part_logsumexp)
                filled = block.queries.stop
            else:
                _join(here, sums, part, part_logsumexp)
        output = output.to(query.dtype)
        ctx.save_for_backward(query, key, value, output, logsumexp)
        ctx.blocks, ctx.scaling = blocks, scaling
        return output.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, output, logsumexp = ctx.saved_tensors
        groups = query.shape[1] // key.shape[1]
        wide_key, wide_value = (repeat_kv(part, groups) for part in (key, value))
        grad_output = grad_output.transpose(1, 2)
        grads = [torch.zeros_like(part, dtype=torch.float32) for part in (query, wide_key, wide_value)]
        for block in ctx.blocks:
            runs = (block.queries, block.keys, block.keys)
            # With output and log-sum-exp of all keys the kernel gives this block's share of the gradients.
            shares = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad_output[:, :, block.queries], query[:, :, block.queries],
                wide_key[:, :, block.keys], wide_value[:, :, block.keys],
                output[:, :, block.queries], logsumexp[:, :, block.queries],
                0.0, block.causal, scale=ctx.scaling,
            )  # fmt: skip
            for grad, run, share in zip(grads, runs, shares, strict=True):
                grad[:, :, run].add_(share)
        if groups > 1:
            grads[1:] = [grad.unflatten(1, (-1, groups)).sum(2) for grad in grads[1:]]
        return (*(grad.to(query.dtype) for grad in grads), None, None)


def _join(output: torch.Tensor, logsumexp: torch.Tensor, part: torch.Tensor, part_logsumexp: torch.Tensor) -> None:
    """Take further keys into the attention of the same queries, in place: (1, H, S, D) and (1, H, S) each."""
    output.lerp_(part.to(output.dtype), torch.sigmoid(part_logsumexp - logsumexp).unsqueeze(-1))
    logsumexp.copy_(torch.logaddexp(logsumexp, part_logsumexp))


def _flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: PackedBatch, scaling: float
) -> torch.Tensor:
    """The same on an accelerator, in one compiled kernel that skips what is forbidden. Untried on a GPU."""
    output = _compiled_flex()(
        query, key, value, block_mask=_flex_mask(packed), scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return output.transpose(1, 2).contiguous()


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


@lru_cache(maxsize=1)
def _flex_mask(packed: PackedBatch) -> Any:
    """Return the block mask of a packed batch; all layers of a forward, and the backward pass, share it."""
    from torch.nn.attention.flex_attention import create_block_mask

    ends, length = packed.subtree_end[0], packed.subtree_end.shape[1]

    def allowed(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (key <= query) & (query < ends[key])

    return create_block_mask(allowed, None, None, length, length, device=ends.device)


AttentionInterface.register(BLOCK_ATTENTION, block_attention)
AttentionMaskInterface.register(BLOCK_ATTENTION, sdpa_mask)
