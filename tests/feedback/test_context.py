"""Narratives of videos, clip by clip."""

from pathlib import Path

import pytest

from triptych.data.sampling import clips_of
from triptych.errors import TriptychError
from triptych.feedback.context import Narrator
from triptych.generation.protocol import Sample
from triptych.group import Group


class Captioner:
    """Names the clip it is shown."""

    name = "captioner"

    def __init__(self):
        self.seen = []

    def generate(self, requests, params, *, root):
        for request in requests:
            self.seen.append(request.group)
            clips = clips_of(request.group)
            text = " ".join(f"{clip.item} {clip.sampling.part + 1} of {clip.sampling.num_parts}." for clip in clips)
            yield [Sample(text or f"{request.group.images}.", 4, False, 0, 9)]


def row(name, *, videos=(), images=(), **meta):
    content = [{"type": "video"}] * len(videos) + [{"type": "image"}] * len(images) + [{"type": "text", "text": "?"}]
    return Group(name, [{"role": "user", "content": content}], list(images), list(videos), meta=meta)


def tell(*groups, **settings):
    captioner = Captioner()
    return Narrator(**settings).tell(groups, captioner, Path()), captioner


def test_fifty_frames_are_three_clips_of_at_most_twenty():
    (narrative,), captioner = tell(row("a", videos=["v.mp4"]))
    assert narrative.text == "v.mp4 1 of 3. v.mp4 2 of 3. v.mp4 3 of 3."
    assert len(narrative.samples) == len(captioner.seen) == 3


def test_rows_about_one_video_share_its_narrative_which_is_paid_for_once():
    narratives, captioner = tell(row("a", videos=["v.mp4"]), row("b", videos=["w.mp4"]), row("c", videos=["v.mp4"]))
    assert narratives[0].text == narratives[2].text != narratives[1].text
    assert [len(item.samples) for item in narratives] == [3, 3, 0]
    assert len(captioner.seen) == 6


def test_a_row_with_a_policy_keeps_it():
    sampled, part = {"num_frames": 8, "start": 1.0}, {"num_parts": 4, "part": 2}
    narratives, captioner = tell(
        row("a", videos=["v"], video=sampled), row("b", videos=["v"], video=part), max_frames=4
    )
    assert narratives[0].text == "v 1 of 2. v 2 of 2."
    assert narratives[1].text == "v 3 of 4."
    assert clips_of(captioner.seen[0])[0].sampling.start == 1.0


def test_a_narrative_may_be_made_of_more_frames_than_a_row_shows():
    sampled, part = {"num_frames": 4}, {"num_frames": 4, "num_parts": 4, "part": 2}
    narratives, captioner = tell(
        row("a", videos=["v"], video=sampled), row("b", videos=["v"], video=part), max_frames=4, num_frames=12
    )
    assert narratives[0].text == "v 1 of 3. v 2 of 3. v 3 of 3."
    assert clips_of(captioner.seen[0])[0].sampling.num_frames == 12
    assert narratives[1].text == "v 3 of 4." and clips_of(captioner.seen[3])[0].sampling.num_frames == 4


def test_pictures_have_one_caption_and_a_text_none():
    narratives, _ = tell(row("a", images=["x.png", "y.png"]), row("b"))
    assert narratives[0].text == "['x.png', 'y.png']."
    assert narratives[1].text == ""


@pytest.mark.parametrize("settings", [{"max_frames": 0}, {"request": " "}, {"num_frames": -1}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(TriptychError):
        Narrator(**settings)
