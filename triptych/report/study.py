"""The same recipe over several seeds, where `study.json` tells of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from triptych.report.metrics import Metric, Table, all_metrics, tables
from triptych.report.reading import Run, finite
from triptych.report.results import Estimate, in_order, interval_text
from triptych.report.wording import fixed, number


@dataclass(frozen=True)
class StudyTable:
    """Columns that belong together, over several seeds."""

    table: Table
    rows: list[tuple[str, list[tuple[str, str, str] | None]]]
    """For each model, a (value, interval, values of the seeds) for each metric."""


@dataclass(frozen=True)
class Study:
    """The same recipe over several seeds, as the report prints it."""

    num_seeds: int
    tables: list[StudyTable]
    differences: list[tuple[str, str, str]]
    targets: list[tuple[str, str, str, str, bool]]
    """Name, value, interval, target, whether it is met."""


def read_study(run: Run) -> Study | None:
    """Read `study.json`; None where there is none."""
    told = run.study.get("metrics")
    if not isinstance(told, dict):
        return None
    models = {model: values for model, values in told.items() if isinstance(values, dict)}
    keys = {str(key) for values in models.values() for key in values}
    known = all_metrics(keys)
    shown = [
        StudyTable(table, _rows(models, table.metrics))
        for table in tables(metric for metric in known if metric.key in keys)
    ]
    differences = [
        (str(name), *_in_unit(str(name), estimate, known))
        for name, item in _items(run.study.get("differences"))
        if (estimate := Estimate.read(item))
    ]
    targets = [_target(item) for item in run.study.get("targets") or () if isinstance(item, dict)]
    return Study(int(finite(run.study.get("seeds")) or 0), shown, differences, targets)


def _rows(
    models: dict[str, dict[str, Any]], metrics: list[Metric]
) -> list[tuple[str, list[tuple[str, str, str] | None]]]:
    return [(name, [_cell(metric, models[name].get(metric.key)) for metric in metrics]) for name in in_order(models)]


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _cell(metric: Metric, item: Any) -> tuple[str, str, str] | None:
    estimate = Estimate.read(item)
    if estimate is None:
        return None
    seeds = item.get("per_seed") if isinstance(item, dict) else None
    values = [value for value in map(finite, seeds or ()) if value is not None]
    return (
        fixed(estimate.value * metric.scale, metric.decimals),
        interval_text(estimate, metric),
        "  ".join(fixed(value * metric.scale, metric.decimals) for value in values),
    )


def _in_unit(name: str, estimate: Estimate, metrics: list[Metric]) -> tuple[str, str]:
    """Print a named difference: in points where the name tells of a metric that is a share, else as it is."""
    named = (metric for metric in metrics if re.search(rf"(?<!\w){re.escape(metric.key)}(?!\w)", name))
    metric = max(named, key=lambda metric: len(metric.key), default=None)
    if metric is None:
        interval = "" if estimate.low is None else f"{number(estimate.low)} – {number(estimate.high)}"
        return number(estimate.value), interval
    value = fixed(estimate.value * metric.scale, metric.decimals, sign=True)
    if estimate.low is None or estimate.high is None:
        return value, ""
    low, high = (fixed(bound * metric.scale, metric.decimals, sign=True) for bound in (estimate.low, estimate.high))
    return value, f"{low} to {high}"


def _target(item: dict[str, Any]) -> tuple[str, str, str, str, bool]:
    estimate = Estimate.read({"value": item.get("value"), "ci": item.get("ci")})
    value = number(estimate.value) if estimate else "–"
    interval = f"{number(estimate.low)} to {number(estimate.high)}" if estimate and estimate.low is not None else ""
    target = item.get("target")
    wanted = finite(target)
    goal = number(wanted) if wanted is not None else str(target or "–")
    return str(item.get("name", "")), value, interval, goal, bool(item.get("met"))
