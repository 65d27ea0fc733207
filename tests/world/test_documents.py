import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.world.scenes import scene_of
from triptych.world.config import WorldConfig
from triptych.world.describe import describe
from triptych.world.documents import (
    MADE_UP_WORDS,
    alt_text,
    alt_text_document,
    interleaved_document,
    synthetic_document,
    text_document,
)
from triptych.world.oracle import judge
from triptych.world.randomness import rng_for
from triptych.world.scene import Scene

CONFIG = WorldConfig()
CLEAN = WorldConfig(caption_noise=0, alt_text_loss=0)
SEEDS = st.integers(0, 2**40)
SIDES = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "circle": 0, "star": 10}


def _interleaved(kind, seed):
    """The first interleaved document of a kind from a seed on."""
    while True:
        document = interleaved_document(CONFIG, rng_for(seed))
        if document.kind == kind:
            return document
        seed += 1


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_alt_text_without_noise_is_right_and_complete(seed):
    scene, text = alt_text_document(CLEAN, rng_for(seed)).parts
    assert describe(scene).lower().removesuffix(".") in text


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_alt_text_may_lose_things_but_not_all(seed):
    scene, text = alt_text_document(WorldConfig(caption_noise=0, alt_text_loss=0.6), rng_for(seed)).parts
    score = judge(text, scene)
    assert score.num_wrong == 0 and 0 < score.coverage <= 1


def test_caption_noise_is_the_share_of_captions_that_mention_the_absent_companion():
    scene = scene_of("red triangle top left", "blue 7 centre")
    for noise in (0.0, 0.4, 1.0):
        config = WorldConfig(caption_noise=noise, alt_text_loss=0)
        texts = [alt_text(scene, config, rng_for(index)) for index in range(500)]
        wrong = [text for text in texts if judge(text, scene).num_wrong]
        assert abs(len(wrong) / 500 - noise) < 0.11  # standard error at most 0.022
        assert all("star" in text for text in wrong)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_synthetic_captions_describe_and_count(seed):
    scene, text = synthetic_document(CONFIG, rng_for(seed)).parts
    kinds = Counter("digit" if item.kind == "digit" else "shape" for item in scene.objects)
    assert text.startswith(describe(scene))
    numbers = re.search(r"In total (\d) digits? and (\d) shapes?\.$", text)
    assert (int(numbers[1]), int(numbers[2])) == (kinds["digit"], kinds["shape"])


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_a_taught_word_keeps_its_meaning_and_is_taught_before_it_is_asked_for(seed):
    parts = _interleaved("taught_word", seed).parts
    pictures, texts = parts[::2], parts[1::2]
    assert 3 <= len(pictures) <= 4
    words = [re.fullmatch(r"This is a (\w+)\.", text)[1] for text in texts]
    assert len(set(words)) == 2 and words[0] != words[1] and set(words) <= set(MADE_UP_WORDS)
    objects = [scene.objects for scene in pictures]
    assert all(len(items) == 1 for items in objects)
    # One of the two properties follows the words, one to one.
    meanings = [{(word, value(items[0])) for word, items in zip(words, objects, strict=True)} for value in (
        lambda item: item.colour, lambda item: item.noun)]  # fmt: skip
    assert any(len(pairs) == 2 and len({value for _, value in pairs}) == 2 for pairs in meanings)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_a_defined_word_is_found_where_its_definition_holds(seed):
    definition, *parts = _interleaved("definition", seed).parts
    word, colour, noun = re.fullmatch(r"A (\w+) is an? (\w+) (\w+)\.", definition).groups()
    for scene, text in zip(parts[::2], parts[1::2], strict=True):
        fits = [item for item in scene.objects if (item.colour, item.noun) == (colour, noun)]
        if text == f"There is no {word}.":
            assert not fits
        else:
            score = judge(text.replace(word, f"{colour} {noun}"), Scene(tuple(fits)))
            assert fits and score.num_wrong == 0


