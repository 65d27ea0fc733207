"""Plots as small inline SVG that follows the page's light or dark colours.

Matplotlib draws with placeholder colours; each is then replaced by a CSS variable of the page, so that one drawing
reads well in both colour schemes. Text stays text in the page's font. A drawing is a pure function of its input: no
time stamp, hashed ids salted with the name of the figure, coordinates rounded to a tenth of a pixel.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from triptych.report.wording import number

MAX_POINTS = 400
WIDTH, HEIGHT = 340, 178
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 10, 34
LEGEND_HEIGHT = 18
MIN_SMOOTHED = 40
"""A curve of fewer points is drawn as it is."""
LOG_SPAN = 30
"""A loss that spans more than this factor is drawn on a logarithmic axis."""

INK, MUTED, GRID = "#010203", "#020304", "#030405"
SERIES = ("#110203", "#120304", "#130405", "#140506", "#150607", "#160708")
"""Colours of the series: in the page blue, vermillion, green, purple, orange and sky of Okabe and Ito (2008), tuned to
the background. They differ in lightness too, and every series also has its own dash."""
DASHES = ("solid", (0, (5, 1.6)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (9, 2)), (0, (3, 3)))
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line"} | {
    colour: f"--series-{n}" for n, colour in enumerate(SERIES, start=1)
}

STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.unicode_minus": True,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "text.parse_math": False,
    "path.simplify_threshold": 0.2,
}


@dataclass(frozen=True)
class Series:
    """One line of a plot: a value for each step. Values that are not finite leave a gap."""

    label: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Dot:
    """One row of a dot plot: a value with its interval."""

    label: str
    value: float
    low: float
    high: float
    emphasis: bool = False


def downsample(
    steps: Sequence[float], values: Sequence[float], limit: int = MAX_POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """Reduce a curve to at most `limit` points by averaging neighbours, so that no part of it is passed over.

    Args:
        steps: (N,) and `values` (N,), in the order of the steps.

    Returns:
        steps (M,) and values (M,) with M <= limit; a mean ignores values that are not finite, and is NaN over none.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if len(x) <= limit:
        return x, y
    starts = np.linspace(0, len(x), limit, endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, len(x)))
    good = np.isfinite(y)
    count = np.add.reduceat(good.astype(int), starts)
    total = np.add.reduceat(np.where(good, y, 0.0), starts)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.add.reduceat(x, starts) / sizes, mean


