"""What the converters share: the report of what was lost, placeholders in text, and pairs gathered into groups.

Every format module has
- `read(path, root=None, report=None) -> Iterator[Group]`,
- `write(groups, path, report=None) -> ConversionReport`,
- `matches(first_row) -> bool`, by which a format is recognised.

Given a report, a row that cannot be converted is left out, counted and named in it; without one it raises.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from triptych.data.files import atomic_path
from triptych.data.rows import ScannedRow, scan_rows
from triptych.errors import DataError
from triptych.group import Completion, Group, Media, Pair, fingerprint

NUM_EXAMPLES = 3
"""Rows named for each reason in a report."""
_PLACEHOLDERS = {"<image>": "image", "<video>": "video"}
_PLACEHOLDER = re.compile("(<image>|<video>)")


@dataclass
class ConversionReport:
    """What a conversion did: nothing is lost without being counted here."""

    source: str = ""
    target: str = ""
    num_rows_read: int = 0
    num_groups: int = 0
    """Groups that were read, after rows of one prompt were gathered."""
    num_rows_written: int = 0
    losses: Counter[str] = field(default_factory=Counter)
    """What was lost or altered in rows that were converted, by name."""
    drops: Counter[str] = field(default_factory=Counter)
    """Rows or groups that could not be converted, by kind of fault."""
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The first messages of each kind of `drops`."""
    strict: bool = False
    """Raise what would be counted in `drops`."""

    def lose(self, what: str, times: int = 1) -> None:
        """Count something that the format cannot hold."""
        if times:
            self.losses[what] += times

    def drop(self, error: DataError) -> None:
        """Count a row that is left out, or raise its error when strict."""
        if self.strict:
            raise error
        self.drops[error.kind] += 1
        if len(self.examples[error.kind]) < NUM_EXAMPLES:
            self.examples[error.kind].append(str(error))

    def lines(self) -> list[str]:
        """Return what to show a person."""
        shown = [
            f"{self.source} -> {self.target}: {self.num_rows_read:,} rows read, {self.num_groups:,} groups, "
            f"{self.num_rows_written:,} rows written, {self.drops.total():,} left out"
        ]
        shown += [f"  lost or altered: {what}: {count:,}" for what, count in self.losses.most_common()]
        for kind, count in self.drops.most_common():
            shown.append(f"  left out: {kind}: {count:,}")
            shown += [f"    {example}" for example in self.examples[kind]]
        return shown


def scan(path: str | Path, report: ConversionReport) -> Iterator[ScannedRow]:
    """Iterate over the rows of a .jsonl, .parquet or .json file (a list) or a folder; unreadable rows are dropped.

    Raises:
        DataError: a fault of the whole file.
    """
    rows = _scan_json(Path(path)) if Path(path).suffix == ".json" else scan_rows(path)
    for row in rows:
        if row.error is not None and row.number == 0:
            raise row.error
        report.num_rows_read += 1
        if row.error is not None:
            report.drop(row.error)
        elif not isinstance(row.value, dict):
            report.drop(_not_an_object(row))
        else:
            yield row


