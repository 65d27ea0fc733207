"""What was measured: the result table and its plots."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from triptych.report.figures import Dot, dot_figure
from triptych.report.reading import Run, finite
from triptych.report.wording import fixed

MODELS = ("sft", "sft_on_chosen", "dpo", "mpo")
BASE = "sft"


@dataclass(frozen=True)
class Metric:
    """One column of the result table."""

    key: str
    label: str
    higher_is_better: bool
    meaning: str
    percent: bool = True

    @property
    def scale(self) -> float:
        """Factor from the value on disk (a share of one) to the value printed."""
        return 100.0 if self.percent else 1.0

    @property
    def decimals(self) -> int:
        """Decimals printed."""
        return 1 if self.percent else 2


METRICS = (
    Metric("accuracy", "Accuracy", True, "questions answered right"),
    Metric("direct", "Direct", True, "questions answered right when only the answer is asked for"),
    Metric("cot", "Chain of thought", True, "questions answered right after reasoning step by step"),
    Metric("unparsed", "Unparsed", False, "answers in which no final answer can be found"),
    Metric("hallucination", "Hallucination", False, "greedy descriptions with a claim the picture contradicts"),
    Metric("hallucination_sampled", "Hallucination, sampled", False, "the same, sampled at temperature 1"),
    Metric("coverage", "Coverage", True, "what is in the picture that the descriptions mention"),
    Metric("cider", "CIDEr", True, "agreement with reference texts (Vedantam et al. 2015)", percent=False),
)


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
    estimates = {
        model: {metric.key: estimate for metric in METRICS if (estimate := Estimate.read(metrics.get(metric.key)))}
        for model, metrics in found.items()
    }
    return {model: estimates[model] for model in in_order(estimates) if estimates[model]}


def in_order(models: Iterable[str]) -> list[str]:
    """Sort model names: the quickstart's first, in the order of its story, then any others by name."""
    return sorted(models, key=lambda model: (MODELS.index(model) if model in MODELS else len(MODELS), model))


def aligned(estimates: Estimates) -> str:
    """Return the model compared with the start model: mpo, else the last one told; empty where there is none."""
    others = [model for model in estimates if model != BASE]
    return "mpo" if "mpo" in others else (others[-1] if others else "")


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
    if gap.low is None or gap.high is None or gap.low <= 0 <= gap.high:
        return ""
    return "better" if (gap.value > 0) == metric.higher_is_better else "worse"


def measured_metrics(estimates: Estimates) -> list[Metric]:
    """Return the columns of the result table: what was measured of any model."""
    return [metric for metric in METRICS if any(metric.key in values for values in estimates.values())]


def result_rows(run: Run, estimates: Estimates, differences: Estimates) -> list[Row]:
    """Return the rows of the result table: every measured model, and those the recipe has yet to measure."""
    expected = {stage.evaluates for stage in run.stages.values() if stage.evaluates}
    rows = []
    for model in in_order(expected | set(estimates)):
        gaps = differences.get(model, {})
        cells = [_cell(metric, model, estimates, gaps.get(metric.key)) for metric in measured_metrics(estimates)]
        rows.append(Row(model, cells if model in estimates else []))
    return rows


def _cell(metric: Metric, model: str, estimates: Estimates, gap: Estimate | None) -> Cell | None:
    estimate = estimates.get(model, {}).get(metric.key)
    if estimate is None:
        return None
    values = [other[metric.key].value for other in estimates.values() if metric.key in other]
    best = (max if metric.higher_is_better else min)(values)
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
class Plot:
    """A titled drawing with a sentence on how to read it."""

    title: str
    note: str
    svg: Markup


def result_plots(estimates: Estimates) -> list[Plot]:
    """Draw one dot plot for each metric, with the start model as a thin line through it."""
    plots = []
    for metric in METRICS:
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
        unit = ", %" if metric.percent else ""
        told = "; ".join(f"{dot.label} {fixed(dot.value, metric.decimals)}" for dot in dots)
        base = shown.get(BASE)
        svg = dot_figure(
            f"result-{metric.key}",
            dots,
            description=f"{metric.label}{unit}: {told}",
            reference=base.value * metric.scale if base else None,
        )
        arrow = "more is better" if metric.higher_is_better else "less is better"
        plots.append(Plot(metric.label + unit, arrow, svg))
    return plots
