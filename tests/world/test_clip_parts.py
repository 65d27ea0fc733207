"""Parts of clips, and that they are those that a reader of the row sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.world.clip_scenes import CONFIG, QUIET, by_hand
from triptych.data.sampling import Clip, clips_of, policy_record
from triptych.data.video import load_video
from triptych.feedback.context import Narrator
from triptych.group import Group
from triptych.world.clip_facts import About
from triptych.world.clip_parts import part_abouts, part_sampling
from triptych.world.clip_render import render_clip
from triptych.world.clip_video import encode_clip
from triptych.world.randomness import rng_for


def test_parts_by_hand() -> None:
    scene = by_hand()  # 40 frames
    assert part_abouts(scene, CONFIG) == [About(stop=13), About(start=13, stop=26), About(start=26, stop=40)]
    assert part_abouts(scene, replace(CONFIG, part_frames=50)) == [About()]
    # Of 11 frames shown, 0 3 7 11 15 | 19 23 27 31 35 39, the first part ends with frame 15.
    assert part_abouts(scene, replace(CONFIG, num_frames=11, part_frames=6)) == [
        About(start=0, stop=16), About(start=19, stop=40)]  # fmt: skip
    # Parts may show more frames than the whole: of 24, 0 1 3 5 6 8 10 11 | 13 15 ... 23 25 | 27 28 ... 37 39.
    finer = replace(CONFIG, num_frames=12, part_frames=8, narrative_frames=24)
    assert part_abouts(scene, finer) == [About(stop=12), About(start=13, stop=26), About(start=27, stop=40)]
    assert [part_sampling(finer).num_frames, part_sampling(finer, 3, 1).num_frames] == [12, 24]


def test_the_narrator_of_the_feedback_stage_cuts_alike() -> None:
    row = Group("a", [{"role": "user", "content": [{"type": "video"}]}], videos=["a.mp4"])
    for num_frames, part_frames, more in ((50, 20, 0), (11, 6, 0), (16, 16, 0), (12, 8, 24)):
        config = replace(CONFIG, num_frames=num_frames, part_frames=part_frames, narrative_frames=more)
        row.meta = policy_record(part_sampling(config))
        clips = [clips_of(clip)[0] for clip in Narrator(max_frames=part_frames, num_frames=more)._clips("key", row)]
        parts = len(part_abouts(by_hand(), config))
        assert [clip.sampling for clip in clips] == [part_sampling(config, parts, part) for part in range(parts)]


@pytest.mark.parametrize(("num_frames", "part_frames"), [(50, 20), (11, 6), (16, 5)])
def test_a_row_shows_the_frames_that_its_part_tells_of(num_frames: int, part_frames: int, tmp_path: Path) -> None:
    scene, config = by_hand(), replace(QUIET, num_frames=num_frames, part_frames=part_frames)
    frames = render_clip(scene, config, rng_for(0))
    (tmp_path / "a.mp4").write_bytes(encode_clip(frames, config.fps))
    abouts = part_abouts(scene, config)
    for part, about in enumerate(abouts):
        shown = load_video(Clip("a.mp4", part_sampling(config, len(abouts), part)), tmp_path).frames
        assert len(shown) <= part_frames
        for picture, number in ((shown[0], about.start), (shown[-1], about.stop - 1)):
            error = np.abs(np.asarray(picture).astype(int) - frames[number]).mean()
            others = [np.abs(np.asarray(picture).astype(int) - frame).mean() for frame in frames]
            assert error < 2 and error <= min(others) + 0.2
