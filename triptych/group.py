"""The one data structure: a prompt and its completions.

A `Group` is a preference pair, a rollout batch, a demonstration, a question to be answered or a pre-training
document. On disk it is one JSON object per line (or one Parquet row); `docs/data-format.md` has the table.

Conventions
- `prompt` is a list of Hugging Face chat messages whose `content` is a list of parts
  `{"type": "text", "text": ...}`, `{"type": "image"}` or `{"type": "video"}`. The n-th image part belongs to
  `images[n]`.
- A pre-training document is a group whose prompt is a single message with the role `document`.
- Media are paths relative to the data root, or the encoded bytes of the file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from typing import Any

from triptych.errors import DataError

Media = str | bytes
PAIR_SOURCES = ("correctness", "format", "dropout_ntp", "ai_feedback", "rlaif_v", "imported")
ROLES = ("system", "user", "assistant", "tool", "document")
PART_TYPES = ("text", "image", "video")


@dataclass(slots=True)
class Completion:
    """One answer to the prompt and what is known of it."""

    text: str
    source: str | None = None
    """Where it comes from: `human`, `world`, `sampled`, `dropout_ntp`, `imported`, ..."""
    model: str | None = None
    seed: int | None = None
    parent: int | None = None
    """Index of the completion it branched off, and `cut`, the number of characters it shares with that one's start."""
    cut: int | None = None
    correct: bool | None = None
    verdict: str | None = None
    """Named outcome of answer checking: `correct`, `wrong`, `no_answer`, `several_answers`, `truncated`."""
    reward: float | None = None
    num_tokens: int | None = None
    truncated: bool | None = None
    """True when sampling stopped at the token limit, so that no end-of-turn token belongs to it."""


@dataclass(slots=True)
class Pair:
    """`chosen` is preferred to `rejected`; both are indices into the completions of the group."""

    chosen: int
    rejected: int
    source: str = "imported"
    margin: float | None = None
    judge: dict[str, Any] | None = None


@dataclass(slots=True)
class Group:
    """A prompt with its media and its completions."""

    id: str
    prompt: list[dict[str, Any]]
    images: list[Media] = field(default_factory=list)
    videos: list[Media] = field(default_factory=list)
    answer: str | None = None
    completions: list[Completion] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """Return the JSON-ready row; fields that hold nothing are left out."""
        row: dict[str, Any] = {"id": self.id, "prompt": self.prompt}
        for name in ("images", "videos"):
            if media := getattr(self, name):
                row[name] = [_encode_media(item) for item in media]
        if self.answer is not None:
            row["answer"] = self.answer
        for name in ("completions", "pairs"):
            if items := getattr(self, name):
                row[name] = [_set_fields(item) for item in items]
        if self.meta:
            row["meta"] = self.meta
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Group:
        """Build a group from a row and check it.

        Raises:
            DataError: an unknown or missing field, a wrong type, an unknown role or part, an index out of range, or a
                number of media parts that differs from the number of media.
        """
        _check_fields(row, cls, "group")
        group = cls(
            id=_typed(row, "id", str),
            prompt=_messages(row),
            images=[_decode_media(item, row) for item in _typed(row, "images", list, [])],
            videos=[_decode_media(item, row) for item in _typed(row, "videos", list, [])],
            answer=_typed(row, "answer", str, None),
            completions=[_record(Completion, item, row) for item in _typed(row, "completions", list, [])],
            pairs=[_record(Pair, item, row) for item in _typed(row, "pairs", list, [])],
            meta=_typed(row, "meta", dict, {}),
        )
        group.check()
        return group

    def check(self) -> None:
        """Raise `DataError` where the group contradicts itself."""
        if not self.id:
            raise DataError("The `id` is empty.", remedy="Give every row a key of its own.", kind="empty_id")
        for name in ("image", "video"):
            parts = sum(part["type"] == name for message in self.prompt for part in message["content"])
            media = len(getattr(self, name + "s"))
            if parts != media:
                raise DataError(
                    f"The prompt holds {parts} {name} part(s) but the row has {media} {name}(s).",
                    remedy=f"Give one {name} for each {{'type': '{name}'}} part, in order.",
                    kind=f"{name}_count_mismatch",
                    row=self.id,
                )
        for pair in self.pairs:
            for index in (pair.chosen, pair.rejected):
                if not 0 <= index < len(self.completions):
                    raise DataError(
                        f"A pair points to completion {index}, but there are {len(self.completions)}.",
                        remedy="Indices count from 0 in the order of `completions`.",
                        kind="pair_index_out_of_range",
                        row=self.id,
                    )
            if pair.chosen == pair.rejected:
                raise DataError(
                    f"A pair prefers completion {pair.chosen} to itself.",
                    remedy="`chosen` and `rejected` must differ.",
                    kind="pair_identical",
                    row=self.id,
                )
            _check_finite("margin", pair.margin, self.id)
        for completion in self.completions:
            _check_finite("reward", completion.reward, self.id)
            if completion.parent is not None and not 0 <= completion.parent < len(self.completions):
                raise DataError(
                    f"A completion has the parent {completion.parent}, but there are {len(self.completions)}.",
                    remedy="`parent` is the index of another completion of the same row.",
                    kind="parent_out_of_range",
                    row=self.id,
                )


