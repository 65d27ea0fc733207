"""Rows to look at: data, preference pairs, and the same questions before and after.

What is shown is chosen by a hash of the row's id: neither by hand nor by place in the file, and the same on every
machine. Files are read line by line, so their size does not matter.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.errors import DataError
from triptych.feedback.ai_feedback import SOURCE as AI_FEEDBACK
from triptych.group import Completion, Group, Pair
from triptych.report.filmstrip import Strip, strips_of
from triptych.report.pictures import Picture, Pictures
from triptych.report.reading import MANIFEST, Run, Stage, finite
from triptych.report.wording import first_word, shorten, split_shared

MAX_PICTURES = 4
"""Pictures shown of one row."""
DATA_ITEMS = 3
PAIR_ITEMS = 12
"""Pairs shown in all, shared out evenly among their sources."""


class Chosen:
    """The `limit` items whose keys hash lowest, out of any number offered."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._heap: list[tuple[int, int, Any]] = []
        self._offered = 0

    def offer(self, key: str, item: Any) -> None:
        """Keep `item` if its key is among the lowest so far."""
        self._offered += 1  # breaks ties, so that items are never compared
        entry = (-int(hashlib.sha256(key.encode()).hexdigest()[:15], 16), -self._offered, item)
        if len(self._heap) < self.limit:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    @property
    def items(self) -> list[Any]:
        """The items kept, in the order of their hashes."""
        return [item for _, _, item in sorted(self._heap, reverse=True)]


@dataclass(frozen=True)
class Piece:
    """A part of a prompt or document: text, a picture or a clip."""

    text: str = ""
    picture: Picture | None = None
    strip: Strip | None = None


@dataclass(frozen=True)
class DataRow:
    """One row of a data file as shown."""

    id: str
    pieces: list[Piece]
    answer: str | None
    completion: str | None


@dataclass
class DataKind:
    """One file of a data folder: its number of rows and some of them."""

    name: str
    count: int
    rows: list[DataRow]


@dataclass(frozen=True)
class PairShown:
    """One preference pair, split where chosen and rejected part."""

    id: str
    source: str
    pieces: list[Piece]
    answer: str | None
    shared: str
    chosen: tuple[str, str, str]
    rejected: tuple[str, str, str]
    """White space, the first word that differs, and the rest."""
    chosen_label: str
    rejected_label: str
    margin: float | None
    remark: str


@dataclass(frozen=True)
class PairCount:
    """One line of the table of pairs: how many of a source were rejected for a reason."""

    stage: str
    source: str
    reason: str
    count: int
    num_groups: int


@dataclass
class PairStage:
    """The pairs of one stage."""

    stage: Stage
    counts: list[PairCount]
    total: int
    num_without: int
    """Prompts that gave no pair."""
    notes: list[tuple[str, dict[str, int]]]
    """What the stage counted besides: how answers were judged, and what was left out while pairing."""
    shown: list[PairShown] = field(default_factory=list)


def data_kinds(run: Run, pictures: Pictures) -> list[DataKind]:
    """Return the kinds of rows in the run's own worlds, of pictures and of clips: one for each data file."""
    folders = [stage.folder for stage in run.stages.values() if (stage.folder / MANIFEST).is_file()]
    kinds = []
    for path in (path for folder in folders or [run.folder / "world"] for path in _data_files(run, folder)):
        chosen, count = Chosen(DATA_ITEMS), 0
        for row in run.rows(path):
            count += 1
            chosen.offer(str(row.get("id")), row)
        groups = [group for row in chosen.items if (group := group_of(run, path, row))]
        rows = [_data_row(group, path.parent, pictures) for group in groups]
        kinds.append(DataKind(path.stem, count, rows))
    return kinds


def _data_files(run: Run, folder: Path) -> list[Path]:
    """Return the data files in the order of the manifest, that of the stages that read them; others by name."""
    world = run.stages.get(folder.name)
    told = list(world.result.get("rows") or ()) if world else []
    return sorted(
        folder.glob("*.jsonl"), key=lambda path: (told.index(path.stem) if path.stem in told else len(told), path.name)
    )


