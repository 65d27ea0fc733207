"""How alike texts are: the scorers of retrieval and action recognition.

A scorer is any function `(texts, captions) -> (Q, C)` of similarities; it is named by its import path,
`package.module:function`. Two come with the package: words and pairs of words weighted by how rare they are, which
needs nothing, and the text tower of a CLIP model, with which VLM-RLAIF's published numbers are said to be computed.

Letters: Q texts, C captions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from triptych.errors import TriptychError
from triptych.evaluation.cider import tokenise
from triptych.feedback.plugins import resolve_function

if TYPE_CHECKING:
    from triptych.evaluation.text_video import TextVideoScorer

Similarity = Callable[[Sequence[str], Sequence[str]], Any]
CLIP = "clip:"
"""What the name of a CLIP model follows."""


def resolve_similarity(name: str, text_video: TextVideoScorer | None = None) -> Similarity:
    """Return a scorer by name, which checks what comes out of it.

    Args:
        name: nothing for `tf_idf`; `clip:` and the folder or hub name of a CLIP model, or of another that
            `load_scorer` takes; or an import path.
        text_video: the CLIP model of that name, where there is one already.

    Raises:
        TriptychError: a path that leads to no function. The scorer raises it where its result is not (Q, C) numbers.
    """
    if name.startswith(CLIP):
        from triptych.evaluation.text_video import TextVideoScorer

        score: Similarity = (text_video or TextVideoScorer.named(name.removeprefix(CLIP))).compare_texts
    else:
        score = resolve_function(name, "similarity") if name else tf_idf

    def checked(texts: Sequence[str], captions: Sequence[str]) -> np.ndarray:
        found = np.asarray(score(list(texts), list(captions)), dtype=np.float64)
        if found.shape != (len(texts), len(captions)) or not np.isfinite(found).all():
            raise TriptychError(
                f"The similarity {name!r} gave an array of shape {found.shape} for {len(texts)} texts and "
                f"{len(captions)} captions, or numbers that are not finite; mend it to give one number for each two."
            )
        return found

    return checked


def tf_idf(texts: Sequence[str], captions: Sequence[str]) -> np.ndarray:
    """Return the cosine of tf-idf vectors, (Q, C), of words and pairs of neighbouring words.

    Pairs tell `from left to right` from `from right to left`. Weights come from the captions, so that what all of them
    say counts little and no text changes how another one fares. A text without a word of theirs is like nothing, 0.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    told = [tokenise(caption) for caption in captions]
    if not any(told):
        return np.zeros((len(texts), len(captions)))
    vectorizer = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    vectors = vectorizer.fit_transform(told)
    return (vectorizer.transform([tokenise(text) for text in texts]) @ vectors.T).toarray()