def load_json(path: Path) -> Any:
    """Read a whole .json file.

    Raises:
        DataError: kinds `file_missing`, `malformed_json`.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError("The file does not exist.", remedy="Check the path.", kind="file_missing", file=path) from None
    except (ValueError, RecursionError) as error:
        problem, remedy = f"The file is not valid JSON: {error}.", "Write or download the file again."
        raise DataError(problem, remedy=remedy, kind="malformed_json", file=path) from None


def read_each(
    rows: Iterable[ScannedRow], build: Callable[[dict[str, Any]], list[Group]], report: ConversionReport
) -> Iterator[Group]:
    """Build groups from each row; a row that `build` refuses is dropped with its place."""
    for row in rows:
        try:
            groups = build(row.value)
        except DataError as error:
            report.drop(row.placed(error, row.value.get("id")))
        else:
            yield from groups


def regroup(groups: Iterable[Group], report: ConversionReport) -> Iterator[Group]:
    """Gather groups of the same prompt, media and answer into one, in the order of their first appearance.

    Completions of the same text become one and repeated pairs are counted and left out. All groups are held.
    """
    merged: dict[str, _Merger] = {}
    for group in groups:
        merged.setdefault(prompt_key(group), _Merger(group)).add(group, report)
    for merger in merged.values():
        yield merger.group


class _Merger:
    def __init__(self, first: Group) -> None:
        self.group = Group(first.id, first.prompt, first.images, first.videos, first.answer, meta=first.meta)
        self.indices: dict[str, int] = {}
        self.pairs: set[tuple[int, int]] = set()

    def add(self, other: Group, report: ConversionReport) -> None:
        target = self.group
        report.lose("meta of further rows of the same prompt", other.meta != target.meta)
        for completion in other.completions:
            if completion.text not in self.indices:
                self.indices[completion.text] = len(target.completions)
                target.completions.append(completion)
            elif not other.pairs:
                report.lose("repeated completion")
        for pair in other.pairs:
            chosen, rejected = (self.indices[other.completions[i].text] for i in (pair.chosen, pair.rejected))
            if (chosen, rejected) in self.pairs:
                report.lose("repeated pair")
                continue
            self.pairs.add((chosen, rejected))
            target.pairs.append(Pair(chosen, rejected, pair.source, pair.margin, pair.judge))


def prompt_key(group: Group) -> str:
    """Return a hash of what rows of one group share: prompt, media, answer, data set, place in a conversation."""
    marks = [group.meta.get(name) for name in ("mmpr", "llava")]
    return fingerprint([group.prompt, group.images, group.videos, group.answer, marks])


def unique_ids(groups: Iterable[Group], report: ConversionReport) -> Iterator[Group]:
    """Give a second group of the same id the suffix `-2`, and so on, and count the groups."""
    seen: Counter[str] = Counter()
    for group in groups:
        report.num_groups += 1
        seen[group.id] += 1
        while (number := seen[group.id]) > 1:
            report.lose("id that was taken")
            group.id = f"{group.id}-{number}"
            seen[group.id] += 1
        yield group


def row_id(row: dict[str, Any], *content: Any) -> str:
    """Return the row's own id as text, or a hash of its content where it has none."""
    own = row.get("id")
    if isinstance(own, str | int) and not isinstance(own, bool) and own != "":
        return str(own)
    return fingerprint(list(content))


def preference(
    base: dict[str, Any], chosen: str, rejected: str, margin: Any = None, judge: dict[str, Any] | None = None
) -> Group:
    """Build and check a group of one pair from a row that lacks only its completions.

    Raises:
        DataError: kind `pair_identical_text`, and those of `Group.from_row`.
    """
    if chosen == rejected:
        problem, remedy = "The chosen and the rejected answer are the same text.", "Leave the pair out."
        raise DataError(problem, remedy=remedy, kind="pair_identical_text")
    pair = {"chosen": 0, "rejected": 1, "margin": margin, "judge": judge}
    return Group.from_row({**base, "completions": [imported(chosen), imported(rejected)], "pairs": [pair]})


def other_fields(row: dict[str, Any], known: set[str], report: ConversionReport) -> dict[str, Any]:
    """Return the fields of a row that the format does not name, for `meta`; what is not JSON is lost and counted."""
    kept = {}
    for name, value in row.items():
        if name not in known and value is not None:
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                report.lose(f"row field {name}")
            else:
                kept[name] = value
    return kept


def imported(text: str) -> dict[str, str]:
    """Return the row of a completion that came from elsewhere."""
    return {"text": text, "source": "imported"}


def split_placeholders(text: str) -> list[dict[str, str]]:
    """Turn text with `<image>` and `<video>` into content parts; one newline after each leading one is not text."""
    parts: list[dict[str, str]] = []
    leading = True
    for piece in _PLACEHOLDER.split(text):
        if piece in _PLACEHOLDERS:
            parts.append({"type": _PLACEHOLDERS[piece]})
        elif piece:
            piece = piece.removeprefix("\n") if leading and parts else piece
            if piece:
                leading = False
                parts.append({"type": "text", "text": piece})
    return parts


def join_placeholders(parts: list[dict[str, str]], report: ConversionReport) -> str:
    """Undo `split_placeholders`. Adjacent text parts become one, which is counted.

    Raises:
        DataError: kind `placeholder_in_text` where text holds a placeholder, which would become a medium.
    """
    joined, whole, leading = "", [], True
    for number, part in enumerate(parts):
        if part["type"] != "text":
            joined += f"<{part['type']}>" + ("\n" if leading and number + 1 < len(parts) else "")
            whole.append(dict(part))
        elif part["text"]:
            leading = False
            joined += part["text"]
            if whole and whole[-1]["type"] == "text":
                whole[-1]["text"] += part["text"]
            else:
                whole.append(dict(part))
    if split_placeholders(joined) != whole:
        problem = "A text holds `<image>` or `<video>`, which this format reads as a medium."
        raise DataError(problem, remedy="Take it out of the text.", kind="placeholder_in_text")
    report.lose("text part of its own", len(parts) - len(whole))
    return joined


