"""A recipe: stages in order, each with its configuration, run into one folder.

    name: quickstart
    stages:
      - name: sft
        verb: sft
        config: {model: "{run}/pretrain/model", ...}

`{run}` stands for the run folder. Each stage writes to `{run}/<name>`. The recipe's seed is every stage's seed unless
the stage names its own. Given again, a recipe goes on where it stopped. With several ranks, all of them train, and rank
0 does everything else while the others wait.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.config import load_config, save_config
from triptych.data.files import write_json_atomic
from triptych.engine.distributed import on_main
from triptych.errors import TriptychError

VERBS = ("world", "clips", "pretrain", "sft", "pairs", "mpo", "reward", "ppo", "scorer", "evaluate", "report")
_WORLD_STAGES = {"world": "triptych.world.stage", "clips": "triptych.world.clip_stage"}
_ON_ALL_RANKS = ("pretrain", "sft", "mpo", "reward", "ppo", "scorer")


@dataclass(kw_only=True)
class RecipeStage:
    """One stage of a recipe."""

    name: str
    """Folder of the stage inside the run."""
    verb: str
    """What is done: world, clips, pretrain, sft, pairs, mpo, reward, ppo, scorer, evaluate or report."""
    config: dict[str, Any] = field(default_factory=dict)
    """Configuration of the stage."""

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise TriptychError(f"The stage {self.name!r} has the verb {self.verb!r}; known are {', '.join(VERBS)}.")


@dataclass(kw_only=True)
class Recipe:
    """Stages in the order in which they run."""

    name: str
    """Name of the recipe."""
    source: str = ""
    """Where its settings come from: a paper and section, or a study of ours."""
    seed: int = 0
    """Seed of every stage that does not name its own."""
    stages: list[RecipeStage]
    """The stages."""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise TriptychError(f"Two stages are called {', '.join(twice)}, and would share a folder; rename one.")


def run_recipe(path: str | Path, out: str | Path, overrides: Mapping[str, Any] | list[str] | None = None) -> Path:
    """Run every stage that is not done and write `summary.json`.

    Args:
        path: the recipe, YAML.
        out: run folder.
        overrides: dotted settings of the recipe, such as `seed=1`.

    Returns:
        the run folder.
    """
    recipe = load_config(Recipe, path, overrides)
    run = Path(out)
    on_main(lambda: _note_recipe(recipe, run))
    seconds: dict[str, float] = {}
    for number, stage in enumerate(recipe.stages, 1):
        print(f"[{number}/{len(recipe.stages)}] {stage.name}", flush=True)
        start = time.monotonic()
        if stage.verb == "report":
            on_main(lambda: _write_summary(recipe, run, seconds))
        run_stage(stage, run, recipe.seed)
        seconds[stage.name] = _seconds_of(run / stage.name, time.monotonic() - start)
    on_main(lambda: _write_summary(recipe, run, seconds))
    return run


def run_stage(stage: RecipeStage, run: Path, seed: int) -> None:
    """Run one stage into `run/<name>`."""
    if stage.verb in _ON_ALL_RANKS:
        _run_stage(stage, run, seed)
    else:
        on_main(lambda: _run_stage(stage, run, seed))


def _run_stage(stage: RecipeStage, run: Path, seed: int) -> None:
    settings = _filled(stage.config, run)
    folder = run / stage.name
    if stage.verb in _WORLD_STAGES:
        _write_world(_WORLD_STAGES[stage.verb], folder, {"seed": seed} | settings)
    elif stage.verb == "report":
        from triptych.report.build import build_report

        build_report(run)
    else:
        module = importlib.import_module(f"triptych.stages.{stage.verb}")
        module.run(load_config(module.Config, None, {"seed": seed, "out": str(folder)} | settings))


def summarise(recipe: Recipe, run: Path, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Collect what the run came to: seconds in all and per stage, and the results of each `evaluate_<model>` stage."""
    metrics = {}
    for stage in recipe.stages:
        done = run / stage.name / "done.json"
        if stage.verb == "evaluate" and done.exists():
            metrics[stage.name.removeprefix("evaluate_")] = json.loads(done.read_text())["result"]
    return {"recipe": recipe.name, "seed": recipe.seed, "seconds": round(sum(seconds.values()), 1)} | {
        "stages": {name: round(value, 1) for name, value in seconds.items()},
        "metrics": metrics,
    }


def _note_recipe(recipe: Recipe, run: Path) -> None:
    run.mkdir(parents=True, exist_ok=True)
    save_config(recipe, run / "recipe.yaml")


def _write_summary(recipe: Recipe, run: Path, seconds: Mapping[str, float]) -> None:
    write_json_atomic(run / "summary.json", summarise(recipe, run, seconds))


def _write_world(module: str, folder: Path, settings: dict[str, Any]) -> None:
    from triptych.engine.progress import Progress

    stage, start, done = importlib.import_module(module), time.monotonic(), folder / "done.json"
    with Progress("world", total=0, unit="sample") as bar:
        manifest = stage.run(load_config(stage.Config, None, {"out": str(folder)} | settings), bar.show)
    if not done.exists():
        seconds = time.monotonic() - start
        write_json_atomic(
            done, {"fingerprint": manifest["fingerprint"], "seconds": seconds, "result": {"rows": manifest["rows"]}}
        )


def _seconds_of(folder: Path, measured: float) -> float:
    """Return a stage's wall time over all restarts (of a world: of its last), or what was measured now."""
    done = folder / "done.json"
    return json.loads(done.read_text())["seconds"] if done.exists() else measured


def _filled(value: Any, run: Path) -> Any:
    """Replace `{run}` in every string."""
    if isinstance(value, str):
        return value.replace("{run}", str(run))
    if isinstance(value, dict):
        return {key: _filled(item, run) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, run) for item in value]
    return value
