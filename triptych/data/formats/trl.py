"""Rows of TRL (https://huggingface.co/docs/trl/dataset_formats): preferences and demonstrations, JSONL or Parquet.

    {"id": "q1", "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}],
     "images": ["a.png"], "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "Two."}]}],
     "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "Three."}]}]}

Read: `prompt`, `chosen`, `rejected`; a prompt implicit in `chosen` and `rejected`; `prompt`, `completion`; `messages`
that end with the assistant. Each may be messages or plain text. Where a text prompt places no image, the images come
before the first user message, as TRL places them. Consecutive rows of one prompt become one group; columns TRL does not
know are kept in `meta`.

| of a group | in TRL |
| --- | --- |
| `id`, `prompt`, `images`, texts of pairs, `margin` | held (`id` as a column that TRL ignores) |
| one completion without a pair | held as `completion`, when the first group has no pair either |
| images as bytes | Parquet only |
| completions in no pair, what is known of a completion, pair `source`, `judge`, `answer`, `meta` | lost, counted |
| videos; a group of the other kind (pairs or not) than the first | left out, counted |
| a plain-text prompt | read as a user message, counted: a chat template will be applied to it |
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from triptych.data.files import atomic_path
from triptych.data.formats.common import (
    ConversionReport,
    count_losses,
    imported,
    media_items,
    other_fields,
    preference,
    prompt_key,
    read_each,
    refuse_suffix,
    regroup,
    row_id,
    scan,
    unique_ids,
    write_json_lines,
)
from triptych.errors import DataError
from triptych.group import Group

_KNOWN = {"id", "prompt", "chosen", "rejected", "completion", "messages", "images", "image", "margin"}
_BATCH_ROWS = 256


def matches(row: dict[str, Any]) -> bool:
    """Say whether the first row of a file looks like TRL's."""
    if "chosen" in row and "rejected" in row:
        return "conversations" not in row and ("prompt" in row or _is_messages(row["chosen"]))
    return "messages" in row or ("prompt" in row and "completion" in row)


def read(path: str | Path, root: str | Path | None = None, report: ConversionReport | None = None) -> Iterator[Group]:
    """Iterate over the groups of a file or a folder of shards, holding the rows of one prompt at a time.

    Raises:
        DataError: a fault of the whole file and, without a report, the first row that cannot be converted.
    """
    report = report or ConversionReport(strict=True)
    groups = read_each(scan(path, report), lambda row: [_group(row, root, report)], report)
    gathered = (merged for _, chunk in itertools.groupby(groups, key=prompt_key) for merged in regroup(chunk, report))
    yield from unique_ids(gathered, report)


def write(groups: Iterable[Group], path: str | Path, report: ConversionReport | None = None) -> ConversionReport:
    """Write one row per pair (or per completion) to a .jsonl or .parquet file, atomically.

    Raises:
        DataError: kind `unsupported_suffix` and, without a report, the first group that cannot be written.
    """
    report, path = report or ConversionReport(strict=True), Path(path)
    refuse_suffix(path, (".jsonl", ".parquet"))
    parquet = path.suffix == ".parquet"
    rows = _rows(groups, report, parquet)
    if parquet:
        _write_parquet(path, rows)
    else:
        write_json_lines(path, rows)
    return report


def _group(row: dict[str, Any], root: str | Path | None, report: ConversionReport) -> Group:
    row = {name: value for name, value in row.items() if value is not None}
    prompt, answers = _split(row, report)
    images = media_items(row.get("images", row.get("image")), root)
    messages = _place_images(prompt, images, root)
    base = {
        "id": row_id(row, messages, images),
        "prompt": messages,
        "images": images,
        "meta": other_fields(row, _KNOWN, report),
    }
    if len(answers) == 2:
        return preference(base, *answers, margin=row.get("margin"))
    return Group.from_row({**base, "completions": [imported(text) for text in answers]})


def _split(row: dict[str, Any], report: ConversionReport) -> tuple[list[Any], list[str]]:
    """Return the messages of the prompt and the texts of the answers, the chosen one first."""
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        report.lose("plain prompt made a user message")
        prompt = [{"role": "user", "content": prompt}]
    if "messages" in row and prompt is None:
        prompt, answers = row["messages"][:-1], [row["messages"][-1:]]
    elif "completion" in row:
        answers = [row["completion"]]
    else:
        answers = [row[name] for name in ("chosen", "rejected") if name in row]
        if prompt is None and len(answers) == 2 and all(map(_is_messages, answers)):
            length = next((i for i, (a, b) in enumerate(zip(*answers, strict=False)) if a != b), 0)
            prompt, answers = answers[0][:length], [answer[length:] for answer in answers]
    if not isinstance(prompt, list) or len(answers) != (1 if "completion" in row or "messages" in row else 2):
        problem = f"The row has the columns {', '.join(row)}, which is no preference and no demonstration."
        remedy = "Give `prompt`, `chosen` and `rejected`, or `prompt` and `completion`, or `messages`."
        raise DataError(problem, remedy=remedy, kind="missing_field")
    return prompt, [_answer(answer) for answer in answers]


