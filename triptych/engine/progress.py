"""Progress that is always visible: a bar on a terminal, a line now and then in a log file; of several ranks, rank 0's.

with Progress("sft", total=600, done=120) as bar:
    for ...:
        bar.advance(1, loss=0.31, tokens_per_second=8123)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows how far a job is, how long it has taken and will take, and the figures given with the last advance.

    Args:
        title: name of the job.
        total: number of units in all.
        done: units done before, by the run that is resumed; they do not count for the speed.
        unit: what is counted, such as "step" or "row".
        stream: where to; standard error by default.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        done: int = 0,
        unit: str = "step",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._done_before, self._clock, self._stream = done, clock, stream
        self._figures, self._shown = "", done
        self._bar: Bar | None = None
        # What `torchrun` sets is read here, so that a bar does not take the time to import torch.
        self._silent = os.environ.get("RANK", "0") != "0"

    def __enter__(self) -> Progress:
        self._start = self._last_line = self._clock()
        console = Console(file=self._stream) if self._stream else _shared_console()
        if self._silent:
            return self
        if console.is_terminal and not console.is_dumb_terminal:
            self._bar = _bar(console)
            self._task = self._bar.add_task(escape(self.title), total=self.total, completed=self.done, figures="")
            self._bar.start()
        elif self.done:
            self._write_line()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self.done != self._shown:
            self._write_line()

    def advance(self, count: int = 1, **figures: float | int | str) -> None:
        """Count `count` more units as done and show `figures`, such as the loss, until the next call."""
        self.done += count
        if figures:
            self._figures = ", ".join(f"{_label(name)} {_text(value)}" for name, value in figures.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, total=self.total, figures=escape(self._figures))
        elif self._clock() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._write_line()

    def show(self, done: int, total: int) -> None:
        """Take over the counts of a job that keeps its own; the callback to give to it."""
        self.total = total
        self.advance(done - self.done)

    def _write_line(self) -> None:
        if self._silent:
            return
        now = self._clock()
        elapsed, new = now - self._start, self.done - self._done_before
        parts = [f"{self.title}: {self.done:,} of {self.total:,} {self.unit}s", f"{_time(elapsed)} elapsed"]
        if new and self.done < self.total:
            parts.append(f"{_time(elapsed / new * (self.total - self.done))} left")
        if self._figures:
            parts.append(self._figures)
        print(", ".join(parts), file=self._stream or sys.stderr, flush=True)
        self._last_line, self._shown = now, self.done


@cache
def _shared_console() -> Console:
    """One console for all bars on standard error, so that a bar opened while another runs is drawn below it."""
    return Console(stderr=True)


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
    )


def _time(seconds: float) -> str:
    """Write a duration as 0:00:07."""
    return str(timedelta(seconds=round(seconds)))


def _label(name: str) -> str:
    return name.replace("_per_second", "/s").replace("_", " ")


def _text(value: float | int | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"
