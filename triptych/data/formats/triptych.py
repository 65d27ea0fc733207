"""Rows of Triptych itself, JSONL or Parquet: everything is held. `docs/data-format.md` has the table of columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from triptych.data.formats.common import ConversionReport
from triptych.data.rows import duplicate_id, scan_rows, write_groups
from triptych.errors import DataError
from triptych.group import Group


def matches(row: dict[str, Any]) -> bool:
    """Say whether the first row of a file looks like a group."""
    return {"id", "prompt"} <= set(row) <= {field.name for field in fields(Group)}


def read(path: str | Path, root: str | Path | None = None, report: ConversionReport | None = None) -> Iterator[Group]:
    """Iterate over the groups of a file or a folder of shards. `root` is not needed: paths are relative to it already.

    Raises:
        DataError: a fault of the whole file and, without a report, of the first faulty row.
    """
    report = report or ConversionReport(strict=True)
    seen: dict[str, str] = {}
    for row in scan_rows(path):
        if row.error is not None and row.number == 0:
            raise row.error
        report.num_rows_read += 1
        try:
            group = row.group()
            if group.id in seen:
                raise duplicate_id(group.id, seen[group.id], row)
        except DataError as error:
            report.drop(error)
        else:
            seen[group.id] = f"{row.file}:{row.number}"
            report.num_groups += 1
            yield group


def write(groups: Iterable[Group], path: str | Path, report: ConversionReport | None = None) -> ConversionReport:
    """Write the groups, as `triptych.data.rows.write_groups` does.

    Raises:
        DataError: those of `write_groups`.
    """
    report = report or ConversionReport(strict=True)
    write_groups(path, _counted(groups, report))
    return report


def _counted(groups: Iterable[Group], report: ConversionReport) -> Iterator[Group]:
    for group in groups:
        report.num_rows_written += 1
        yield group
