"""Tiny models with their encoders, and groups to ask them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.engine.encode import Encoder
from triptych.group import Group, text_message
from triptych.models.loading import load_model, load_processor

GROUPS = (
    Group("short", [text_message("user", None, "How many?")], ["b.png"]),
    Group("long", [text_message("user", None, "Is the triangle left of the star? Describe it.")], ["d.png"]),
    Group("other", [text_message("user", None, "How many?")], ["d.png"]),
    Group("two", [text_message("user", None, "or", None, "?")], ["b.png", "a.png"]),
    Group("none", [text_message("user", "Count to five.")]),
)
"""Prompts of different lengths, one pair of equal length, three with a picture that another has too."""


@pytest.fixture(scope="session")
def loaded(tiny_folder: Callable[[str], Path]) -> Callable[[str], tuple[Any, Encoder]]:
    """Return a function that gives a tiny model of a family and its encoder; both are made anew each time."""

    def load(family: str) -> tuple[Any, Encoder]:
        model, processor = load_model(tiny_folder(family)), load_processor(tiny_folder(family))
        return model, Encoder(processor, model.config)

    return load


@pytest.fixture
def mm1(loaded: Callable[[str], tuple[Any, Encoder]]) -> tuple[Any, Encoder]:
    """A tiny MM1 and its encoder."""
    return loaded("mm1")
