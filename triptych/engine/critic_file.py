"""What is trained of a critic, in one file: its head and, where it has them, its adapters.

The body that they stand on is not in it. It is that of the reward model or of the start model, and stays the same when
a run is continued by another with the same reward model:

    triptych ppo --model runs/first/model --critic runs/first/critic.safetensors --reward_model ... --out runs/second
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from triptych.data.files import atomic_path
from triptych.engine.actor_critic import ActorCritic
from triptych.engine.distributed import on_main
from triptych.engine.sharding import whole
from triptych.errors import TriptychError

FILE = "critic.safetensors"
_PREFIX = "critic."


def save_critic(roles: ActorCritic, path: Path, *, lora_alpha: int) -> None:
    """Write what is trained of the critic, in one piece; all ranks call it together.

    Args:
        path: of the file.
        lora_alpha: scale of its adapters, which their weights do not tell.
    """
    tensors = {name: whole(parameter.detach()).cpu().contiguous() for name, parameter in _trained(roles).items()}
    on_main(lambda: _write(tensors, path, lora_alpha))


def load_critic(roles: ActorCritic, path: str | Path, *, lora_alpha: int) -> None:
    """Put a critic that `save_critic` has written in the place of a new one, before it is put into shards.

    Raises:
        TriptychError: the file is missing or no critic, or the critic is not arranged like the one here.
    """
    try:
        with safe_open(path, framework="pt") as file:
            settings = file.metadata() or {}
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TriptychError(f"{path} cannot be read as a critic ({error}). Give the {FILE} of a run of ppo.") from None
    own = _trained(roles)
    _check_alike(path, _layout(saved, settings.get("lora_alpha")), _layout(own, str(lora_alpha)))
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])


def _trained(roles: ActorCritic) -> dict[str, nn.Parameter]:
    """Return what is trained of the critic alone; where it reads the reference, the body under it is the policy's."""
    return {
        name.removeprefix(_PREFIX): parameter
        for name, parameter in roles.named_parameters()
        if name.startswith(_PREFIX) and parameter.requires_grad
    }


def _layout(tensors: Mapping[str, Tensor], lora_alpha: str | None) -> dict[str, Any]:
    """Return what must be the same there and here: shapes and, of adapters, their scale."""
    shapes: dict[str, Any] = {name: tuple(item.shape) for name, item in tensors.items()}
    return shapes | ({"lora_alpha": lora_alpha} if any("lora_" in name for name in shapes) else {})


def _check_alike(path: str | Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    for name in sorted({*there, *here}):
        if there.get(name) != here.get(name):
            raise TriptychError(
                f"The critic in {path} does not fit: {name} is {there.get(name, 'absent')} there and "
                f"{here.get(name, 'absent')} here. Set critic_base, critic_lora_r, lora_alpha and lora_target_modules "
                "as in the run that wrote it, on a body of the same size."
            )


def _write(tensors: dict[str, Tensor], path: Path, lora_alpha: int) -> None:
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"lora_alpha": str(lora_alpha)})
