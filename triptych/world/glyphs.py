"""Handwritten digits: the 1,797 scans of 8 x 8 pixels that come with scikit-learn (`load_digits`)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

HELD_OUT_EVERY = 5
"""Every fifth scan of each digit is kept for the split `test`. Scans of one writer stand together in the file, so each
hand occurs on both sides: the world asks whether a model reads and reasons about what it sees, not whether it can read
a new hand."""


@lru_cache(maxsize=1)
def digit_scans() -> tuple[np.ndarray, np.ndarray]:
    """Return the ink (1797, 8, 8), from 0 to 1, and the value of each scan (1797,)."""
    from sklearn.datasets import load_digits  # takes a second to import

    data = load_digits()
    return data.images.astype(np.float32) / 16, data.target.astype(int)


@lru_cache(maxsize=2)
def glyphs_by_value(held_out: bool) -> tuple[tuple[int, ...], ...]:
    """Return, for each digit 0 to 9, the indices of the scans for training, or of those held out for testing."""
    values = digit_scans()[1]
    scans = [np.flatnonzero(values == value).tolist() for value in range(10)]
    return tuple(
        tuple(index for number, index in enumerate(same) if (number % HELD_OUT_EVERY == 0) is held_out)
        for same in scans
    )
