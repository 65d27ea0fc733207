"""Rows with and without pictures, and the gradient of their loss, in one process or over ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from triptych.engine.distributed import share_of_rank
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of, encode_images
from triptych.engine.paths import completion_paths
from triptych.engine.scoring import score
from triptych.engine.sharding import call_sharded, whole
from triptych.engine.trie import pack
from triptych.group import Completion, Group


def row(name: str, *pictures: str) -> Group:
    """A question about the pictures, with two answers."""
    parts = [{"type": "image"}] * len(pictures) + [{"type": "text", "text": f"How many circles, {name}?"}]
    answers = [Completion(text=f"three circles {name}"), Completion(text="two")]
    return Group(id=name, prompt=[{"role": "user", "content": parts}], images=list(pictures), completions=answers)


def text_and_picture_rows() -> list[Group]:
    """Rows of which the first of two ranks gets two without pictures, and the second one with."""
    return [row("a"), row("b"), row("c", "a.png")]


def logps(model: Any, encoder: Encoder, rows: list[Group], root: Path) -> torch.Tensor:
    """Return the log-probabilities of the completions of rows, packed together."""
    paths = [completion_paths(encoder, backbone_of(model), encoder.prompt(r, root), r.completions) for r in rows]
    return call_sharded(model, score, model, encoder.family, pack(paths, 512)).logps


def gradients(
    model: Any, encoder: Encoder, rows: list[Group], root: Path, *, one_by_one: bool = False
) -> dict[str, torch.Tensor]:
    """Return the gradient of the summed loss of all rows; of several ranks, each computes its share of them.

    Args:
        one_by_one: each picture goes through the vision tower by itself.
    """
    backbone, family = backbone_of(model), encoder.family
    paths = [completion_paths(encoder, backbone, encoder.prompt(r, root), r.completions) for r in share_of_rank(rows)]
    batch = pack(paths, 512)

    def work() -> torch.Tensor:
        features = None
        if one_by_one:
            media = [([item.inputs], [item.num_tokens]) for item in batch.media]
            features = [encode_images(model, family, *item)[0] for item in media]
        return score(model, family, batch, features).per_token_logps

    (-call_sharded(model, work)[batch.path_targets].sum() / 10).backward()
    return {name: whole(p.grad).clone() for name, p in model.named_parameters() if p.grad is not None}