def smooth(values: np.ndarray) -> np.ndarray:
    """Return the moving mean (N,) over a fifteenth of the curve, cut off at its ends; NaN is left out and stays."""
    half = max(2, len(values) // 30)
    good = np.isfinite(values)
    totals = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(good)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return np.where(good, (totals[high] - totals[low]) / np.maximum(counts[high] - counts[low], 1), np.nan)


def line_figure(
    name: str,
    series: Sequence[Series],
    *,
    description: str,
    reference: float | None = None,
    percent: bool = False,
    log: bool = False,
    smoothed: bool = True,
    legend: bool = True,
) -> Markup:
    """Draw curves over training steps: thin as logged, bold as a moving mean.

    Args:
        name: unique in the page; prefix of the ids in the drawing.
        series: at most six.
        description: the text alternative.
        reference: where to draw a thin line, such as chance or zero.
        percent: values are shares of one, labelled in per cent.
        log: allow a logarithmic axis where the values span a factor of 30 or more.
        smoothed: draw the moving mean; False for what has no noise.
        legend: name the curves above the plot, where there are several; False where the page does.
    """
    curves = [(item.label, *downsample(item.steps, item.values)) for item in series[: len(SERIES)]]
    legend = legend and len(curves) > 1
    height = HEIGHT + LEGEND_HEIGHT * legend
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        axes = new_axes(WIDTH, height, LEFT, TOP + LEGEND_HEIGHT * legend)
        if reference is not None:
            axes.axhline(reference, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for (label, x, y), colour, dash in zip(curves, SERIES, DASHES, strict=False):
            noisy = smoothed and len(x) > MIN_SMOOTHED
            if noisy:
                axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.35)
            marker = "o" if len(x) == 1 else None
            bold = smooth(y) if noisy else y
            axes.plot(x, bold, color=colour, linewidth=1.8, linestyle=dash, marker=marker, label=label)
        _scale(axes, [y for _, _, y in curves], log=log, percent=percent)
        axes.set_xlabel("step", labelpad=2)
        if legend:
            draw_legend(axes, len(curves))
        return as_svg(axes.figure, name, description)


def dot_figure(name: str, dots: Sequence[Dot], *, description: str, reference: float | None = None) -> Markup:
    """Draw one row for each model: a dot with its 95 % interval, and a thin line at `reference`."""
    height = 30 + 25 * len(dots)
    left = 12 + 6.2 * max(len(dot.label) for dot in dots)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        axes = new_axes(WIDTH, height, left, 2, bottom=24)
        if reference is not None:
            axes.axvline(reference, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for row, dot in enumerate(dots):
            colour = SERIES[0] if dot.emphasis else MUTED
            axes.plot([dot.low, dot.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([dot.value], [row], "o", color=colour, markersize=7 if dot.emphasis else 5.5)
        axes.set_yticks(range(len(dots)), [dot.label for dot in dots])
        for label, dot in zip(axes.get_yticklabels(), dots, strict=True):
            label.set_color(INK if dot.emphasis else MUTED)
        axes.set_ylim(len(dots) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.margins(x=0.06)
        return as_svg(axes.figure, name, description)


def new_axes(width: float, height: float, left: float, top: float, bottom: float = BOTTOM) -> Axes:
    """Return empty axes inside margins, all in pixels of the page; call it, and `as_svg`, within `STYLE`."""
    # One point of the drawing is one pixel of the page at its natural width.
    figure = Figure(figsize=(width / 72, height / 72))
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - RIGHT) / width, (height - top - bottom) / height)
    )
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.tick_params(length=0, pad=5, labelsize=10)
    axes.set_axisbelow(True)
    return axes


def _scale(axes: Axes, curves: list[np.ndarray], *, log: bool, percent: bool) -> None:
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    if log and len(values) and values.min() > 0 and values.max() / values.min() > LOG_SPAN:
        axes.set_yscale("log")
        few_decades = values.max() / values.min() < LOG_SPAN**2
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 3) if few_decades else (1,), numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        if len(values) and values.min() == values.max():
            # A constant needs a range; zero in it shows how large the constant is.
            edges = sorted({0.0, float(values[0]) * 1.5} if values[0] else {-1.0, 1.0})
            axes.set_ylim(*edges)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, percent)))
    axes.margins(x=0.01)


def _tick(value: float, percent: bool) -> str:
    return f"{number(100 * value)} %" if percent else _short(value)


def _short(value: float) -> str:
    """Print a tick label in at most six characters."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return number(value / (1e3 if letter == "k" else size)) + letter
    return number(value)


def draw_legend(axes: Axes, num_series: int) -> None:
    """Name what is drawn, in a line above the axes."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=num_series,
        frameon=False,
        borderpad=0,
        borderaxespad=0.4,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.2,
        fontsize=10,
    )


def as_svg(figure: Figure, name: str, description: str) -> Markup:
    """Return a drawing as a piece of the page; `name` is unique in it, `description` the text alternative."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Markup(_inline(buffer.getvalue(), name, description))


def with_hover(svg: Markup, text: str) -> Markup:
    """Return a drawing that tells its numbers to whoever points at it."""
    head, line, body = svg.partition("\n")
    return Markup(f"{head}{line}<title>{escape(text)}</title>{line}{body}")


def _inline(svg: str, name: str, description: str) -> str:
    """Make matplotlib's SVG document a piece of the page: no prolog, unique ids, the page's colours and font."""
    name = re.sub(r"[^\w-]", "-", name)
    view_box = re.search(r'viewBox="([^"]*)"', svg)[1]
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # a style element would apply to the whole page
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r"<[^>]+>", lambda tag: _tidy_tag(tag[0], name, used), body)
    body = re.sub(r"<g/>|<defs>\s*</defs>", "", body)
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    return f'<svg viewBox="{view_box}" role="img" aria-label="{escape(description)}">\n{body}\n</svg>'


def _tidy_tag(tag: str, name: str, used: set[str]) -> str:
    tag = re.sub(r' id="([^"]*)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", tag)
    tag = re.sub(r"url\(#", f"url(#{name}-", tag).replace('xlink:href="#', f'href="#{name}-')
    tag = re.sub(r' transform="rotate\(-0[^"]*"', "", tag)
    tag = re.sub(r"font: \d+px [^;\"]*;? ?|font-family: [^;\"]*;? ?|font-size: [^;\"]*;? ?", "", tag)
    tag = re.sub(r"-?\d+\.\d{2,}", lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), tag)
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, f"var({variable})")
    return tag
