"""A recipe over several seeds: means with intervals, the differences that matter, and the targets they are held to.

Each seed is an ordinary run in `OUT/seed-N`, in a process of its own; a study that was stopped goes on where it was.
The result is `OUT/study.json`, which the report of a run shows when it lies in the run's folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from triptych.data.files import write_json_atomic
from triptych.errors import TriptychError
from triptych.lab.image_targets import IMAGE_TARGETS
from triptych.lab.results import metrics_of, read_results
from triptych.lab.targets import Metrics, over, printed, target_line, unit_of
from triptych.lab.video_targets import VIDEO_TARGETS

TARGETS = IMAGE_TARGETS + VIDEO_TARGETS
COLUMNS = {
    name: (name,) for name in ("direct", "cot", "unparsed", "hallucination", "hallucination_sampled", "coverage")
}
COLUMNS |= {
    "five aspects (0-5)": ("true_generative", "generative"),
    "QA": ("exact_qa", "qa"),
    "retrieval R@1": ("r1_retrieval",),
    "actions": ("actions",),
    "length (tokens)": ("length_generic",),
    "KL (nats)": ("kl_generic", "kl", "last_kl"),
}
"""Columns of the table for a person, by their heads: a model shows the first of the metrics that it has."""


def run_study(recipe: str, out: Path, *, num_seeds: int = 5, jobs: int = 1) -> dict[str, Any]:
    """Run a recipe once per seed and sum up.

    Args:
        recipe: file or name of the recipe.
        out: folder of the study.
        num_seeds: seeds 0 to num_seeds - 1, at least 2.
        jobs: runs side by side; the cores are divided among them.

    Returns:
        what `study.json` holds: `seeds` and `seconds`; `metrics` by model and name; `numbers` that other stages left,
        by stage and name; and, of the figures of the quickstarts, those that the recipe has: `differences`, `targets`.
    """
    if num_seeds < 2:
        raise TriptychError("A study needs at least two seeds to give an interval.")
    if jobs < 1:
        raise TriptychError(f"jobs is {jobs}; at least one run must go on at a time.")
    runs = [out / f"seed-{seed}" for seed in range(num_seeds)]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda seed: run_seed(recipe, runs[seed], seed, threads), range(num_seeds)))
    study = summarise_study([read_results(run) for run in runs])
    write_json_atomic(out / "study.json", study)
    return study


def summarise_study(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the runs of several seeds, as `read_results` gives them; see `run_study`."""
    runs = [metrics_of(result) for result in results]
    targets = [target for target in TARGETS if target.applies(runs)]
    figures = {target.name: over([target.figure(run) for run in runs]) for target in targets}
    return {
        "seeds": len(results),
        "seconds": over([result["seconds"] for result in results]),
        "metrics": _means([result["metrics"] for result in results]),
        "numbers": _means([result.get("numbers", {}) for result in results]),
        "differences": figures,
        "targets": [target.judged(figures[target.name]) for target in targets],
    }


def _means(runs: Sequence[Metrics]) -> Metrics:
    """Return the mean over the runs of each metric that all of them have."""
    first, *others = runs
    return {
        model: {
            name: over([run[model][name]["value"] for run in runs])
            for name, value in values.items()
            if isinstance(value, dict) and "value" in value and all(name in run.get(model, {}) for run in others)
        }
        for model, values in first.items()
    }


def study_lines(study: dict[str, Any]) -> list[str]:
    """Say what a study came to, for a person: a table of the models, then each target."""
    models = {model: values for model, values in metrics_of(study).items() if model in study["metrics"]}
    heads = [head for head in COLUMNS if any(_shown(head, values) for values in models.values())]
    lines = [f"{study['seeds']} seeds, mean and half-width of the 95 % interval; shares in per cent", ""]
    width = max([15, *map(len, models)])
    lines.append(" " * width + "".join(f"{head:>23}" for head in heads))
    for model, values in models.items():
        lines.append(f"{model:<{width}}" + "".join(f"{_shown(head, values) or '-':>23}" for head in heads))
    return [*lines, "", *map(target_line, study["targets"])]


def _shown(head: str, values: dict[str, Any]) -> str:
    """Print what a model has for a column; empty where it has nothing."""
    name = next((name for name in COLUMNS[head] if name in values), None)
    return printed(values[name], unit_of(name)) if name else ""


def run_seed(recipe: str, run: Path, seed: int, threads: int) -> None:
    """Run one seed in a process of its own, its output kept beside the run.

    Raises:
        TriptychError: the run failed.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "triptych.cli", "run", recipe, "--out", str(run), "--seed", str(seed)]
    log = run.with_suffix(".log")
    with log.open("ab") as output:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        code = subprocess.run(command, stdout=output, stderr=output, env=environment, check=False).returncode
    if code:
        raise TriptychError(f"The run with seed {seed} failed with exit code {code}; see {log}.")
