"""A run directory as it lies on disk: stages, their configurations, results and logged rows.

Nothing is loaded but text, and only what is there: a stage may be missing, unfinished or cut off in the middle of a
line. Damage is collected in `Run.problems` and shown in the report; it never hides the rest of the run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from triptych.data.files import read_jsonl
from triptych.errors import DataError

QUICKSTART_STAGES = (
    "world",
    "pretrain",
    "sft",
    "evaluate_sft",
    "pairs_correctness",
    "pairs_dropout",
    "mpo",
    "sft_on_chosen",
    "dpo",
    "evaluate_mpo",
    "evaluate_sft_on_chosen",
    "evaluate_dpo",
    "report",
)
"""The order in which stages are told where there is no recipe."""

MANIFEST = "world.json"
"""Written last by the stage `world`, in place of `done.json`."""
SAMPLES = "samples*.jsonl"
"""The answers of an evaluation, one file for each task."""
STAGE_FILES = ("config.yaml", "metrics.jsonl", "pairs.jsonl", "done.json", MANIFEST)
"""A folder that holds one of these is a stage."""


@dataclass(frozen=True)
class Stage:
    """One stage instance: a folder of the run directory, which need not exist yet."""

    name: str
    folder: Path
    verb: str = ""
    """What the recipe says it does; empty where there is no recipe."""
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    done: dict[str, Any] | None = None
    seconds: float | None = None
    """Wall time over all restarts; so far, where the stage is unfinished."""

    @property
    def state(self) -> str:
        """`done`, `unfinished`, `removed` (the summary knows it, but its folder is gone) or `not run yet`."""
        if self.done is not None:
            return "done"
        if self.folder.is_dir():
            return "unfinished"
        return "not run yet" if self.seconds is None else "removed"

    @property
    def is_here(self) -> bool:
        """True where there is a folder to read."""
        return self.state in ("done", "unfinished")

    @property
    def result(self) -> dict[str, Any]:
        """What the stage wrote down at its end; empty until then."""
        result = (self.done or {}).get("result")
        return result if isinstance(result, dict) else {}

    @property
    def evaluates(self) -> str:
        """The model an evaluation stage measures: its name without `evaluate_`. Empty for any other stage."""
        evaluates = self.verb == "evaluate" or self.name.startswith("evaluate_")
        return self.name.removeprefix("evaluate_") if evaluates else ""

    @property
    def num_checkpoints(self) -> int:
        """Number of checkpoints kept on disk."""
        return sum(path.is_dir() for path in self.folder.glob("checkpoint-*"))

    @property
    def num_resumes(self) -> int | None:
        """How often training went on after a stop: each start that logged a step opened its own TensorBoard file.

        None for a stage that keeps no such files.
        """
        starts = sum(1 for _ in self.folder.glob("tensorboard/events.out.tfevents.*"))
        return starts - 1 if starts else None


@dataclass
class Run:
    """A run directory."""

    folder: Path
    recipe_text: str
    summary: dict[str, Any]
    study: dict[str, Any]
    stages: dict[str, Stage]
    problems: list[str]

    @property
    def name(self) -> str:
        """Name of the folder, by which people call the run."""
        return self.folder.resolve().name

    def rows(self, path: Path) -> Iterator[dict[str, Any]]:
        """Iterate over the objects of a JSONL file; nothing where there is none, and up to the damage where damaged."""
        if not path.is_file():
            return
        try:
            for number, row in read_jsonl(path):
                if isinstance(row, dict):
                    yield row
                else:
                    self.note(f"{path.relative_to(self.folder)}, line {number}: not a JSON object; left out.")
        except DataError as error:
            place = f"{path.relative_to(self.folder)}, line {error.row}"
            self.note(f"{place}: {error.problem} {error.remedy} Only the lines before it count here.")

    def sample_rows(self, stage: Stage) -> Iterator[dict[str, Any]]:
        """Iterate over the answers of an evaluation stage, from one file for each task."""
        for path in sorted(stage.folder.glob(SAMPLES)):
            yield from self.rows(path)

    def note(self, problem: str) -> None:
        """Keep a sentence for the list of problems; once, however often a file is read."""
        if problem not in self.problems:
            self.problems.append(problem)

    def data_root(self, stage: Stage, task: str = "") -> Path:
        """Return the folder that media paths of a stage are relative to.

        It is the `root` of the task or of the configuration, else the folder of its rows (those of `task` in an
        evaluation), else the run's own world.
        """
        config = stage.config
        tasks = [item for item in config.get("tasks") or () if isinstance(item, dict)]
        tasks = [item for item in tasks if item.get("name") == task]
        named = [item.get("data") for item in tasks] or [config.get("data")]
        if roots := [root for item in (*tasks, config) if (root := item.get("root"))]:
            candidates = [Path(str(root)) for root in roots[:1]]
        else:
            candidates = [Path(rows).parent for rows in named if isinstance(rows, str)]
        return next((found for path in candidates if (found := self.find(path)).is_dir()), self.folder / "world")

    def find(self, path: Path) -> Path:
        """Return where a file or folder lies that a configuration names; as it is named, where it is nowhere.

        Names are relative to where the command ran, mostly the folder that holds `runs`. Of a run that was moved, what
        lay inside is looked for where the run is now.
        """
        places = [base / path for base in (Path(), *self.folder.resolve().parents[:2])]
        places += [self.folder.joinpath(*path.parts[-depth:]) for depth in (1, 2)]
        return next((place for place in places if place.exists()), path)


def read_run(folder: Path) -> Run:
    """Read a run directory.

    Args:
        folder: `runs/NAME`.

    Raises:
        DataError: kind `run_missing`, the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(
            "There is no run directory here.",
            remedy="Name the folder of a run, such as runs/quickstart.",
            kind="run_missing",
            file=folder,
        )
    run = Run(folder, "", {}, {}, {}, [])
    run.recipe_text = _read_text(run, folder / "recipe.yaml")
    run.summary = _read_object(run, folder / "summary.json")
    run.study = _read_object(run, folder / "study.json")
    recipe = _parse_yaml(run, run.recipe_text, "recipe.yaml")
    verbs = _recipe_verbs(recipe)
    for name in _stage_names(folder, list(verbs)):
        run.stages[name] = _read_stage(run, name, folder / name, verbs.get(name, ""))
    if not run.stages and _is_stage(folder):  # the report of a stage that was run on its own
        run.stages[run.name] = _read_stage(run, run.name, folder, "")
    return run


