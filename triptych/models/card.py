"""The model card of a trained model: what it was made from, how, on what, and how good it is.

A card is meant to be published, so absolute paths are reduced to their last part.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from triptych.data.files import write_text_atomic

TASK = "image-text-to-text"
_OTHER_TASKS = {"reward": "text-classification", "scorer": "zero-shot-image-classification"}
_STAGES = {
    "pretrain": "pre-trained on documents of text and pictures",
    "sft": "fine-tuned on demonstrations",
    "mpo": "trained on preference pairs",
    "reward": "made into a reward model on preference pairs",
    "ppo": "trained on the rewards of its own answers",
    "scorer": "trained to tell which caption belongs to which video",
}
_PAPERS = {
    "pretrain": "arxiv:2403.09611",
    "mpo": "arxiv:2411.10442",
    "reward": "arxiv:2402.03746",
    "ppo": "arxiv:2402.03746",
    "scorer": "arxiv:2103.00020",
}
_LOAD = """```python
{extra}from transformers import {auto_class}, AutoProcessor

folder = "path/to/this/folder"
model = {auto_class}.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
```"""
_AUTO_CLASSES = {"triptych_reward": "AutoModelForSequenceClassification", "clip": "AutoModel"}
_OUR_MODULES = {"triptych_mm1": "triptych.models.mm1", "triptych_reward": "triptych.models.reward"}


def model_card(
    stage: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    result: Mapping[str, Any],
    *,
    model_type: str,
    evaluation: Mapping[str, Any] | None = None,
) -> str:
    """Return the README.md of a model folder, with the metadata of the Hugging Face hub on top.

    Args:
        stage: `pretrain`, `sft`, `mpo`, `reward`, `ppo` or `scorer`.
        settings: the resolved configuration, as `run.json` has it; `model` or `init` names the base model.
        inputs: fingerprints by path, as `run.json` has them; a hub name stands for itself.
        result: of the stage; its whole numbers are shown as counts.
        model_type: of the model's configuration.
        evaluation: results by name, numbers or `{"value": number, "ci": [low, high]}`.
    """
    base = settings["model"] if isinstance(settings.get("model"), str) else settings.get("init") or None
    name = f"{Path(base).name}-{stage}" if base else f"{model_type}-{stage}"
    data = {path: value for path, value in inputs.items() if path != base}
    sections = [
        f"---\n{_metadata(name, stage, base, inputs, evaluation or {})}\n---",
        f"# {name}",
        f"{_origin(base, inputs)} {_STAGES.get(stage, 'trained')} with `triptych {stage}`.",
        f"## How to load\n\n{_how_to_load(model_type)}",
        f"## Data\n\n{_table(('file', 'fingerprint'), [(_public(path), value) for path, value in data.items()])}",
        f"{_counts(result)}",
        f"## Loss\n\n{_table(('term', 'weight'), _losses(settings))}" if settings.get("loss_type") else "",
        f"## Results\n\n{_table(('measure', 'value', '95 % interval'), _results(evaluation))}" if evaluation else "",
        f"## Recipe\n\n```yaml\n{yaml.safe_dump(_public(dict(settings)), sort_keys=False, allow_unicode=True)}```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def write_model_card(folder: Path, text: str) -> None:
    """Write the card into a model folder."""
    write_text_atomic(folder / "README.md", text)


def _metadata(name: str, stage: str, base: str | None, inputs: Mapping[str, str], evaluation: Mapping[str, Any]) -> str:
    """Return the YAML on top. The hub knows a base model only by its name there."""
    on_hub = base is not None and inputs.get(base) == base
    task = _OTHER_TASKS.get(stage, TASK)
    return ModelCardData(
        base_model=base if on_hub else None,
        library_name="transformers",
        pipeline_tag=task,
        tags=["triptych", stage, *([_PAPERS[stage]] if stage in _PAPERS else [])],
        model_name=name,
        eval_results=[
            EvalResult(task_type=task, dataset_type=key, dataset_name=key, metric_type=key, metric_value=_value(item))
            for key, item in evaluation.items()
        ]
        or None,
    ).to_yaml()


def _origin(base: str | None, inputs: Mapping[str, str]) -> str:
    if base is None:
        return "A new model,"
    return f"`{base}`," if inputs.get(base) == base else f"`{_public(base)}` (fingerprint `{inputs.get(base)}`),"


def _how_to_load(model_type: str) -> str:
    module = _OUR_MODULES.get(model_type)
    extra = f"import {module}  # makes transformers know this type of model\n" if module else ""
    auto_class = _AUTO_CLASSES.get(model_type, "AutoModelForImageTextToText")
    return _LOAD.format(extra=extra, auto_class=auto_class)


def _counts(result: Mapping[str, Any]) -> str:
    counts = {key: value for key, value in result.items() if type(value) is int}
    return ", ".join(f"{value:,} {key}" for key, value in counts.items()) + "." if counts else ""


def _losses(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(zip(settings["loss_type"], settings["loss_weights"], strict=True))


def _results(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [(name, f"{_value(item):.4g}", _interval(item)) for name, item in evaluation.items()]


def _value(item: Any) -> float:
    return float(item["value"] if isinstance(item, Mapping) else item)


def _interval(item: Any) -> str:
    return " to ".join(f"{bound:.4g}" for bound in item["ci"]) if isinstance(item, Mapping) else ""


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _public(value: Any) -> Any:
    """Return the value with absolute paths reduced to their names, which say nothing of a machine or its user."""
    if isinstance(value, str):
        return Path(value).name if value.startswith(("/", "~")) else value
    if isinstance(value, Mapping):
        return {key: _public(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_public(item) for item in value]
    return copy.copy(value)
