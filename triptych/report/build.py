"""Write the report: one run directory becomes one HTML file that opens from disk.

The page is self-contained: pictures, plots and styles are inside it, it loads nothing and needs no script.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from triptych.data.files import write_text_atomic
from triptych.report import (
    before_after,
    clip_answers,
    curves,
    examples,
    feedback,
    items,
    metrics,
    overview,
    ppo_curves,
    results,
    reward_models,
    study,
    wording,
)
from triptych.report.pictures import Pictures
from triptych.report.reading import Run, Stage, read_run

HERE = Path(__file__).parent
STYLES = (HERE / "palette.css", HERE / "report.css")
VIDEO_STYLE = HERE / "video.css"
MAX_CONFIG_CHARACTERS = 20_000
MAX_OPEN_KINDS = 12
"""Of more data files than this, the rows are folded away: two worlds would push the results off the first pages."""


@dataclass(frozen=True)
class StageDetails:
    """What is kept for looking up: configuration, result, and what was interrupted or set aside."""

    stage: Stage
    config: str
    result: str
    quarantine: list[tuple[str, int]]


def build_report(run: Path) -> Path:
    """Write `run/report.html` and return its path.

    Args:
        run: a run directory, `runs/NAME`. Any stage may be missing, unfinished, or be running at this moment.

    Raises:
        DataError: kind `run_missing`, there is no such folder.
    """
    found = read_run(Path(run))
    page = _environment().get_template("report.html.j2").render(_context(found))
    path = found.folder / "report.html"
    write_text_atomic(path, page)
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,  # whatever the suffix: completions are untrusted text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = wording.number
    environment.filters["fixed"] = wording.fixed
    return environment


def _context(run: Run) -> dict[str, Any]:
    pictures = Pictures()
    stages = [stage for stage in run.stages.values() if stage.is_here]
    logs = {stage.name: log for stage in stages if (log := curves.read_log(run, stage)).columns}
    estimates = results.measured(run)
    differences = items.differences_to_base(run, estimates)
    pairs = examples.pair_stages(run, stages, pictures)
    page = {
        "run": run,
        "sentences": overview.summary_sentences(run, logs, pairs, estimates, differences),
        "panels": overview.panels(run, logs, pairs, estimates),
        "times": overview.stage_times(run),
        "total_time": overview.total_time(run),
        "command": f"triptych run recipe.yaml --out {shlex.quote(f'../{run.name}-again')}" if run.recipe_text else "",
        "glance": metrics.GLANCE,
        "tables": results.result_tables(run, estimates, differences),
        "estimates": estimates,
        "result_plots": results.result_plots(estimates),
        "study": study.read_study(run),
        "mixtures": {name: shares for name, log in logs.items() if (shares := curves.mixture(run.stages[name], log))},
        "max_open_kinds": MAX_OPEN_KINDS,
        "kinds": examples.data_kinds(run, pictures),
        "curves": [curves.stage_curves(run.stages[name], log) for name, log in logs.items() if log.of_texts],
        "pairs": pairs,
        "before_after": before_after.before_after(run, pictures),
        "details": [_details(run, stage) for stage in stages],
        "versions": overview.versions(run),
        "pictures": pictures,
        "problems": run.problems,
    }
    page |= _alignment(run, stages, logs, pictures)
    styles = [*STYLES, *([VIDEO_STYLE] if _shows_video(page) else [])]
    return page | {"style": Markup("".join(path.read_text(encoding="utf-8") for path in styles))}


def _alignment(run: Run, stages: list[Stage], logs: dict[str, curves.Log], pictures: Pictures) -> dict[str, Any]:
    """Return the sections of alignment from AI feedback; each is None where the run has nothing of it."""
    judged = feedback.feedback_stages(run, stages, pictures)
    rewarding = reward_models.reward_stages(run, logs)
    training = ppo_curves.policy_training(run, logs)
    return {
        "feedback": feedback.section(judged) if judged else None,
        "reward": reward_models.section(rewarding) if rewarding else None,
        "policy": {"columns": ppo_curves.COLUMNS, "training": training} if training else None,
        "clip_answers": clip_answers.clip_answers(run, pictures),
    }


def _shows_video(page: dict[str, Any]) -> bool:
    """Tell whether the page needs the styles of clips and of alignment from AI feedback."""
    shows = any(page[name] for name in ("feedback", "reward", "policy", "clip_answers"))
    return shows or bool(page["pictures"].strips.any_asked)


def _details(run: Run, stage: Stage) -> StageDetails:
    reasons: Counter[str] = Counter()
    for row in run.rows(stage.folder / "quarantine.jsonl"):
        reasons[str(row.get("kind") or row.get("reason") or "no reason given")] += 1
    result = json.dumps(stage.result, indent=2, ensure_ascii=False) if stage.result else ""
    return StageDetails(
        stage,
        wording.shorten(stage.config_text, MAX_CONFIG_CHARACTERS),
        wording.shorten(result, MAX_CONFIG_CHARACTERS),
        sorted(reasons.items(), key=lambda item: (-item[1], item[0])),
    )