def _answer(value: Any) -> str:
    if isinstance(value, str):
        return value
    if _is_messages(value) and len(value) == 1 and value[0].get("role") == "assistant":
        content = value[0].get("content")
        if isinstance(content, str):
            return content
        if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
            return "".join(part["text"] for part in content)
    problem = "An answer is not one assistant message of text."
    remedy = "A completion holds the text of one turn; put earlier turns into the prompt."
    raise DataError(problem, remedy=remedy, kind="completion_not_text")


def _place_images(messages: list[Any], images: list[Any], root: str | Path | None) -> list[dict[str, Any]]:
    """Turn contents into parts. Payloads inside parts move to `images`; unplaced images come first, as in TRL."""
    placed: list[dict[str, Any]] = []
    payloads: list[Any] = []
    for message in messages:
        if not isinstance(message, dict):
            raise DataError("A message is not an object.", remedy="Give messages.", kind="malformed_message")
        message = {name: value for name, value in message.items() if value is not None}
        content = message.get("content")
        if isinstance(content, list):
            message["content"] = [_without_payload(part, payloads) for part in content]
        placed.append(message)
    if payloads and not images:
        images.extend(media_items(payloads, root))
    contents = [message.get("content") for message in placed]
    has_part = any(isinstance(p, dict) and p.get("type") == "image" for c in contents if isinstance(c, list) for p in c)
    first = next((message for message in placed if message.get("role") == "user"), None)
    if images and not has_part and first is not None and isinstance(first.get("content"), str):
        first["content"] = [{"type": "image"} for _ in images] + [{"type": "text", "text": first["content"]}]
    return placed


def _without_payload(part: Any, payloads: list[Any]) -> Any:
    if isinstance(part, dict) and part.get("type") == "image" and part.get("image") is not None:
        payloads.append(part["image"])
        return {"type": "image"}
    return part


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "role" in item for item in value)


def _rows(groups: Iterable[Group], report: ConversionReport, parquet: bool) -> Iterator[dict[str, Any]]:
    first_has_pairs: bool | None = None
    for group in groups:
        if first_has_pairs is None:
            first_has_pairs = bool(group.pairs)
        try:
            _refuse(group, first_has_pairs, parquet)
        except DataError as error:
            report.drop(error)
            continue
        count_losses(group, report, held=("margin",))
        for row in _group_rows(group):
            report.num_rows_written += 1
            yield row


def _group_rows(group: Group) -> Iterator[dict[str, Any]]:
    def answer(index: int) -> list[dict[str, Any]]:
        text = group.completions[index].text
        return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]

    base = {"id": group.id, "prompt": group.prompt, "images": group.images}
    for pair in group.pairs:
        margin = {} if pair.margin is None else {"margin": pair.margin}
        yield {**base, "chosen": answer(pair.chosen), "rejected": answer(pair.rejected), **margin}
    if not group.pairs:
        for index in range(len(group.completions)):
            yield {**base, "completion": answer(index)}


def _refuse(group: Group, with_pairs: bool, parquet: bool) -> None:
    reason = None
    if group.videos:
        reason = ("format_no_video", "TRL has no videos.", "Extract frames as images.")
    elif not group.completions:
        reason = ("format_no_completion", "The group has no completion.", "TRL's rows need an answer.")
    elif bool(group.pairs) != with_pairs:
        mixed = "The group has pairs and the first has none, or the other way round."
        reason = ("format_mixed", mixed, "Convert demonstrations and preferences to files of their own.")
    elif not parquet and any(isinstance(item, bytes) for item in group.images):
        reason = ("media_bytes", "TRL's JSONL holds paths, and an image is given as bytes.", "Write a .parquet file.")
    if reason is not None:
        kind, problem, remedy = reason
        raise DataError(problem, remedy=remedy, kind=kind, row=group.id)


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    head = next(rows, None)
    rows = itertools.chain([] if head is None else [head], rows)
    schema = _features("completion" in (head or {})).arrow_schema
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        while batch := list(itertools.islice(rows, _BATCH_ROWS)):
            columns = [{**row, "images": [_image_struct(item) for item in row["images"]]} for row in batch]
            writer.write_table(pa.Table.from_pylist(columns, schema=schema))


def _image_struct(item: str | bytes) -> dict[str, Any]:
    return {"bytes": item, "path": None} if isinstance(item, bytes) else {"bytes": None, "path": item}


def _features(demonstrations: bool) -> Any:
    from datasets import Features, Image, List, Value

    text = Value("string")
    messages = List({"role": text, "content": List({"type": text, "text": text})})
    answers = {"completion": messages} if demonstrations else {"chosen": messages, "rejected": messages}
    margin = {} if demonstrations else {"margin": Value("float64")}
    return Features(id=text, prompt=messages, images=List(Image()), **answers, **margin)
