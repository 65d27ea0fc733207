"""Write the world to a data folder: ordinary media and JSONL rows, which nothing tells from a user's own data."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO

from triptych.errors import TriptychError
from triptych.group import fingerprint
from triptych.world.config import WorldConfig, WorldCounts
from triptych.world.render import encode_png
from triptych.world.samples import Sample, Section, build_sample, sections

MANIFEST = "world.json"
WORLD_VERSION = 2
"""Raise it whenever the same settings give other pictures or rows."""
_UNFINISHED = "world.unfinished"
_CHUNK = 128
"""Samples per unit of work. It does not show in the output."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Medium:
    """What a folder is made of. Its functions belong to modules, so that other processes find them."""

    folders: tuple[str, ...]
    """Where the media lie."""
    version: int
    """Raised whenever the same settings give other data, so that a folder of older code is not taken for a current one.
    """
    sections: Callable[[Any], list[Section]]
    """From the counts to the sections, in the order in which they are written."""
    build: Callable[..., Any]
    """From (section, index, config, counts, seed=...) to a sample, which has `rows`."""
    files: Callable[[Any, Any], Iterator[tuple[str, bytes]]]
    """From a sample and the config to paths of media, relative to the folder, and their contents."""


def write_world(
    out: Path,
    config: WorldConfig,
    *,
    seed: int,
    counts: WorldCounts,
    num_workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a folder of pictures and texts; see `write_folder`."""
    return write_folder(out, PICTURES, config, seed=seed, counts=counts, num_workers=num_workers, progress=progress)


def write_folder(
    out: Path,
    medium: Medium,
    config: Any,
    *,
    seed: int,
    counts: Any,
    num_workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the data folder of a world, or recognise the one that is there.

    A folder that is finished is left alone; one that was interrupted is written anew. The bytes depend on config, seed
    and counts only.

    Args:
        out: the data folder, made if missing.
        medium: what it is made of.
        config: dataclass with the settings of the samples.
        counts: dataclass with how much is written of each kind.
        num_workers: processes that make samples; 1 works in this process.
        progress: called with (samples done, samples in all) now and then.
    Returns:
        The manifest, as in `out/world.json`: `fingerprint`, `version`, `seed`, `config`, `counts` and `rows`, the
        number of rows of each file (without `.jsonl`). A kind with the count 0 has no file.
    Raises:
        TriptychError: the folder holds a world made from other settings, or files that are not a world's.
    """
    out = Path(out)
    settings = {"version": medium.version, "seed": seed, "config": asdict(config), "counts": asdict(counts)}
    settings = json.loads(json.dumps(settings))  # lists for tuples, as in the file
    manifest = {"fingerprint": fingerprint(settings), **settings}
    if finished := _finished_manifest(out, manifest):
        return finished
    plan = medium.sections(counts)
    _make_ready(out, medium.folders, plan, manifest["fingerprint"])
    rows = _write_sections(out, medium, config, counts, seed=seed, num_workers=num_workers, progress=progress)
    manifest["rows"] = rows
    _write_atomically(out / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    (out / _UNFINISHED).unlink()
    return manifest


def _finished_manifest(out: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of a finished folder, None if there is none; refuse one that was made from other settings."""
    path = out / MANIFEST
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TriptychError(
            f"{path} is not readable JSON ({error}). Choose another folder, or delete this one."
        ) from error
    if found.get("fingerprint") == wanted["fingerprint"]:
        return found
    differences = ", ".join(_differences(found, wanted))
    raise TriptychError(
        f"{out} holds a world made from other settings ({differences}). Choose another folder, or delete this one."
    )


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Name the settings that differ, as in `config.digit_share`."""
    names = []
    for section in ("config", "counts"):
        old, new = found.get(section, {}), wanted[section]
        names += [f"{section}.{name}" for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return [name for name in ("version", "seed") if found.get(name) != wanted[name]] + names


def _make_ready(out: Path, media: tuple[str, ...], plan: list[Section], settings: str) -> None:
    """Mark the folder as unfinished; remove what an interrupted run left, and refuse to touch files of anyone else.

    What a run with the same settings (their fingerprint is in the mark) left is not removed but written over.
    """
    mark = out / _UNFINISHED
    ours = [*(out / name for name in media), *(out / f"{name}.jsonl" for section in plan for name in section.files)]
    present = [path for path in ours if path.exists()]
    if present and not mark.exists():
        raise TriptychError(
            f"{out} holds {present[0].name} but no {MANIFEST}, so it is not a world's folder. Choose another folder."
        )
    out.mkdir(parents=True, exist_ok=True)
    if present and mark.read_text(encoding="utf-8") != settings:
        for path in present:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _write_atomically(mark, settings)


def _write_sections(
    out: Path,
    medium: Medium,
    config: Any,
    counts: Any,
    *,
    seed: int,
    num_workers: int,
    progress: Progress | None,
) -> dict[str, int]:
    """Write all rows and media; return the number of rows of each file."""
    plan = medium.sections(counts)
    chunks = [
        (section.name, start, min(start + _CHUNK, section.num_samples))
        for section in plan
        for start in range(0, section.num_samples, _CHUNK)
    ]
    done, total = 0, sum(section.num_samples for section in plan)
    rows: dict[str, int] = {}
    with ExitStack() as stack:
        files: dict[str, TextIO] = {}
        results = _map_chunks(stack, chunks, out, config, counts, seed, medium, num_workers)
        for (_, start, stop), lines in zip(chunks, results, strict=True):
            for name, texts in lines.items():
                if name not in files:
                    path = out / f"{name}.jsonl"
                    files[name] = stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
                files[name].writelines(texts)
                rows[name] = rows.get(name, 0) + len(texts)
            done += stop - start
            if progress is not None:
                progress(done, total)
    return rows


def _map_chunks(
    stack: ExitStack,
    chunks: list[tuple[str, int, int]],
    out: Path,
    config: Any,
    counts: Any,
    seed: int,
    medium: Medium,
    num_workers: int,
) -> Iterator[dict[str, list[str]]]:
    """Write the media of each chunk and return its rows, in order."""
    constants = (repeat(out), repeat(config), repeat(counts), repeat(seed), repeat(medium))
    if num_workers <= 1:
        return map(_write_chunk, chunks, *constants)
    # Spawned, not forked: a fork of a process in which torch has started threads can hang.
    pool = ProcessPoolExecutor(
        num_workers, mp_context=get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)
    )
    return stack.enter_context(pool).map(_write_chunk, chunks, *constants)


def _end_with(parent: int) -> None:
    """End this worker soon after its parent: one that outlives a kill would write into the folder of the next try."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _png_files(sample: Sample, config: WorldConfig) -> Iterator[tuple[str, bytes]]:
    return ((path, encode_png(picture)) for path, picture in sample.pictures)


PICTURES = Medium(("images",), WORLD_VERSION, sections, build_sample, _png_files)


def _write_chunk(
    chunk: tuple[str, int, int], out: Path, config: Any, counts: Any, seed: int, medium: Medium = PICTURES
) -> dict[str, list[str]]:
    """Write the media of samples start to stop of a section; return the lines for each file."""
    name, start, stop = chunk
    section = next(section for section in medium.sections(counts) if section.name == name)
    lines: dict[str, list[str]] = {}
    for index in range(start, stop):
        sample = medium.build(section, index, config, counts, seed=seed)
        for path, content in medium.files(sample, config):
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(content)
        for file_name, group in sample.rows:
            line = json.dumps(group.to_row(), ensure_ascii=False, separators=(",", ":"))
            lines.setdefault(file_name, []).append(line + "\n")
    return lines


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
