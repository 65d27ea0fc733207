"""Preference pairs through the packed trie: rows in, log-probabilities of chosen and rejected out.

Letters: P pairs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch

from triptych.data.rows import iter_groups
from triptych.data.shortfall import counts_of, explain_missing_pairs
from triptych.engine.encode import EncodedPrompt, Encoder
from triptych.engine.families import ImageFeatures, backbone_of
from triptych.engine.features import FeatureSource
from triptych.engine.inputs import data_root
from triptych.engine.paths import completion_paths, units_by_media
from triptych.engine.scoring import Scores, can_attend_by_block, score
from triptych.engine.trie import PackedBatch, TokenPath, pack
from triptych.errors import DataError, TriptychError
from triptych.group import Group, Pair

Place = tuple[str, int]
"""A completion: the name of its group, and its index there."""
Wanted = tuple[Group, Path, list[int]]
"""A group, the data root of its media, and the indices of the completions to score."""


@dataclass(frozen=True)
class PairRow:
    """One preference: a pair, the group it belongs to, and the data root of the group's media.

    Attributes:
        name: stands for the group; ids are unique in a file only.
        file: that the group comes from.
    """

    group: Group
    pair: Pair
    root: Path
    name: str
    file: str | None = None


@dataclass(frozen=True)
class PackedCompletions:
    """Completions laid out for one forward.

    Attributes:
        places: (group name, completion index) of each path of the batch.
        batch: the packed batch.
        features: of its pictures, where they are known.
    """

    places: list[Place]
    batch: PackedBatch
    features: list[ImageFeatures] | None = None


@dataclass(frozen=True)
class ScoredCompletions:
    """Log-probabilities of completions, and what they were computed from.

    Attributes:
        logps: per (group name, completion index), a scalar tensor, nats.
        num_targets: number of target tokens, likewise.
        packed: the completions as they went through the model.
    """

    logps: dict[Place, torch.Tensor]
    num_targets: dict[Place, int]
    packed: PackedCompletions

    @property
    def batch(self) -> PackedBatch:
        """The packed batch."""
        return self.packed.batch


def read_pairs(files: Sequence[str], root: str) -> list[PairRow]:
    """Read every pair of every file, in order.

    Raises:
        DataError: no pair at all, a pair whose chosen and rejected are the same text or empty, or nothing but pairs
            that contradict each other.
    """
    roots = [Path(root) if root else _root_of(file) for file in files]
    rows = [
        PairRow(group, pair, roots[number], f"{number}:{group.id}", file)
        for number, file in enumerate(files)
        for group in iter_groups(file)
        for pair in group.pairs
    ]
    if not rows:
        raise _no_pairs(files)
    for row in rows:
        _check(row)
    _check_undecided(rows)
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


def _no_pairs(files: Sequence[str]) -> DataError:
    """Build the error of files without a pair; of rows that `triptych pairs` made, it tells what became of answers."""
    num_rows, counts, example = counts_of(group for file in files for group in iter_groups(file))
    reasons, remedy = explain_missing_pairs(counts, example)
    told = f" The {num_rows:,} row(s) count {reasons}." if reasons else ""
    return DataError(
        f"There is no preference pair to train on.{told}",
        remedy=remedy or "Make some with `triptych pairs`, or convert yours with `triptych data convert`.",
        kind="no_pairs",
        file=", ".join(files),
    )


def _check_undecided(rows: Sequence[PairRow]) -> None:
    """Refuse pairs of which each is contradicted as often as it is confirmed: together they prefer nothing."""
    votes: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        texts = [row.group.completions[index].text for index in (row.pair.chosen, row.pair.rejected)]
        first, second = sorted(texts)
        votes[row.name, first, second] += 1 if texts[0] == first else -1
    if not any(votes.values()):
        raise DataError(
            f"Each of the {len(rows):,} pairs is contradicted by another one that prefers the opposite, so that "
            "together they prefer nothing.",
            remedy="Keep the pairs that a judge or an annotator decided, and leave ties out.",
            kind="pairs_undecided",
            file=rows[0].file,
            row=rows[0].group.id,
        )


def _check(row: PairRow) -> None:
    chosen, rejected = (row.group.completions[index] for index in (row.pair.chosen, row.pair.rejected))
    if chosen.text == rejected.text and chosen.truncated == rejected.truncated:
        raise DataError(
            "Chosen and rejected are the same text.",
            remedy="Drop the pair; `triptych data check` lists all such rows.",
            kind="pair_same_text",
            file=row.file,
            row=row.group.id,
        )
    for name, completion in (("chosen", chosen), ("rejected", rejected)):
        if not completion.text:
            raise DataError(
                f"The {name} completion is empty.",
                remedy="Drop the pair; `triptych data check` lists all such rows.",
                kind=f"empty_{name}",
                file=row.file,
                row=row.group.id,
            )


def score_completions(
    model: torch.nn.Module,
    encoder: Encoder,
    wanted: Mapping[str, Wanted],
    row_tokens: int,
    source: FeatureSource | None = None,
) -> ScoredCompletions:
    """Score completions of several groups with one packed forward: `pack_completions`, then `score_packed`."""
    return score_packed(model, encoder, pack_completions(model, encoder, wanted, row_tokens, source))


def pack_completions(
    model: torch.nn.Module,
    encoder: Encoder,
    wanted: Mapping[str, Wanted],
    row_tokens: int,
    source: FeatureSource | None = None,
) -> PackedCompletions:
    """Encode and pack completions of several groups.

    Args:
        wanted: per group name the group, its data root and the indices of the completions to score.
        row_tokens: most tokens in a packed row.
        source: of the features of pictures, where nothing that makes them is trained.

    Raises:
        DataError: kind `no_targets`, a completion leaves nothing to predict; kind `too_long`, a prompt with a
            completion has more tokens than a row.
    """
    prompts = _encode(encoder, wanted)
    backbone = backbone_of(model)
    rows: list[list[TokenPath]] = []
    places: dict[int, Place] = {}
    for name, (group, _, indices) in wanted.items():
        paths = completion_paths(encoder, backbone, prompts[name], [group.completions[index] for index in indices])
        for path, index in zip(paths, indices, strict=True):
            _check_path(path, group, index, row_tokens)
            places[id(path)] = (name, index)
        rows.append(paths)
    units = units_by_media(rows)
    batch = pack(units, row_tokens, by_block=can_attend_by_block(model, encoder.family))
    features = source.features(batch.media) if source else None
    return PackedCompletions([places[id(path)] for path in chain.from_iterable(units)], batch, features)


def score_packed(model: torch.nn.Module, encoder: Encoder, packed: PackedCompletions) -> ScoredCompletions:
    """Score packed completions with one forward."""
    scores: Scores = score(model, encoder.family, packed.batch, packed.features)
    return ScoredCompletions(
        logps=dict(zip(packed.places, scores.logps.unbind(), strict=True)),
        num_targets=dict(zip(packed.places, scores.num_targets.tolist(), strict=True)),
        packed=packed,
    )


def _check_path(path: TokenPath, group: Group, index: int, row_tokens: int) -> None:
    if not any(path.targets):
        raise DataError(
            f"Completion {index} has no token to predict: its text has none, and it was cut off before its end, so "
            "that no end-of-turn token belongs to it. Its loss would be 0.",
            remedy="Drop the pairs it is in, or sample it again with a higher max_new_tokens.",
            kind="no_targets",
            row=group.id,
        )
    if len(path.input_ids) > row_tokens:
        raise DataError(
            f"The prompt with completion {index} takes {len(path.input_ids)} tokens, but a row holds {row_tokens}. "
            "Nothing is cut off, for what is lost may be the answer itself.",
            remedy=f"Raise row_tokens to at least {len(path.input_ids)}, or drop the row.",
            kind="too_long",
            row=group.id,
        )


def completions_of(rows: Iterable[PairRow], *, rejected: bool = True) -> dict[str, Wanted]:
    """Collect which completions of which groups the pairs need, each once, in order of appearance."""
    wanted: dict[str, Wanted] = {}
    for row in rows:
        _, _, indices = wanted.setdefault(row.name, (row.group, row.root, []))
        for index in (row.pair.chosen, row.pair.rejected) if rejected else (row.pair.chosen,):
            if index not in indices:
                indices.append(index)
    return wanted


def mismatched(rows: Sequence[PairRow]) -> list[PairRow]:
    """Put the completions of each pair under a prompt they do not belong to, as KTO's estimate of z needs them.

    The pairs of a prompt go to the next prompt of `rows`, those of the last to the first: both sides are the same
    prompts and the same completions. With one pair per prompt these are the mismatches of TRL's `KTOTrainer`.

    Returns:
        one row per pair, in order; its name stands for both prompts.

    Raises:
        TriptychError: all pairs are about one prompt.
    """
    first_of = {row.name: row for row in reversed(rows)}
    names = list(dict.fromkeys(row.name for row in rows))
    if len(names) < 2:
        raise TriptychError(
            "kto needs completions under prompts they do not belong to, but all these pairs are about one prompt. "
            "Raise per_device_train_batch_size (or, with convention: paper, gradient_accumulation_steps)."
        )
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    others = []
    for row in rows:
        host = first_of[following[row.name]]
        completions = [row.group.completions[index] for index in (row.pair.chosen, row.pair.rejected)]
        group = replace(host.group, completions=completions, pairs=[Pair(0, 1)])
        name = f"{host.name} with {row.name}, {row.pair.chosen} and {row.pair.rejected}"
        others.append(PairRow(group, group.pairs[0], host.root, name))
    return others


def _encode(encoder: Encoder, wanted: Mapping[str, Wanted]) -> dict[str, EncodedPrompt]:
    encoded: dict[str, EncodedPrompt] = {}
    for root in dict.fromkeys(root for _, root, _ in wanted.values()):
        names = [name for name, (_, group_root, _) in wanted.items() if group_root == root]
        prompts = encoder.prompts([wanted[name][0] for name in names], root)
        encoded |= dict(zip(names, prompts, strict=True))
    return encoded
