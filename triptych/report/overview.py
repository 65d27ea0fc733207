"""The first page of the story: what was built, aligned and measured, in how long."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

from triptych.report.curves import Log
from triptych.report.examples import PairStage
from triptych.report.metrics import Metric
from triptych.report.reading import Run, Stage, finite
from triptych.report.results import BASE, Estimate, Estimates, aligned, measured_metrics
from triptych.report.wording import duration, fixed, number

PACKAGES = ("triptych", "torch", "transformers", "peft", "datasets", "pillow")
HEADLINE_METRICS = ("cot", "direct", "hallucination", "hallucination_sampled")
"""Of picture tasks, in the order in which they are told."""
MAX_LINES = 4
"""Lines below the figure of a panel."""
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Panel:
    """One third of the header: a figure, what it is, and a line below."""

    title: str
    figure: str
    label: str
    lines: list[str]


@dataclass(frozen=True)
class StageTime:
    """One bar of the chart of times."""

    name: str
    state: str
    time: str
    percent: float
    """Length of the bar, relative to the longest."""


def stage_times(run: Run) -> list[StageTime]:
    """Return the time of every stage."""
    longest = max((stage.seconds or 0 for stage in run.stages.values()), default=0) or 1.0
    return [
        StageTime(
            stage.name,
            stage.state,
            duration(stage.seconds) if stage.seconds is not None else "",
            100 * (stage.seconds or 0) / longest,
        )
        for stage in run.stages.values()
    ]


def total_time(run: Run) -> str:
    """Return how long the run took in all; empty where nothing is known."""
    told = finite(run.summary.get("seconds"))
    known = [stage.seconds for stage in run.stages.values() if stage.seconds is not None]
    return duration(told if told is not None else sum(known)) if told is not None or known else ""


def summary_sentences(
    run: Run, logs: dict[str, Log], pairs: list[PairStage], estimates: Estimates, differences: Estimates
) -> list[str]:
    """Tell the whole run in a few sentences, each only where its facts exist."""
    if not any(stage.state != "not run yet" for stage in run.stages.values()):
        return ["Nothing has run here yet."]
    trained = [name for name in logs if run.stages[name].state == "done"]
    total = sum(found.total for found in pairs)
    did = []
    if trained:
        did.append(f"trained in {len(trained)} stage{'s' * (len(trained) > 1)} ({', '.join(trained)})")
    if total:
        did.append(f"made {total:,} preference pairs")
    if estimates:
        did.append(f"measured {_listed(list(estimates))}")
    time = total_time(run)
    sentences = [f"This run {_listed(did)}{f', in {time} all told' if time else ''}."] if did else []
    for state, words in (("unfinished", "Not finished"), ("removed", "Removed since"), ("not run yet", "Not run yet")):
        if names := [stage.name for stage in run.stages.values() if stage.state == state]:
            sentences.append(f"{words}: {_listed(names)}.")
    return sentences + _change_sentences(estimates, differences)


def _change_sentences(estimates: Estimates, differences: Estimates) -> list[str]:
    """Say what alignment changed, and what it left as it was within the uncertainty."""
    model = aligned(estimates)
    if BASE not in estimates or not model:
        return []
    changed, level = [], []
    for metric in _headlines(estimates):
        old, new, gap = estimates[BASE][metric.key], estimates[model][metric.key], differences[model][metric.key]
        values = _span(metric, old, new, " to ")
        if not _has_zero(gap):
            changed.append(f"{metric.noun} {'rose' if new.value > old.value else 'fell'} from {values}")
        else:
            level.append(f"{metric.noun} ({values})")
    sentences = []
    if changed:
        sentences.append(f"From {BASE} to {model}, {_listed(changed)}.")
    if level:
        told = _listed(level)
        sentences.append(f"{told[0].upper()}{told[1:]} did not change by more than the uncertainty.")
    return sentences


def _headlines(estimates: Estimates) -> list[Metric]:
    """Return what sentences tell of: metrics with a noun, measured of the start model and of the aligned one."""
    old, new = estimates.get(BASE, {}), estimates.get(aligned(estimates), {})
    found = [item for item in measured_metrics(estimates) if item.noun and item.key in old and item.key in new]
    order = {key: number for number, key in enumerate(HEADLINE_METRICS)}
    return sorted(found, key=lambda item: order.get(item.key, len(order)))


def _has_zero(gap: Estimate) -> bool:
    """Tell whether a difference may be none: its interval holds zero, or is unknown."""
    return gap.low is None or gap.high is None or gap.low <= 0 <= gap.high


def panels(run: Run, logs: dict[str, Log], pairs: list[PairStage], estimates: Estimates) -> list[Panel]:
    """Return the three panels of the header: build, align, measure."""
    return [_build_panel(run, logs), _align_panel(run, logs, pairs), _measure_panel(estimates)]


def _build_panel(run: Run, logs: dict[str, Log]) -> Panel:
    built = [name for name in ("pretrain", "sft") if name in logs and logs[name].last_step]
    lines = [f"{name}: {logs[name].last_step:,} steps" for name in built]
    trained = (count_parameters(run.stages.get(name)) for name in ("mpo", "ppo", "sft", "pretrain"))
    parameters = next(filter(None, trained), 0)
    if parameters:
        return Panel("Build", _compact(parameters), "parameters", lines)
    steps = sum(logs[name].last_step for name in built)
    return Panel("Build", f"{steps:,}" if steps else "–", "training steps" if steps else "not run yet", lines)


def _align_panel(run: Run, logs: dict[str, Log], pairs: list[PairStage]) -> Panel:
    total = sum(found.total for found in pairs)
    lines = []
    if "mpo" in logs and logs["mpo"].last_step:
        lines.append(f"mpo: {logs['mpo'].last_step:,} steps")
        if (accuracy := logs["mpo"].final("rewards/accuracies")) is not None:
            lines.append(f"reward accuracy {fixed(100 * accuracy, 0)} % at the end")
    for name, log in logs.items():
        accuracy = Estimate.read(run.stages[name].result.get("accuracy"))
        if log.of_reward_model and accuracy:
            lines.append(f"{name}: {fixed(100 * accuracy.value, 0)} % right on pairs held out")
        elif log.of_rollouts:
            scores = log.values("objective/scores")
            lines.append(f"{name}: {log.last_step:,} steps, score {fixed(scores[0], 2)} → {fixed(scores[-1], 2)}")
    lines = lines[:MAX_LINES]
    return Panel("Align", f"{total:,}" if total else "–", "preference pairs" if total else "no pairs yet", lines)


def _measure_panel(estimates: Estimates) -> Panel:
    model = aligned(estimates)
    old, new = estimates.get(BASE, {}), estimates.get(model, {})
    shared = _headlines(estimates)
    if not shared:
        return Panel("Measure", "–", "not compared yet", [])
    first, *others = shared
    gap = new[first.key].value - old[first.key].value
    lines = [
        f"{metric.title or metric.label} {_span(metric, old[metric.key], new[metric.key], ' → ')}"
        for metric in [first, *others[:2]]
    ]
    unit = "points " if first.percent else ""
    return Panel(
        "Measure",
        fixed(gap * first.scale, first.decimals, sign=True),
        f"{unit}{first.noun}, {BASE} to {model}",
        lines,
    )


def count_parameters(stage: Stage | None) -> int:
    """Count the numbers in a stage's saved model from the headers of its safetensors files; 0 where there are none."""
    total = 0
    for path in sorted((stage.folder / "model").glob("*.safetensors")) if stage else ():
        for item in _safetensors_header(path).values():
            shape = item.get("shape") if isinstance(item, dict) else None
            if isinstance(shape, list):
                size = 1
                for length in shape:
                    size *= int(length)
                total += size
    return total


def _safetensors_header(path: Path) -> dict[str, object]:
    # Eight bytes with the length of the header, then the header as JSON: https://github.com/huggingface/safetensors
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < MAX_HEADER_BYTES else {}
    except (OSError, ValueError, struct.error):
        return {}
    return {name: item for name, item in header.items() if name != "__metadata__"} if isinstance(header, dict) else {}


def versions(run: Run) -> tuple[dict[str, str], str]:
    """Return the versions of the packages that matter, and whose they are."""
    told = run.summary.get("versions")
    if isinstance(told, dict) and told:
        return {str(name): str(value) for name, value in told.items()}, "of the run"
    found = {"python": python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found, "in place when this page was written"


def _span(metric: Metric, old: Estimate, new: Estimate, to: str) -> str:
    """Print two values of a metric: each is a share with its sign, of others the unit is told once."""
    unit = metric.unit if metric.higher_is_better is None and metric.unit else ""
    values = [fixed(item.value * metric.scale, metric.decimals) + " %" * metric.percent for item in (old, new)]
    return to.join(values) + (f" {unit}" if unit else "")


def _compact(count: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{number(round(count / size, 1 if count < 100 * size else 0))} {letter}"
    return str(count)


def _listed(items: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
