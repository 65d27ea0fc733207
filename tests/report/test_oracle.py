from tests.report.video_run import RIGHT, SCENE, SILENT, UNRELATED, WRONG
from triptych.group import Group
from triptych.report.oracle import opinion_of, preference


def _group(**meta):
    return Group("x", [], meta=meta)


def test_the_oracle_tells_claims_and_what_is_missing():
    opinion = opinion_of(WRONG, _group(scene=SCENE))
    assert [(claim["text"], claim["right"]) for claim in opinion.claims] == [
        ("A green star", False),
        ("A green star stops", True),
    ]
    # Twelve facts: three objects, what two of them do at first, and seven events; only the stop is told.
    assert opinion.words == "8 % of what is asked is told, of 2 claims 1 wrong"
    assert opinion_of(UNRELATED, _group(scene=SCENE)).words == "0 % of what is asked is told, nothing is claimed"


def test_a_short_answer_is_compared_whole():
    group = _group(scene=SCENE, truth="left")
    assert (opinion_of("Left.", group).words, opinion_of("Left.", group).claims) == ("right", [])
    assert opinion_of("right", group).words == "wrong, the answer is left"


def test_the_oracle_prefers_the_better_answer_or_neither():
    group = _group(scene=SCENE)
    assert preference(RIGHT, WRONG, group) == (True, 0)
    assert preference(WRONG, RIGHT, group) == (True, 1)
    assert preference(SILENT, UNRELATED, group) == (True, None)


def test_of_clips_that_are_not_the_worlds_the_oracle_says_nothing():
    for meta in ({}, {"scene": "a beach"}, {"scene": {"objects": []}}, {"scene": {"events": [1], "objects": 3}}):
        assert opinion_of(RIGHT, _group(**meta)) is None
        assert preference(RIGHT, WRONG, _group(**meta)) == (False, None)
