"""Scorers of texts."""

import sys
import types

import numpy as np
import pytest

from triptych.errors import TriptychError
from triptych.evaluation.similarity import resolve_similarity, tf_idf


def test_texts_are_like_those_that_share_rare_words():
    captions = ["A red star enters from the left.", "A blue star leaves at the top.", "A red circle stands still."]
    found = tf_idf(["the red star enters", "something leaves at the top"], captions)
    assert found.shape == (2, 3)
    assert found[0].argmax() == 0 and found[1].argmax() == 1


def test_the_same_text_has_similarity_one_and_no_words_zero():
    found = tf_idf(["Ein Stern", "", "星が動く"], ["Ein Stern!", "星が動く"])
    assert found[0, 0] == pytest.approx(1.0) and found[2, 1] == pytest.approx(1.0)
    assert found[1].tolist() == [0.0, 0.0] and found[0, 1] == 0.0
    assert tf_idf(["", "word"], ["?"]).tolist() == [[0.0], [0.0]]


def test_no_text_changes_how_another_one_fares():
    captions = ["a star moves", "a circle stops"]
    alone, beside = tf_idf(["a star"], captions), tf_idf(["a star", "star star star"], captions)
    assert alone[0].tolist() == beside[0].tolist()


def test_pairs_of_words_tell_directions_apart():
    captions = ["moving from left to right", "moving from right to left"]
    found = tf_idf(["from left to right"], captions)
    assert found[0, 0] > found[0, 1]


def test_a_plug_in_is_found_by_path_and_what_it_gives_is_checked(monkeypatch):
    module = types.ModuleType("own_scorer")
    module.lengths = lambda texts, captions: [[-abs(len(a) - len(b)) for b in captions] for a in texts]
    module.flat = lambda texts, captions: [0.0]
    module.broken = lambda texts, captions: np.full((len(texts), len(captions)), np.nan)
    monkeypatch.setitem(sys.modules, "own_scorer", module)
    assert resolve_similarity("own_scorer:lengths")(["ab"], ["a", "abcd"]).tolist() == [[-1.0, -2.0]]
    for name in ("flat", "broken"):
        with pytest.raises(TriptychError, match=rf"own_scorer:{name}"):
            resolve_similarity(f"own_scorer:{name}")(["a"], ["b", "c"])
    with pytest.raises(TriptychError, match="similarity"):
        resolve_similarity("nothing")


def test_clip_compares_what_its_text_tower_makes_of_texts(tmp_path):
    import torch
    from transformers import AutoTokenizer, CLIPTextModelWithProjection

    from tests.support.tiny_scorer import tiny_clip

    folder = tiny_clip(tmp_path / "clip")
    texts, captions = ["red square", "blue square at the " + "top " * 20], ["a square", "red", "blue square"]
    tower, tokenizer = CLIPTextModelWithProjection.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        inputs = (tokenizer(text, truncation=True, max_length=12, return_tensors="pt") for text in texts + captions)
        features = torch.cat([tower(**each).text_embeds for each in inputs])
    features = torch.nn.functional.normalize(features, dim=-1)
    expected = (features[:2] @ features[2:].T).numpy()
    assert resolve_similarity(f"clip:{folder}")(texts, captions) == pytest.approx(expected, abs=1e-6)
