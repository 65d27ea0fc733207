"""Rows of LLaVA and ShareGPT: `conversations` between `human` and `gpt`, a .json list or JSONL.

    {"id": "1", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\\nHow many?"},
                                                    {"from": "gpt", "value": "Two."}]}

Every turn of `gpt` is something to learn, so a conversation of n answers is read as n groups: `ID/1`, `ID/2`, ..., the
earlier turns being the prompt of the later. `write` joins such groups again. Preferences, as LLaMA-Factory writes them,
end with `human` and add `"chosen": {"from": "gpt", "value": ...}` and `rejected`. `image` (or `images`) and `video` are a
path or a list. Where no turn places them, media come before the first turn of `human`; with a video alone, `<image>`
stands for it too.

| of a group | in LLaVA |
| --- | --- |
| `id`, alternating turns after an optional system message, `images`, `videos`, texts of completions and pairs | held |
| completions in no pair, what is known of a completion, pair `source`, `margin`, `judge`, `answer`, `meta` | lost, counted |
| an answer of the assistant within the prompt | becomes something to learn, counted |
| media as bytes, tools, documents, turns that do not alternate, text that holds `<image>` or `<video>` | left out, counted |
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from triptych.data.formats.common import (
    ConversionReport,
    count_losses,
    imported,
    join_placeholders,
    media_field,
    media_items,
    other_fields,
    preference,
    read_each,
    refuse_suffix,
    regroup,
    row_id,
    scan,
    split_placeholders,
    unique_ids,
    write_json_lines,
    write_json_list,
)
from triptych.errors import DataError
from triptych.group import Group

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}
_KNOWN = {"id", "image", "images", "video", "videos", "conversations", "chosen", "rejected", "system"}


def matches(row: dict[str, Any]) -> bool:
    """Say whether the first row of a file looks like LLaVA's."""
    return "conversations" in row


def read(path: str | Path, root: str | Path | None = None, report: ConversionReport | None = None) -> Iterator[Group]:
    """Iterate over the groups of a .json, .jsonl or .parquet file; all of them are held, to gather those of one prompt.

    Raises:
        DataError: a fault of the whole file and, without a report, the first row that cannot be converted.
    """
    report = report or ConversionReport(strict=True)
    groups = read_each(scan(path, report), lambda row: _groups(row, root, report), report)
    yield from unique_ids(regroup(groups, report), report)


def write(groups: Iterable[Group], path: str | Path, report: ConversionReport | None = None) -> ConversionReport:
    """Write a .json list or a .jsonl file, one row per conversation or pair, atomically.

    Raises:
        DataError: kind `unsupported_suffix` and, without a report, the first group that cannot be written.
    """
    report, path = report or ConversionReport(strict=True), Path(path)
    refuse_suffix(path, (".json", ".jsonl"))
    rows = (row for group in _join_turns(groups, report) for row in _rows(group, report))
    (write_json_list if path.suffix == ".json" else write_json_lines)(path, rows)
    return report


def _groups(row: dict[str, Any], root: str | Path | None, report: ConversionReport) -> list[Group]:
    row = {name: value for name, value in row.items() if value is not None}
    images = media_items(row.get("image", row.get("images")), root)
    videos = media_items(row.get("video", row.get("videos")), root)
    messages = _messages(row, report)
    _place_media(messages, images, videos, report)
    base = {"id": row_id(row, messages, images, videos), "images": images, "videos": videos}
    meta = other_fields(row, _KNOWN, report)
    if "chosen" in row or "rejected" in row:
        texts = [_answer(row.get(name), name) for name in ("chosen", "rejected")]
        return [preference({**base, "prompt": messages, "meta": meta}, *texts)]
    if messages[-1]["role"] != "assistant":
        return [Group.from_row({**base, "prompt": messages, "meta": meta})]
    return _turns(base, messages, meta)


def _messages(row: dict[str, Any], report: ConversionReport) -> list[dict[str, Any]]:
    messages = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    turns = row.get("conversations")
    for turn in turns if isinstance(turns, list) else []:
        speaker, text = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        if not isinstance(text, str):
            problem, remedy = "A turn lacks `from` or `value`.", 'Write {"from": "human", "value": "..."}.'
            raise DataError(problem, remedy=remedy, kind="malformed_message")
        if speaker not in _ROLES:
            problem, remedy = f"The speaker {speaker!r} is unknown.", f"Known are {', '.join(_ROLES)}."
            raise DataError(problem, remedy=remedy, kind="unknown_role")
        messages.append({"role": _ROLES[speaker], "content": text})
    if messages and messages[0]["role"] == "assistant":
        report.lose("answer before the first question")
        del messages[0]
    _require_alternation([message["role"] for message in messages])
    return messages


def _require_alternation(roles: list[str]) -> None:
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or any(role != ("user", "assistant")[i % 2] for i, role in enumerate(turns)):
        problem = f"The turns are {', '.join(roles) or 'none'}."
        remedy = "Turns alternate between human and gpt, after at most one system message."
        raise DataError(problem, remedy=remedy, kind="turns_not_alternating")


