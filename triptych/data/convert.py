"""Conversion between row formats, with a count of everything that the target cannot hold."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from triptych.data.formats import llava, mmpr, triptych, trl
from triptych.data.formats.common import ConversionReport, load_json
from triptych.data.rows import scan_rows
from triptych.errors import DataError

FORMATS: dict[str, ModuleType] = {"triptych": triptych, "trl": trl, "mmpr": mmpr, "llava": llava}
"""Each has `read`, `write` and `matches`; see `triptych.data.formats.common`."""


def convert(
    source: str | Path,
    target: str | Path,
    *,
    source_format: str | None = None,
    target_format: str = "triptych",
    root: str | Path | None = None,
) -> ConversionReport:
    """Convert a file of rows, or a folder of shards, to another format.

    Rows that cannot be converted are left out, counted and named in the report; whole files that cannot be read raise.

    Args:
        source: what to read.
        target: the file to write, atomically; its suffix chooses the container (.jsonl, .parquet, .json).
        source_format: a key of `FORMATS`; guessed from the first row when not given.
        target_format: a key of `FORMATS`.
        root: the data root that the media paths of the result are relative to; the folder of `source` by default.

    Raises:
        DataError: kinds `unknown_format`, `ambiguous_format`, `same_file` and faults of a whole file.
    """
    source, target = Path(source), Path(target)
    if os.path.realpath(source) == os.path.realpath(target):
        problem, remedy = "Source and target are the same file.", "Name another target."
        raise DataError(problem, remedy=remedy, kind="same_file", file=target)
    reader = _format(source_format or guess_format(source))
    writer = _format(target_format)
    report = ConversionReport(source=str(source), target=str(target))
    root = root if root is not None else (source if source.is_dir() else source.parent)
    writer.write(reader.read(source, root, report), target, report)
    return report


def guess_format(path: str | Path) -> str:
    """Return the name of the format that the first row of a file matches.

    Raises:
        DataError: kinds `unknown_format` and `ambiguous_format`; a fault of the whole file or of its first row.
    """
    row = _first_row(Path(path))
    names = [name for name, module in FORMATS.items() if isinstance(row, dict) and module.matches(row)]
    if len(names) == 1:
        return names[0]
    shown = f"the fields {', '.join(map(str, row))}" if isinstance(row, dict) else f"a {type(row).__name__}"
    remedy = f"Name the format: one of {', '.join(FORMATS)}."
    if names:
        problem = f"The first row, with {shown}, may be {' or '.join(names)}."
        raise DataError(problem, remedy=remedy, kind="ambiguous_format", file=path)
    raise DataError(f"No format matches the first row, with {shown}.", remedy=remedy, kind="unknown_format", file=path)


def _first_row(path: Path) -> Any:
    if path.suffix == ".json":
        value = load_json(path)
        return value[0] if isinstance(value, list) and value else value
    row = next(scan_rows(path))
    if row.error is not None:
        raise row.error
    return {k: v for k, v in row.value.items() if v is not None} if isinstance(row.value, dict) else row.value


def _format(name: str) -> ModuleType:
    if name not in FORMATS:
        problem = f"The format {name!r} is unknown."
        raise DataError(problem, remedy=f"Use one of {', '.join(FORMATS)}.", kind="unknown_format")
    return FORMATS[name]
