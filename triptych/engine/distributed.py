"""The ranks of a run: one process per accelerator, started by `torchrun`, or this process alone.

Every function here is the identity in one process, so that a stage is written once:

    with process_group():                              # joins the group that torchrun describes, and leaves it
        inputs = on_main(lambda: read(path))           # read once, known to all
        mine = share_of_rank(items)                    # this rank's items, in order
        everyone = gather_vector(log_probabilities)    # (P_all,), by rank
        total = all_reduce_sum(float(len(mine)))       # the same number on every rank

Collectives are called by all ranks in the same order; a rank that leaves one out makes the others wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TypeVar, overload

import torch
import torch.distributed as dist
from torch import Tensor

from triptych.errors import TriptychError

Item = TypeVar("Item")
Result = TypeVar("Result")

_TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others in the middle of a step; one that is late by more is dead."""
_PATIENCE = timedelta(days=30)
"""How long the ranks wait for what rank 0 does alone, such as reading a data set or writing a model."""

_alone = False
"""Whether rank 0 is inside of `on_main`, where it must not wait for the others, who wait for it."""


def init_from_environment() -> bool:
    """Join the process group that `torchrun` describes in the environment; alone, do nothing.

    Tensors on a GPU travel over nccl, tensors on the CPU over gloo. Each process takes the GPU of its local rank.

    Returns:
        whether this call joined a group, which `leave` then has to end.
    Raises:
        TriptychError: more processes were started on this machine than it has GPUs.
    """
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    if not torch.cuda.is_available():
        dist.init_process_group("gloo", timeout=_TIMEOUT)
        return True
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if local_rank >= torch.cuda.device_count():
        raise TriptychError(
            f"This is process {local_rank + 1} on a machine with {torch.cuda.device_count()} GPUs. "
            "Start one process per GPU: torchrun --nproc-per-node gpu."
        )
    torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl", timeout=_TIMEOUT)
    return True


def leave() -> None:
    """Leave the process group, where there is one."""
    if dist.is_initialized():
        _patient_group.cache_clear()
        dist.destroy_process_group()


@contextmanager
def process_group() -> Iterator[None]:
    """Be in the process group that the environment describes while the block runs."""
    joined = init_from_environment()
    try:
        yield
    finally:
        if joined:
            leave()


def world_size() -> int:
    """Return the number of ranks: 1 without a process group, and inside of `on_main`."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


def rank() -> int:
    """Return the number of this process among all, 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Tell whether this is the rank that writes files and shows progress."""
    return rank() == 0


def on_main(function: Callable[[], Result]) -> Result:
    """Call a function on rank 0 alone and return its result, or raise its error, on every rank.

    Inside of the function rank 0 is by itself: it may call whatever works in one process.

    Args:
        function: what it returns must be picklable, since it travels between the processes of the run; small is best.
    """
    if world_size() == 1:
        return function()
    group = _patient_group()
    outcome: list[tuple[Result | None, Exception | None]] = [_outcome(function) if is_main() else (None, None)]
    dist.broadcast_object_list(outcome, src=0, group=group)
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def loading_device() -> str | None:
    """Return where the weights of a start model are read to: rank 0 takes them into main memory, the others none.

    `triptych.engine.sharding.shard` then sends every rank its slice, so that no more than one whole model is in memory
    on all machines together. None, the device that computes, where there is one process.
    """
    if world_size() == 1:
        return None
    return "cpu" if is_main() else "meta"


def barrier() -> None:
    """Wait until every rank is here, however long that takes."""
    if world_size() > 1:
        dist.all_reduce(torch.zeros(1), group=_patient_group())


def any_rank(flag: bool) -> bool:
    """Tell whether `flag` is true on at least one rank."""
    return all_reduce_sum(float(flag)) > 0


@overload
def all_reduce_sum(value: float) -> float: ...
@overload
def all_reduce_sum(value: Tensor) -> Tensor: ...
def all_reduce_sum(value: float | Tensor) -> float | Tensor:
    """Return the sum of a number, or the element-wise sum of a tensor of one shape, over all ranks; detached."""
    if world_size() == 1:
        return value.detach() if isinstance(value, Tensor) else value
    total = value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return total if isinstance(value, Tensor) else total.item()


def gather_vector(values: Tensor) -> Tensor:
    """Return the rows of all ranks, in the order of rank.

    Args:
        values: (P_local, ...), on every rank of the same type and trailing shape; P_local may differ and may be 0.
    Returns:
        (P_all, ...), the same on every rank, detached: a gradient is taken on each rank for its own rows, which are
        `own_rows(gathered, P_local)`.
    """
    values = values.detach()
    if world_size() == 1:
        return values
    sizes = _row_counts(len(values))
    padded = values.new_zeros(max(sizes), *values.shape[1:])
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def gather_items(items: Sequence[Item]) -> list[Item]:
    """Return the items of all ranks, in the order of rank; they travel pickled, so tensors are to be on the CPU."""
    if world_size() == 1:
        return list(items)
    parts: list[list[Item]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, list(items), group=_patient_group())
    return [item for part in parts for item in part]


def own_rows(gathered: Tensor, num_rows: int) -> Tensor:
    """Return this rank's rows of a tensor in the order of `gather_vector`.

    Args:
        gathered: (P_all, ...).
        num_rows: P_local of this rank.
    """
    if world_size() == 1:
        return gathered
    start = sum(_row_counts(num_rows)[: rank()])
    return gathered[start : start + num_rows]


def share_of_rank(items: Sequence[Item]) -> list[Item]:
    """Return this rank's part of the items of a step: contiguous, and together with the other ranks' the whole.

    The first `len(items) % world_size()` ranks have one item more. A part may be empty.
    """
    share, more = divmod(len(items), world_size())
    start = rank() * share + min(rank(), more)
    return list(items[start : start + share + (rank() < more)])


def _row_counts(num_rows: int) -> list[int]:
    """Return the number of rows of every rank."""
    counts = torch.zeros(world_size(), dtype=torch.int64)
    counts[rank()] = num_rows
    dist.all_reduce(counts)
    return counts.tolist()


def _outcome(function: Callable[[], Result]) -> tuple[Result | None, Exception | None]:
    """Call a function as if there were no other ranks; return its result or its error."""
    global _alone
    _alone = True
    try:
        return function(), None
    except Exception as error:
        return None, error
    finally:
        _alone = False


@cache
def _patient_group() -> dist.ProcessGroup:
    """All ranks over gloo, for waits that may take hours."""
    return dist.new_group(backend="gloo", timeout=_PATIENCE)
