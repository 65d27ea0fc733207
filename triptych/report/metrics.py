"""The columns of the result tables: those of picture tasks by name, those of video tasks by what was measured.

Tasks of an evaluation bear names of the user's choice, so the columns of video tasks are found by the results that only
they have, such as `r1_NAME` of retrieval (docs/video-evaluation.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from triptych.evaluation.generative import ASPECTS

KL = "kl"
"""Divergence of a model from what it was trained from; of a stage that trains on rewards, not of an evaluation."""
GLANCE = "At a glance"
MAX_COLUMNS = 7
"""More columns of video tasks than this have a table of the few that tell most before them."""

JUDGED, SCORED = "Free answers, scored by the judge", "Free answers, scored by the oracle"
QUESTIONS, RETRIEVAL, ACTIONS = "Questions about videos", "Text-to-video retrieval", "Action recognition"
JUDGING, FRAMES = "The model as a judge", "How well texts fit the frames"
LENGTH = "Tokens per answer, and divergence"


@dataclass(frozen=True)
class Metric:
    """One column of a result table."""

    key: str
    label: str
    higher_is_better: bool | None
    """None where neither is."""
    meaning: str
    percent: bool = True
    noun: str = ""
    """What it is called in a sentence; empty where no sentence tells of it."""
    table: str = ""
    """Title of the table of a video task that it stands in; empty for the table of the pictures."""
    title: str = ""
    """What it is called outside that table; empty where `label` says enough."""
    unit: str = ""
    """Of what is no share."""
    num_decimals: int = 2
    """Decimals printed of what is no share."""
    glance: bool = False
    """Whether it is one of the few that tell most."""
    plotted: bool = True
    """Whether a picture of it says more than its numbers."""

    @property
    def scale(self) -> float:
        """Factor from the value on disk (a share of one) to the value printed."""
        return 100.0 if self.percent else 1.0

    @property
    def decimals(self) -> int:
        """Decimals printed."""
        return 1 if self.percent else self.num_decimals

    @property
    def arrow(self) -> str:
        """Which way is better; empty where neither is."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def full_label(self) -> str:
        """What it is called outside its table, with its unit."""
        unit = "%" if self.percent else self.unit
        return (self.title or self.label) + (f", {unit}" if unit else "")


METRICS = (
    Metric("accuracy", "Accuracy", True, "questions answered right"),
    Metric(
        "direct", "Direct", True, "questions answered right when only the answer is asked for", noun="direct accuracy"
    ),
    Metric(
        "cot",
        "Chain of thought",
        True,
        "questions answered right after reasoning step by step",
        noun="chain-of-thought accuracy",
    ),
    Metric("unparsed", "Unparsed", False, "answers in which no final answer can be found"),
    Metric(
        "hallucination",
        "Hallucination",
        False,
        "greedy descriptions with a claim the picture contradicts",
        noun="the share of descriptions with a hallucination",
    ),
    Metric(
        "hallucination_sampled",
        "Hallucination, sampled",
        False,
        "the same, sampled at temperature 1",
        noun="the share of sampled descriptions with a hallucination",
    ),
    Metric("coverage", "Coverage", True, "what is in the picture that the descriptions mention"),
    Metric("cider", "CIDEr", True, "agreement with reference texts (Vedantam et al. 2015)", percent=False),
)
"""Of picture tasks."""


@dataclass(frozen=True)
class Table:
    """Columns that belong together. One that is folded is opened by whoever wants the numbers behind another one."""

    title: str
    metrics: list[Metric]
    folded: bool = False

    @property
    def labels(self) -> list[str]:
        """Heads of the columns: inside its own table a metric needs to say less."""
        return [item.title or item.label if self.title == GLANCE else item.label for item in self.metrics]


def all_metrics(keys: Iterable[str]) -> list[Metric]:
    """Return every metric that results of these names may have, in the order of the columns."""
    return [*METRICS, *video_metrics(keys)]


def tables(metrics: Iterable[Metric]) -> list[Table]:
    """Sort columns into tables: pictures, then those of video tasks, after a glance at them where they are many."""
    metrics = list(metrics)
    pictures = [metric for metric in metrics if not metric.table]
    videos = [metric for metric in metrics if metric.table]
    found = [Table("", pictures)] if pictures else []
    many = len(videos) > MAX_COLUMNS
    if many:
        found.append(Table(GLANCE, [metric for metric in videos if metric.glance]))
    for title in dict.fromkeys(metric.table for metric in videos):
        found.append(Table(title, [metric for metric in videos if metric.table == title], folded=many))
    return found


def video_metrics(keys: Iterable[str]) -> list[Metric]:
    """Return the columns of the video tasks whose results have these names; none for a run on pictures alone."""
    told = set(keys)
    found = [*_aspects(told, "true_", SCORED, "oracle"), *_aspects(told, "", JUDGED, "judge")]
    for starts, columns in (
        (("exact_", "contained_", "score_"), _question),
        (("r1_",), _retrieval),
        (("top5_",), _action),
        (("decided_",), _judging),
    ):
        names = _names(told, *starts)
        found += [metric for name in names for metric in columns(name, told, f", {name}" if len(names) > 1 else "")]
    found = [metric for metric in [*found, *_clip_scores(told)] if metric.key in told]
    return [metric for metric in [*found, *_lengths(told), _KL] if metric.key in told] if found or KL in told else []


def _names(keys: set[str], *starts: str) -> list[str]:
    """Return the names of the tasks that have a result which begins so."""
    return sorted({key.removeprefix(start) for key in keys for start in starts if key.startswith(start)})