def media_items(value: Any, root: str | Path | None, base: str = "") -> list[Media]:
    """Return the media of a row: nothing, one path, a list of paths, or structs of `bytes` and `path`.

    Args:
        value: the field of the row. Strings stay strings: nothing is evaluated.
        root: the data root; absolute paths inside it become relative to it.
        base: folder, relative to the root, that the paths are relative to.

    Raises:
        DataError: kinds `media_type`, `media_url`, `media_path_absolute`, `media_path_parent`.
    """
    if value is None or value == "":
        return []
    return [_medium(item, root, base) for item in (value if isinstance(value, list) else [value])]


def _medium(item: Any, root: str | Path | None, base: str) -> Media:
    if isinstance(item, dict) and set(item) <= {"bytes", "path"}:  # the Image feature of `datasets`
        item = item.get("path") if item.get("bytes") is None else item["bytes"]
    if isinstance(item, bytes):
        return item
    if not isinstance(item, str):
        problem = f"A medium is a {type(item).__name__}."
        raise DataError(problem, remedy="Use a path, or bytes in a Parquet file.", kind="media_type")
    if "://" in item:
        problem, remedy = f"The medium {item!r} is an address.", "Download it below the data root first."
        raise DataError(problem, remedy=remedy, kind="media_url")
    if not base and not os.path.isabs(item):
        return item
    top = os.path.abspath(root or ".")
    relative = os.path.relpath(os.path.join(top, base, item), top)
    if relative.split(os.sep)[0] == "..":
        kind = "media_path_absolute" if os.path.isabs(item) else "media_path_parent"
        problem = f"The medium {item!r} lies outside the data root {str(root or '.')!r}."
        raise DataError(problem, remedy="Choose a data root that holds every medium.", kind=kind)
    return relative.replace(os.sep, "/")


def media_field(items: list[Media]) -> str | list[str]:
    """Return one path as text and several as a list, for formats that know only paths.

    Raises:
        DataError: kind `media_bytes`.
    """
    if any(isinstance(item, bytes) for item in items):
        problem = "This format holds paths, and a medium is given as bytes."
        raise DataError(problem, remedy="Save it to a file below the data root first.", kind="media_bytes")
    return items[0] if len(items) == 1 else list(items)


def count_losses(group: Group, report: ConversionReport, held: tuple[str, ...] = ()) -> None:
    """Count what none of these formats holds, except the names in `held` (`answer`, `margin`, `judge`, `meta`)."""
    report.lose("answer", group.answer is not None and "answer" not in held)
    report.lose("meta", bool(group.meta) and "meta" not in held)
    if group.pairs:
        used = {index for pair in group.pairs for index in (pair.chosen, pair.rejected)}
        report.lose("completion in no pair", len(group.completions) - len(used))
    for completion in group.completions:
        for item in fields(Completion):
            value = getattr(completion, item.name)
            if item.name != "text" and value not in (None, "imported"):
                report.lose(f"completions.{item.name}")
    for pair in group.pairs:
        report.lose("pairs.source", pair.source != "imported")
        report.lose("pairs.margin", pair.margin is not None and "margin" not in held)
        report.lose("pairs.judge", pair.judge is not None and "judge" not in held)


def write_json_list(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a .json list, one row per line, atomically and without holding the rows."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("[")
        for number, row in enumerate(rows):
            file.write((",\n" if number else "\n") + json.dumps(row, ensure_ascii=False))
        file.write("\n]\n")


def write_json_lines(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a .jsonl file atomically and without holding the rows."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def refuse_suffix(path: Path, known: tuple[str, ...]) -> None:
    """Raise `DataError` of kind `unsupported_suffix` unless `path` ends in one of `known`."""
    if path.suffix not in known:
        problem = f"This format is not written to files ending in {path.suffix or 'nothing'!r}."
        raise DataError(problem, remedy=f"Use {' or '.join(known)}.", kind="unsupported_suffix", file=path)


def _scan_json(path: Path) -> Iterator[ScannedRow]:
    rows = load_json(path)
    if not isinstance(rows, list):
        problem, remedy = "The file does not hold a list of rows.", "Write a JSON list, or JSONL."
        raise DataError(problem, remedy=remedy, kind="wrong_type", file=path)
    for number, value in enumerate(rows, start=1):
        yield ScannedRow(path, number, value)


def _not_an_object(row: ScannedRow) -> DataError:
    problem = f"The row is a {type(row.value).__name__}, not an object."
    return DataError(problem, remedy="Write a JSON object.", kind="wrong_type", file=row.file, row=row.number)
