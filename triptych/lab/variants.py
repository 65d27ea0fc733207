"""Studies of one choice: what varies, what is held fixed, what the paper found, what we find.

A study file names a recipe, stages that go on from a finished run of it, and variants of their settings:

    name: dropout_ratio
    recipe: quickstart
    stages: [{name: mpo, verb: mpo, config: {model: "{base}/sft/model", ...}}, ...]
    variants: {half: {mpo.beta: 0.1}, whole: {mpo.beta: 0.4}}
    metrics: [mpo.hallucination]
    targets: [{first: half, second: whole, metric: mpo.hallucination}]

Stages of the recipe that a variant runs again with its settings are named in `again` and need not be written out:
`again: [mpo, evaluate_mpo]`. `{base}` stands for the recipe's run of the same seed, which all variants share, and
`{run}` for the folder of the variant. Every run is an ordinary one in a process of its own; a study that was stopped
goes on where it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from triptych.config import config_text, load_config
from triptych.data.files import write_json_atomic, write_text_atomic
from triptych.errors import TriptychError
from triptych.lab.results import metrics_of, read_results
from triptych.lab.seeds import run_seed
from triptych.lab.targets import Reached, Unit, judged, over, printed, target_line, unit_of
from triptych.recipe import Recipe, RecipeStage


@dataclass(kw_only=True)
class VariantTarget:
    """A difference between two variants that is held to a target."""

    name: str = ""
    """What is printed; where empty, variants and metric."""
    metric: str
    """One of the metrics of the study."""
    first: str
    """The variant that is to be better ..."""
    second: str
    """... than this one."""
    least: float = 0.0
    """By so much."""
    reached: Reached = "value"
    """What must reach it: value, the mean over the seeds; low, its whole interval; high, its upper end, so that the
    difference is not surely below."""


@dataclass(kw_only=True)
class VariantStudy:
    """What a study file says."""

    name: str
    """Name of the study."""
    source: str = ""
    """The paper and place whose question this is."""
    finding: str = ""
    """What was found there."""
    recipe: str
    """Recipe whose runs the variants go on from."""
    again: list[str] = field(default_factory=list)
    """Stages of the recipe that each variant runs again, in this order."""
    stages: list[RecipeStage] = field(default_factory=list)
    """What each variant runs besides, after them."""
    variants: dict[str, dict[str, Any]]
    """Settings of each variant, as stage.setting: value."""
    metrics: list[str] = field(default_factory=list)
    """Results that are compared, as model.metric of the `evaluate_<model>` stages, or stage.number of other stages."""
    targets: list[VariantTarget] = field(default_factory=list)
    """Differences that are held to a target."""

    def __post_init__(self) -> None:
        known = {*self.again, *(stage.name for stage in self.stages)}
        if not known:
            raise TriptychError("The variants run nothing: name stages of the recipe in `again`, or give `stages`.")
        for variant, settings in self.variants.items():
            if unknown := [key for key in settings if key.partition(".")[0] not in known or "." not in key]:
                raise TriptychError(
                    f"The variant {variant} sets {', '.join(unknown)}; write stage.setting, with a stage of "
                    f"{', '.join(known)}."
                )
        if len(self.variants) < 2:
            raise TriptychError("A study compares at least two variants.")
        for target in self.targets:
            unknown = {target.first, target.second} - self.variants.keys() | {target.metric} - {*self.metrics}
            if unknown:
                raise TriptychError(f"A target names {', '.join(sorted(unknown))}, no variant or metric of the study.")


def run_variants(
    study: VariantStudy, recipe: str, out: Path, *, num_seeds: int = 5, jobs: int = 1, base: Path | None = None
) -> dict[str, Any]:
    """Run a study and sum up.

    Args:
        study: what varies.
        recipe: file of its recipe.
        out: folder of the study: `OUT/VARIANT/seed-N`, and `OUT/study.json` with the result.
        num_seeds: seeds 0 to num_seeds - 1, at least 2.
        jobs: runs side by side; the cores are divided among them.
        base: folder with the recipe's runs `seed-N`, such as that of another study; `OUT/base` where None. Runs that
            are not there are made.

    Returns:
        what `study.json` holds: per variant and metric the mean over seeds with its interval, and the differences
        between variants, paired by seed.
    """
    if num_seeds < 2:
        raise TriptychError("A study needs at least two seeds to give an interval.")
    base, seeds = base or out / "base", range(num_seeds)
    stages = study_stages(study, load_config(Recipe, recipe)) if study.again else study.stages
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        missing = [seed for seed in seeds if not (base / f"seed-{seed}" / "summary.json").exists()]
        list(pool.map(lambda seed: run_seed(recipe, base / f"seed-{seed}", seed, threads), missing))
        tasks = [(name, seed) for seed in seeds for name in study.variants]
        list(pool.map(lambda task: _run_variant(study, stages, *task, base, out, threads), tasks))
    found = {name: [_metrics(study, out / name / f"seed-{seed}") for seed in seeds] for name in study.variants}
    result = summarise_variants(study, found)
    write_json_atomic(out / "study.json", result)
    return result


def summarise_variants(study: VariantStudy, found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Sum up the metrics that each seed of each variant gave."""
    means = {
        name: {metric: over([seed[metric] for seed in seeds]) for metric in study.metrics}
        for name, seeds in found.items()
    }
    differences = {
        f"{first} minus {second}": {
            metric: over([a[metric] - b[metric] for a, b in zip(found[first], found[second], strict=True)])
            for metric in study.metrics
        }
        for first, second in combinations(found, 2)
    }
    return {
        "study": study.name,
        "source": study.source,
        "finding": study.finding,
        "seeds": len(next(iter(found.values()))),
        "variants": means,
        "differences": differences,
        "targets": [_judged(target, found) for target in study.targets],
    }


