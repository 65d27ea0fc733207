"""Attention masks of packed tries for decoders that are not plainly causal: sliding windows, and two-way spans.

Letters: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

FULL, SLIDING = "full_attention", "sliding_attention"
Windows = Mapping[str | None, int | None]


def decoder_windows(text_config: Any) -> Windows | None:
    """Return how far each type of layer looks back: in tokens, the own one counted, or None for all the way.

    The key None stands for decoders whose layers are all of one type. None instead of a mapping: all layers see all.
    """
    window = getattr(text_config, "sliding_window", None)
    kinds = set(getattr(text_config, "layer_types", None) or ())
    if kinds:
        return {kind: window if kind == SLIDING else None for kind in (FULL, SLIDING)} if SLIDING in kinds else None
    return {None: window} if window else None


def layer_windows(text_config: Any) -> list[int | None]:
    """Return how far each layer looks back, in tokens, the own one counted; None for all the way. Empty: all do."""
    windows = decoder_windows(text_config)
    if windows is None:
        return []
    kinds = getattr(text_config, "layer_types", None) or [None] * text_config.num_hidden_layers
    return [windows[kind] for kind in kinds]


def attention_masks(
    subtree_end: torch.Tensor,
    block_end: torch.Tensor,
    windows: Windows,
    dtype: torch.dtype,
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Return the additive masks (B, 1, T, T) of packed rows: 0 where a token attends, the lowest number elsewhere.

    A token attends to its ancestors and to the later tokens of its own two-way span; in a layer with a window to those
    of them that are less than the window behind it on its own path, as transformers' `sliding_window_overlay` says.

    Args:
        subtree_end: (B, T), one past the last token below each token.
        block_end: (B, T), one past the two-way span each token belongs to; at most its own column where there is none.
        windows: per type of layer; see `decoder_windows`.
    """
    columns = torch.arange(subtree_end.shape[1], device=subtree_end.device)
    queries, keys = columns[None, :, None], columns[None, None, :]
    ancestors = (keys <= queries) & (queries < subtree_end[:, None, :])
    allowed = ancestors | ((keys > queries) & (keys < block_end[:, :, None]))
    depth = ancestors.sum(-1)  # the number of ancestors is the place on the own path
    masks = {}
    for kind, window in windows.items():
        seen = allowed if window is None else allowed & (depth[:, None, :] > depth[:, :, None] - window)
        masks[kind] = additive(seen, dtype)
    return masks.get(None, masks)


def additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(B, T, T) flags -> (B, 1, T, T) of `dtype`: 0 where True, the lowest number elsewhere."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]
