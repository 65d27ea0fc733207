"""Figures that a study is held to, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from triptych.evaluation.intervals import over_seeds

Metrics = dict[str, dict[str, Any]]
"""Results by model or stage and by name; each has a `value`."""
Reached = Literal["value", "low", "high"]
"""What must reach a target. value: the mean over the seeds. low: its whole interval, so that it surely does. high: the
upper end of the interval, so that it is not surely missed."""
Unit = Literal["per cent", "tokens", "plain"]
"""Of a figure: a share of one, printed in per cent; a number of tokens; a number as it is, such as a score."""
NO_SHARES = ("true_", "generative", "length", "kl", "last_", "score", "median_rank", "num_", "pairs", "cider")
"""Beginnings of the names of metrics that are no shares of one."""


@dataclass(frozen=True)
class Target:
    """A figure computed from the metrics of one run, and what its mean over the seeds is to reach.

    Attributes:
        name: what is printed.
        figure: from the metrics of a run; one that lacks a metric raises `KeyError`.
        least: the target.
        reached: what of the mean must reach it.
        unit: of the figure.
    """

    name: str
    figure: Callable[[Metrics], float]
    least: float
    reached: Reached = "value"
    unit: Unit = "per cent"

    def applies(self, runs: Sequence[Metrics]) -> bool:
        """Say whether every run has the figure: other recipes measure other things, and nothing reduces a rate of 0."""
        try:
            return all(math.isfinite(self.figure(run)) for run in runs)
        except (KeyError, ZeroDivisionError):
            return False

    def judged(self, figure: dict[str, Any]) -> dict[str, Any]:
        """Return the figure over the seeds beside the target, and whether it is met."""
        return judged(self.name, figure, self.least, self.reached, self.unit)


def judged(name: str, figure: dict[str, Any], least: float, reached: Reached, unit: Unit) -> dict[str, Any]:
    """Return what `study.json` says of a figure over the seeds that is held to a target."""
    held = {"value": figure["value"], "low": figure["ci"][0], "high": figure["ci"][1]}[reached]
    told = {"name": name, "value": figure["value"], "ci": figure["ci"], "target": least}
    return told | {"reached": reached, "unit": unit, "met": bool(held >= least)}


def gain(metric: str, model: str, base: str) -> Callable[[Metrics], float]:
    """Return the figure that tells by how much a metric of one model is above that of another."""
    return lambda metrics: metrics[model][metric]["value"] - metrics[base][metric]["value"]


def relative_gain(metric: str, model: str, base: str) -> Callable[[Metrics], float]:
    """Return the figure that tells by what share of it a metric of one model is above that of another."""
    return lambda metrics: metrics[model][metric]["value"] / metrics[base][metric]["value"] - 1


def value_of(metric: str, model: str) -> Callable[[Metrics], float]:
    """Return the figure that is a metric of a model, or a number that a stage has left."""
    return lambda metrics: metrics[model][metric]["value"]


def over(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean over seeds with its interval, and the values."""
    return dict(over_seeds(list(values))) | {"per_seed": list(values)}


def unit_of(metric: str) -> Unit:
    """Return the unit of a metric by its name."""
    if metric.startswith("length"):
        return "tokens"
    return "plain" if metric.startswith(NO_SHARES) else "per cent"


def printed(estimate: dict[str, Any], unit: Unit) -> str:
    """Print a mean and the half-width of its interval."""
    scale, decimals = {"per cent": (100.0, 1), "tokens": (1.0, 1), "plain": (1.0, 2)}[unit]
    half_width = (estimate["ci"][1] - estimate["ci"][0]) / 2
    return f"{scale * estimate['value']:.{decimals}f} ± {scale * half_width:.{decimals}f}"


def target_line(target: dict[str, Any]) -> str:
    """Say how far a target is met."""
    goal = f"{target['target'] * (100 if target['unit'] == 'per cent' else 1):g}"
    wanted = {"value": "", "low": " surely", "high": " within the interval"}[target["reached"]]
    verdict = "met" if target["met"] else "missed"
    unit = " tokens" if target["unit"] == "tokens" else ""
    return f"{target['name']:<58}{printed(target, target['unit']):>16}   target {goal}{unit}{wanted}: {verdict}"