def _judged(target: VariantTarget, found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    pairs = zip(found[target.first], found[target.second], strict=True)
    figure = over([first[target.metric] - second[target.metric] for first, second in pairs])
    name = target.name or f"{target.metric}: {target.first} minus {target.second}"
    return judged(name, figure, target.least, target.reached, _unit(target.metric))


def _unit(metric: str) -> Unit:
    return unit_of(metric.partition(".")[2])


def variant_lines(result: dict[str, Any]) -> list[str]:
    """Say what a study came to, for a person."""
    metrics = list(next(iter(result["variants"].values())))
    widest = max(map(len, [*result["variants"], *result["differences"]]))
    lines = [f"{result['study']} ({result['source']}): {result['finding']}"] if result["finding"] else []
    lines += [f"{result['seeds']} seeds, mean and half-width of the 95 % interval; shares in per cent", ""]
    lines.append(" " * widest + "".join(f"{metric:>28}" for metric in metrics))
    for name, values in (result["variants"] | result["differences"]).items():
        lines.append(
            f"{name:<{widest}}" + "".join(f"{printed(values[metric], _unit(metric)):>28}" for metric in metrics)
        )
    return [*lines, "", *map(target_line, result["targets"])] if result["targets"] else lines


def load_study(path: str | Path) -> VariantStudy:
    """Read a study file."""
    return load_config(VariantStudy, path)


def study_stages(study: VariantStudy, recipe: Recipe) -> list[RecipeStage]:
    """Return what a variant runs: the stages of the recipe that it runs again, which read what the others have left in
    the recipe's run, and its own.

    Raises:
        TriptychError: the recipe has no such stage.
    """
    known = {stage.name: stage for stage in recipe.stages}
    if unknown := [name for name in study.again if name not in known]:
        raise TriptychError(f"The recipe {recipe.name} has no stage {', '.join(unknown)}; it has {', '.join(known)}.")
    kept = [name for name in known if name not in study.again]
    again = [replace(known[name], config=_from_base(known[name].config, kept)) for name in study.again]
    return again + study.stages


def _run_variant(
    study: VariantStudy, stages: Sequence[RecipeStage], name: str, seed: int, base: Path, out: Path, threads: int
) -> None:
    run = out / name / f"seed-{seed}"
    stages = [_varied(stage, study.variants[name], base / f"seed-{seed}") for stage in stages]
    recipe = Recipe(name=f"{study.name}-{name}", source=study.source, seed=seed, stages=stages)
    run.mkdir(parents=True, exist_ok=True)
    path = run.with_suffix(".yaml")
    write_text_atomic(path, config_text(recipe))
    run_seed(str(path), run, seed, threads)


def _varied(stage: RecipeStage, settings: dict[str, Any], base: Path) -> RecipeStage:
    """Return a stage with the settings of a variant, and its base run named."""
    config = dict(stage.config)
    for key, value in settings.items():
        owner, _, setting = key.partition(".")
        if owner == stage.name:
            config[setting] = value
    return replace(stage, config=_based(config, base))


def _based(value: Any, base: Path) -> Any:
    """Replace `{base}` in every string."""
    return _in_strings(value, lambda text: text.replace("{base}", str(base)))


def _from_base(value: Any, stages: Sequence[str]) -> Any:
    """Let every path into the folder of one of the stages be one into the recipe's run."""
    names = "|".join(map(re.escape, stages))
    return _in_strings(value, lambda text: re.sub(rf"\{{run\}}(?=/(?:{names})(?:/|$))", "{base}", text))


def _in_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Change every string of nested lists and dictionaries."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _in_strings(item, change) for key, item in value.items()}
    return [_in_strings(item, change) for item in value] if isinstance(value, list) else value


def _metrics(study: VariantStudy, run: Path) -> dict[str, float]:
    measured = metrics_of(read_results(run))
    values = {}
    for name in study.metrics:
        model, _, metric = name.partition(".")
        try:
            values[name] = measured[model][metric]["value"]
        except KeyError as error:
            raise TriptychError(f"The run {run} has no metric {name}.") from error
    return values