def _place_media(messages: list[dict[str, Any]], images: list, videos: list, report: ConversionReport) -> None:
    """Turn the texts into content parts, and give media that no turn places a place before the first question."""
    for message in messages:
        text = message["content"]
        if videos and not images and "<video>" not in text:
            text = text.replace("<image>", "<video>")
        message["content"] = split_placeholders(text) if message["role"] != "assistant" else _plain(text)
    if (images or videos) and not any(part["type"] != "text" for m in messages for part in m["content"]):
        report.lose("placeholder was missing and put first")
        first = next(message for message in messages if message["role"] == "user")
        first["content"][:0] = [{"type": "image"} for _ in images] + [{"type": "video"} for _ in videos]


def _plain(text: str) -> list[dict[str, str]]:
    if "<image>" in text or "<video>" in text:
        problem, remedy = "An answer holds `<image>` or `<video>`.", "Media belong to the turns of human."
        raise DataError(problem, remedy=remedy, kind="placeholder_in_text")
    return [{"type": "text", "text": text}]


def _turns(base: dict[str, Any], messages: list[dict[str, Any]], meta: dict[str, Any]) -> list[Group]:
    """Return one group per answer of the assistant, with the media that its prompt shows."""
    ends = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    groups = []
    for turn, end in enumerate(ends, start=1):
        row = {**base, "prompt": messages[:end], "meta": meta}
        if len(ends) > 1:
            row |= {"id": f"{base['id']}/{turn}", "meta": {**meta, "llava": {"conversation": base["id"], "turn": turn}}}
        if turn < len(ends):
            shown = [part["type"] for message in messages[:end] for part in message["content"]]
            row |= {name + "s": base[name + "s"][: shown.count(name)] for name in ("image", "video")}
        answer = "".join(part["text"] for part in messages[end]["content"])
        groups.append(Group.from_row({**row, "completions": [imported(answer)]}))
    return groups


def _answer(value: Any, name: str) -> str:
    text = value.get("value") if isinstance(value, dict) else value
    if not isinstance(text, str):
        problem, remedy = f"`{name}` is not an answer.", f'Write "{name}": {{"from": "gpt", "value": "..."}}.'
        raise DataError(problem, remedy=remedy, kind="missing_field" if value is None else "wrong_type")
    return text


def _join_turns(groups: Iterable[Group], report: ConversionReport) -> Iterator[Group]:
    """Leave out a group whose answer the next one, of the same conversation, holds in its prompt."""
    held: Group | None = None
    for group in groups:
        if held is not None and not _continues(held, group):
            yield held
        elif held is not None:
            count_losses(held, report, held=("meta",))
        held = group
    if held is not None:
        yield held


def _continues(earlier: Group, later: Group) -> bool:
    mark, next_mark = (group.meta.get("llava") for group in (earlier, later))
    if not isinstance(mark, dict) or not isinstance(next_mark, dict) or len(earlier.completions) != 1 or earlier.pairs:
        return False
    answer = {"role": "assistant", "content": [{"type": "text", "text": earlier.completions[0].text}]}
    same = mark.get("conversation") == next_mark.get("conversation")
    return same and later.prompt[: len(earlier.prompt) + 1] == [*earlier.prompt, answer]


def _rows(group: Group, report: ConversionReport) -> list[dict[str, Any]]:
    try:
        base = _base_row(group, report)
    except DataError as error:
        report.drop(error.located(row=group.id))
        return []
    count_losses(group, report, held=("meta",))
    mark = group.meta.get("llava") or {}
    report.lose("meta", bool(set(group.meta) - {"llava"}))
    num_answers = sum(message["role"] == "assistant" for message in group.prompt)
    report.lose("answer in the prompt made something to learn", num_answers if not mark else 0)
    if group.pairs:
        texts = [(group.completions[pair.chosen].text, group.completions[pair.rejected].text) for pair in group.pairs]
        rows = [{**base, "chosen": _turn("gpt", a), "rejected": _turn("gpt", b)} for a, b in texts]
    else:
        turns = [[_turn("gpt", completion.text)] for completion in group.completions] or [[]]
        rows = [{**base, "conversations": base["conversations"] + turn} for turn in turns]
    report.num_rows_written += len(rows)
    return rows


def _turn(speaker: str, text: str) -> dict[str, str]:
    return {"from": speaker, "value": text}


def _base_row(group: Group, report: ConversionReport) -> dict[str, Any]:
    roles = [message["role"] for message in group.prompt]
    _require_alternation(roles)
    if roles[-1] != "user":
        problem, remedy = "The prompt ends with the assistant.", "LLaVA cannot continue an answer."
        raise DataError(problem, remedy=remedy, kind="turns_not_alternating")
    for completion in group.completions:
        _plain(completion.text)
    media = {name[:-1]: media_field(items) for name in ("images", "videos") if (items := getattr(group, name))}
    turns = [_turn(_SPEAKERS[m["role"]], join_placeholders(m["content"], report)) for m in group.prompt]
    mark = group.meta.get("llava")
    conversation = mark.get("conversation") if isinstance(mark, dict) else None
    return {"id": conversation or group.id, **media, "conversations": turns}
