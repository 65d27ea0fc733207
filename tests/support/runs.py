"""What a training stage left behind, to compare runs by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

TIMING = {"tokens_per_second", "mfu", "seconds/sampling", "seconds/reading", "seconds/updates"}


def curve(out: Path, *without: str) -> list[dict[str, Any]]:
    """Return the lines of metrics, without times."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMING.union(without)} for row in rows]


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the model that was written."""
    return load_file(out / "model" / "model.safetensors")
