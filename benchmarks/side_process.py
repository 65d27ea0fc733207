"""A side of a comparison in a process of its own, so that neither heats or fills what the other uses."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any


@contextmanager
def process_serving(serve: Callable[..., None], *args: Any) -> Iterator[Connection]:
    """Run `serve(*args, pipe)` in a new process, and wait for its first message: that its models stand."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(*args, there), daemon=True)
    process.start()
    there.close()  # so that a process that dies ends the waiting
    here.recv()
    try:
        yield here
    finally:
        process.terminate()
        process.join()
