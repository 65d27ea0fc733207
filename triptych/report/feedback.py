"""Preferences from AI feedback: how the judge judged, how far the oracle agrees, and some pairs to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from triptych.evaluation.intervals import share
from triptych.feedback.ai_feedback import SOURCE
from triptych.group import Group, Pair
from triptych.report.bars import bar_figure
from triptych.report.claims import Claim, mark_claims
from triptych.report.examples import Chosen, Piece, group_of, prompt_pieces
from triptych.report.figures import with_hover
from triptych.report.oracle import opinion_of, preference
from triptych.report.pictures import Pictures
from triptych.report.reading import Run, Stage, finite
from triptych.report.results import Estimate, Plot, Quantity, percent
from triptych.report.rewards_held_out import HeldOut
from triptych.report.wording import fixed, shorten

AGREE, DIFFER, EQUAL, UNKNOWN = "agrees", "prefers the other", "sees no difference", ""
"""What the oracle says of a pair."""
SHOWN = {AGREE: 3, DIFFER: 3, EQUAL: 1, UNKNOWN: 6}
"""Pairs shown of each, of the first stage; of the others one each."""
REPLIES = ("judge_first", "judge_second", "judge_tie", "judge_unparsed")
OUTCOMES = (SOURCE, "tie", "order_dependent", "unparsed")
MAX_CONTEXT = 700
NUM_BINS = 10


@dataclass(frozen=True)
class Order:
    """What the judge said with the answers in one order."""

    first: str
    """Which stood first: chosen or rejected."""
    letter: str
    confidence: float | None
    reply: str


@dataclass(frozen=True)
class Side:
    """One answer of a pair."""

    name: str
    pieces: list[Claim]
    wrong_claims: list[str]
    """Of which the words do not stand in the text."""
    oracle: str
    reward: float | None


@dataclass(frozen=True)
class Judged:
    """One pair and what was said of it."""

    id: str
    pieces: list[Piece]
    context: str
    sides: list[Side]
    orders: list[Order]
    oracle: str
    """What the oracle says of the pair, one of `AGREE`, `DIFFER`, `EQUAL`, `UNKNOWN`."""
    rewarded: str
    """Which answer the reward model prefers; empty where it was not asked."""


@dataclass
class FeedbackStage:
    """One stage whose pairs a judge made."""

    stage: Stage
    cells: list[Quantity]
    num_pairs: int
    num_rewarded: int
    """Pairs that a reward model was measured on."""
    knows_oracle: bool
    histogram: Markup | None
    shown: list[Judged] = field(default_factory=list)


COLUMNS = (
    ("Judge", "who judged, and how"),
    ("Compared", "two answers to a question, each in both orders"),
    ("Pairs", "the same answer is better in both orders"),
    ("Changed", "the verdict changed with the order"),
    ("Ties", "neither is better"),
    ("Unread", "a reply that names neither"),
    ("Says the first", "share of replies that name the answer that stands first; half without a habit"),
    ("Confidence", "mean probability of the letter that was named, of the pairs"),
    ("Oracle agrees", "share of pairs whose chosen answer the oracle prefers too, of those it sees a difference in"),
)


def feedback_stages(run: Run, stages: list[Stage], pictures: Pictures) -> list[FeedbackStage]:
    """Return the stages that made pairs by a judge, each with some pairs to read."""
    held_out = HeldOut(run)
    found: list[FeedbackStage] = []
    for stage in stages:
        if stage.config.get("method", SOURCE) != SOURCE:
            continue
        reading = _Reading(run, stage, held_out)
        if not reading.is_feedback:
            continue
        told = reading.summed_up()
        root = run.data_root(stage)
        for oracle, most in SHOWN.items():
            for group, pair in reading.picked(oracle, most if not found else 1):
                told.shown.append(_judged(group, pair, oracle, held_out.of(stage, group, pair), root, pictures))
        found.append(told)
    return found


@dataclass(frozen=True)
class Section:
    """The section as the page prints it."""

    columns: list[tuple[str, str]]
    rows: list[tuple[str, list[Quantity]]]
    plots: list[Plot]
    stages: list[FeedbackStage]


def section(stages: list[FeedbackStage]) -> Section:
    """Lay out the section: a line of the table for each stage, without the columns that none has anything for."""
    kept = [n for n, _ in enumerate(COLUMNS) if any(item.cells[n].value != "–" for item in stages)]
    rows = [(item.stage.name, [item.cells[n] for n in kept]) for item in stages]
    note = "Pairs by how sure the judge was, on average of both orders."
    plots = [Plot(f"Confidence, {item.stage.name}", note, item.histogram) for item in stages if item.histogram]
    return Section([("Stage", ""), *(COLUMNS[n] for n in kept)], rows, plots, stages)


class _Reading:
    """Reads the pairs of a stage once, keeping counts and some pairs of each kind."""

    def __init__(self, run: Run, stage: Stage, held_out: HeldOut) -> None:
        self._stage, self._held_out = stage, held_out
        self._counts: Counter[str] = Counter()
        self._oracle: Counter[str] = Counter()
        self._confidences: dict[str, list[float]] = {}
        self._picked: dict[tuple[str, bool], Chosen] = {}
        path = stage.folder / "pairs.jsonl"
        for row in run.rows(path):
            if (group := group_of(run, path, row)) is not None:
                self._add(group)

    @property
    def is_feedback(self) -> bool:
        """Tell whether a judge was asked."""
        return any(self._counts[name] for name in (SOURCE, *REPLIES))

    def _add(self, group: Group) -> None:
        noted = group.meta.get("pairing")
        for name, number in noted.items() if isinstance(noted, dict) else ():
            self._counts[name] += int(finite(number) or 0)
        for pair in group.pairs:
            if pair.source == SOURCE:
                self._add_pair(group, pair)

    def _add_pair(self, group: Group, pair: Pair) -> None:
        texts = [group.completions[index].text for index in (pair.chosen, pair.rejected)]
        known, better = preference(*texts, group)
        oracle = {0: AGREE, 1: DIFFER, None: EQUAL}[better] if known else UNKNOWN
        self._oracle[oracle] += 1
        if pair.margin is not None:
            self._confidences.setdefault(oracle, []).append(pair.margin)
        rewarded = self._held_out.of(self._stage, group, pair) is not None
        self._picked.setdefault((oracle, rewarded), Chosen(SHOWN[oracle])).offer(group.id, (group, pair))

    def picked(self, oracle: str, most: int) -> list[tuple[Group, Pair]]:
        """Return some pairs of a kind, first those that a reward model was measured on."""
        kept = [self._picked[oracle, known] for known in (True, False) if (oracle, known) in self._picked]
        return [item for some in kept for item in some.items][:most]

    def summed_up(self) -> FeedbackStage:
        """Return the line of the table."""
        counts, pairs = self._counts, self._oracle.total()
        decided = self._oracle[AGREE] + self._oracle[DIFFER]
        agreement = Estimate.read(share(self._oracle[AGREE], decided)) if decided else None
        named = counts["judge_first"] + counts["judge_second"]
        confidences = [value for values in self._confidences.values() for value in values]
        cells = [
            _judge(self._stage),
            Quantity(f"{sum(counts[name] for name in OUTCOMES[1:]) + pairs:,}"),
            Quantity(f"{pairs:,}"),
            *(Quantity(f"{counts[name]:,}") for name in ("order_dependent", "tie", "unparsed")),
            percent(Estimate.read(share(counts["judge_first"], named)) if named else None),
            Quantity(fixed(sum(confidences) / len(confidences), 2)) if confidences else Quantity(),
            percent(agreement),
        ]
        rewarded = sum(len(kept.items) for (_, known), kept in self._picked.items() if known)
        knows = any(self._oracle[kind] for kind in (AGREE, DIFFER, EQUAL))
        return FeedbackStage(self._stage, cells, pairs, rewarded, knows, self._histogram() if confidences else None)

    def _histogram(self) -> Markup:
        """Draw how sure the judge was of its pairs, and how far the oracle agrees."""
        names = {AGREE: "oracle agrees", DIFFER: "differs", EQUAL: "no difference", UNKNOWN: "pairs"}
        bars = {names[kind]: self._confidences[kind] for kind in names if kind in self._confidences}
        told = "; ".join(f"{name} {len(values):,}" for name, values in bars.items())
        svg = bar_figure(
            f"confidence-{self._stage.name}",
            bars,
            (0.5, 1.0),
            NUM_BINS,
            x_label="confidence",
            description=f"Confidence of the judge in its pairs: {told}",
        )
        return with_hover(svg, told)


def _judge(stage: Stage) -> Quantity:
    """Say who judged, and how."""
    config = stage.config
    judge = config.get("judge") if isinstance(config.get("judge"), dict) else {}
    if judge.get("function"):
        return Quantity(str(judge["function"]).rpartition(":")[2], "a function")
    who = str(config.get("labeller") or "").rstrip("/").rpartition("/")[2] or "the model itself"
    context = "context" if judge.get("context", True) else "no context"
    return Quantity(who, f"by {judge.get('by', 'text')}, {context}")


def _judged(
    group: Group, pair: Pair, oracle: str, rewards: dict[str, float] | None, root: Path, pictures: Pictures
) -> Judged:
    said = pair.judge or {}
    rewards = rewards or {}
    prefers = ""
    if len(rewards) == 2:
        gap = rewards["chosen"] - rewards["rejected"]
        prefers = "the chosen" if gap > 0 else "the rejected" if gap < 0 else "neither"
    return Judged(
        id=group.id,
        pieces=prompt_pieces(group, root, pictures),
        context=shorten(str(said.get("context") or ""), MAX_CONTEXT),
        sides=[_side(group, name, getattr(pair, name), rewards.get(name)) for name in ("chosen", "rejected")],
        orders=sorted(_orders(said.get("orders")), key=lambda order: order.first),
        oracle=oracle,
        rewarded=prefers,
    )


def _side(group: Group, name: str, index: int, reward: float | None) -> Side:
    text = shorten(group.completions[index].text.strip())
    opinion = opinion_of(group.completions[index].text, group)
    pieces, unplaced = mark_claims(text, opinion.claims if opinion else [])
    wrong = [claim.text for claim in unplaced if claim.right is False]
    return Side(name, pieces, wrong, opinion.words if opinion else "", reward)


def _orders(told: Any) -> Iterator[Order]:
    """Yield what was said in both orders; the letter of the first tells which answer stood first."""
    orders = [item for item in told if isinstance(item, dict)] if isinstance(told, list) else []
    for item in orders:
        letter = str(item.get("letter", ""))
        first = "chosen" if letter == "A" else "rejected"
        yield Order(first, letter, finite(item.get("confidence")), shorten(str(item.get("text") or "").strip(), 300))
