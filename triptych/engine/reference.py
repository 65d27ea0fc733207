"""Reference log-probabilities, computed once and kept.

The log-probability of a completion under the frozen start model is a pure function of (model, prompt, media,
completion). It is stored beside the data under a content hash, one append-only file per model, and re-used by later
epochs, later runs and other objectives, whatever the order of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from triptych.data.files import append_jsonl, read_jsonl
from triptych.data.media import media_key
from triptych.engine.encode import Encoder
from triptych.engine.pairs import PairRow, completions_of, score_completions
from triptych.engine.progress import Progress
from triptych.errors import DataError, TriptychError
from triptych.group import Completion, Group, fingerprint


class ReferenceCache:
    """Log-probabilities of completions under one model.

    Args:
        folder: where the files lie.
        model: fingerprint of the reference model, see `input_fingerprints`.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.path = folder / f"reference-{model}.jsonl"
        self._values: dict[str, float] = {}
        if self.path.exists():
            for line, row in read_jsonl(self.path):
                self._take(row, line)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> float:
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)

    def add(self, entries: Iterable[tuple[str, float]]) -> None:
        """Store log-probabilities (nats, summed over completion tokens)."""
        rows = [{"key": key, "logps": value} for key, value in entries]
        for row in rows:
            self._take(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_jsonl(self.path, rows)

    def _take(self, row: dict[str, Any], line: int | None = None) -> None:
        """Keep a value; `line` is where the file has it, None for one just computed."""
        value = row.get("logps")
        if not isinstance(value, float) or not math.isfinite(value) or value > 1e-3:
            if line is None:
                raise TriptychError(
                    f"The model gives a completion the log-probability {value!r}: its weights diverged in training, or "
                    "its dtype overflows (then use bf16 or float32)."
                )
            raise DataError(
                f"A stored reference log-probability is {value!r}.",
                remedy="Delete this file; it is computed anew.",
                kind="reference_cache",
                file=self.path,
                row=line,
            )
        self._values[row["key"]] = value


def completion_key(group: Group, completion: Completion, root: Path) -> str:
    """Content hash of (prompt, media, completion): the same row elsewhere has the same key."""
    media = [media_key(item, root) for item in group.images]
    return fingerprint([group.prompt, media, completion.text, bool(completion.truncated)])


def fill_reference(
    cache: ReferenceCache,
    model: torch.nn.Module,
    encoder: Encoder,
    rows: Sequence[PairRow],
    *,
    row_tokens: int,
    bf16: bool = False,
    block: int = 64,
) -> dict[tuple[str, int], float]:
    """Return the reference log-probability of every completion the pairs need; compute and store the missing ones.

    Args:
        model: the frozen start model, before its first update.
        rows: all pairs of the run.
        block: groups scored and stored at once.

    Returns:
        nats per (group name, completion index).
    """
    wanted = completions_of(rows)
    keys = {
        (name, index): completion_key(group, group.completions[index], root)
        for name, (group, root, indices) in wanted.items()
        for index in indices
    }
    missing = [
        (name, (group, root, [index for index in indices if keys[name, index] not in cache]))
        for name, (group, root, indices) in wanted.items()
        if any(keys[name, index] not in cache for index in indices)
    ]
    device = next(model.parameters()).device.type
    was_training = model.training
    model.eval()
    with Progress("reference", len(wanted), done=len(wanted) - len(missing), unit="prompt") as bar:
        for start in range(0, len(missing), block):
            part = dict(missing[start : start + block])
            with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=bf16):
                scored = score_completions(model, encoder, part, row_tokens)
            cache.add((keys[place], float(value)) for place, value in scored.logps.items())
            bar.advance(len(part))
    model.train(was_training)
    return {place: cache[key] for place, key in keys.items()}
