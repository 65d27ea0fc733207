"""How much arithmetic a step needs, how fast this machine multiplies matrices, and the share of it that is reached.

Model FLOPs count what the model requires, not what an implementation happens to do: recomputed activations, padding and
masked-out attention count for nothing, so a faster implementation of the same step has a higher utilisation (MFU;
Chowdhery et al. 2022, PaLM, appendix B).
"""

from __future__ import annotations

import time
from functools import cache

import torch
from torch import nn

from triptych.models.four_bit import num_weights
from triptych.models.onednn import linear

FORWARD, FORWARD_AND_INPUTS, FORWARD_AND_BACKWARD = 1, 2, 3
"""Values of `passes`: a frozen part without trained parts below it; a frozen part that gradients pass through, as under
LoRA; a trained part. The gradient of the inputs and that of the weights cost as much as the forward pass each."""

_MEASURING_SECONDS, _LONG_PRODUCT_SECONDS = 0.2, 0.005
_SMALLEST_SIDE, _LARGEST_SIDE = 256, 8192


def training_flops(
    num_parameters: int,
    num_tokens: int,
    *,
    num_layers: int = 0,
    attention_width: int = 0,
    num_attended: int = 0,
    passes: int = FORWARD_AND_BACKWARD,
) -> int:
    """Return the model FLOPs of one part of a model (decoder, head, vision tower) in one step.

        passes * (2 * num_parameters * num_tokens + 4 * num_layers * attention_width * num_attended)

    A multiplication and an addition count as two. Each token meets each weight once; each query meets each key that it
    attends to twice per layer, in the scores and in the weighted sum, over `attention_width` numbers. With full
    attention, trained, this is PaLM's 6 N + 12 L H Q T per token.

    Args:
        num_parameters: weights that every token is multiplied with, from `matrix_parameters`.
        num_tokens: tokens that pass through the part; for the head the positions it runs on.
        num_layers: layers with attention.
        attention_width: query heads times their size.
        num_attended: sum over the tokens of the number of tokens each attends to; T (T + 1) / 2 for a causal sequence.
        passes: FORWARD, FORWARD_AND_INPUTS or FORWARD_AND_BACKWARD.
    """
    return passes * (2 * num_parameters * num_tokens + 4 * num_layers * attention_width * num_attended)


def matrix_parameters(module: nn.Module) -> int:
    """Return the number of weights of all matrices and kernels of a module; embeddings are looked up, not multiplied.

    A language-model head that shares its weight with the embedding is counted by passing the head itself.
    """
    embedded = {id(child.weight) for child in module.modules() if isinstance(child, nn.Embedding)}
    return sum(num_weights(p) for p in module.parameters() if p.ndim >= 2 and id(p) not in embedded)


@cache
def machine_matrix_rate(dtype: torch.dtype = torch.float32, device: str = "cpu", *, fastest: bool = True) -> float:
    """Measure the FLOP/s of large matrix products on this machine, once per process; takes about 0.2 s.

    The matrices grow until a product takes a few milliseconds, and the best of many products counts, so that other work
    on the machine lowers the rate little.

    Args:
        dtype: of the matrices.
        device: kind of device, "cpu" or "cuda".
        fastest: of the fastest product that linear layers take (see `models.onednn`); else that of `torch.mm`.
    """
    product = linear if fastest else torch.mm
    side, best, end = _SMALLEST_SIDE, 0.0, time.perf_counter() + _MEASURING_SECONDS
    a, b = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    while time.perf_counter() < end:
        start = time.perf_counter()
        product(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        best = max(best, 2 * side**3 / seconds)
        if seconds < _LONG_PRODUCT_SECONDS and side < _LARGEST_SIDE:
            side *= 2
            a, b = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    return best


def model_flops_utilisation(
    flops: float, seconds: float, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> float:
    """Return MFU: model FLOPs per second as a share of the rate of large matrix products in the same precision.

    Args:
        flops: from `training_flops`, summed over the parts of the model.
        seconds: wall time they took.
        dtype: precision the products are computed in.
        device: kind of device, "cpu" or "cuda".
    """
    return flops / seconds / machine_matrix_rate(dtype, device)
