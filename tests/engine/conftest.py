"""A tiny model of each family with its encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from triptych.engine.encode import Encoder
from triptych.models.loading import load_model, load_processor


@dataclass(frozen=True, repr=False)
class Tiny:
    """A loaded tiny model, and the data root of its pictures."""

    family: str
    model: Any
    processor: Any
    encoder: Encoder
    root: Path


@pytest.fixture(scope="session")
def tiny_of(tiny_folder: Callable[[str], Path], picture_root: Path) -> Callable[[str], Tiny]:
    """Return a function that loads the tiny model of a family, once."""
    loaded: dict[str, Tiny] = {}

    def load(family: str) -> Tiny:
        if family not in loaded:
            folder = tiny_folder(family)
            model, processor = load_model(folder), load_processor(folder)
            loaded[family] = Tiny(family, model, processor, Encoder(processor, model.config), picture_root)
        return loaded[family]

    return load
