"""Parts of a clip: which frames a row shows, and how they are cut into parts that are narrated on their own."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from triptych.data.sampling import FrameSampling, Timeline, fewest_parts, moments, part_bounds
from triptych.world.clip_config import ClipConfig
from triptych.world.clip_facts import About
from triptych.world.clip_scene import ClipScene


@dataclass(frozen=True)
class _Frames:
    """The frames of a clip as a timeline; a tick is a frame."""

    last: int
    first: int = 0
    tick: Fraction = Fraction(1)

    def count(self, low: int, high: int, limit: int) -> int:
        return min(high - low + 1, limit)


def frames_of(scene: ClipScene) -> Timeline:
    """Return the frames of a clip as a timeline."""
    return _Frames(scene.num_frames - 1)


def part_abouts(scene: ClipScene, config: ClipConfig) -> list[About]:
    """Return the parts of a clip, as many as its frames need to have `part_frames` at most: 3 for 50 and 20.

    A clip of fewer frames has as many parts, only shorter ones: the policy of a row is enough to cut it.
    """
    parts = fewest_parts(config.frames_of_parts, config.part_frames)
    if parts == 1:
        return [About()]
    shown = moments(FrameSampling(num_frames=config.frames_of_parts), frames_of(scene))
    return [About(start=shown[start], stop=shown[stop - 1] + 1) for start, stop in part_bounds(len(shown), parts)]


def part_sampling(config: ClipConfig, num_parts: int = 1, part: int = 0) -> FrameSampling:
    """Return the policy of a row that shows a clip, or one of its parts."""
    frames = config.num_frames if num_parts == 1 else config.frames_of_parts
    return FrameSampling(num_frames=frames, num_parts=num_parts, part=part)
