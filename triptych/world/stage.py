"""Writing the world as the first stage of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from triptych.world.config import WorldConfig, WorldCounts
from triptych.world.write import write_world


@dataclass(kw_only=True)
class Config:
    """A world and where it goes."""

    out: str
    """Data folder to write."""
    seed: int = 0
    """Seed of every sample."""
    world: WorldConfig = field(default_factory=WorldConfig)
    """What the world is made of."""
    counts: WorldCounts = field(default_factory=WorldCounts)
    """How much of each kind is written."""
    num_workers: int = 2
    """Processes that draw pictures; the output does not depend on it."""


def run(config: Config, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Write the world, or recognise it where it is already there, and return its manifest."""
    return write_world(
        config.out,
        config.world,
        seed=config.seed,
        counts=config.counts,
        num_workers=config.num_workers,
        progress=progress,
    )
