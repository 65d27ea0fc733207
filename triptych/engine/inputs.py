"""What a stage reads: where the media of its rows lie, and fingerprints, so that a changed file is never mistaken for
the one a run began with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from triptych.engine.distributed import on_main
from triptych.errors import TriptychError


def input_fingerprints(paths: Iterable[str]) -> dict[str, str]:
    """Return a hash by path: of a file, of the rows in a data folder, or of what decides a model's outputs.

    Of a model folder the weights, configurations, tokenizer and processor count. Media are not hashed. With several
    ranks, one reads for all.

    Raises:
        TriptychError: a path does not exist. A hub name (`owner/name`) stands for itself.
    """
    return on_main(lambda: {path: _fingerprint(path) for path in paths})


def data_root(path: str, root: str = "") -> Path:
    """Return the folder that media paths start from: `root` where given, or the folder of the rows.

    Args:
        path: the rows, a file or a folder of shards.
        root: what the user named.
    """
    if root:
        return Path(root)
    return Path(path) if Path(path).is_dir() else Path(path).parent


def _fingerprint(path: str) -> str:
    place = Path(path)
    if place.is_dir():
        suffixes = (".safetensors", ".json", ".jinja", ".txt", ".model", ".jsonl", ".parquet")
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
