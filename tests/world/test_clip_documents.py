"""What pre-training documents tell of clips."""

from __future__ import annotations

from dataclasses import replace

from tests.world.clip_scenes import CONFIG, by_hand, drawn
from triptych.world.clip_describe import caption, narrate
from triptych.world.clip_documents import clip_texts, text_about
from triptych.world.clip_facts import WHOLE
from triptych.world.clip_oracle import judge_clip
from triptych.world.randomness import rng_for


def test_documents_tell_the_whole_in_two_ways_and_one_part_all_right() -> None:
    scene = by_hand()
    whole, summary, part = clip_texts(scene, CONFIG, rng_for(0))
    assert whole == (narrate(scene), WHOLE, -1) and summary == (caption(scene), WHOLE, -1)
    assert part[2] in (0, 1, 2) and part[1].stop is not None
    for scene in drawn(30):
        for text, about, _ in clip_texts(scene, CONFIG, rng_for(1)):
            score = judge_clip(text, scene, about)
            assert (score.num_wrong, score.coverage) == (0, 1.0)


def test_a_clip_of_one_part_is_told_as_a_whole_only() -> None:
    assert len(clip_texts(by_hand(), replace(CONFIG, num_frames=12, part_frames=12), rng_for(0))) == 2


def test_texts_are_comparisons_or_answers_behind_their_questions() -> None:
    texts = [text_about(scene, CONFIG, rng_for(number)) for number, scene in enumerate(drawn(60))]
    comparisons = [text for text in texts if "Answer A: " in text]
    assert 15 <= len(comparisons) <= 45
    assert all(" is better because " in text for text in comparisons)
    assert all("Sum up the video in one sentence. " in text for text in texts if text not in comparisons)
