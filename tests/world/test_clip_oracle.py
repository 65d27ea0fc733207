"""The oracle of clips."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.world.clip_scenes import CONFIG, by_hand, drawn
from triptych.errors import DataError
from triptych.group import Group, text_message
from triptych.world.clip_config import ClipConfig
from triptych.world.clip_describe import caption, narrate, tell
from triptych.world.clip_errors import spoil
from triptych.world.clip_facts import About, facts_of
from triptych.world.clip_open import OPEN_KINDS, open_questions
from triptych.world.clip_oracle import judge_clip, num_facts, prefer, quality, required_facts, score_clip
from triptych.world.clip_scene import ClipScene
from triptych.world.randomness import rng_for

SCENES = [*drawn(80), *drawn(20, config=ClipConfig(digit_share=0.7, max_seconds=5)), by_hand()]


@pytest.mark.parametrize("kind", OPEN_KINDS)
def test_our_own_answers_are_right_and_complete(kind: str) -> None:
    number = 0
    for scene in SCENES:
        for question in open_questions(scene, kind):
            score = judge_clip(question.answer, scene, question.about)
            assert (score.num_wrong, score.coverage, score.quality) == (0, 1.0, 1.0), question
            number += 1
    assert number >= len(SCENES)


def test_narratives_of_parts_and_captions_are_right_and_complete() -> None:
    for scene in SCENES:
        half = scene.num_frames // 2
        for about in (About(stop=half), About(start=half)):
            score = judge_clip(narrate(scene, about), scene, about)
            assert (score.num_wrong, score.coverage) == (0, 1.0)
        score = judge_clip(caption(scene), scene)
        assert (score.num_wrong, score.coverage) == (0, 1.0)


def _errors(scene: ClipScene, kind: str, index: int) -> tuple[int, float]:
    """Wrong claims and coverage of the narrative with one error of a kind."""
    facts = facts_of(scene)
    spoilt = spoil(facts, scene, CONFIG, rng_for(kind, index), kind)
    if spoilt == facts:
        return (-1, 1.0)
    score = judge_clip(tell(spoilt), scene)
    return (score.num_wrong, score.coverage)


@pytest.mark.parametrize("kind", ["colour", "noun", "side", "event", "order", "invented"])
def test_every_error_of_a_kind_is_found(kind: str) -> None:
    # A direction turned round is no error where the object also moves the other way; the oracle says whether it ever
    # moves so. All else that is put in is wrong whatever happens in the clip.
    found = [_errors(scene, kind, index) for index, scene in enumerate(SCENES)]
    found = [each for each in found if each[0] >= 0]
    missed = [each for each in found if each[0] == 0]
    assert len(found) > 30
    assert len(missed) <= (0.15 * len(found) if kind == "side" else 0)
    if kind == "invented":
        assert all(each == (1, 1.0) for each in found)


def test_what_is_left_out_lowers_coverage_alone() -> None:
    for index, scene in enumerate(SCENES):
        wrong, coverage = _errors(scene, "left_out", index)
        assert wrong == 0 and coverage < 1


HAND = by_hand()


@pytest.mark.parametrize(
    ("text", "rights"),
    [
        ("A red star enters from the left.", [1, 0]),  # it is there from the start
        ("A blue star stops.", [1, 1]),  # it turns blue
        ("A green star stops.", [0, 1]),
        ("The star bounces off the right edge.", [1, 1]),
        ("The star bounces off the left edge.", [1, 0]),
        ("The star bounces.", [1, 1]),
        ("The star bounces. The star bounces.", [1, 1, 0]),  # it does once
        ("The star bounces twice.", [1, 0]),
        ("The star bounces once.", [1, 1]),
        ("Two objects bounce.", [0, 1]),  # three are there, two bounce
        ("Three objects bounce.", [1, 0]),
        ("There are three objects.", [1]),
        ("There are four objects.", [0]),
        ("There are two stars.", [0]),
        ("A yellow object leaves on the left.", [1]),
        ("A red object leaves.", [0]),
        ("The circle passes the star.", [1, 0, 1]),
        ("The star passes the 3.", [1, 1, 1]),
        ("The 3 and the star pass each other.", [1, 1, 1]),
        ("The star turns green.", [1, 0]),
        ("The star turns blue.", [1, 1]),
        ("The star moves left.", [1, 1]),  # after it has bounced
        ("The star moves up.", [1, 0]),
        ("The 3 moves.", [1, 0]),
        ("The 3 is still.", [1, 1]),
        ("The star is still.", [1, 1]),  # at the end
        ("The circle is still.", [1, 0]),
        ("A dog enters.", [0, 0]),
        ("A star, a star and the star are there.", [1]),
        ("The star stops. Then the circle enters.", [1, 1, 1, 1, 1]),
        ("The circle enters. Then the star stops.", [1, 1, 1, 1, 0]),
        ("The star turns blue before it bounces.", [1, 1, 1, 0]),
        ("The star turns blue after it bounces.", [1, 1, 1, 1]),
        ("The circle bounces. Then the star bounces.", [1, 1, 1, 1, 0]),
        ("The dog stops. Then the star stops.", [0, 0, 1, 1]),  # what never happens is in no order
        ("", []),
    ],
)
def test_judgements_by_hand(text: str, rights: list[int]) -> None:
    assert [int(item.right) for item in judge_clip(text, HAND).judgements] == rights


@pytest.mark.parametrize(
    ("text", "about", "covered", "wanted"),
    [
        # Facts of the whole: three objects, two motions, seven events.
        ("A red star, a green 3 and a yellow circle.", About(), 3, 12),
        ("A star, a 3 and a circle.", About(), 0, 12),  # nobody's colour is told
        ("The star moves right.", About(), 1, 12),
        ("The star bounces. The circle enters from the left.", About(), 1, 12),  # off which edge?
        ("An object enters from the left.", About(), 0, 12),
        ("The star and the 3 pass each other.", About(noun="3"), 1, 2),
        ("A 3 is still.", About(noun="3"), 1, 2),
        ("The circle enters from the left.", About(after=24), 1, 3),
        ("The star stops.", About(after=24), 0, 3),
        ("The star stops.", About(noun="circle"), 0, 3),
    ],
)
def test_coverage_by_hand(text: str, about: About, covered: int, wanted: int) -> None:
    score = judge_clip(text, HAND, about)
    assert (len(score.covered), len(score.covered) + len(score.missing)) == (covered, wanted)
    assert score.coverage == pytest.approx(covered / wanted)
    right = len(score.judgements) - score.num_wrong
    # 2 / (1 / precision + 1 / coverage)
    expected = 2 / (len(score.judgements) / right + wanted / covered) if right and covered else 0
    assert score.quality == pytest.approx(expected)


def test_who_is_there_is_asked_for_by_descriptions_only() -> None:
    assert sum(fact.kind == "object" for fact in required_facts(HAND)) == 3
    assert all(fact.kind != "object" for fact in required_facts(HAND, About(noun="star")))


def _group(meta: dict[str, object]) -> Group:
    prompt = [{"role": "user", "content": [{"type": "video"}]}]
    return Group("test/1", prompt, videos=["a.mp4"], meta=meta)


def test_the_score_of_a_row_lists_its_claims() -> None:
    group = _group({"scene": HAND.to_dict(), "about": {"noun": "3"}})
    assert score_clip("The 3 is\nstill. Then it stops.", group) == {
        "hallucinated": True,
        "num_claims": 3,
        "num_wrong": 1,
        "coverage": 0.5,
        "quality": pytest.approx(4 / 7),  # 2 of 3 claims are right, and 1 of 2 facts told
        "claims": [
            {"text": "The 3", "kind": "object", "right": True},
            {"text": "The 3 is still", "kind": "rest", "right": True},
            {"text": "stops", "kind": "stop", "right": False},
        ],
    }


def test_the_better_of_two_texts_is_preferred() -> None:
    group = _group({"scene": HAND.to_dict()})
    good, bad = narrate(HAND), "The star stops."
    assert (prefer(good, bad, group), prefer(bad, good, group), prefer(bad, bad, group)) == (0, 1, None)


@pytest.mark.parametrize("meta", [{}, {"scene": [{"kind": "star"}]}])
def test_a_row_without_a_clip_is_named(meta: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"scene_missing.*test/1"):
        score_clip("A star.", _group(meta))


def test_digits_and_shapes_are_told_apart() -> None:
    scene = replace(HAND, objects=HAND.objects[1:2], events=())
    assert [item.right for item in judge_clip("The digit 3 is still.", scene).judgements] == [True, True]


def test_a_short_answer_is_compared_with_the_truth_of_its_row() -> None:
    group = Group("one", [text_message("user", "How many objects stop? Answer briefly.")], meta={"truth": "2"})
    assert [quality(text, group) for text in ("2", " 2.", "3", "two")] == [1, 1, 0, 0]
    assert prefer("3", "2", group) == 1 and prefer("1", "3", group) is None


def test_a_clip_is_as_hard_as_there_is_much_to_tell_of_it() -> None:
    # two objects at first that move or rest, one that enters later, and what happens
    scene = by_hand()
    group = Group("one", [text_message("user", "Why?")], meta={"scene": scene.to_dict(), "about": {"noun": "3"}})
    assert num_facts(group) == 2 * 2 + 1 + len(scene.events)
