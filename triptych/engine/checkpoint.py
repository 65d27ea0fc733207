"""Checkpoints from which training goes on bit for bit, without pickle.

A checkpoint is a folder `checkpoint-N`, N being the number of updates done:

    model.safetensors   trainable parameters and persistent buffers, each once however many names it has
    state.safetensors   the tensors of the optimizers, of the random number generators and of `extra`
    state.json          everything else: step, fingerprint of the run, scalars of the optimizers, `extra`

It is written under another name and renamed when complete, so that a half-written one is never seen. Frozen parameters
are not saved: they come from the model the run started from. Floats in JSON are written with the digits that read back
to the same float.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from triptych.data.files import write_json_atomic
from triptych.errors import TriptychError

_NAME = re.compile(r"checkpoint-(\d+)")
_TENSOR, _TUPLE = "__tensor__", "__tuple__"


class CheckpointError(TriptychError):
    """A checkpoint that does not belong to this run, or that cannot be read."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says beyond the state it has put back."""

    step: int
    """Number of updates done."""
    extra: dict[str, Any]


def save_checkpoint(
    folder: str | Path,
    step: int,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    extra: dict[str, Any] | None = None,
    *,
    fingerprint: str = "",
    keep: int = 2,
) -> Path:
    """Write `folder/checkpoint-<step>` and remove all but the last `keep` checkpoints.

    Args:
        folder: the run directory.
        step: number of updates done.
        model: any module; of a PEFT model only the adapter is saved, because only the adapter requires gradients.
        optimizers: their order counts when loading.
        extra: anything else to restore: tensors, numbers, strings, None, and lists, tuples and dicts of them.
        fingerprint: of the run, `RunDirectory.fingerprint`; loading refuses another one.
        keep: number of checkpoints to keep, at least 1.
    """
    folder = Path(folder)
    final, temporary = folder / f"checkpoint-{step}", folder / f".checkpoint-{step}.tmp"
    for stale in folder.glob(".checkpoint-*.tmp"):
        shutil.rmtree(stale)
    temporary.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    state = {
        "step": step,
        "fingerprint": fingerprint,
        "optimizers": [_encode(_optimizer_state(o), f"optimizers.{n}", tensors) for n, o in enumerate(optimizers)],
        "random": _encode(_random_state(), "random", tensors),
        "extra": _encode(extra or {}, "extra", tensors),
    }
    save_file(_storable(_model_tensors(model)), temporary / "model.safetensors")
    save_file(_storable(tensors), temporary / "state.safetensors")
    write_json_atomic(temporary / "state.json", state)
    _flush(temporary)
    _remove(final)
    os.rename(temporary, final)
    for old in _checkpoints(folder)[:-keep]:
        _remove(old)
    return final


def latest_checkpoint(folder: str | Path) -> Path | None:
    """Return the complete checkpoint of the highest step in a run directory, or None."""
    return next(reversed(_checkpoints(Path(folder))), None)


def load_checkpoint(
    path: str | Path, model: nn.Module, optimizers: Sequence[Optimizer], *, fingerprint: str = ""
) -> Checkpoint:
    """Put a model, its optimizers and the random number generators back to where a checkpoint was saved.

    Everything is checked before the first tensor of the model changes.

    Raises:
        CheckpointError: the checkpoint is damaged, belongs to a run with another fingerprint, or does not fit the model
            or the optimizers in names, shapes or number.
    """
    path = Path(path)
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        saved, tensors = load_file(path / "model.safetensors"), load_file(path / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Delete it to go on from the one before.") from None
    if state["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"{path} belongs to a run with other settings (fingerprint {state['fingerprint']}, not {fingerprint}). "
            "Give another --out, or delete the folder of that run."
        )
    current = _model_tensors(model)
    _check_same(path, "model", _layout(saved), _layout(current))
    states = [_decode(item, tensors) for item in state["optimizers"]]
    _check_same(path, "optimizers", _group_sizes(states), _group_sizes([o.state_dict() for o in optimizers]))
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(saved[name])
    for optimizer, values in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**values, "state": {int(key): item for key, item in values["state"].items()}})
    _restore_random_state(_decode(state["random"], tensors))
    return Checkpoint(step=state["step"], extra=_decode(state["extra"], tensors))


def _checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints in order of step."""
    found = [(int(match[1]), item) for item in folder.glob("checkpoint-*") if (match := _NAME.fullmatch(item.name))]
    return [item for _, item in sorted(found)]


def _remove(path: Path) -> None:
    """Remove a checkpoint; it loses its name first, so that a kill in between leaves no half of it under that name."""
    if path.exists():
        doomed = path.with_name(f".{path.name}.old.tmp")
        os.rename(path, doomed)
        shutil.rmtree(doomed)


def _flush(folder: Path) -> None:
    """Have the files on the disk before the folder gets its name, so that a machine that loses power loses no more."""
    for file in folder.iterdir():
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())


def _model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return trainable parameters and persistent buffers by name; a tied tensor appears once, under its first name."""
    persistent = model.state_dict(keep_vars=True).keys()
    tensors = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    tensors |= {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return tensors


def _storable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as safetensors takes them: contiguous, on the CPU, no two in one piece of memory."""
    seen: set[int] = set()
    storable = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage().data_ptr()
        storable[name] = plain.clone() if memory in seen else plain
        seen.add(memory)
    return storable


def _optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    state = optimizer.state_dict()
    return {**state, "state": {str(key): value for key, value in state["state"].items()}}


def _random_state() -> dict[str, Any]:
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    # A run may go on with fewer or more devices; those in common get their state back.
    for device, values in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(values, device)


def _encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return `value` as JSON, moving its tensors to `tensors` under their place in the tree."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {_TENSOR: name}
    if isinstance(value, dict):
        if bad := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"{name} has the key {bad[0]!r}; keys of a checkpoint are strings")
        return {key: _encode(item, f"{name}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}; a checkpoint holds tensors and JSON values")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo `_encode`."""
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return tensors[value[_TENSOR]]
        if value.keys() == {_TUPLE}:
            return tuple(_decode(item, tensors) for item in value[_TUPLE])
        return {key: _decode(item, tensors) for key, item in value.items()}
    return [_decode(item, tensors) for item in value] if isinstance(value, list) else value


def _layout(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: f"{list(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items()}


def _group_sizes(states: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the number of parameters in each group of each optimizer."""
    return {
        f"optimizer {number}": [len(group["params"]) for group in state["param_groups"]]
        for number, state in enumerate(states)
    }


def _check_same(path: Path, what: str, saved: dict[str, Any], current: dict[str, Any]) -> None:
    for name in sorted(saved.keys() | current.keys()):
        if saved.get(name) != current.get(name):
            was, now = saved.get(name, "absent"), current.get(name, "absent")
            raise CheckpointError(
                f"{path} does not fit the {what}: {name} is {was} in the checkpoint and {now} here. "
                "Start from the model and with the settings that the run began with."
            )
