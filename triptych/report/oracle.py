"""What the oracle of the world says of an answer about a clip, for rows that keep the scene of their clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triptych.errors import DataError
from triptych.group import Group
from triptych.report.wording import fixed
from triptych.world.clip_oracle import TRUTH, prefer, quality, score_clip


@dataclass(frozen=True)
class Opinion:
    """What the oracle finds in an answer.

    Attributes:
        claims: `{"text", "kind", "right"}` in the order of the text; none of a short answer, which is compared whole.
        quality: 1 at best.
        words: the same in a few words.
    """

    claims: list[dict[str, Any]]
    quality: float
    words: str


def opinion_of(text: str, group: Group) -> Opinion | None:
    """Return what the oracle says of an answer; None where it does not know the clip."""
    try:
        if group.meta.get(TRUTH):
            value = quality(text, group)
            return Opinion([], value, "right" if value == 1 else f"wrong, the answer is {group.meta[TRUTH]}")
        score = score_clip(text, group)
    except (DataError, KeyError, TypeError, ValueError, AttributeError):  # meta is the user's: any `scene` may be there
        return None
    told = f"{fixed(100 * score['coverage'], 0)} % of what is asked is told"
    number, wrong = score["num_claims"], score["num_wrong"] or "none"
    claims = f"of {number} claim{'s' * (number > 1)} {wrong} wrong" if number else "nothing is claimed"
    return Opinion(score["claims"], score["quality"], f"{told}, {claims}")


def preference(first: str, second: str, group: Group) -> tuple[bool, int | None]:
    """Return whether the oracle knows the clip, and 0 or 1 for the better text or None for equally good ones."""
    try:
        return True, prefer(first, second, group)
    except (DataError, KeyError, TypeError, ValueError, AttributeError):
        return False, None
