"""A long job over rows in blocks: each block is stored whole, so that the job goes on at the first missing one.

The blocks are a function of the rows and the block size alone. A job that was killed repeats the arithmetic of the
block it was in and ends with the same bytes as one that was not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from triptych.data.files import atomic_path, encode_line, read_jsonl, write_bytes_atomic
from triptych.engine.progress import Progress

Row = TypeVar("Row")


def run_blocks(
    folder: Path,
    name: str,
    rows: Sequence[Row],
    block_size: int,
    work: Callable[[list[Row]], Iterable[dict[str, Any]]],
    *,
    title: str,
    stored: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Map blocks of rows to JSON rows, keep each block's result, and join them in `folder/name`.

    Args:
        folder: run directory of the stage.
        name: file that holds the joined rows in the end.
        rows: what is worked on.
        block_size: rows per block.
        work: maps the rows of a block to result rows.
        title: shown beside the progress bar.
        stored: called after each block, such as to note the time spent.

    Returns:
        all result rows, in order.
    """
    final = folder / name
    parts = folder / f"{name}.parts"
    if final.exists():
        shutil.rmtree(parts, ignore_errors=True)  # left by a kill right after the join
        return [row for _, row in read_jsonl(final)]
    parts.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(rows), block_size)
    finished = sum((parts / f"{start:09d}.jsonl").exists() for start in starts)
    with Progress(title, len(rows), done=min(len(rows), finished * block_size), unit="row") as bar:
        for start in starts:
            path = parts / f"{start:09d}.jsonl"
            block = list(rows[start : start + block_size])
            if not path.exists():
                write_bytes_atomic(path, b"".join(map(encode_line, work(block))))
                stored()
                bar.advance(len(block))
    join_files([parts / f"{start:09d}.jsonl" for start in starts], final)
    shutil.rmtree(parts)
    return [row for _, row in read_jsonl(final)]


def join_files(parts: Sequence[Path], final: Path) -> None:
    """Write the files one after the other into `final`, atomically."""
    with atomic_path(final) as temporary, temporary.open("wb") as output:
        for part in parts:
            output.write(part.read_bytes())
