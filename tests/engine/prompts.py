"""Prompts that the tests of encoding share, and what a model's processor makes of them."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from tests.conftest import PICTURE_SIZES
from triptych.group import Group, text_message

GROUPS = [
    Group("one", [text_message("user", None, "How many circles?")], ["a.png"]),
    Group(
        "two", [text_message("system", "Be brief."), text_message("user", None, "or", None, "?")], ["b.png", "a.png"]
    ),
    Group("none", [text_message("user", "Count to five.")]),
    Group(
        "turns",
        [text_message("user", None, "Red?"), text_message("assistant", "Yes."), text_message("user", "And now?")],
        ["c.png"],
    ),
]
VIDEO_PROMPT = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What?"}]}]


def open_picture(tiny: Any, name: str) -> Image.Image:
    with Image.open(tiny.root / name) as image:
        assert image.size == PICTURE_SIZES[name]
        return image.convert("RGB")


def processed(tiny: Any, group: Group) -> dict[str, torch.Tensor]:
    """Let the processor do all of it, as its documentation shows: messages that hold the pictures."""
    pictures = iter([open_picture(tiny, name) for name in group.images])
    messages = [
        {
            "role": message["role"],
            "content": [
                {"type": "image", "image": next(pictures)} if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in group.prompt
    ]
    return dict(
        tiny.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    )