def finite(value: Any) -> float | None:
    """Return a JSON value as a float where it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _recipe_verbs(recipe: dict[str, Any]) -> dict[str, str]:
    """Return {stage name: verb} of a recipe, in its order; empty where it lists no stages."""
    listed = recipe.get("stages")
    items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return {str(item["name"]): str(item.get("verb", "")) for item in items if "name" in item}


def _stage_names(folder: Path, recipe: list[str]) -> list[str]:
    """Return the stages in the order they are told: the recipe's, then those of the quickstart, then others by name."""
    found = {path.name for path in folder.iterdir() if _is_stage(path)}
    known = [name for name in QUICKSTART_STAGES if name in found and name not in recipe]
    # This page is the stage `report` itself, which cannot be done while it is being written.
    return [name for name in recipe + known + sorted(found - {*recipe, *known}) if name != "report"]


def _is_stage(folder: Path) -> bool:
    return any((folder / file).is_file() for file in STAGE_FILES)


def _read_stage(run: Run, name: str, folder: Path, verb: str) -> Stage:
    config_text = _read_text(run, folder / "config.yaml")
    config = _parse_yaml(run, config_text, f"{name}/config.yaml")
    done = _read_object(run, folder / "done.json") or None
    if done is None and (manifest := _read_object(run, folder / MANIFEST)):
        done = {"result": manifest}
    told = _mapping(run.summary.get("stages"))
    times = (done or {}, _read_object(run, folder / "seconds.json"), {"seconds": told.get(name)})
    seconds = next((value for item in times if (value := finite(item.get("seconds"))) is not None), None)
    return Stage(name, folder, verb, config, config_text, done, seconds)


def _read_text(run: Run, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        run.note(f"{path.relative_to(run.folder)} cannot be read: {error}.")
        return ""


def _read_object(run: Run, path: Path) -> dict[str, Any]:
    text = _read_text(run, path)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        run.note(f"{path.relative_to(run.folder)} is not valid JSON: {error}.")
        return {}
    return _mapping(value)


def _parse_yaml(run: Run, text: str, name: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        run.note(f"{name} is not valid YAML: {error}.")
        return {}
    return _mapping(value)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
