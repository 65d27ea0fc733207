"""The smoke recipe in pieces, for tests of stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from triptych.config import load_config
from triptych.recipe import Recipe, RecipeStage, run_stage

RECIPE = Path(__file__).parents[2] / "recipes" / "smoke.yaml"


def recipe() -> Recipe:
    """The smoke recipe as it is shipped."""
    return load_config(Recipe, RECIPE)


def stage(name: str) -> RecipeStage:
    """One stage of it by name."""
    return next(item for item in recipe().stages if item.name == name)


def run_until(run: Path, last: str) -> None:
    """Run the stages up to and including `last` into the folder `run`."""
    for item in recipe().stages:
        run_stage(item, run, seed=0)
        if item.name == last:
            return


def run_variant(run: Path, name: str, folder: str, **changes: Any) -> Path:
    """Run a stage of the recipe with other settings into `run/<folder>` and return that folder."""
    base = stage(name)
    run_stage(RecipeStage(name=folder, verb=base.verb, config=base.config | changes), run, seed=0)
    return run / folder


def read_yaml(path: Path) -> Any:
    """Read a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
