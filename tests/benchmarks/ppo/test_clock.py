"""Seconds by part, on a clock that the tests move."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.ppo.clock import Clock

NOW = [0.0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr("time.perf_counter", lambda: NOW[0])
    return Clock()


def spend(seconds: float) -> float:
    NOW[0] += seconds
    return seconds


class Slow(torch.autograd.Function):
    """Takes as many seconds as it is told, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, forward: float, backward: float) -> torch.Tensor:
        spend(forward)
        ctx.seconds = backward
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        spend(ctx.seconds)
        return grad, None, None


class Part(torch.nn.Module):
    """A module whose forward and backward pass take some seconds."""

    def __init__(self, forward: float, backward: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seconds = forward, backward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Slow.apply(x * self.weight, *self.seconds)


class Toy(torch.nn.Module):
    """A LLaVA of toy parts."""

    def __init__(self) -> None:
        super().__init__()
        self.vision_tower, self.multi_modal_projector, self.decoder = Part(1, 2), Part(4, 8), Part(16, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.multi_modal_projector(self.vision_tower(x)))


def test_an_inner_part_does_not_count_for_the_one_around_it(clock: Clock) -> None:
    with clock.part("outer"):
        spend(1)
        with clock.part("inner"):
            spend(2)
        assert clock.timed("inner", spend)(4) == 4
        spend(8)
    spend(16)
    assert clock.take() == {"outer": 9, "inner": 6}
    assert clock.take() == {}


def test_a_part_that_is_begun_inside_another_ends_with_it(clock: Clock) -> None:
    with clock.part("outer"):
        clock.begin("begun")
        spend(1)
        clock.end()
        spend(2)
        clock.begin("begun")
        spend(4)
    with clock.part("outer"):
        spend(8)
    assert clock.take() == {"outer": 10, "begun": 5}


@pytest.mark.parametrize(("trained", "expected"), [
    (True, {"vision": 1 + 4 + 2 + 8, "update": 16 + 32}),
    (False, {"vision": 1 + 4, "update": 16 + 32}),
])  # fmt: skip
def test_vision_is_counted_forward_and_backward(clock: Clock, trained: bool, expected: dict[str, float]) -> None:
    toy = Toy()
    for part in (toy.vision_tower, toy.multi_modal_projector):
        part.requires_grad_(trained)
    clock.watch_vision(toy)
    with clock.part("update"):
        toy(torch.ones(1)).sum().backward()
    seconds = clock.take()
    # The gradient of the projector's output is known before the projector's own backward pass begins.
    assert seconds == expected
