"""Training curves: which plots a stage gets, and how each is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from triptych.objectives.names import LOSSES
from triptych.report.figures import Series, line_figure
from triptych.report.reading import Run, Stage, finite
from triptych.report.results import Plot
from triptych.report.wording import number

COMPARISONS = ("sft_on_chosen", "dpo")


@dataclass(frozen=True)
class Panel:
    """One plot: the logged names it shows and a sentence on how to read it."""

    title: str
    names: tuple[str, ...]
    note: str
    reference: float | None = None
    percent: bool = False
    log: bool = False
    smoothed: bool = True


LANGUAGE_LOSS = Panel(
    "Loss",
    ("loss",),
    "Mean negative log-likelihood of a target token, in nats. It should fall fast, then ever more slowly; "
    "where it is flat, more steps at this learning rate bring nothing.",
    log=True,
)
PREFERENCE_LOSS = Panel(
    "Loss",
    ("loss",),
    "The weighted sum of the terms of the objective. At the first step policy and reference agree, so the preference "
    "terms start at fixed values (DPO: 0.69) and should fall from there.",
)
PANELS = (
    Panel(
        "Terms of the loss",
        tuple(kind.metric for kind in LOSSES.values()),
        "dpo tells chosen from rejected, bco tells good from bad on its own, sft imitates the chosen. Preference terms "
        "should fall; a rising sft term says that the chosen answers themselves become unlikely.",
    ),
    Panel(
        "Rewards",
        ("rewards/chosen", "rewards/rejected"),
        "Beta times the log-ratio of policy to reference. Chosen should run above rejected; if both sink, the policy "
        "makes rejected answers rarer without making chosen ones likelier.",
        reference=0.0,
    ),
    Panel(
        "Margin",
        ("rewards/margins",),
        "Reward of the chosen minus reward of the rejected answer: zero at the start, growing as the policy learns "
        "to prefer.",
        reference=0.0,
    ),
    Panel(
        "Reward accuracy",
        ("rewards/accuracies",),
        "Share of pairs whose chosen answer has the higher reward; the dotted line is chance. Near 100 % early on, the "
        "pairs teach little more.",
        reference=0.5,
        percent=True,
    ),
    Panel(
        "Reward shift δ",
        ("mpo/delta",),
        "Running mean of all rewards, the zero line of the bco term. It should drift slowly, not jump.",
        reference=0.0,
        smoothed=False,
    ),
    Panel(
        "Log-probabilities",
        ("logps/chosen", "logps/rejected"),
        "Summed over a completion, in nats. Chosen should hold or rise while rejected falls.",
    ),
    Panel(
        "Learning rate",
        ("learning_rate",),
        "The schedule: warm-up, then decay. The last part of the loss curve belongs to the decay.",
        smoothed=False,
    ),
    Panel(
        "Gradient norm",
        ("grad_norm",),
        "Before clipping. Single spikes are harmless; a steady rise comes before divergence.",
        log=True,
    ),
    Panel(
        "Tokens per second",
        ("tokens_per_second",),
        "Speed of training. Dips are checkpoints, longer texts or other work on the machine.",
    ),
    Panel(
        "MFU",
        ("mfu",),
        "Model FLOPs utilisation: the arithmetic the model needs as a share of what the machine could do.",
        percent=True,
    ),
)


@dataclass(frozen=True)
class Log:
    """The logged numbers of a stage by name, each with its steps in ascending order."""

    columns: dict[str, tuple[list[float], list[float]]]

    def values(self, name: str) -> list[float]:
        """Return the values logged under a name."""
        return self.columns.get(name, ([], []))[1]

    def final(self, name: str) -> float | None:
        """Return the mean of the last twentieth of what was logged under a name; None where nothing was."""
        values = self.values(name)
        return fmean(values[-max(1, len(values) // 20) :]) if values else None

    @property
    def of_reward_model(self) -> bool:
        """Tell whether a reward model was trained."""
        return "reward/bradley_terry" in self.columns

    @property
    def of_rollouts(self) -> bool:
        """Tell whether a policy was trained on rewards of its own answers."""
        return "objective/scores" in self.columns

    @property
    def of_texts(self) -> bool:
        """Tell whether texts or pairs were trained on; the others have sections of their own."""
        return not (self.of_reward_model or self.of_rollouts)

    @property
    def last_step(self) -> int:
        """The highest step logged; 0 for an empty log."""
        return int(max((steps[-1] for steps, _ in self.columns.values()), default=0))


@dataclass(frozen=True)
class Share:
    """How much of what a stage drew came from a source: measured, and asked for where the configuration tells."""

    source: str
    measured: float
    asked: float | None


@dataclass(frozen=True)
class StageCurves:
    """The plots of one stage under one line of facts."""

    stage: Stage
    facts: str
    plots: list[Plot]

    @property
    def main(self) -> bool:
        """False for the stages that are trained only to be compared with, whose plots are folded away."""
        return self.stage.name not in COMPARISONS


def read_log(run: Run, stage: Stage) -> Log:
    """Read `metrics.jsonl`. Of several rows of one step, as a killed and resumed job may leave, the last one counts."""
    by_step: dict[float, dict[str, float]] = {}
    for row in run.rows(stage.folder / "metrics.jsonl"):
        values = {name: value for name, item in row.items() if (value := finite(item)) is not None}
        if "step" in values:
            by_step.setdefault(values.pop("step"), {}).update(values)
    columns: dict[str, tuple[list[float], list[float]]] = {}
    for step in sorted(by_step):
        for name, value in by_step[step].items():
            steps, values_so_far = columns.setdefault(name, ([], []))
            steps.append(step)
            values_so_far.append(value)
    return Log(columns)


def stage_curves(stage: Stage, log: Log) -> StageCurves:
    """Draw every panel of which at least one curve was logged."""
    plots = []
    for panel in _panels(log):
        series = [Series(name.split("/")[-1], *log.columns[name]) for name in panel.names if name in log.columns]
        if series:
            slug = "-".join([stage.name, *panel.names[0].split("/")])
            svg = line_figure(
                f"curve-{slug}",
                series,
                description=f"{panel.title} of {stage.name}: {_told(series)}",
                reference=panel.reference,
                percent=panel.percent,
                log=panel.log,
                smoothed=panel.smoothed,
            )
            plots.append(Plot(panel.title, panel.note, svg))
    return StageCurves(stage, _facts(stage, log), plots)


def mixture(stage: Stage, log: Log) -> list[Share]:
    """Return the share of each source in all that a stage drew: its logged `frequency/<source>` runs from the start."""
    weights = {}
    for item in stage.config.get("sources") or ():
        if isinstance(item, dict) and (weight := finite(item.get("weight"))) is not None:
            weights[str(item.get("name") or Path(str(item.get("path"))).stem)] = weight
    total = sum(weights.values())
    return [
        Share(source, values[-1], weights[source] / total if total and source in weights else None)
        for name, (_, values) in log.columns.items()
        if (source := name.removeprefix("frequency/")) != name
    ]


def _panels(log: Log) -> Iterator[Panel]:
    preference = any(name.startswith("rewards/") for name in log.columns)
    yield PREFERENCE_LOSS if preference else LANGUAGE_LOSS
    yield from PANELS


def _told(series: list[Series]) -> str:
    return "; ".join(
        f"{item.label} from {number(item.values[0])} at step {number(item.steps[0])} "
        f"to {number(item.values[-1])} at step {number(item.steps[-1])}"
        for item in series
    )


def _facts(stage: Stage, log: Log) -> str:
    facts = [f"{log.last_step:,} steps"]
    if speeds := log.values("tokens_per_second"):
        facts.append(f"{number(median(speeds))} tokens per second (median)")
    if losses := log.values("loss"):
        facts.append(f"loss {number(losses[0])} at first, {number(log.final('loss') or 0)} at the end")
    if stage.state == "unfinished":
        facts.append("not finished yet")
    return ", ".join(facts) + "."
