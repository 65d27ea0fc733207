"""What a finished run has measured: the results of its evaluations, and the numbers that its other stages have left."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych.lab.targets import Metrics

EVALUATES = "evaluate_"
"""Beginning of the names of the stages whose results `summary.json` has by model."""


def read_results(run: Path) -> dict[str, Any]:
    """Return `summary.json` of a run, with one more entry.

    Returns:
        also `numbers`: those in `done.json` of each stage that evaluates nothing, such as `accuracy` of a reward
        model, `last_kl` of PPO, or `pairing.order_dependent` of AI feedback; those inside others have dotted names.
        What is an estimate keeps its interval.
    """
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    stages = {}
    for path in sorted(run.glob("*/done.json")):
        result = json.loads(path.read_text(encoding="utf-8")).get("result")
        if isinstance(result, dict) and not path.parent.name.startswith(EVALUATES):
            stages[path.parent.name] = numbers(result)
    return summary | {"numbers": stages}


def metrics_of(results: Mapping[str, Any]) -> Metrics:
    """Return every number of a run by the name of its model or stage; a model's come before those of its stage."""
    measured, stages = results["metrics"], results.get("numbers", {})
    return {name: stages.get(name, {}) | measured.get(name, {}) for name in [*measured, *stages]}


def numbers(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the numbers of a result as estimates, by dotted name; what is no finite number is left out."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in result.items():
        if isinstance(value, dict) and "value" in value:
            found[name] = value
        elif isinstance(value, dict):
            found |= {f"{name}.{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[name] = {"value": value}
    return found
