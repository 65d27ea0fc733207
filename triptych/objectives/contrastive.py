"""Contrastive learning of two towers: a caption is to be nearer to its own video than to the others of the step.

Letters: B captions of a step and as many videos, D features.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class ContrastiveLoss:
    """What comes of the pairs of a step.

    Attributes:
        loss: (B,) mean of both directions.
        accuracies: (B,) whether the caption is nearer to its own video than to any that is a negative of it; detached.
    """

    loss: Tensor
    accuracies: Tensor


def contrastive_loss(texts: Tensor, videos: Tensor, logit_scale: Tensor, negatives: Tensor) -> ContrastiveLoss:
    """Symmetric InfoNCE of CLIP (Radford et al. 2021, arXiv:2103.00020, figure 3), with false negatives left out.

    With s_ij = logit_scale * texts_i . videos_j, the loss of pair i is the mean of

        -log(exp s_ii / (exp s_ii + sum over negatives j of exp s_ij))      the caption looks for its video
        -log(exp s_ii / (exp s_ii + sum over negatives j of exp s_ji))      the video looks for its caption

    What is left out is neither pulled nor pushed ("elimination" in Huynh et al. 2022, arXiv:2011.11765). Where all
    other pairs are negatives this is CLIP's loss.

    Args:
        texts: (B, D) features of the captions, of length 1.
        videos: (B, D) features of their videos, of length 1.
        logit_scale: scalar, the inverse of the temperature.
        negatives: (B, B) True where caption i and video j do not belong together; the diagonal is not looked at.

    Raises:
        ValueError: shapes that do not fit.
    """
    size = len(texts)
    if texts.ndim != 2 or texts.shape != videos.shape or negatives.shape != (size, size):
        raise ValueError(f"shapes {tuple(texts.shape)}, {tuple(videos.shape)} and {tuple(negatives.shape)} do not fit")
    own = torch.eye(size, dtype=torch.bool, device=texts.device)
    similarity = texts @ videos.T
    logits = (logit_scale * similarity).masked_fill(~(negatives | own), -torch.inf)
    right = torch.arange(size, device=texts.device)
    loss = sum(cross_entropy(side, right, reduction="none") for side in (logits, logits.T)) / 2
    best_other = similarity.detach().masked_fill(~negatives | own, -torch.inf).amax(dim=1)
    return ContrastiveLoss(loss, similarity.detach().diagonal() > best_other)


def negative_pairs(texts: Sequence[Hashable], videos: Sequence[Hashable]) -> Tensor:
    """Return (B, B), True where caption i is no caption of video j: neither their texts nor their videos are the same.

    In a small world, and in any data with several captions per video, a step holds pairs that say the same.

    Args:
        texts: (B,) what tells captions apart.
        videos: (B,) what tells videos apart.
    """
    first, second = (torch.tensor(_numbered(items)) for items in (texts, videos))
    return (first[:, None] != first) & (second[:, None] != second)


def _numbered(items: Sequence[Hashable]) -> list[int]:
    """Return a number for each item, the same for equal ones."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(item, len(numbers)) for item in items]
