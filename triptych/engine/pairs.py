"""Preference pairs through the packed trie: rows in, log-probabilities of chosen and rejected out.

Letters: P pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from triptych.data.rows import iter_groups
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of
from triptych.engine.inputs import data_root
from triptych.engine.paths import completion_paths, units_by_media
from triptych.engine.scoring import Scores, score
from triptych.engine.trie import PackedBatch, TokenPath, pack
from triptych.errors import DataError
from triptych.group import Group, Pair


@dataclass(frozen=True)
class PairRow:
    """One preference: a pair, the group it belongs to, and the data root of the group's media.

    Attributes:
        name: stands for the group; ids are unique in a file only.
    """

    group: Group
    pair: Pair
    root: Path
    name: str


@dataclass(frozen=True)
class ScoredCompletions:
    """Log-probabilities of completions, and the batch they were computed in.

    Attributes:
        logps: per (group name, completion index), a scalar tensor.
        num_targets: number of target tokens, likewise.
        batch: the packed batch.
    """

    logps: dict[tuple[str, int], torch.Tensor]
    num_targets: dict[tuple[str, int], int]
    batch: PackedBatch


def read_pairs(files: Sequence[str], root: str) -> list[PairRow]:
    """Read every pair of every file, in order.

    Raises:
        DataError: no pair at all, or a pair whose chosen and rejected are the same text or empty.
    """
    roots = [Path(root) if root else _root_of(file) for file in files]
    rows = [
        PairRow(group, pair, roots[number], f"{number}:{group.id}")
        for number, file in enumerate(files)
        for group in iter_groups(file)
        for pair in group.pairs
    ]
    if not rows:
        raise DataError(
            "There is no preference pair to train on.",
            remedy="Make some with `triptych pairs`, or convert yours with `triptych data convert`.",
            kind="no_pairs",
            file=", ".join(files),
        )
    for row in rows:
        _check(row)
    return rows


def _root_of(file: str) -> Path:
    """Return the data root that the stage which made the file worked with, or else the folder of the rows."""
    folder = data_root(file)
    done = folder / "done.json"
    if done.is_file():
        result = json.loads(done.read_text(encoding="utf-8")).get("result", {})
        if isinstance(result, dict) and "root" in result:
            return Path(result["root"])
    return folder


def _check(row: PairRow) -> None:
    chosen, rejected = (row.group.completions[index] for index in (row.pair.chosen, row.pair.rejected))
    if chosen.text == rejected.text and chosen.truncated == rejected.truncated:
        raise DataError(
            "Chosen and rejected are the same text.",
            remedy="Drop the pair; `triptych data check` lists all such rows.",
            kind="pair_same_text",
            row=row.group.id,
        )
    for name, completion in (("chosen", chosen), ("rejected", rejected)):
        if not completion.text:
            raise DataError(
                f"The {name} completion is empty.",
                remedy="Drop the pair; `triptych data check` lists all such rows.",
                kind=f"empty_{name}",
                row=row.group.id,
            )


def score_completions(
    model: torch.nn.Module, encoder: Encoder, wanted: Mapping[str, tuple[Group, Path, list[int]]], row_tokens: int
) -> ScoredCompletions:
    """Score completions of several groups with one packed forward.

    Args:
        wanted: per group name the group, its data root and the indices of the completions to score.
        row_tokens: most tokens in a packed row.
    """
    prompts = _encode(encoder, wanted)
    backbone = backbone_of(model)
    rows: list[list[TokenPath]] = []
    keys: dict[int, tuple[str, int]] = {}
    for name, (group, _, indices) in wanted.items():
        paths = completion_paths(encoder, backbone, prompts[name], [group.completions[index] for index in indices])
        rows.append(paths)
        keys |= {id(path): (name, index) for path, index in zip(paths, indices, strict=True)}
    units = units_by_media(rows)
    batch = pack(units, row_tokens)
    scores: Scores = score(model, encoder.family, batch)
    order = [keys[id(path)] for path in chain.from_iterable(units)]
    return ScoredCompletions(
        logps=dict(zip(order, scores.logps.unbind(), strict=True)),
        num_targets=dict(zip(order, scores.num_targets.tolist(), strict=True)),
        batch=batch,
    )


def completions_of(rows: Iterable[PairRow], *, rejected: bool = True) -> dict[str, tuple[Group, Path, list[int]]]:
    """Collect which completions of which groups the pairs need, each once, in order of appearance."""
    wanted: dict[str, tuple[Group, Path, list[int]]] = {}
    for row in rows:
        _, _, indices = wanted.setdefault(row.name, (row.group, row.root, []))
        for index in (row.pair.chosen, row.pair.rejected) if rejected else (row.pair.chosen,):
            if index not in indices:
                indices.append(index)
    return wanted


def _encode(encoder: Encoder, wanted: Mapping[str, tuple[Group, Path, list[int]]]) -> dict[str, Any]:
    encoded = {}
    for root in dict.fromkeys(root for _, root, _ in wanted.values()):
        names = [name for name, (_, group_root, _) in wanted.items() if group_root == root]
        prompts = encoder.prompts([wanted[name][0] for name in names], root)
        encoded |= dict(zip(names, prompts, strict=True))
    return encoded