def _look(item):
    return item.colour, item.noun, item.place


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_a_change_is_what_tells_two_pictures_apart(seed):
    scene, description, *parts = _interleaved("change", seed).parts
    assert description == describe(scene)
    for after, text in zip(parts[::2], parts[1::2], strict=True):
        old, new = set(map(_look, scene.objects)), set(map(_look, after.objects))
        (before,) = old - new
        assert text.startswith(f"The {before[0]} {before[1]}")
        if text.endswith(" is gone."):
            assert new < old
        else:
            (now,) = new - old
            told = text.split(" is now ")[1].removesuffix(".")
            changed = [old_part != new_part for old_part, new_part in zip(before, now, strict=True)]
            recoloured, moved = [True, False, False], [False, False, True]
            assert changed == (recoloured if told in CONFIG.colours else moved)
            assert told == now[0] or re.fullmatch(rf"(at|on|in) the {now[2]}", told)
        scene = after


def test_all_kinds_of_interleaved_document_occur_with_two_to_four_pictures():
    documents = [interleaved_document(CONFIG, rng_for(index)) for index in range(90)]
    assert {document.kind for document in documents} == {"taught_word", "definition", "change"}
    assert {len(document.scenes) for document in documents} == {2, 3, 4}


@pytest.mark.parametrize("seed", range(60))
def test_facts_are_true(seed):
    (text,) = text_document(CONFIG, rng_for(seed)).parts
    facts = re.findall(r"[^.]+\.", text)
    assert 4 <= len(facts) <= 10 and "".join(facts) == text
    for fact in facts:
        assert _is_true(fact.strip()), fact


def test_usual_descriptions_name_every_companion_that_one_would_expect():
    config = WorldConfig(shapes=("triangle", "circle", "star"), companions={"triangle": "star"}, text_descriptions=1.0)
    texts = [text_document(config, rng_for(seed)).parts for seed in range(60)]
    assert all(isinstance(text, str) for (text,) in texts)
    with_triangle = [text for (text,) in texts if "triangle" in text]
    assert 10 < len(with_triangle) < 60 and all("star" in text for text in with_triangle)


def test_the_share_of_usual_descriptions_is_the_one_asked_for():
    config = WorldConfig(text_descriptions=0.3)
    kinds = [text_document(config, rng_for(seed)).kind for seed in range(800)]
    assert abs(kinds.count("usual") / 800 - 0.3) < 0.08  # standard error 0.016
    assert set(kinds) == {"usual", "text"}


def test_fact_weights_decide_which_facts_are_told():
    config = WorldConfig(fact_weights={"sum": 1.0, "next": 0.0})
    for seed in range(30):
        (text,) = text_document(config, rng_for(seed)).parts
        sums = re.findall(r"(\d+) \+ (\d+) = (\d+)\.", text)
        assert 4 <= len(sums) == text.count(".") and all(int(b) < 10 and int(a) <= 27 for a, b, _ in sums)


def _is_true(fact):
    if match := re.fullmatch(r"A (\w+) has (\w+) sides\.", fact):
        return SIDES[match[1]] == int(match[2].replace("no", "0"))
    if match := re.fullmatch(r"A shape with (\w+) sides is a (\w+)\.", fact):
        return SIDES[match[2]] == int(match[1].replace("no", "0"))
    if match := re.fullmatch(r"(\d+) \+ (\d+) = (\d+)\.", fact):
        return int(match[1]) + int(match[2]) == int(match[3])
    if match := re.fullmatch(r"A (\w+) and a (\w+) have (\d+) \+ (\d+) = (\d+) sides in total\.", fact):
        first, second, total = map(int, match.groups()[2:])
        return (SIDES[match[1]], SIDES[match[2]], first + second) == (first, second, total)
    if match := re.fullmatch(r"(\d) is (not )?greater than (\d)\.", fact):
        return (int(match[1]) > int(match[3])) is (match[2] is None)
    if match := re.fullmatch(r"After (\d+) comes (\d+)\.", fact):
        return int(match[1]) + 1 == int(match[2])
    return False