def fingerprint(value: Any) -> str:
    """Return a 16-digit hash of any JSON-like value, independent of key order. Bytes count by content."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_digest)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def text_message(role: str, *parts: str | None) -> dict[str, Any]:
    """Build a chat message; a part that is None stands for an image: `text_message("user", None, "How many?")`."""
    content = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


def prompt_text(group: Group) -> str:
    """Return the text of the prompt, media shown as `<image>` and `<video>`; for logs and reports."""
    return "\n".join(
        "".join(part["text"] if part["type"] == "text" else f"<{part['type']}>" for part in message["content"])
        for message in group.prompt
    )


def _digest(value: Any) -> str:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    raise TypeError(f"cannot fingerprint a {type(value).__name__}")


def _check_finite(name: str, value: float | None, row_id: str) -> None:
    if value is not None and not math.isfinite(value):
        raise DataError(
            f"A {name} is {value}.",
            remedy="Leave it out where it is not known.",
            kind="non_finite_number",
            row=row_id,
        )


def _set_fields(item: Completion | Pair) -> dict[str, Any]:
    return {name: value for name in _FIELD_TYPES[type(item)] if (value := getattr(item, name)) is not None}


def _encode_media(item: Media) -> str | dict[str, str]:
    return {"base64": base64.b64encode(item).decode()} if isinstance(item, bytes) else item


def _decode_media(item: Any, row: dict[str, Any]) -> Media:
    if isinstance(item, str | bytes):
        return item
    if isinstance(item, dict) and set(item) == {"base64"}:
        try:
            return base64.b64decode(item["base64"], validate=True)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"A medium holds invalid base64: {error}.",
                remedy="Encode the bytes of the file with standard base64.",
                kind="media_encoding",
                row=row.get("id"),
            ) from error
    raise DataError(
        f"A medium is a {type(item).__name__}.",
        remedy='Use a path relative to the data root, or {"base64": "..."}.',
        kind="media_type",
        row=row.get("id"),
    )


def _check_fields(item: Any, cls: type, what: str, row_id: Any = None) -> None:
    if not isinstance(item, dict):
        raise DataError(
            f"A {what} is a {type(item).__name__}, not an object.",
            remedy=f"Write each {what} as a JSON object.",
            kind="wrong_type",
            row=row_id,
        )
    known = _KNOWN_FIELDS[cls]
    if unknown := sorted(item.keys() - known):
        raise DataError(
            f"The {what} has unknown field(s) {', '.join(unknown)}.",
            remedy=f"Known fields are {', '.join(sorted(known))}; anything else belongs in `meta`.",
            kind="unknown_field",
            row=item.get("id", row_id),
        )


_REQUIRED = object()
_KNOWN_FIELDS = {cls: frozenset(f.name for f in fields(cls)) for cls in (Completion, Pair, Group)}
_REQUIRED_FIELDS = {Completion: {"text"}, Pair: {"chosen", "rejected"}}
_FIELD_TYPES = {
    Completion: {
        "text": str,
        "source": str,
        "model": str,
        "seed": int,
        "parent": int,
        "cut": int,
        "correct": bool,
        "verdict": str,
        "reward": float,
        "num_tokens": int,
        "truncated": bool,
    },
    Pair: {"chosen": int, "rejected": int, "source": str, "margin": float, "judge": dict},
}


def _typed(row: dict[str, Any], name: str, kind: type, default: Any = _REQUIRED) -> Any:
    value = row.get(name)
    if value is None:
        if default is _REQUIRED:
            raise DataError(
                f"The field `{name}` is missing.",
                remedy=f"Every row needs `{name}`.",
                kind="missing_field",
                row=row.get("id"),
            )
        return default
    if not isinstance(value, kind):
        raise DataError(
            f"The field `{name}` is a {type(value).__name__}, not a {kind.__name__}.",
            remedy=f"Write `{name}` as a {kind.__name__}.",
            kind="wrong_type",
            row=row.get("id") if name != "id" else None,
        )
    return value


def _record(cls: type, item: Any, row: dict[str, Any]) -> Any:
    what = cls.__name__.lower()
    _check_fields(item, cls, what, row.get("id"))
    item = {name: value for name, value in item.items() if value is not None}
    for name in _REQUIRED_FIELDS[cls] - item.keys():
        raise DataError(
            f"A {what} lacks `{name}`.", remedy=f"Add `{name}` to the {what}.", kind="missing_field", row=row.get("id")
        )
    types = _FIELD_TYPES[cls]
    for name, value in item.items():
        kind = types[name]
        if type(value) is kind:  # exact, since True is an int too
            continue
        if type(value) is int and kind is float:
            item[name] = float(value)
        else:
            raise DataError(
                f"The field `{name}` of a {what} is a {type(value).__name__}, not a {kind.__name__}.",
                remedy=f"Write `{name}` as a {kind.__name__}, or leave it out where it may be absent.",
                kind="wrong_type",
                row=row.get("id"),
            )
    return cls(**item)


def _refuse_extra(item: dict[str, Any], known: set[str], what: str, row: dict[str, Any]) -> None:
    """Refuse keys that would be lost; keys that hold null, as Parquet writes them, are nothing to lose."""
    if extra := sorted(key for key, value in item.items() if value is not None and key not in known):
        raise DataError(
            f"A {what} has unknown field(s) {', '.join(map(str, extra))}.",
            remedy=f"A {what} holds {' and '.join(sorted(known))}; media belong in `images` and `videos` of the row.",
            kind="unknown_field",
            row=row.get("id"),
        )


def _messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    messages = []
    for message in _typed(row, "prompt", list):
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise DataError(
                "A message of the prompt lacks `role` or `content`.",
                remedy='Write messages as {"role": "user", "content": [...]}.',
                kind="malformed_message",
                row=row.get("id"),
            )
        if message["role"] not in ROLES:
            raise DataError(
                f"The role {message['role']!r} is unknown.",
                remedy=f"Known roles are {', '.join(ROLES)}.",
                kind="unknown_role",
                row=row.get("id"),
            )
        _refuse_extra(message, {"role", "content"}, "message", row)
        messages.append({"role": message["role"], "content": _parts(message["content"], row)})
    return messages


def _parts(content: Any, row: dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts = []
    for part in content if isinstance(content, list) else [None]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in PART_TYPES or (kind == "text" and not isinstance(part.get("text"), str)):
            raise DataError(
                f"A content part is not one of {', '.join(PART_TYPES)}: {part!r}.",
                remedy='Use {"type": "text", "text": "..."}, {"type": "image"} or {"type": "video"}.',
                kind="unknown_part",
                row=row.get("id"),
            )
        _refuse_extra(part, {"type", "text"} if kind == "text" else {"type"}, f"{kind} part", row)
        parts.append({"type": "text", "text": part["text"]} if kind == "text" else {"type": kind})
    return parts
