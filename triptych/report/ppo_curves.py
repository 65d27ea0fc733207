"""Training on rewards: the same plots for every stage that did it, one over the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from triptych.report.curves import Log
from triptych.report.figures import DASHES, SERIES, Series, line_figure, with_hover
from triptych.report.reading import Run, Stage, finite
from triptych.report.results import Plot, Quantity
from triptych.report.wording import fixed, number

MAX_STAGES = len(SERIES)
COLUMNS = (
    ("Stage", "which"),
    ("Rewarded by", "reward model or function"),
    ("Steps", "rollouts"),
    ("Answers", "drawn from the policy and rewarded"),
    ("Score", "mean reward of an answer, without penalties: at first and at the end"),
    ("KL", "nats per answer from the reference, at the end"),
    ("Tokens", "of an answer: at first and at the end"),
    ("Seconds per step", "drawing answers, reading them in all roles, updating; medians"),
)


@dataclass(frozen=True)
class Panel:
    """One plot: the logged name it shows, and a sentence on how to read it."""

    title: str
    name: str
    note: str
    reference: float | None = None
    percent: bool = False
    log: bool = False
    value: Callable[[float], float] = float
    """Of what was logged, what is shown."""
    constant: bool = True
    """Whether it is worth a plot where it never changes."""


PANELS = (
    Panel("Score", "objective/scores", "Mean reward of the answers of a step, before penalties: what is to rise."),
    Panel(
        "Score less penalties",
        "objective/rlhf_reward",
        "What is maximised: the score less the price of leaving the reference and of answers too long or cut off.",
    ),
    Panel(
        "KL, nats per answer",
        "objective/kl",
        "How far the policy has left the reference. A score that rises only along with it may come from a reward model "
        "that is being fooled: read the answers below.",
        reference=0.0,
    ),
    Panel(
        "Tokens per answer",
        "completions/mean_length",
        "Higher scores for ever longer answers are bought with words.",
    ),
    Panel(
        "Answers that end",
        "completions/clipped_ratio",
        "Share of the answers that end by themselves within the limit of tokens; the others were cut off.",
        percent=True,
        value=lambda clipped: 1.0 - clipped,
    ),
    Panel(
        "Entropy, nats per answer",
        "objective/entropy",
        "How much answers vary. Near zero the policy always says the same, and nothing is left to learn from.",
    ),
    Panel(
        "Clipped share",
        "ppo/clipfrac",
        "Share of tokens whose probability wanted to change by more than the clip range in one step. Beyond 30 % the "
        "rate is too high or the epochs too many.",
        percent=True,
    ),
    Panel(
        "Approximate KL of a step, nats",
        "ppo/approx_kl",
        "How far the updates of one step move the policy. Beyond 0.1 the rate is too high or the epochs too many.",
    ),
    Panel(
        "Explained variance",
        "value/explained_variance",
        "How much of the returns the critic foresees: 1 all of it, the dotted zero nothing; below it, it does harm.",
        reference=0.0,
    ),
    Panel("Value loss", "loss/value", "Half the squared error of the critic, clipped. It should fall.", log=True),
    Panel(
        "Price of KL",
        "objective/kl_coef",
        "Weight of the penalty for each nat; it moves where a target is set.",
        constant=False,
    ),
    Panel("Spread of scores", "objective/scores_std", "Standard deviation of the scores within a step."),
)
REST = (
    Panel("Policy loss", "loss/policy", "The clipped objective with its sign turned. Its level says little."),
    Panel("Gradient norm", "grad_norm", "Before clipping. A steady rise comes before divergence.", log=True),
    Panel("Learning rate", "learning_rate", "The schedule."),
    Panel("Tokens per second", "tokens_per_second", "Speed of training, updates and rollouts together."),
)


@dataclass(frozen=True)
class Key:
    """One entry of the legend."""

    name: str
    colour: int
    """Number of the page's colour of series, from 1."""
    dashes: str
    """Lengths of dashes and gaps in pixels; empty for a solid line."""


@dataclass(frozen=True)
class PolicyTraining:
    """All stages that trained on rewards."""

    rows: list[tuple[str, list[Quantity]]]
    legend: list[Key]
    plots: list[Plot]
    rest: list[Plot]
    left_out: list[str]
    """Stages beyond the colours there are."""


def policy_training(run: Run, logs: dict[str, Log]) -> PolicyTraining | None:
    """Return tables and plots of the stages that trained on rewards; None where there is none."""
    drawn = [(name, log) for name, log in logs.items() if log.of_rollouts]
    if not drawn:
        return None
    shown, left_out = drawn[:MAX_STAGES], [name for name, _ in drawn[MAX_STAGES:]]
    return PolicyTraining(
        rows=[(name, _cells(run.stages[name], log)) for name, log in drawn],
        legend=[_key(number, name) for number, (name, _) in enumerate(shown)] if len(shown) > 1 else [],
        plots=[plot for panel in PANELS if (plot := _plot(panel, shown))],
        rest=[plot for panel in REST if (plot := _plot(panel, shown))],
        left_out=left_out,
    )


def _plot(panel: Panel, logs: list[tuple[str, Log]]) -> Plot | None:
    """Draw a panel; a stage that did not log it keeps its colour for the others. None where none did."""
    series = []
    for name, log in logs:
        steps, values = log.columns.get(panel.name, ([], []))
        series.append(Series(name, steps, [panel.value(value) for value in values]))
    told = "; ".join(
        f"{item.label} {number(item.values[0])} at first, {number(item.values[-1])} at step {number(item.steps[-1])}"
        for item in series
        if item.values
    )
    if not told or (not panel.constant and all(len(set(item.values)) < 2 for item in series)):
        return None
    svg = line_figure(
        f"policy-{panel.name.replace('/', '-')}",
        series,
        description=f"{panel.title}: {told}",
        reference=panel.reference,
        percent=panel.percent,
        log=panel.log,
        legend=False,
    )
    return Plot(panel.title, panel.note, with_hover(svg, told))


def _cells(stage: Stage, log: Log) -> list[Quantity]:
    answers = finite(stage.result.get("answers"))
    kl = log.final("objective/kl")
    parts = [log.values(f"seconds/{part}") for part in ("sampling", "reading", "updates")]
    times = " + ".join(number(median(values), 2) for values in parts if values)
    return [
        Quantity(_rewarder(stage)),
        Quantity(f"{log.last_step:,}"),
        Quantity() if answers is None else Quantity(f"{int(answers):,}"),
        Quantity(_change(log, "objective/scores", 2)),
        Quantity() if kl is None else Quantity(fixed(kl, 2)),
        Quantity(_change(log, "completions/mean_length", 1)),
        Quantity(times or "–"),
    ]


def _change(log: Log, name: str, decimals: int) -> str:
    """Print a logged number at first and at the end."""
    values, last = log.values(name), log.final(name)
    return f"{fixed(values[0], decimals)} → {fixed(last, decimals)}" if last is not None else "–"


def _rewarder(stage: Stage) -> str:
    """Name the stage whose reward model was asked, or the function."""
    told = str(stage.config.get("reward_model") or "")
    path = Path(told)
    if ":" in path.name:
        return told.rpartition(":")[2]
    return (path.parent.name if path.name == "model" else path.name) or "–"


def _key(place: int, name: str) -> Key:
    dash = DASHES[place]
    return Key(name, place + 1, "" if isinstance(dash, str) else " ".join(f"{1.8 * part:g}" for part in dash[1]))
