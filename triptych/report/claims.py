"""Claims that an oracle checked, marked in the text that made them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A piece of an answer, with the verdict of the oracle where it was checked."""

    text: str
    right: bool | None


def mark_claims(text: str, claims: list[Any]) -> tuple[list[Claim], list[Claim]]:
    """Cut a text into pieces that are right, wrong or were not checked.

    Claims may lie inside each other: `the red star stops` claims that there is a red star, and that it stops. A piece
    is judged by the shortest claim that it belongs to, and of several in the same words by a wrong one.

    Args:
        claims: `{"text", "right"}`, in the order in which they begin; the words of a claim may stand further apart in
            the text.

    Returns:
        the pieces, which join to `text`; and the claims whose words do not occur in it.
    """
    found: list[tuple[int, int, bool]] = []
    unplaced: list[Claim] = []
    position, last = 0, dict[tuple[str, ...], int]()
    for item in claims if isinstance(claims, list) else []:
        words = str(item.get("text", "")).split() if isinstance(item, dict) else []
        right = item.get("right") if words else None
        if not isinstance(right, bool):
            continue
        pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
        start = max(position, last.get(tuple(words), 0))  # the same words again are the next ones
        match = pattern.search(text, start) or pattern.search(text)
        if match is None:
            unplaced.append(Claim(" ".join(words), right))
            continue
        found.append((match.start(), match.end(), right))
        position, last[tuple(words)] = max(position, match.start()), match.end()
    verdicts: list[bool | None] = [None] * len(text)
    for start, end, right in sorted(found, key=lambda span: (span[0] - span[1], not span[2])):
        verdicts[start:end] = [right] * (end - start)
    pieces = []
    start = 0
    for verdict, run in groupby(verdicts):
        end = start + sum(1 for _ in run)
        pieces.append(Claim(text[start:end], verdict))
        start = end
    return pieces, unplaced
