"""Writing the clips of the world, and the stage of a recipe that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.world.clip_config import ClipConfig, ClipCounts
from triptych.world.clip_samples import ClipSample, build_clip_sample, clip_sections
from triptych.world.clip_video import encode_clip
from triptych.world.render import encode_png
from triptych.world.write import Medium, Progress, write_folder

CLIP_VERSION = 2
"""Raise it whenever the same settings give other clips or rows."""


@dataclass(kw_only=True)
class Config:
    """Clips and where they go."""

    out: str
    """Data folder to write."""
    seed: int = 0
    """Seed of every sample."""
    clips: ClipConfig = field(default_factory=ClipConfig)
    """What the clips are made of."""
    counts: ClipCounts = field(default_factory=ClipCounts)
    """How much of each kind is written."""
    num_workers: int = 2
    """Processes that draw and encode; the output does not depend on it."""


def run(config: Config, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Write the clips, or recognise them where they are already there, and return their manifest."""
    return write_clips(
        Path(config.out),
        config.clips,
        seed=config.seed,
        counts=config.counts,
        num_workers=config.num_workers,
        progress=progress,
    )


def write_clips(
    out: Path,
    config: ClipConfig,
    *,
    seed: int,
    counts: ClipCounts,
    num_workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a folder of clips: MP4 files, pictures and JSONL rows; see `write_folder`."""
    return write_folder(out, CLIPS, config, seed=seed, counts=counts, num_workers=num_workers, progress=progress)


def _files(sample: ClipSample, config: ClipConfig) -> Iterator[tuple[str, bytes]]:
    yield from ((path, encode_clip(frames, config.fps)) for path, frames in sample.clips)
    yield from ((path, encode_png(picture)) for path, picture in sample.pictures)


CLIPS = Medium(("videos", "images"), CLIP_VERSION, clip_sections, build_clip_sample, _files)
