"""Which groups are held out from training: by picture or video, so that none is on both sides.

Groups that have a medium in common, directly or through others, stay together; groups without media do so where their
prompts are equal. A file is told by its path, with links among the folders followed: the same picture under two names
is two pictures.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from textwrap import shorten

from triptych.errors import DataError, TriptychError
from triptych.group import Group, Media, fingerprint, prompt_text

Located = tuple[Group, Path]
"""A group, and the data root of its media."""
Subject = Hashable
"""What a group is about: a medium, or the prompt where there is none."""
_SHOWN = 3


def hold_out(groups: Sequence[Located], share: float) -> list[bool]:
    """Say of each group whether it is held out.

    A hash of its path below the data root decides the side of a picture. So the side does not change when rows are
    added or put in another order, or when the data move, unless new rows join pictures that were apart. Where the hash
    would hold nothing out, the picture with the lowest one is.

    Args:
        share: of the pictures, videos and prompts, above 0 and below 1.

    Raises:
        TriptychError: nothing would be left to train on.
    """
    subjects = [_subjects(group, root) for group, root in groups]
    above: dict[Subject, Subject] = {}
    for first, *others in subjects:
        for other in others:
            above[_top(above, other)] = _top(above, first)
    first_names: dict[Subject, str] = {}
    for subject, name in _names(subjects).items():
        top = _top(above, subject)
        first_names[top] = min(name, first_names.get(top, name))
    draws = {top: _draw(name) for top, name in first_names.items()}
    threshold = max(share, min(draws.values(), default=0.0) + 2**-48)
    out = [draws[_top(above, next(iter(found)))] < threshold for found in subjects]
    if all(out):
        raise TriptychError(
            f"All {len(groups)} rows are about {len(draws)} subject(s) (pictures, videos, or prompts without) that are "
            "held out together, so none is left to train on. Lower eval_share, or set it to 0 and measure on other "
            "rows (eval_data)."
        )
    return out


def in_both(first: Sequence[Located], second: Sequence[Located]) -> list[str]:
    """Return the names of the pictures, videos and prompts that rows of both are about, sorted."""
    mine, theirs = (_names([_subjects(group, root) for group, root in groups]) for groups in (first, second))
    return sorted(name for subject, name in mine.items() if subject in theirs)


def refuse_shared(trained: Sequence[Located], apart: Sequence[Located], files: Sequence[str]) -> None:
    """Raise `DataError` of kind `held_out_media` where rows to measure on are about what is trained on.

    Args:
        trained: rows that are trained on.
        apart: rows that are not.
        files: where `apart` comes from.
    """
    if shared := in_both(trained, apart):
        examples = ", ".join(shorten(name, 80) for name in shared[:_SHOWN])
        raise DataError(
            f"{len(shared)} picture(s), video(s) or prompt(s) are trained on too, such as {examples}; results on them "
            "would say nothing of new ones.",
            remedy="Take their rows out of `data` or of `eval_data`.",
            kind="held_out_media",
            file=", ".join(files),
        )


def _names(subjects: Sequence[dict[Subject, str]]) -> dict[Subject, str]:
    """Return the name of every subject; the first in the alphabet where rows give it several."""
    names: dict[Subject, str] = {}
    for subject, name in chain.from_iterable(found.items() for found in subjects):
        names[subject] = min(name, names.get(subject, name))
    return names


def _subjects(group: Group, root: Path) -> dict[Subject, str]:
    """Return what a group is about, with names: paths as the rows have them, hashes of bytes, the text of a prompt."""
    media = [*group.images, *group.videos]
    if not media:
        return {fingerprint(group.prompt): prompt_text(group)}
    return dict(_subject(item, root) for item in media)


def _subject(item: Media, root: Path) -> tuple[Subject, str]:
    if isinstance(item, bytes):
        name = hashlib.sha256(item).hexdigest()
        return name, name
    parent, name = os.path.split(item)
    return os.path.join(_folder(str(root), parent), name), item


@lru_cache(maxsize=2**16)
def _folder(root: str, parent: str) -> str:
    """Return the real path of a folder; asking the system of each of a million frames would take minutes."""
    return os.path.realpath(os.path.join(root, parent))


def _top(above: dict[Subject, Subject], subject: Subject) -> Subject:
    """Return the one subject that stands for all that `subject` is joined with."""
    path = [subject]
    while path[-1] in above and above[path[-1]] != path[-1]:
        path.append(above[path[-1]])
    above.update(dict.fromkeys(path, path[-1]))
    return path[-1]


def _draw(name: str) -> float:
    """Return a number in [0, 1) that a name alone decides."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48
