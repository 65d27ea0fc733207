"""Rows of MMPR, the preference data of the MPO paper (arXiv:2411.10442): a `meta.json` and JSONL annotations.

    meta.json  {"ai2d": {"root": "images/ai2d", "annotation": "annotations/ai2d.jsonl", "data_augment": false,
                         "repeat_time": 1, "length": 2, "max_dynamic_patch": 6}}
    *.jsonl    {"image": "1.png", "question": "<image>\\nHow many?", "chosen": "Two.", "rejected": "Three.",
                "answer_gt": "2"}

`read` takes a meta.json or a single annotation file; `write` makes either. `image` is a path, a list or absent. One image
without `<image>` in the question comes first; in a list the number of `<image>` must equal the number of images. Rows of
one image, question and answer become one group, with each distinct answer once. `root` of an entry counts from the data
root; `annotation` from there or from the folder of meta.json. What a data set asks for (`repeat_time`, `data_augment`,
`max_dynamic_patch`) is kept in `meta["mmpr"]` and not acted upon: mixtures set weights.

| of a group | in MMPR |
| --- | --- |
| `id`, one user message with its images, texts of pairs, `answer`, `meta["mmpr"]` | held (`id` as an extra field) |
| `judge` with nothing but `chosen_meta`, `rejected_meta` | held |
| a system message, completions in no pair, what is known of a completion, pair `source`, `margin`, the rest of `judge`, the rest of `meta` | lost, counted |
| several turns, videos, images as bytes, a group without pairs, text that holds `<image>` | left out, counted |
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from triptych.data.files import atomic_path, write_json_atomic
from triptych.data.formats.common import (
    ConversionReport,
    count_losses,
    join_placeholders,
    load_json,
    media_field,
    media_items,
    preference,
    read_each,
    refuse_suffix,
    regroup,
    row_id,
    scan,
    split_placeholders,
    unique_ids,
    write_json_lines,
)
from triptych.errors import DataError
from triptych.group import Group, Pair

_ENTRY_FIELDS = {"root": str, "annotation": str, "repeat_time": int | float}
_KEPT = ("repeat_time", "data_augment", "max_dynamic_patch")
_KNOWN = {"id", "image", "question", "chosen", "rejected", "answer_gt", "chosen_meta", "rejected_meta", "length"}


def matches(row: dict[str, Any]) -> bool:
    """Say whether the first row of a file, or a meta.json, looks like MMPR's."""
    if row and all(isinstance(entry, dict) and "annotation" in entry for entry in row.values()):
        return True
    return "question" in row and isinstance(row.get("chosen"), str)


def read(path: str | Path, root: str | Path | None = None, report: ConversionReport | None = None) -> Iterator[Group]:
    """Iterate over the groups; the pairs of one annotation file are held at a time, since any two may share a prompt.

    Args:
        path: a meta.json or an annotation file.
        root: the data root; the folder of `path` when not given.
        report: counts what was lost.

    Raises:
        DataError: kind `malformed_meta` for the meta.json, a fault of a whole file and, without a report, the first row
            that cannot be converted.
    """
    report, path = report or ConversionReport(strict=True), Path(path)
    root = path.parent if root is None else Path(root)
    yield from unique_ids(_read_all(path, root, report), report)


def _read_all(path: Path, root: Path, report: ConversionReport) -> Iterator[Group]:
    if path.suffix != ".json":
        yield from _read_annotation(path, root, "", {}, report)
        return
    for name, entry in _entries(path).items():
        settings = {"dataset": name, **{key: entry[key] for key in _KEPT if key in entry}}
        annotation = _find_annotation(entry["annotation"], root, path)
        yield from _read_annotation(annotation, root, _entry_root(entry["root"], root), settings, report)


def _read_annotation(
    path: Path, root: Path, base: str, settings: dict[str, Any], report: ConversionReport
) -> Iterator[Group]:
    rows = read_each(scan(path, report), lambda row: [_group(row, root, base, settings, report)], report)
    yield from regroup(rows, report)


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    entries = load_json(path)
    if not isinstance(entries, dict) or not entries:
        entries = {"": entries}
    for name, entry in entries.items():
        for key, kind in _ENTRY_FIELDS.items():
            if not isinstance(entry, dict) or not isinstance(entry.get(key), kind):
                problem = f"The data set {name!r} lacks a usable `{key}`."
                remedy = f"Each entry needs {', '.join(_ENTRY_FIELDS)}."
                raise DataError(problem, remedy=remedy, kind="malformed_meta", file=path)
    return entries


def _entry_root(entry_root: str, root: Path) -> str:
    """Return the media folder of a data set relative to the data root; absolute ones must lie inside it."""
    relative = os.path.relpath(os.path.join(os.path.abspath(root), entry_root), os.path.abspath(root))
    if relative.split(os.sep)[0] == "..":
        problem = f"The media folder {entry_root!r} lies outside the data root {str(root)!r}."
        remedy = "Choose a data root that holds it, or mend `root` in the meta.json."
        raise DataError(problem, remedy=remedy, kind="media_path_absolute")
    return relative


def _find_annotation(annotation: str, root: Path, meta: Path) -> Path:
    places = (root / annotation, meta.parent / annotation)
    for place in places:
        if place.is_file():
            return place
    problem = f"The annotation file {annotation!r} is neither below the data root nor beside the meta.json."
    raise DataError(problem, remedy="Mend `annotation`, or set the data root.", kind="file_missing", file=meta)


