"""`triptych data check`: every fault of a data set, before anything is trained on it.

One rule: an error that names the row, the file and the remedy, or a counted, reasoned quarantine. `check` never stops
at a fault and never repairs; `quarantine` writes the good rows to one place and the others, with reasons, to another.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.data.faults import group_faults
from triptych.data.files import atomic_path
from triptych.data.media import MAX_PIXELS
from triptych.data.media_check import ROWS_AT_ONCE, MediaChecker
from triptych.data.rows import QUARANTINE, ScannedRow, duplicate_id, scan_rows, write_groups
from triptych.errors import DataError
from triptych.group import Group


@dataclass(frozen=True)
class Limits:
    """What a data set may hold."""

    max_completion_chars: int | None = None
    max_completion_tokens: int | None = None
    """Compared with `num_tokens` of a completion or, where that is absent, with what `count_tokens` says."""
    count_tokens: Callable[[str], int] | None = None
    max_pixels: int = MAX_PIXELS
    decode_media: bool = False
    """Decode every picture, and the frames taken of every video; otherwise header and end of a file are read, and
    damage in the middle goes unseen."""


@dataclass
class CheckReport:
    """What `check` found."""

    path: str
    num_rows: int = 0
    num_faulty_rows: int = 0
    num_pairs: int = 0
    num_completions: int = 0
    num_media: int = 0
    num_unmeasured: int = 0
    """Completions whose tokens are limited but could not be counted."""
    counts: Counter[str] = field(default_factory=Counter)
    """Faults by kind; a row may have several."""
    examples: dict[str, list[DataError]] = field(default_factory=lambda: defaultdict(list))
    """The first faults of each kind, with file, row and remedy."""
    num_examples: int = 3
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """True when nothing was found."""
        return not self.counts

    def add(self, checked: CheckedRow) -> None:
        """Count one row."""
        self.num_rows += checked.row.number > 0
        self.num_faulty_rows += checked.row.number > 0 and bool(checked.errors)
        if (group := checked.group) is not None:
            self.num_pairs += len(group.pairs)
            self.num_completions += len(group.completions)
            self.num_media += len(group.images) + len(group.videos)
            self.num_unmeasured += checked.num_unmeasured
        for error in checked.errors:
            self.counts[error.kind] += 1
            if len(self.examples[error.kind]) < self.num_examples:
                self.examples[error.kind].append(error)

    def lines(self) -> list[str]:
        """Return what to show a person: totals, then each kind with its count, first examples and remedy."""
        shown = [
            f"{self.path}: {self.num_rows:,} rows, {self.num_completions:,} completions, {self.num_pairs:,} pairs, "
            f"{self.num_media:,} media, checked in {self.seconds:.1f} s"
        ]
        if self.num_unmeasured:
            shown.append(f"  {self.num_unmeasured:,} completions without `num_tokens` were not held to the token limit")
        if self.ok:
            return [*shown, "  no faults"]
        shown.append(f"  {self.counts.total():,} faults in {self.num_faulty_rows:,} rows")
        for kind, count in self.counts.most_common():
            shown.append(f"  {kind}: {count:,}")
            shown += [f"    {error}" for error in self.examples[kind]]
        return shown


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row, the group it holds unless it is malformed, and its faults."""

    row: ScannedRow
    group: Group | None
    errors: list[DataError]
    num_unmeasured: int = 0
    """Completions whose tokens are limited but could not be counted."""


def check(
    path: str | Path,
    root: str | Path | None = None,
    *,
    max_completion_chars: int | None = None,
    max_completion_tokens: int | None = None,
    count_tokens: Callable[[str], int] | None = None,
    max_pixels: int = MAX_PIXELS,
    decode_media: bool = False,
    num_examples: int = 3,
) -> CheckReport:
    """Check a file or a folder of shards from end to end.

    Args:
        path: a .jsonl or .parquet file, or a folder of them.
        root: the data root of the media; the folder of the data by default.
        max_completion_chars, max_completion_tokens, count_tokens, max_pixels, decode_media: see `Limits`.
        num_examples: faults shown of each kind.

    Returns:
        a report; faults of whole files (missing, empty, of another format) are counted in it too.
    """
    limits = Limits(max_completion_chars, max_completion_tokens, count_tokens, max_pixels, decode_media)
    report = CheckReport(str(path), num_examples=num_examples)
    start = time.perf_counter()
    for checked in inspect(path, root, limits):
        report.add(checked)
    report.seconds = time.perf_counter() - start
    return report


