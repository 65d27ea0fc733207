"""What pre-training documents tell of clips."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np

from tests.world.clip_scenes import CONFIG, by_hand, drawn
from triptych.data.sampling import moments
from triptych.world.clip_describe import caption, narrate
from triptych.world.clip_documents import clip_texts, still, text_about, track
from triptych.world.clip_oracle import judge_clip
from triptych.world.clip_parts import _Frames, frames_of
from triptych.world.randomness import rng_for

STEPS = {"still ": 0, "left ": -1, "up ": -1, "right ": 1, "down ": 1}


def test_documents_go_from_a_second_to_the_whole() -> None:
    scene = by_hand()
    texts = clip_texts(scene, CONFIG, rng_for(0))
    assert [item.sampling.num_frames for item in texts] == [9, 9, 50, 50, 50]
    assert [item.sampling.num_parts for item in texts] == [1, 1, 3, 1, 1]
    assert [item.text for item in texts[-2:]] == [narrate(scene), caption(scene)]


def test_what_is_told_of_a_stretch_is_right_and_all_there_is() -> None:
    seen = 0
    for number, scene in enumerate(drawn(30)):
        for item in clip_texts(scene, CONFIG, rng_for(number)):
            score = judge_clip(item.text, scene, item.about)
            assert (score.num_wrong, score.coverage) == (0, 1.0)
            if item.sampling.end is not None:
                shown = moments(item.sampling, _Frames(scene.num_frames - 1, tick=Fraction(1, CONFIG.fps)))
                assert (shown[0], shown[-1] + 1) == (item.about.start, item.about.stop)
                seen += len(shown) == CONFIG.fps + 1
    assert seen == 60


def test_a_still_names_what_is_where() -> None:
    # the star, 20 pixels wide, at 0 of 96 in the lane at the top; the 3, 24 wide, at 40 in the lane below it
    assert still(by_hand(), 0) == "A red star at the top left (1, 2) and a green 3 in the centre (8, 6)."
    assert still(by_hand(), 39) == "A blue star at the top right (11, 2) and a green 3 in the centre (8, 6)."
    gone = replace(by_hand(), objects=by_hand().objects[2:])
    assert still(gone, 0) == "Nothing is there."


def test_a_track_tells_where_everything_is_in_each_frame_that_is_shown() -> None:
    shares = []
    for number, scene in enumerate(drawn(40)):
        told = track(scene, CONFIG, rng_for(number))
        shown = moments(told.sampling, frames_of(scene))
        assert (told.about.start, told.about.stop) in ((0, None), (shown[0], shown[-1] + 1))
        lines = dict(line.removeprefix("The ").split(": ") for line in told.text.rstrip(".").split(". "))
        assert list(lines) == [item.noun for item in scene.objects]
        for item in scene.objects:
            seen = re.findall(r"away|[a-z ]+ \(\d+, \d+\)", lines[item.noun])
            assert len(seen) == len(shown)
            for before, frame, words in zip([None, *shown], shown, seen, strict=False):
                beside = still(scene, frame)
                assert (words.strip() == "away") is (f" {item.noun} " not in beside)
                if "away" not in words:
                    step, colour, place = re.fullmatch(r" ?(\w+ )?(\w+) (.*)", words).groups()
                    assert re.search(rf"{colour} {item.noun} [a-z ]+{re.escape(place)}", beside)
                    assert step is None or np.sign(item.positions[frame] - item.positions[before]) == STEPS[step]
        shares.append(told.sampling.num_parts > 1)
    assert 8 <= sum(shares) <= 32


def test_a_clip_of_one_part_has_no_text_of_a_part() -> None:
    assert len(clip_texts(by_hand(), replace(CONFIG, num_frames=12, part_frames=12), rng_for(0))) == 4


def test_texts_are_comparisons_or_answers_behind_their_questions() -> None:
    texts = [text_about(scene, CONFIG, rng_for(number)) for number, scene in enumerate(drawn(60))]
    comparisons = [text for text in texts if "Answer A: " in text]
    assert 15 <= len(comparisons) <= 45
    assert all(" is better because " in text for text in comparisons)
    assert all("Sum up the video in one sentence. " in text for text in texts if text not in comparisons)