def _group(row: dict[str, Any], root: Path, base: str, settings: dict[str, Any], report: ConversionReport) -> Group:
    row = {name: value for name, value in row.items() if value is not None}
    if row.get("video"):
        problem, remedy = "The row has a video, which MMPR's own reader cannot load.", "Extract frames as images."
        raise DataError(problem, remedy=remedy, kind="format_no_video")
    for name in ("question", "chosen", "rejected"):
        if not isinstance(row.get(name), str):
            problem, remedy = f"The row lacks `{name}` as text.", "Write it as a string."
            raise DataError(problem, remedy=remedy, kind="missing_field" if name not in row else "wrong_type")
    for name in sorted(set(row) - _KNOWN):
        report.lose(f"row field {name}")
    images = media_items(row.get("image"), root, base)
    content = _question(row["question"], images, isinstance(row.get("image"), list))
    settings, answer = dict(settings), row.get("answer_gt")
    if answer is not None and not isinstance(answer, str):
        settings["answer_gt"] = answer  # a list or a number: kept as it is, since an answer is text
        answer = None if isinstance(answer, bool | list | dict) else str(answer)
    base_row = {
        "id": row_id(row, settings, content, images, answer),
        "prompt": [{"role": "user", "content": content}],
        "images": images,
        "answer": answer,
        "meta": {"mmpr": settings} if settings else {},
    }
    judge = {name: row[name] for name in ("chosen_meta", "rejected_meta") if name in row}
    return preference(base_row, row["chosen"], row["rejected"], judge=judge or None)


def _question(text: str, images: list[Any], is_list: bool) -> list[dict[str, str]]:
    if len(images) == 1 and not is_list and "<image>" not in text:
        text = "<image>\n" + text
    if "<video>" in text:
        problem, remedy = "The question holds `<video>`, but the row has no video.", "Take it out."
        raise DataError(problem, remedy=remedy, kind="video_count_mismatch")
    return split_placeholders(text)


def write(groups: Iterable[Group], path: str | Path, report: ConversionReport | None = None) -> ConversionReport:
    """Write a meta.json with one annotation file per data set beside it, or a single .jsonl annotation file.

    The data set is `meta["mmpr"]["dataset"]`, or `triptych`. In meta.json, `root` is `.`, the data root, and
    `annotation` counts from the folder of meta.json.

    Raises:
        DataError: kind `unsupported_suffix` and, without a report, the first group that cannot be written.
    """
    report, path = report or ConversionReport(strict=True), Path(path)
    refuse_suffix(path, (".json", ".jsonl"))
    rows = _rows(groups, report)
    if path.suffix == ".jsonl":
        write_json_lines(path, (row for _, row in rows))
    else:
        _write_with_meta(path, rows, report)
    return report


def _rows(groups: Iterable[Group], report: ConversionReport) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield (settings of the data set, row)."""
    for group in groups:
        try:
            base = _base_row(group, report)
        except DataError as error:
            report.drop(error.located(row=group.id))
            continue
        count_losses(group, report, held=("answer", "judge", "meta"))
        report.lose("meta", bool(set(group.meta) - {"mmpr"}))
        settings = _settings(group)
        answer = settings.pop("answer_gt", group.answer)
        for pair in group.pairs:
            report.num_rows_written += 1
            texts = {name: group.completions[getattr(pair, name)].text for name in ("chosen", "rejected")}
            answers = {} if answer is None else {"answer_gt": answer}
            yield settings, {**base, **texts, **answers, **_judge(pair, report)}


def _base_row(group: Group, report: ConversionReport) -> dict[str, Any]:
    turns = [message for message in group.prompt if message["role"] != "system"]
    reason = None
    if [message["role"] for message in turns] != ["user"]:
        reason = ("format_several_turns", "MMPR holds a single user turn.", "Use another format.")
    elif group.videos:
        reason = ("format_no_video", "MMPR's own reader cannot load videos.", "Extract frames as images.")
    elif not group.pairs:
        reason = ("format_no_pair", "MMPR holds pairs, and the group has none.", "Make pairs first.")
    if reason is not None:
        raise DataError(reason[1], remedy=reason[2], kind=reason[0])
    image = {"image": media_field(group.images)} if group.images else {}
    question = join_placeholders(turns[0]["content"], report)
    report.lose("system message", len(group.prompt) - len(turns))
    return {"id": group.id, **image, "question": question}


def _settings(group: Group) -> dict[str, Any]:
    settings = group.meta.get("mmpr")
    return dict(settings) if isinstance(settings, dict) else {}


def _judge(pair: Pair, report: ConversionReport) -> dict[str, Any]:
    judge = pair.judge or {}
    held = {name: judge[name] for name in ("chosen_meta", "rejected_meta") if name in judge}
    report.lose("pairs.judge", len(held) < len(judge))
    return held


def _write_with_meta(
    path: Path, rows: Iterator[tuple[dict[str, Any], dict[str, Any]]], report: ConversionReport
) -> None:
    entries: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        files: dict[str, Any] = {}
        for settings, row in rows:
            settings = dict(settings)
            name = str(settings.pop("dataset", "triptych"))
            if name not in entries:
                annotation = f"annotations/{_file_name(name, len(entries))}.jsonl"
                entries[name] = {"root": ".", "annotation": annotation, **_defaults(settings), "length": 0}
                temporary = stack.enter_context(atomic_path(path.parent / annotation))
                files[name] = stack.enter_context(open(temporary, "w", encoding="utf-8"))
            report.lose(
                "settings unlike those of its data set", any(entries[name].get(k) != settings[k] for k in settings)
            )
            entries[name]["length"] += 1
            files[name].write(json.dumps(row, ensure_ascii=False) + "\n")
    write_json_atomic(path, entries)


def _defaults(settings: dict[str, Any]) -> dict[str, Any]:
    return {"data_augment": False, "repeat_time": 1, **settings}


def _file_name(name: str, number: int) -> str:
    plain = re.sub(r"[^\w.-]", "_", name).lstrip(".")
    return plain if plain == name else f"{plain or 'dataset'}-{number}"
