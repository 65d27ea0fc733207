"""A tiny CLIP, and a toy world of coloured corners with captions, for scorers of texts and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from triptych.data.rows import write_groups
from triptych.group import Completion, Group, text_message
from triptych.models.loading import save_model
from triptych.models.mm1.tokenizer import train_tokenizer
from triptych.models.scorer import build_scorer

SIDE = 16
LAYER = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES: dict[str, Any] = {
    "projection_dim": 16,
    "text_config": LAYER | {"max_position_embeddings": 12},
    "vision_config": LAYER | {"image_size": SIDE, "patch_size": 8},
}
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220), "white": (240, 240, 240)}
CORNERS = {"top left": (0, 0), "top right": (0, 8), "bottom left": (8, 0), "bottom right": (8, 8)}
CAPTIONS = tuple(f"{colour} square at the {corner}" for colour in COLOURS for corner in CORNERS)


def tiny_clip(folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny random CLIP whose features differ much from text to text and from picture to picture."""
    model, processor = build_scorer(SIZES, train_tokenizer(CAPTIONS, 300), seed=seed)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    save_model(model, processor, folder)
    return folder


def write_corners(root: Path, name: str, copies: int, *, seed: int, kind: str = "video") -> Path:
    """Write rows about videos (folders of two frames) or pictures of each caption, and return their file."""
    groups, random = [], np.random.default_rng(seed)
    for number in range(copies):
        for index, caption in enumerate(CAPTIONS):
            place = f"{name}-{number}-{index}"
            for frame in range(2):
                path = root / place / f"{frame}.png" if kind == "video" else root / f"{place}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(_corner(caption, random)).save(path)
            prompt = [text_message("user", None, "Sum up.")]
            prompt[0]["content"][0] = {"type": kind}
            media = {"videos": [place]} if kind == "video" else {"images": [f"{place}.png"]}
            groups.append(Group(place, prompt, completions=[Completion(caption)], **media))
    write_groups(root / f"{name}.jsonl", groups)
    return root / f"{name}.jsonl"


def _corner(caption: str, random: np.random.Generator) -> np.ndarray:
    colour, corner = caption.split(" square at the ")
    picture = random.integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
    top, left = CORNERS[corner]
    picture[top : top + 8, left : left + 8] = COLOURS[colour]
    return picture
