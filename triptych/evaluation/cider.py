"""CIDEr and CIDEr-D: agreement of a caption with several human captions (Vedantam et al. 2015, arXiv:1411.5726).

A caption is a vector of tf-idf weights of its n-grams, n = 1 to 4; the score is 10 times the mean cosine with the
references, averaged over n. CIDEr-D clips the weights to those of the reference and punishes a difference in length, so
that repeating good words does not pay; it is what captioning papers report under the name CIDEr, and what pycocoevalcap
computes. Scores equal pycocoevalcap (`Cider`) on the same tokens. As there, document frequencies come from the
references at hand: with one item every weight is log 1 = 0 and so is the score.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Literal

from triptych.errors import TriptychError

MAX_ORDER = 4
SIGMA = 6.0
"""Width of the length penalty of CIDEr-D, in words."""

Ngram = tuple[str, ...]

# Words with their apostrophes and hyphens; each East Asian character is a word of its own.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])\w)+(?:['’-]\w+)*")


@dataclass(frozen=True, slots=True)
class _Vector:
    """tf-idf weights and norms by n-gram order, and the length in words."""

    weights: list[dict[Ngram, float]]
    norms: list[float]
    length: int


def tokenise(text: str) -> str:
    """Return the lower-case words of a caption, joined by blanks, without punctuation.

    The COCO evaluation uses the Penn Treebank tokeniser, a Java program, and then drops punctuation. The difference is
    small: there "dog's" becomes "dog 's" and "don't" becomes "do n't", here each stays one word.
    """
    return " ".join(_WORD.findall(text.lower()))


def cider(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    variant: Literal["cider_d", "cider"] = "cider_d",
    tokenised: bool = False,
) -> list[float]:
    """Score captions; the corpus score is the mean.

    Args:
        predictions: (N,) one caption per item.
        references: (N,) one or more human captions per item.
        variant: `cider_d`, or the plain cosine of the paper's Eq. 2 and 3.
        tokenised: the texts are tokens joined by blanks already; otherwise `tokenise` is applied.
    Returns:
        (N,) one score per item, from 0 to 10; papers print 100 times this.
    Raises:
        TriptychError: nothing to score, differing lengths, or an item without a reference.
    """
    if not predictions or len(predictions) != len(references):
        raise TriptychError(f"CIDEr needs as many reference lists as captions: {len(references)}, {len(predictions)}.")
    if not all(references):
        raise TriptychError("CIDEr needs at least one reference caption for each item.")
    prepare = str if tokenised else tokenise
    candidates = [_ngrams(prepare(text)) for text in predictions]
    counts = [[_ngrams(prepare(text)) for text in texts] for texts in references]
    frequency = Counter(ngram for texts in counts for ngram in set().union(*texts))
    log_size = log(len(predictions))
    return [
        _item_score(_vector(candidate, frequency, log_size), [_vector(t, frequency, log_size) for t in texts], variant)
        for candidate, texts in zip(candidates, counts, strict=True)
    ]


def _ngrams(tokens: str) -> Counter[Ngram]:
    words = tokens.split()
    return Counter(
        tuple(words[start : start + order])
        for order in range(1, MAX_ORDER + 1)
        for start in range(len(words) - order + 1)
    )


def _vector(counts: Counter[Ngram], frequency: Counter[Ngram], log_size: float) -> _Vector:
    weights: list[dict[Ngram, float]] = [{} for _ in range(MAX_ORDER)]
    for ngram, count in counts.items():
        weights[len(ngram) - 1][ngram] = count * (log_size - log(max(1, frequency[ngram])))
    norms = [sqrt(sum(weight**2 for weight in order.values())) for order in weights]
    return _Vector(weights, norms, sum(count for ngram, count in counts.items() if len(ngram) == 1))


def _item_score(candidate: _Vector, references: list[_Vector], variant: str) -> float:
    similarities = [_similarity(candidate, reference, clipped=variant == "cider_d") for reference in references]
    return 10 * sum(similarities) / len(references)


def _similarity(candidate: _Vector, reference: _Vector, *, clipped: bool) -> float:
    """Return the cosine of two captions, averaged over n-gram orders; clipped and length-punished for CIDEr-D."""
    total = 0.0
    for order in range(MAX_ORDER):
        ours, theirs = candidate.weights[order], reference.weights[order]
        product = sum(
            (min(weight, theirs[ngram]) if clipped else weight) * theirs[ngram]
            for ngram, weight in ours.items()
            if ngram in theirs
        )
        if norm := candidate.norms[order] * reference.norms[order]:
            product /= norm
        total += product
    penalty = exp(-((candidate.length - reference.length) ** 2) / (2 * SIGMA**2)) if clipped else 1.0
    return penalty * total / MAX_ORDER
