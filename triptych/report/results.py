"""What was measured: the result table and its plots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from triptych.report.figures import Dot, dot_figure
from triptych.report.metrics import KL, Metric, Table, all_metrics, tables
from triptych.report.reading import Run, Stage, finite
from triptych.report.wording import fixed

MODELS = ("sft", "sft_on_chosen", "dpo", "mpo", "ppo")
BASE = "sft"
ALIGNED = ("mpo", "ppo")
"""Models whose alignment a run is about; the first one measured is compared with the start model."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, which may be unknown."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def read(cls, item: Any) -> Estimate | None:
        """Read `{"value": v, "ci": [low, high]}`, or a bare number; None for anything else."""
        if not isinstance(item, dict):
            value = finite(item)
            return None if value is None else cls(value)
        value, interval = finite(item.get("value")), item.get("ci")
        if value is None:
            return None
        if isinstance(interval, list | tuple) and len(interval) == 2 and None not in map(finite, interval):
            return cls(value, float(interval[0]), float(interval[1]))
        return cls(value)


Estimates = dict[str, dict[str, Estimate]]
"""{model: {metric key: estimate}}, models in the order they are told."""


@dataclass(frozen=True)
class Cell:
    """One printed cell of the result table."""

    value: str
    interval: str = ""
    best: bool = False
    difference: str = ""
    verdict: str = ""
    """`better` or `worse` where the interval of the difference leaves out zero, else empty."""


@dataclass(frozen=True)
class Row:
    """One model of the result table; no cells where it is not measured yet."""

    model: str
    cells: list[Cell | None]


def measured(run: Run) -> Estimates:
    """Return the estimates of a run.

    The results of the evaluation stages count; `summary.json` fills in what they do not tell.
    """
    found: dict[str, dict[str, Any]] = {}
    summary = run.summary.get("metrics")
    for model, metrics in summary.items() if isinstance(summary, dict) else ():
        if isinstance(metrics, dict):
            found.setdefault(model, {}).update(metrics)
    for stage in run.stages.values():
        if stage.evaluates:
            found.setdefault(stage.evaluates, {}).update(stage.result)
        if stage.evaluates and (kl := _divergence(run, stage)) is not None:
            found[stage.evaluates].setdefault(KL, kl)
    wanted = all_metrics(key for metrics in found.values() for key in metrics)
    estimates = {
        model: {metric.key: estimate for metric in wanted if (estimate := Estimate.read(metrics.get(metric.key)))}
        for model, metrics in found.items()
    }
    return {model: estimates[model] for model in in_order(estimates) if estimates[model]}


def _divergence(run: Run, stage: Stage) -> float | None:
    """Return the divergence, at the end of its training on rewards, of the model that a stage evaluates."""
    told = Path(str(stage.config.get("model", "")))
    trained = run.stages.get(told.parent.name if told.name == "model" else stage.evaluates)  # models are STAGE/model
    return finite(trained.result.get("last_kl")) if trained else None


def in_order(models: Iterable[str]) -> list[str]:
    """Sort model names: the quickstart's first, in the order of its story, then any others by name."""
    return sorted(models, key=lambda model: (MODELS.index(model) if model in MODELS else len(MODELS), model))


def aligned(estimates: Estimates) -> str:
    """Return the model compared with the start model: mpo or ppo, else the last one told; empty where there is none."""
    others = [model for model in estimates if model != BASE]
    return next((model for model in ALIGNED if model in others), others[-1] if others else "")


def difference(new: Estimate, old: Estimate) -> Estimate:
    """Return `new - old` with a 95 % interval, by the method of variance estimates recovery.

    Zou and Donner 2008 (doi:10.1002/sim.3095), after Newcombe 1998: only the two intervals are needed. It takes the two
    as independent; models measured on the same questions mostly go up and down together, so it errs on the wide side.
    """
    value = new.value - old.value
    if None in (new.low, new.high, old.low, old.high):
        return Estimate(value)
    below = math.hypot(new.value - new.low, old.high - old.value)
    above = math.hypot(new.high - new.value, old.value - old.low)
    return Estimate(value, value - below, value + above)


def verdict(metric: Metric, gap: Estimate) -> str:
    """Return `better` or `worse` where the interval of a difference leaves out zero, else an empty string."""
    if metric.higher_is_better is None or gap.low is None or gap.high is None or gap.low <= 0 <= gap.high:
        return ""
    return "better" if (gap.value > 0) == metric.higher_is_better else "worse"


