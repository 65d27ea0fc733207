"""Two models on the same items: what each answer scored, and the difference between models with its interval.

What the items have in common cancels in a paired difference, so it is much sharper than two separate intervals.
"""

from __future__ import annotations

import math
from statistics import fmean

from triptych.evaluation.intervals import paired_difference
from triptych.feedback.answers import FORMAT_VERDICTS
from triptych.report.reading import Run, Stage, finite
from triptych.report.results import BASE, Estimate, Estimates, difference
from triptych.report.video_items import difference_by_video, video_scores

Items = dict[str, dict[str, float]]
"""{metric: {item: score}}; the mean over the items is the metric's value."""


def differences_to_base(run: Run, estimates: Estimates) -> Estimates:
    """Return {model: {metric: difference to the start model}}, paired by item wherever the stored answers allow it."""
    base = estimates.get(BASE, {})
    stages = {stage.evaluates: stage for stage in run.stages.values() if stage.evaluates and base}
    items = {model: item_scores(run, stage) for model, stage in stages.items()}
    videos = {model: video_scores(run, stage, estimates.get(model, ())) for model, stage in stages.items()}

    def gap(model: str, metric: str) -> Estimate:
        new, old = estimates[model][metric], base[metric]
        return (
            difference_by_video(videos.get(model, {}), videos.get(BASE, {}), metric, (new.value, old.value))
            or _paired(new, old, _of(items, model, metric), _of(items, BASE, metric))
            or difference(new, old)
        )

    return {
        model: {metric: gap(model, metric) for metric in measured if metric in base}
        for model, measured in estimates.items()
        if model != BASE
    }


def item_scores(run: Run, stage: Stage) -> Items:
    """Read what each answer of an evaluation adds to each metric."""
    scores: Items = {}
    for row in run.sample_rows(stage):
        task, item = str(row.get("task", "")), f"{row.get('task')}/{row.get('id')}"
        if "hallucinated" in row:
            suffix = task.removeprefix("describe")  # the metrics of `describe_sampled` end in `_sampled`
            scores.setdefault(f"hallucination{suffix}", {})[item] = float(bool(row["hallucinated"]))
            scores.setdefault(f"coverage{suffix}", {})[item] = finite(row.get("coverage")) or 0.0
        elif isinstance(row.get("verdict"), str):
            scores.setdefault(task, {})[item] = float(row["verdict"] == "correct")
            scores.setdefault("unparsed", {})[item] = float(row["verdict"] in FORMAT_VERDICTS)
    return scores


def _of(items: dict[str, Items], model: str, metric: str) -> dict[str, float]:
    return items.get(model, {}).get(metric, {})


def _paired(
    new: Estimate, old: Estimate, new_scores: dict[str, float], old_scores: dict[str, float]
) -> Estimate | None:
    """Return the paired difference; None unless both models have the same items, whose means are the values told."""
    if len(new_scores) < 2 or new_scores.keys() != old_scores.keys():
        return None
    for estimate, scores in ((new, new_scores), (old, old_scores)):
        if not math.isclose(fmean(scores.values()), estimate.value, abs_tol=1e-6):
            return None
    keys = sorted(new_scores)
    # Many independent items: the t interval of their mean agrees with a bootstrap and costs nothing.
    return Estimate.read(
        paired_difference([new_scores[key] for key in keys], [old_scores[key] for key in keys], method="t")
    )
