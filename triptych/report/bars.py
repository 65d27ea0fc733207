"""Plots of shares and counts: histograms in parts, and whether a model is as sure as it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from triptych.report.figures import (
    BOTTOM,
    GRID,
    HEIGHT,
    LEFT,
    LEGEND_HEIGHT,
    MUTED,
    SERIES,
    STYLE,
    TOP,
    WIDTH,
    as_svg,
    draw_legend,
    new_axes,
)
from triptych.report.wording import number

PARTS = (SERIES[0], SERIES[1], GRID)
"""Colours of the parts of a histogram, from the bottom up."""


@dataclass(frozen=True)
class Bin:
    """Predictions of about one probability: their number, mean and the share that is right with its interval."""

    count: int
    predicted: float
    observed: float
    low: float
    high: float


def bar_figure(
    name: str,
    parts: Mapping[str, Sequence[float]],
    span: tuple[float, float],
    num_bins: int,
    *,
    x_label: str,
    description: str,
    reference: float | None = None,
) -> Markup:
    """Draw a histogram whose bars are made of parts, one above the other.

    Args:
        name: unique in the page; prefix of the ids in the drawing.
        parts: values by the name of their part, at most three parts.
        span: the axis; values beyond it count in the outermost bars.
        num_bins: number of bars.
        x_label: what the values are, with their unit.
        description: the text alternative.
        reference: where to draw a thin upright line.
    """
    edges = np.linspace(*span, num_bins + 1)
    legend = len(parts) > 1
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        axes = new_axes(WIDTH, HEIGHT + LEGEND_HEIGHT * legend, LEFT, TOP + LEGEND_HEIGHT * legend, BOTTOM + 3)
        below = np.zeros(num_bins)
        for (label, values), colour in zip(parts.items(), PARTS, strict=False):
            counts = np.histogram(np.clip(values, *span), edges)[0]
            axes.bar(edges[:-1], counts, np.diff(edges) * 0.92, below, align="edge", color=colour, label=label)
            below += counts
        if reference is not None:
            axes.axvline(reference, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set_xlim(*span)
        axes.set_ylim(0, max(1.0, 1.08 * below.max()))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
        _tick_numbers(axes)
        axes.set_xlabel(x_label, labelpad=1)
        if legend:
            draw_legend(axes, len(parts))
        return as_svg(axes.figure, name, description)


def calibration_figure(name: str, bins: Sequence[Bin], *, description: str) -> Markup:
    """Draw how often the better one was told, over how sure the rewards were; on the dotted line they are as sure as
    they are right. The size of a dot is its share of the pairs.
    """
    total = sum(item.count for item in bins)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        axes = new_axes(WIDTH, HEIGHT, LEFT, TOP, BOTTOM)
        axes.plot([0.5, 1], [0.5, 1], color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for item in bins:
            axes.plot([item.predicted] * 2, [item.low, item.high], color=SERIES[0], linewidth=1.6)
            size = 4 + 6 * (item.count / total) ** 0.5
            axes.plot([item.predicted], [item.observed], "o", color=SERIES[0], markersize=size)
        axes.set_xlim(0.49, 1.01)
        low = min([0.5, *(item.low for item in bins)])
        axes.set_ylim(low - 0.04, 1.04)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        percent = FuncFormatter(lambda value, _: f"{number(round(100 * value, 6))} %")
        axes.xaxis.set_major_formatter(percent)
        axes.yaxis.set_major_formatter(percent)
        axes.set_xlabel("probability by the rewards", labelpad=2)
        return as_svg(axes.figure, name, description)


def _tick_numbers(axes: matplotlib.axes.Axes) -> None:
    plain = FuncFormatter(lambda value, _: number(round(value, 9)))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(plain)
    axes.tick_params(axis="x", pad=8)  # its first number would touch the zero of the other axis
    axes.yaxis.set_major_formatter(plain)