def pair_stages(run: Run, stages: Iterable[Stage], pictures: Pictures) -> list[PairStage]:
    """Count the pairs of each stage that makes pairs, by source and reason, and pick some of each source."""
    read = [_read_pairs(run, stage) for stage in stages if (stage.folder / "pairs.jsonl").is_file()]
    num_sources = sum(len(picked) for _, picked in read)
    for found, picked in read:
        root = run.data_root(found.stage)
        for source in sorted(picked.keys() - {AI_FEEDBACK}):  # these have a section of their own
            for group, pair in picked[source].items[: max(2, PAIR_ITEMS // num_sources)]:
                found.shown.append(_pair_shown(group, pair, root, pictures))
    return [found for found, _ in read]


def _read_pairs(run: Run, stage: Stage) -> tuple[PairStage, dict[str, Chosen]]:
    path = stage.folder / "pairs.jsonl"
    counts: Counter[tuple[str, str]] = Counter()
    groups_with: Counter[tuple[str, str]] = Counter()
    num_without = 0
    picked: dict[str, Chosen] = {}
    for row in run.rows(path):
        group = group_of(run, path, row)
        if group is None:
            continue
        num_without += not group.pairs
        kinds = [(pair.source, _reason(group, pair)) for pair in group.pairs]
        counts.update(kinds)
        groups_with.update(set(kinds))
        for source, pair in {pair.source: pair for pair in reversed(group.pairs)}.items():
            picked.setdefault(source, Chosen(PAIR_ITEMS)).offer(group.id, (group, pair))
    table = [
        PairCount(stage.name, source, reason, count, groups_with[source, reason])
        for (source, reason), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    ]
    sources = {source for source, _ in counts}
    has_feedback = stage.config.get("method") == AI_FEEDBACK  # of which the section of its own tells
    notes = [
        ("answers judged", _told_counts(stage, "verdicts", set())),
        ("left out while pairing", {} if has_feedback else _told_counts(stage, "pairing", sources)),
    ]
    return PairStage(stage, table, counts.total(), num_without, [item for item in notes if item[1]]), picked


def _told_counts(stage: Stage, name: str, leave_out: set[str]) -> dict[str, int]:
    """Return counts of the stage's own result, largest first, their names as words."""
    told = stage.result.get(name)
    counts = {key: finite(value) for key, value in told.items()} if isinstance(told, dict) else {}
    kept = [
        (str(key).replace("_", " "), int(value))
        for key, value in counts.items()
        if value and key not in leave_out and not str(key).endswith("_tokens")
    ]
    return dict(sorted(kept, key=lambda item: (-item[1], item[0])))


def prompt_pieces(group: Group, root: Path, pictures: Pictures) -> list[Piece]:
    """Return the prompt's texts, pictures and clips in their order."""
    pieces: list[Piece] = []
    images, left_out = iter(group.images), 0
    strips = strips_of(group, root, pictures.strips, f"row {group.id}")
    for part in (part for message in group.prompt for part in message["content"]):
        if part["type"] == "text":
            pieces.append(Piece(shorten(part["text"])))
        elif part["type"] == "video":
            pieces.append(Piece(strip=next(strips)))
        elif sum(piece.picture is not None for piece in pieces) < MAX_PICTURES:
            pieces.append(Piece(picture=pictures.add(next(images), root, f"Picture of row {group.id}")))
        else:
            left_out += 1
    if left_out:
        pieces.append(Piece(f"[and {left_out} more pictures]"))
    return pieces


def group_of(run: Run, path: Path, row: dict[str, Any]) -> Group | None:
    """Build the group of a row; None, and a note, where it cannot be read."""
    try:
        return Group.from_row(row)
    except DataError as error:
        run.note(str(error.located(file=path.relative_to(run.folder))))
        return None


def _data_row(group: Group, root: Path, pictures: Pictures) -> DataRow:
    first = next(iter(group.completions), None)
    return DataRow(group.id, prompt_pieces(group, root, pictures), group.answer, shorten(first.text) if first else None)


def _reason(group: Group, pair: Pair) -> str:
    """Say why the rejected completion lost, as far as the row tells."""
    rejected = group.completions[pair.rejected]
    told = (pair.judge or {}).get("reason")
    without = "told without the " + ("video" if group.videos else "picture")
    known = told or rejected.verdict or {"dropout_ntp": without, AI_FEEDBACK: "preferred less"}.get(pair.source, "–")
    return str(known).replace("_", " ")


def _pair_shown(group: Group, pair: Pair, root: Path, pictures: Pictures) -> PairShown:
    chosen, rejected = group.completions[pair.chosen], group.completions[pair.rejected]
    shared, rest_chosen, rest_rejected = split_shared(chosen.text, rejected.text)
    remark = ""
    if rejected.parent == pair.chosen and rejected.cut is not None:
        medium = "video" if group.videos else "picture"
        remark = f"Rejected continues the first {rejected.cut} characters of chosen without the {medium}."
    return PairShown(
        id=group.id,
        source=pair.source,
        pieces=prompt_pieces(group, root, pictures),
        answer=group.answer,
        shared=_shorten_start(shared),
        chosen=_parted(rest_chosen),
        rejected=_parted(rest_rejected),
        chosen_label=_label(chosen),
        rejected_label=_label(rejected),
        margin=pair.margin,
        remark=remark,
    )


def _shorten_start(text: str, limit: int = 600) -> str:
    return text if len(text) <= limit else f"({len(text) - limit:,} more characters) … {text[-limit:].lstrip()}"


def _parted(rest: str) -> tuple[str, str, str]:
    space, word, after = first_word(rest)
    return space, word, shorten(after)


def _label(completion: Completion) -> str:
    if completion.verdict:
        return completion.verdict.replace("_", " ")
    return {True: "correct", False: "wrong", None: ""}[completion.correct]
