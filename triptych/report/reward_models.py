"""Reward models: how they learnt, how often they are right about pairs held out, and how well they know that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from triptych.evaluation.intervals import share
from triptych.report.bars import Bin, bar_figure, calibration_figure
from triptych.report.curves import Log
from triptych.report.examples import group_of
from triptych.report.figures import Series, line_figure, with_hover
from triptych.report.oracle import preference
from triptych.report.reading import Run, Stage, finite
from triptych.report.results import Estimate, Plot, Quantity, percent
from triptych.report.rewards_held_out import Key, held_out_rows, key_of, trained_on
from triptych.report.wording import fixed, number

NUM_BINS = 24
"""Bars of the histogram of margins."""
COLUMNS = (
    ("Reward model", "the stage"),
    ("Pairs of", "the stages that made them"),
    ("Trained on", "pairs"),
    ("Held out", "pairs about videos or pictures that were not trained on"),
    ("Right", "share of the pairs held out whose chosen answer has the higher reward"),
    ("By the oracle", "the same by the oracle's preference, of the pairs it sees a difference in"),
    ("Longer", "share of the pairs held out whose chosen answer is longer: what a look at length alone would get"),
    ("Calibration error", "mean distance of how sure the rewards are from how often they are right"),
)


@dataclass(frozen=True)
class Curve:
    """One plot over steps: the logged names it shows, what they are called, and a sentence on how to read it."""

    title: str
    names: tuple[str, str]
    labels: tuple[str, str]
    note: str
    reference: float
    percent: bool = False


MEASURED = ("trained on", "held out")
CURVES = (
    Curve(
        "Loss",
        ("loss", "eval_loss"),
        MEASURED,
        "Negative log-probability that the chosen answer is the better one, in nats. It starts at 0.69, the toss of a "
        "coin; where it rises for what is held out and falls for what is trained on, pairs are learned by heart.",
        0.6931,
    ),
    Curve(
        "Accuracy",
        ("rewards/accuracies", "eval_rewards/accuracies"),
        MEASURED,
        "Share of pairs whose chosen answer has the higher reward; the dotted line is chance.",
        0.5,
        percent=True,
    ),
    Curve(
        "Rewards",
        ("rewards/chosen", "rewards/rejected"),
        ("chosen", "rejected"),
        "Mean reward of the chosen and of the rejected answers. They should part around zero.",
        0.0,
    ),
)


@dataclass(frozen=True)
class RewardStage:
    """One reward model."""

    stage: Stage
    cells: list[Quantity]
    plots: list[Plot]


def reward_stages(run: Run, logs: dict[str, Log]) -> list[RewardStage]:
    """Return the reward models of a run, each with its plots."""
    found = []
    for stage, log in ((run.stages[name], log) for name, log in logs.items() if log.of_reward_model):
        rewards = held_out_rows(run, stage)
        plots = [*_curves(stage, log), *_calibration(stage), *_margins(stage, rewards)]
        found.append(RewardStage(stage, _cells(run, stage, rewards), plots))
    return found


@dataclass(frozen=True)
class Section:
    """The section as the page prints it."""

    columns: list[tuple[str, str]]
    rows: list[tuple[str, list[Quantity]]]
    stages: list[RewardStage]


def section(stages: list[RewardStage]) -> Section:
    """Lay out the section: a line of the table for each stage, without the columns that none has anything for."""
    heads = COLUMNS[1:]
    kept = [n for n, _ in enumerate(heads) if any(item.cells[n].value != "–" for item in stages)]
    rows = [(item.stage.name, [item.cells[n] for n in kept]) for item in stages]
    return Section([COLUMNS[0], *(heads[n] for n in kept)], rows, stages)


def _cells(run: Run, stage: Stage, rewards: dict[Key, dict[str, float]]) -> list[Quantity]:
    result = stage.result
    counts = [finite(result.get(name)) for name in ("pairs", "held_out_pairs")]
    ece = finite(result.get("ece"))
    sources = dict.fromkeys(path.parent.name or path.name for path in trained_on(stage))
    return [
        Quantity(", ".join(sources) or "–"),
        *(Quantity() if count is None else Quantity(f"{int(count):,}") for count in counts),
        percent(Estimate.read(result.get("accuracy"))),
        percent(_by_oracle(run, stage, rewards)),
        percent(Estimate.read(result.get("longer"))),
        percent(None if ece is None else Estimate(ece)),
    ]


def _by_oracle(run: Run, stage: Stage, rewards: dict[Key, dict[str, float]]) -> Estimate | None:
    """Return how often the answer with the higher reward is the one that the oracle prefers."""
    outcomes = []
    ids = {name for name, *_ in rewards}
    for path in map(run.find, trained_on(stage)) if rewards else ():
        for row in run.rows(path):
            group = group_of(run, path, row) if row.get("id") in ids else None
            for pair in group.pairs if group else ():
                if told := rewards.get(key_of(group, pair)):
                    texts = [group.completions[index].text for index in (pair.chosen, pair.rejected)]
                    if (better := preference(*texts, group)[1]) is not None:
                        gap = told["chosen"] - told["rejected"]
                        outcomes.append(gap > 0 if better == 0 else gap < 0)
    return Estimate.read(share(sum(outcomes), len(outcomes))) if outcomes else None


def _curves(stage: Stage, log: Log) -> Iterator[Plot]:
    """Draw loss, accuracy and rewards, of what is held out too where that was measured on the way."""
    for curve in CURVES:
        named = zip(curve.labels, curve.names, strict=True)
        series = [Series(label, *log.columns[name]) for label, name in named if name in log.columns]
        if not series:
            continue
        told = "; ".join(f"{item.label} {number(item.values[0])} to {number(item.values[-1])}" for item in series)
        svg = line_figure(
            f"reward-{stage.name}-{curve.title.lower()}",
            series,
            description=f"{curve.title} of {stage.name}: {told}",
            reference=curve.reference,
            percent=curve.percent,
        )
        yield Plot(curve.title, curve.note, with_hover(svg, told))


def _calibration(stage: Stage) -> list[Plot]:
    told = stage.result.get("calibration")
    bins = [found for item in (told if isinstance(told, list) else []) if (found := _bin(item))]
    sure = [item for item in bins if item.predicted >= 0.5]  # those below are the same pairs the other way round
    if not sure:
        return []
    words = "; ".join(
        f"{fixed(100 * item.predicted, 0)} % sure, {fixed(100 * item.observed, 0)} % right" for item in sure
    )
    note = (
        "How often the rewards are right about what is held out, over how sure they are, with 95 % intervals. Above "
        "the dotted line they are less sure than they are right, below it more."
    )
    svg = calibration_figure(f"calibration-{stage.name}", sure, description=f"Calibration of {stage.name}: {words}")
    return [Plot("Calibration", note, with_hover(svg, words))]


def _bin(item: Any) -> Bin | None:
    values = [finite(item.get(name)) for name in ("count", "predicted", "observed")] if isinstance(item, dict) else []
    if not values or None in values or values[0] < 1:
        return None
    count, predicted, observed = values
    low, high = share(round(observed * count), int(count))["ci"]
    return Bin(int(count), predicted, observed, low, high)


def _margins(stage: Stage, rewards: dict[Key, dict[str, float]]) -> list[Plot]:
    gaps = np.array([item["chosen"] - item["rejected"] for item in rewards.values()])
    if not len(gaps):
        return []
    # A few far out must not squeeze the rest: they count in the outermost bars.
    reach = float(np.quantile(np.abs(gaps), 0.99)) or 1.0
    scale = 10.0 ** np.floor(np.log10(reach))
    reach = ceil(reach / scale) * scale
    parts = {"right": gaps[gaps > 0].tolist(), "wrong": gaps[gaps <= 0].tolist()}
    told = f"{len(parts['right']):,} right, {len(parts['wrong']):,} wrong"
    svg = bar_figure(
        f"margins-{stage.name}",
        parts,
        (-reach, reach),
        NUM_BINS,
        x_label="reward of chosen less rejected",
        description=f"Margins of {stage.name}: {told}",
        reference=0.0,
    )
    note = "Pairs held out by how far apart their rewards are; right of the dotted line the chosen answer has more."
    return [Plot("Margins", note, with_hover(svg, told))]