def measured_metrics(estimates: Estimates) -> list[Metric]:
    """Return the columns of the result table: what was measured of any model."""
    keys = {key for values in estimates.values() for key in values}
    return [metric for metric in all_metrics(keys) if metric.key in keys]


@dataclass(frozen=True)
class ResultTable:
    """Columns that belong together, and a row for each model."""

    table: Table
    rows: list[Row]


def result_tables(run: Run, estimates: Estimates, differences: Estimates) -> list[ResultTable]:
    """Return the result tables: every model, those the recipe has yet to measure too."""
    return [
        ResultTable(table, result_rows(run, estimates, differences, table.metrics))
        for table in tables(measured_metrics(estimates))
    ]


def result_rows(
    run: Run, estimates: Estimates, differences: Estimates, metrics: Sequence[Metric] | None = None
) -> list[Row]:
    """Return the rows of a result table: every measured model, and those the recipe has yet to measure.

    Args:
        metrics: the columns; None for all that were measured.
    """
    metrics = measured_metrics(estimates) if metrics is None else metrics
    expected = {stage.evaluates for stage in run.stages.values() if stage.evaluates}
    rows = []
    for model in in_order(expected | set(estimates)):
        gaps = differences.get(model, {})
        cells = [_cell(metric, model, estimates, gaps.get(metric.key)) for metric in metrics]
        rows.append(Row(model, cells if model in estimates else []))
    return rows


def _cell(metric: Metric, model: str, estimates: Estimates, gap: Estimate | None) -> Cell | None:
    estimate = estimates.get(model, {}).get(metric.key)
    if estimate is None:
        return None
    values = [other[metric.key].value for other in estimates.values() if metric.key in other]
    best = None if metric.higher_is_better is None else (max if metric.higher_is_better else min)(values)
    return Cell(
        value=fixed(estimate.value * metric.scale, metric.decimals),
        interval=interval_text(estimate, metric),
        best=len(values) > 1 and estimate.value == best,
        difference=fixed(gap.value * metric.scale, metric.decimals, sign=True) if gap else "",
        verdict=verdict(metric, gap) if gap else "",
    )


def interval_text(estimate: Estimate, metric: Metric) -> str:
    """Print the interval of an estimate in the unit of the metric, such as `73.0 – 76.8`; empty where unknown."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = (fixed(bound * metric.scale, metric.decimals) for bound in (estimate.low, estimate.high))
    return f"{low} – {high}"


@dataclass(frozen=True)
class Quantity:
    """A number as a table prints it, with its interval where that is known."""

    value: str = "–"
    interval: str = ""


def percent(estimate: Estimate | None) -> Quantity:
    """Print a share."""
    if estimate is None:
        return Quantity()
    metric = Metric("", "", None, "")
    return Quantity(f"{fixed(100 * estimate.value)} %", interval_text(estimate, metric))


@dataclass(frozen=True)
class Plot:
    """A titled drawing with a sentence on how to read it."""

    title: str
    note: str
    svg: Markup


def result_plots(estimates: Estimates) -> list[Plot]:
    """Draw one dot plot for each metric, with the start model as a thin line through it; of video tasks for a few."""
    plots = []
    for metric in measured_metrics(estimates):
        if not metric.plotted or (metric.table and not metric.glance):
            continue
        shown = {model: values[metric.key] for model, values in estimates.items() if metric.key in values}
        if not shown:
            continue
        dots = [
            Dot(
                model,
                estimate.value * metric.scale,
                metric.scale * (estimate.value if estimate.low is None else estimate.low),
                metric.scale * (estimate.value if estimate.high is None else estimate.high),
                emphasis=model == aligned(estimates),
            )
            for model, estimate in shown.items()
        ]
        told = "; ".join(f"{dot.label} {fixed(dot.value, metric.decimals)}" for dot in dots)
        base = shown.get(BASE)
        svg = dot_figure(
            f"result-{metric.key}",
            dots,
            description=f"{metric.full_label}: {told}",
            reference=base.value * metric.scale if base else None,
        )
        reading = {True: "more is better", False: "less is better", None: metric.meaning}[metric.higher_is_better]
        plots.append(Plot(metric.full_label, reading, svg))
    return plots
