"""Numbers and texts as the report prints them."""

from __future__ import annotations

import re

MAX_CHARACTERS = 1200
"""Longest text shown whole; completions of a real model may run to thousands of words."""


def number(value: float, digits: int = 3) -> str:
    """Print a number with so many significant digits, in the way of a table: 12,345, 0.012, 3.1e-6, a true minus."""
    if abs(value) >= max(1000, 10**digits) or float(value).is_integer():
        text = f"{value:,.0f}"
    else:
        text = re.sub(r"e([+-])0*(\d+)", lambda match: f"e{match[1].replace('+', '')}{match[2]}", f"{value:.{digits}g}")
    return text.replace("-", "−")


def fixed(value: float, decimals: int = 1, *, sign: bool = False) -> str:
    """Print a number with a fixed number of decimals; what rounds to zero has no sign."""
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    if float(text) == 0:
        text = f"{0:.{decimals}f}"
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Print a time with its two largest units: 0.4 s, 12 s, 6 min 12 s, 3 h 4 min, 2 d 1 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    total = round(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if total >= size:
            rest = total % size // smaller_size
            return f"{total // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{total} s"


def clock(seconds: float) -> str:
    """Print a moment of a video: 0.4 s, 59.9 s, 1:05, 2:03:09."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes = f"{rest // 60:02}" if hours else str(rest // 60)
    return f"{hours}:{minutes}:{rest % 60:02}" if hours else f"{minutes}:{rest % 60:02}"


def shorten(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Cut a long text, saying how much is left out."""
    if len(text) <= limit:
        return text
    return f"{text[:limit].rstrip()} … ({len(text) - limit:,} more characters)"


def split_shared(first: str, second: str) -> tuple[str, str, str]:
    """Split two texts where they part, at the start of the first word that differs.

    Returns:
        the shared beginning, the rest of `first`, the rest of `second`.
    """
    differ = (n for n, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    length = next(differ, min(len(first), len(second)))
    inside_word = length > 0 and first[length - 1].isalnum()
    if inside_word and (first[length : length + 1].isalnum() or second[length : length + 1].isalnum()):
        while length > 0 and first[length - 1].isalnum():
            length -= 1
    return first[:length], first[length:], second[length:]


def first_word(text: str) -> tuple[str, str, str]:
    """Split a text into the white space at its start, its first word or sign, and the rest."""
    match = re.match(r"(\s*)(\w+|\S|)", text)
    return match[1], match[2], text[match.end() :]
