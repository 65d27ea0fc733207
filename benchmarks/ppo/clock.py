"""Where the time of an iteration goes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

VISION = "vision"


class Clock:
    """Adds up seconds by part. What a part spends in another one counts for the inner part alone."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()
        self._open: list[str] = []
        self._since = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done inside for a part."""
        depth = len(self._open)
        self.begin(name)
        try:
            yield
        finally:
            self._charge()
            del self._open[depth:]

    def begin(self, name: str) -> None:
        """Begin a part that ends with `end`, or else with the part around it."""
        self._charge()
        self._open.append(name)

    def end(self) -> None:
        """End the part begun last."""
        self._charge()
        self._open.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts for a part."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return counted

    def watch_vision(self, model: torch.nn.Module) -> None:
        """Count the vision tower and the projector of a LLaVA for `vision`, forward and backward.

        The backward pass of the tower is the last thing of a backward pass; its end is the end of the part around it.
        """
        modules = dict(model.named_modules())
        tower, projector = (
            next(module for name, module in modules.items() if name.endswith(end))
            for end in ("vision_tower", "multi_modal_projector")
        )

        def leave(module: torch.nn.Module, args: Any, output: torch.Tensor) -> None:
            self.end()
            if output.requires_grad:
                output.register_hook(lambda grad: self.begin(VISION))

        tower.register_forward_pre_hook(lambda *_: self.begin(VISION))
        projector.register_forward_hook(leave)

    def take(self) -> dict[str, float]:
        """Return the seconds by part since the last time."""
        seconds, self._seconds = dict(self._seconds), Counter()
        return seconds

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now
