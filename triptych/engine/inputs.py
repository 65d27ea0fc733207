"""Fingerprints of what a stage reads, so that a changed file is never mistaken for the one a run began with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from triptych.errors import TriptychError


def input_fingerprints(paths: Iterable[str]) -> dict[str, str]:
    """Return a hash of each file, or of each model folder's deciding files, by path.

    Raises:
        TriptychError: a path does not exist. A hub name (`owner/name`) stands for itself.
    """
    return {path: _fingerprint(path) for path in paths}


def model_fingerprint(folder: str | Path) -> str:
    """Return the hash of what decides a model's outputs: weights, configurations, tokenizer, processor."""
    return _fingerprint(str(folder))


def _fingerprint(path: str) -> str:
    place = Path(path)
    if place.is_dir():
        suffixes = (".safetensors", ".json", ".jinja", ".txt", ".model")
        files = sorted(item for item in place.iterdir() if item.suffix in suffixes)
    elif place.is_file():
        files = [place]
    elif path.count("/") == 1 and not path.startswith((".", "/")) and not place.parent.exists():
        return path
    else:
        raise TriptychError(f"{path} does not exist. Give the path of a file or of a model folder.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(2**22):
                digest.update(block)
    return digest.hexdigest()[:16]
