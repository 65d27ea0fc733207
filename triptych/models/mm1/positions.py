"""Position embeddings of a new vision encoder that tell rows and columns from the first step on.

What libraries draw at random is a tenth or less of what patches come to: an encoder starts nearly blind to where things
are. That is hidden while a language model reads one token per place, and shows once tokens are pooled, as the frames of
a video are. Sines and cosines of row and column at the scale of the patches are a better start (Beyer et al., Better
plain ViT baselines, arXiv:2205.01580, keep them fixed; here they are trained on).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from triptych.errors import TriptychError


def sincos_positions(side: int, width: int) -> Tensor:
    """Return (side * side, width), rows of patches one after another: sine and cosine of column, then of row.

    Frequencies fall from 2 radians a patch, which tells neighbours apart, to one over the whole side, which says how
    far along a patch lies.

    Raises:
        TriptychError: the width is no multiple of 4.
    """
    if width % 4:
        raise TriptychError(f"Positions of sines and cosines need a hidden size that is a multiple of 4, not {width}.")
    frequencies = 2.0 * (2.0 * side) ** -torch.linspace(0, 1, width // 4)
    angles = torch.arange(side)[:, None] * frequencies
    rows, columns = angles.repeat_interleave(side, 0), angles.repeat(side, 1)
    return torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=1)


@torch.no_grad()
def init_positions(encoder: nn.Module, side: int, width: int) -> None:
    """Exchange the position embeddings of an encoder for `sincos_positions`; those of other tokens stay.

    Raises:
        TriptychError: it has none that are learnt, one for each of side x side patches after those of other tokens.
    """
    found = [
        parameter
        for name, parameter in encoder.named_parameters()
        if "position_embedding" in name and parameter.shape[-1] == width and parameter.shape[-2] >= side * side
    ]
    if len(found) != 1:
        raise TriptychError(
            f"{type(encoder).__name__} has no learnt embeddings of {side} x {side} positions to start from sines and "
            "cosines; leave `position_init` out."
        )
    found[0][..., -side * side :, :] = sincos_positions(side, width)