def quarantine(
    path: str | Path,
    out: str | Path,
    root: str | Path | None = None,
    *,
    max_completion_chars: int | None = None,
    max_completion_tokens: int | None = None,
    count_tokens: Callable[[str], int] | None = None,
    max_pixels: int = MAX_PIXELS,
    decode_media: bool = False,
) -> CheckReport:
    """Write the faultless rows to shards of the same names below `out`, and the others to `out/quarantine.jsonl`.

    Each line of that file has `file`, `row`, `id`, `kinds`, `problems`, `remedies` and `content`, the row as it was (a
    string where it could not be read). Media are not copied: the data root stays where it is. Of rows with one id the
    first is kept. The other arguments and the report are those of `check`.

    Raises:
        DataError: kind `same_file` when `out` is the folder of the data.
    """
    limits = Limits(max_completion_chars, max_completion_tokens, count_tokens, max_pixels, decode_media)
    path, out = Path(path), Path(out)
    if os.path.realpath(out) == os.path.realpath(_folder(path)):
        problem, remedy = "The good rows would replace the data.", "Name another folder."
        raise DataError(problem, remedy=remedy, kind="same_file", file=out)
    report = CheckReport(str(path))
    start = time.perf_counter()
    with atomic_path(out / QUARANTINE) as temporary, open(temporary, "w", encoding="utf-8") as file:
        rows = _set_aside(inspect(path, root, limits), report, file)
        for shard, good in itertools.groupby(rows, key=lambda checked: checked.row.file):
            write_groups(out / shard.name, (checked.group for checked in good if checked.group is not None))
    report.seconds = time.perf_counter() - start
    return report


def inspect(path: str | Path, root: str | Path | None, limits: Limits) -> Iterator[CheckedRow]:
    """Iterate over all rows with all their faults, in order, holding a few rows and the ids."""
    where = _folder(Path(path)) if root is None else Path(root)
    media = MediaChecker(where, max_pixels=limits.max_pixels, decode=limits.decode_media, without_decoder=True)
    seen: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = scan_rows(path)
        while batch := list(itertools.islice(rows, ROWS_AT_ONCE)):
            parsed = [_parse(row) for row in batch]
            media.verify([group for _, group, _ in parsed if group is not None], pool)
            for row, group, errors in parsed:
                if group is not None:
                    errors = [row.placed(error, group.id) for error in _faults(group, media, limits)]
                    if group.id in seen:
                        errors.append(duplicate_id(group.id, seen[group.id], row))
                    seen.setdefault(group.id, f"{row.file}:{row.number}")
                yield CheckedRow(row, group, errors, _unmeasured(group, limits))


def _parse(row: ScannedRow) -> tuple[ScannedRow, Group | None, list[DataError]]:
    try:
        return row, row.group(), []
    except DataError as error:
        return row, None, [error]


def _faults(group: Group, media: MediaChecker, limits: Limits) -> Iterator[DataError]:
    yield from group_faults(group)
    yield from media.faults(group)
    for index, completion in enumerate(group.completions):
        if limits.max_completion_chars is not None and len(completion.text) > limits.max_completion_chars:
            yield _too_long(index, len(completion.text), "characters", limits.max_completion_chars)
        num_tokens = _num_tokens(completion.text, completion.num_tokens, limits)
        if num_tokens is not None and num_tokens > limits.max_completion_tokens:
            yield _too_long(index, num_tokens, "tokens", limits.max_completion_tokens)


def _num_tokens(text: str, known: int | None, limits: Limits) -> int | None:
    if limits.max_completion_tokens is None:
        return None
    if known is None and limits.count_tokens is not None:
        return limits.count_tokens(text)
    return known


def _too_long(index: int, length: int, unit: str, limit: int) -> DataError:
    problem = f"Completion {index} has {length:,} {unit} (limit {limit:,})."
    return DataError(problem, remedy="Raise the limit, or leave the completion out.", kind="completion_too_long")


def _unmeasured(group: Group | None, limits: Limits) -> int:
    if group is None or limits.max_completion_tokens is None or limits.count_tokens is not None:
        return 0
    return sum(completion.num_tokens is None for completion in group.completions)


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _set_aside(rows: Iterable[CheckedRow], report: CheckReport, file: Any) -> Iterator[CheckedRow]:
    """Pass faultless rows on and write the others to `file`."""
    for checked in rows:
        report.add(checked)
        if not checked.errors:
            yield checked
            continue
        row = checked.row
        entry = {
            "file": str(row.file),
            "row": row.number,
            "id": checked.group.id if checked.group is not None else None,
            "kinds": [error.kind for error in checked.errors],
            "problems": [error.problem for error in checked.errors],
            "remedies": [error.remedy for error in checked.errors],
            "content": row.text or row.value,
        }
        file.write(json.dumps(entry, default=_bytes_as_base64) + "\n")


def _bytes_as_base64(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else str(value)
