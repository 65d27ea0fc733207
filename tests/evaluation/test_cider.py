from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.cider.cider import Cider

from triptych.errors import TriptychError
from triptych.evaluation.cider import cider, tokenise

WORDS = ["a", "red", "blue", "dog", "cat", "sits", "runs", "on", "the", "mat"]
CAPTION = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
CORPUS = st.lists(st.tuples(CAPTION, st.lists(CAPTION, min_size=1, max_size=4)), min_size=1, max_size=6)


def dense_cider(predictions, references):
    """Equations 1 to 3 of the paper with one dense matrix per order."""
    scores = np.zeros(len(predictions))
    for order in range(1, 5):

        def grams(text, order=order):
            words = text.split()
            return [tuple(words[i : i + order]) for i in range(len(words) - order + 1)]

        vocabulary = sorted({g for texts in [predictions, *references] for text in texts for g in grams(text)})
        frequency = [sum(any(g in grams(text) for text in texts) for texts in references) for g in vocabulary]
        idf = np.array([log(len(predictions)) - log(max(1, count)) for count in frequency])

        def vector(text, vocabulary=vocabulary, idf=idf, grams=grams):
            return np.array([grams(text).count(g) for g in vocabulary]) * idf

        for item, (prediction, texts) in enumerate(zip(predictions, references, strict=True)):
            for text in texts:
                one, other = vector(prediction), vector(text)
                norm = np.linalg.norm(one) * np.linalg.norm(other)
                scores[item] += 10 * (one @ other / norm if norm else 0.0) / len(texts) / 4
    return scores


@settings(max_examples=30, deadline=None)
@given(CORPUS)
def test_cider_d_equals_pycocoevalcap(corpus):
    predictions, references = [item[0] for item in corpus], [item[1] for item in corpus]
    if not any(text for texts in references for text in texts):
        return  # the reference implementation fails without a single n-gram
    mean, scores = Cider().compute_score(dict(enumerate(references)), {i: [p] for i, p in enumerate(predictions)})
    ours = cider(predictions, references, tokenised=True)
    assert ours == pytest.approx(list(scores), abs=1e-9)
    assert np.mean(ours) == pytest.approx(mean, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(CORPUS)
def test_plain_cider_equals_the_equations_of_the_paper(corpus):
    predictions, references = [item[0] for item in corpus], [item[1] for item in corpus]
    ours = cider(predictions, references, variant="cider", tokenised=True)
    assert ours == pytest.approx(list(dense_cider(predictions, references)), abs=1e-9)


@pytest.mark.parametrize("variant", ["cider_d", "cider"])
def test_a_caption_equal_to_its_only_reference_scores_ten(variant):
    captions = ["a red dog runs", "the blue cat sits"]
    assert cider(captions, [[text] for text in captions], variant=variant) == pytest.approx([10, 10])


def test_repeating_a_good_word_pays_in_cider_but_not_in_cider_d():
    references = [["red dog"], ["blue cat"]]
    once, often = ["red", "x"], ["red red red red red red", "x"]
    assert cider(often, references, variant="cider")[0] == pytest.approx(cider(once, references, variant="cider")[0])
    assert cider(often, references)[0] < cider(once, references)[0]


def test_words_in_every_item_say_nothing():
    assert cider(["a dog", "a cat"], [["a"], ["a"]]) == [0, 0]
    assert cider(["a dog"], [["a dog"]]) == [0]


def test_tokens_are_lower_case_words_without_punctuation():
    assert tokenise("A dog's well-known, RED ball (2).") == "a dog's well-known red ball 2"
    assert tokenise("红色的球。") == "红 色 的 球"
    assert cider(["A dog.", "Cat!"], [["a DOG"], ["cat"]]) == cider(
        ["a dog", "cat"], [["a dog"], ["cat"]], tokenised=True
    )


@pytest.mark.parametrize(
    ("predictions", "references"), [([], []), (["a"], []), (["a"], [["a"], ["b"]]), (["a", "b"], [["a"], []])]
)
def test_captions_without_references_are_refused(predictions, references):
    with pytest.raises(TriptychError, match="reference"):
        cider(predictions, references)
