"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.tiny_models import make_tiny, write_picture

torch.set_num_threads(1)  # threads cost tiny models far more than they bring, most of all beside other processes

PICTURE_SIZES = {"a.png": (30, 20), "b.png": (16, 16), "c.png": (20, 40), "d.png": (24, 24)}
"""(width, height) of the shared test pictures, in pixels."""
CLIPS = {"clip": 3, "other": 4}
"""Frames of the shared test videos, 20 x 16 pixels each."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a tiny random model by family, made on first use."""
    folders: dict[str, Path] = {}

    def folder_of(family: str) -> Path:
        if family not in folders:
            folders[family] = make_tiny(family, tmp_path_factory.mktemp("tiny") / family)
        return folders[family]

    return folder_of


@pytest.fixture(scope="session")
def picture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root that holds the pictures of `PICTURE_SIZES` and the frames of `CLIPS`."""
    root = tmp_path_factory.mktemp("pictures")
    for seed, (name, size) in enumerate(PICTURE_SIZES.items()):
        write_picture(root / name, size, seed=seed)
    for name, num_frames in CLIPS.items():
        (root / name).mkdir()
        for number in range(num_frames):
            write_picture(root / name / f"{number}.png", (20, 16), seed=100 * num_frames + number)
    return root
