"""The rewards that reward models gave to pairs held out of their training, by stage and pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from triptych.group import Group, Pair
from triptych.report.reading import Run, Stage, finite

HELD_OUT = "held_out.jsonl"

Key = tuple[str, int, int, str]
"""Id of the row, chosen, rejected and source of the pair."""


def key_of(group: Group, pair: Pair) -> Key:
    """Return what tells a pair from all others of its file."""
    return group.id, pair.chosen, pair.rejected, pair.source


def held_out_rows(run: Run, stage: Stage) -> dict[Key, dict[str, float]]:
    """Read `{"chosen", "rejected"}`, the rewards of each held-out pair of a stage that trained a reward model."""
    found: dict[Key, dict[str, float]] = {}
    for row in run.rows(stage.folder / HELD_OUT):
        rewards = _rewards(row.get("rewards"))
        places = row.get("chosen"), row.get("rejected")
        if rewards and all(isinstance(place, int) for place in places):
            found[str(row.get("id")), *places, str(row.get("source"))] = rewards
    return found


def trained_on(stage: Stage) -> list[Path]:
    """Return the files of pairs that a reward model was trained on and measured with."""
    told = [stage.config.get("data"), stage.config.get("eval_data")]
    names = [name for item in told for name in (item if isinstance(item, list) else [item])]
    return [Path(name) for name in names if isinstance(name, str) and name]


class HeldOut:
    """The rewards of pairs, each by the first reward model of the run that was trained on pairs of that stage."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._models = [stage for stage in run.stages.values() if (stage.folder / HELD_OUT).is_file()]
        self._read: dict[str, dict[Key, dict[str, float]]] = {}

    def of(self, stage: Stage, group: Group, pair: Pair) -> dict[str, float] | None:
        """Return the rewards of a pair that a stage made; None where no reward model was measured on it."""
        if stage.name not in self._read:
            model = next((item for item in self._models if _reads(item, stage)), None)
            self._read[stage.name] = held_out_rows(self._run, model) if model else {}
        return self._read[stage.name].get(key_of(group, pair))


def _reads(model: Stage, stage: Stage) -> bool:
    return any(path.parent.name == stage.name or path.name == stage.name for path in trained_on(model))


def _rewards(told: Any) -> dict[str, float]:
    if not isinstance(told, dict):
        return {}
    found = {side: finite(told.get(side)) for side in ("chosen", "rejected")}
    return {side: value for side, value in found.items() if value is not None} if None not in found.values() else {}
