"""Several ranks on this machine: forked processes that talk over gloo, as `torchrun` would start them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from triptych.engine.distributed import process_group

SECONDS = 240


class RankDied(Exception):
    """A rank ended before it had a result."""


def run_ranks(function: Callable[..., Any], *args: Any, num_ranks: int = 2) -> list[Any]:
    """Call `function(*args)` on every rank of a process group and return the results, by rank.

    The ranks are forks, so `function` may be a closure, and nothing is imported again. When one dies, the others are
    killed, as `torchrun` does.

    Raises:
        RankDied: a rank was killed, or raised; with what it raised.
    """
    context = multiprocessing.get_context("fork")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes, ranks = [], {}
    for rank in range(num_ranks):
        receiver, sender = context.Pipe(duplex=False)
        processes.append(context.Process(target=_rank, args=(rank, num_ranks, port, sender, function, args)))
        processes[-1].start()
        sender.close()  # the rank has the only other end: when it dies, reading ends
        ranks[receiver] = rank
    results = {}
    try:
        while len(results) < num_ranks:
            ready = wait([receiver for receiver in ranks if ranks[receiver] not in results], SECONDS)
            if not ready:
                raise RankDied(f"the ranks said nothing for {SECONDS} seconds")
            results |= {ranks[receiver]: _result(receiver) for receiver in ready}
        return [results[rank] for rank in range(num_ranks)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _result(receiver: Connection) -> Any:
    try:
        result, error = pickle.loads(receiver.recv_bytes())
    except EOFError:
        raise RankDied("a rank was killed") from None
    if error:
        raise RankDied(error)
    return result


def _rank(rank: int, num_ranks: int, port: int, sender: Connection, function: Callable[..., Any], args: tuple) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        with process_group():
            outcome = function(*args), ""
    except BaseException:
        outcome = None, traceback.format_exc()
    sender.send_bytes(pickle.dumps(outcome))  # tensors by value; `send` would share memory with a process that ends