def _aspects(keys: set[str], prefix: str, table: str, who: str) -> Iterator[Metric]:
    """Yield the columns of the aspects: their mean, each, and each of tasks that go by another name.

    Without a mean the first aspect stands for all at a glance.
    """
    score = {"higher_is_better": True, "percent": False, "unit": "0 to 5", "table": table}
    mean, first = f"{prefix}generative", next((item for item in ASPECTS if prefix + item in keys), "")
    yield Metric(
        mean,
        "Mean of five",
        meaning="plain mean of the five aspects",
        noun=f"the five-aspect score by the {who}",
        title=f"Five aspects, {who}",
        glance=True,
        **score,
    )
    for aspect in ASPECTS:
        chosen = mean not in keys and aspect == first
        names = _names(keys, f"{prefix}{aspect}_")
        for key, name in [(prefix + aspect, ""), *((f"{prefix}{aspect}_{name}", f", {name}") for name in names)]:
            glance = chosen and not name
            yield Metric(
                key,
                aspect.capitalize() + name,
                meaning=_MEANINGS[aspect],
                noun=f"{aspect} by the {who}" if glance else "",
                title=f"{aspect.capitalize()}{name}, {who}",
                glance=glance,
                **score,
            )


_MEANINGS = {
    "correctness": "what is said agrees with the facts",
    "detail": "what there is to say is said",
    "context": "the answer fits the whole of the video",
    "temporal": "the order of events is kept",
    "consistency": "two wordings of a question get answers that agree",
}


def _question(name: str, keys: set[str], several: str) -> list[Metric]:
    judged = name in keys
    noun = "accuracy in questions" + several
    score = {"percent": False, "unit": "0 to 5", "table": QUESTIONS}
    rules = {"noun": "" if judged else noun, "title": f"Questions{several}", "glance": not judged, "table": QUESTIONS}
    first = {"noun": noun, "title": f"Questions{several}", "glance": True, "table": QUESTIONS}
    return [
        Metric(name, f"Right{several}", True, "answers that the judge calls right", **first),
        Metric(f"exact_{name}", f"Exact{several}", True, "answers that are the truth and no more, by rules", **rules),
        Metric(f"contained_{name}", f"Told{several}", True, "answers that tell the truth, by rules", table=QUESTIONS),
        Metric(f"score_{name}", f"Score{several}", True, "the judge's score", **score),
        Metric(f"true_{name}", f"True score{several}", True, "the oracle's score", **score),
    ]


def _retrieval(name: str, keys: set[str], several: str) -> list[Metric]:
    found = [
        Metric(
            f"r{most}_{name}",
            f"R@{most}{several}",
            True,
            f"captions that find their video {where} by the model's descriptions of all videos",
            table=RETRIEVAL,
            glance=most == 1,
        )
        for most, where in ((1, "at once"), (5, "among the first 5"), (10, "among the first 10"))
    ]
    rank = {"percent": False, "num_decimals": 1, "table": RETRIEVAL}
    label = f"Median rank{several}"
    return [*found, Metric(f"median_rank_{name}", label, False, "of the right video, 1 at best", **rank)]


def _action(name: str, keys: set[str], several: str) -> list[Metric]:
    first = {"title": f"Actions, top-1{several}", "glance": True}
    unlike = "answers without a word in common with any class"
    return [
        Metric(name, f"Top-1{several}", True, "videos whose action comes first", table=ACTIONS, **first),
        Metric(f"top5_{name}", f"Top-5{several}", True, "videos whose action is among the first five", table=ACTIONS),
        Metric(f"unmatched_{name}", f"No class{several}", False, unlike, table=ACTIONS),
    ]


def _judging(name: str, keys: set[str], several: str) -> list[Metric]:
    half = "as if tossed for where it names none"
    return [
        Metric(
            f"agreement_{name}", f"Agreement{several}", True, f"the oracle's answer is named, {half}", table=JUDGING
        ),
        Metric(
            f"agreement_decided_{name}",
            f"Where decided{several}",
            True,
            "the oracle's answer is named, where both orders name the same one: the share of its pairs that are right",
            table=JUDGING,
        ),
        Metric(f"decided_{name}", f"Decided{several}", None, "both orders name the same answer", table=JUDGING),
        Metric(f"first_{name}", f"Says the first{several}", None, "replies that name the first answer", table=JUDGING),
    ]


def _clip_scores(keys: set[str]) -> Iterator[Metric]:
    for key in sorted(keys):
        if key.startswith("clip_score"):
            name = key.removeprefix("clip_score").strip("_")
            label = f"CLIP score, {name}" if name else "CLIP score"
            yield Metric(key, label, True, "likeness of texts to the frames", percent=False, table=FRAMES)


def _lengths(keys: set[str]) -> list[Metric]:
    """Return the columns of length, of which that of free answers tells most, and of log-ratios to a reference."""
    names = _names(keys, "length_")
    first = next((name for name in ("generic", "generative", "temporal", *names) if name in names), "")
    lengths = [
        Metric(
            f"length_{name}",
            name,
            None,
            "mean tokens of an answer: a higher score for longer answers may be bought with words",
            percent=False,
            noun="answer length" if name == first else "",
            table=LENGTH,
            title=f"Length, {name}",
            unit="tokens",
            num_decimals=1,
            glance=name == first,
        )
        for name in names
    ]
    meaning = "nats per answer by which the model departs from its reference, on what it says there"
    ratio = {"percent": False, "unit": "nats", "table": LENGTH}
    return lengths + [Metric(f"kl_{name}", f"KL, {name}", None, meaning, **ratio) for name in _names(keys, "kl_")]


_KL = Metric(
    KL,
    "KL",
    None,
    "nats per answer from the model it was trained from, at the end of its training; of the best of several answers "
    "the most there can be",
    percent=False,
    table=LENGTH,
    title="KL",
    unit="nats",
    glance=True,
    plotted=False,
)
