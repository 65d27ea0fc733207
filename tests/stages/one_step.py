"""One step of preference optimisation on a tiny model, without optimiser: its loss, gradients and metrics."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

from triptych.data.batches import split_micro
from triptych.engine.encode import Encoder
from triptych.engine.live_reference import LiveReference
from triptych.engine.pair_scorer import PairScorer
from triptych.engine.pairs import PairRow
from triptych.group import Completion, Group, Pair, text_message
from triptych.objectives.mpo import Mix, RewardShift, join_logps
from triptych.objectives.names import CONVENTIONS
from triptych.objectives.preference import PairLogps
from triptych.stages.configs import MpoConfig
from triptych.stages.mpo import backward_step


class Loop:
    """What a step asks of the training loop, in one process."""

    def __init__(self, model: torch.nn.Module, num_parts: int) -> None:
        self.model, self._num_parts, self.loss = model, num_parts, 0.0
        self.num_forwards = self.num_with_graph = 0

    def micro_batches(self, items):
        return split_micro(items, self._num_parts)

    def total(self, value):
        return value

    def gather(self, values):
        return values.detach()

    def forward(self, function, *args):
        self.num_forwards += 1
        self.num_with_graph += torch.is_grad_enabled()
        return function(*args)

    def backward(self, loss, batch):
        loss.backward()
        self.loss += loss.item()


@dataclass(frozen=True)
class Outcome:
    """Loss, gradient of every parameter, metrics and reward shift after a step, and what it was computed from."""

    loss: float
    gradients: dict[str, torch.Tensor]
    metrics: dict[str, float]
    shift: RewardShift
    logps: PairLogps
    num_forwards: int
    num_with_graph: int


@dataclass(frozen=True)
class Students:
    """A policy, a reference that differs from it, and the encoder of both."""

    policy: Any
    reference: Any
    encoder: Encoder

    def step(
        self,
        rows: list[PairRow],
        *,
        parts: int = 1,
        shift: RewardShift | None = None,
        loop: type[Loop] = Loop,
        **settings: Any,
    ) -> Outcome:
        """Differentiate the loss of one step that is cut into `parts` micro-batches."""
        settings = {"loss_weights": [1.0] * len(settings["loss_type"])} | settings
        config = MpoConfig(model="m", data="d", out="o", reference="live", **settings)
        loop, mix, shift = loop(self.policy, parts), Mix(**config.mix), shift or RewardShift()
        scorer = PairScorer(loop, self.encoder, LiveReference(self.reference, self.encoder), mix, row_tokens=512)
        self.policy.zero_grad()
        record = backward_step(loop, scorer, rows, CONVENTIONS[config.convention], shift)
        gradients = {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            for name, parameter in self.policy.named_parameters()
        }
        logps = join_logps([loss.logps for loss in record.losses])
        return Outcome(
            loop.loss, gradients, record.metrics(loop, shift), shift, logps, loop.num_forwards, loop.num_with_graph
        )


def students_of(model: Any, encoder: Encoder) -> Students:
    """Copy a model into a policy and a reference that is far enough from it for every loss to leave its start."""
    policy, reference = copy.deepcopy(model), copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator) * parameter.std().nan_to_num(0)
    return Students(policy, reference, encoder)


TEXTS = (
    ("There are three circles.", "Two squares, I think."),
    ("A green square above a yellow hexagon.", "No."),
    ("5", "There are five red stars and a triangle."),
    ("Yes, left of the star.", "Yes, right of the star."),
    ("Final Answer: 5", "Final Answer: 3"),
    ("Blue.", "It is blue, or maybe red."),
    ("One.", "Count the red ones first, then the blue ones."),
    ("The picture shows a hexagon.", "The picture"),
)


def pair_rows(root: Any, pictures: tuple[str, ...] = ("a.png", "b.png", "c.png", "d.png")) -> list[PairRow]:
    """Eight pairs of eight prompts; the prompts take turns with the pictures, "" being none."""
    rows = []
    for number, (chosen, rejected) in enumerate(TEXTS):
        picture = pictures[number % len(pictures)]
        parts = [*([None] if picture else []), f"Question {number}: what is there?"]
        group = Group(
            f"g{number}",
            [text_message("user", *parts)],
            [picture] if picture else [],
            completions=[Completion(chosen), Completion(rejected)],
            pairs=[Pair(0, 1)],
        )
        rows.append(PairRow(group, group.pairs[0], root, f"0:g{number}"))
    return rows


def largest_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of two sets of gradients, relative to the largest entry of each tensor.

    Tensors whose gradient is zero but for rounding (the key biases that softmax ignores) need only be so in both.
    """
    assert ours.keys() == theirs.keys()
    zero = 1e-5 * max(value.abs().max() for value in theirs.values())
    differences = []
    for name, value in theirs.items():
        if value.abs().max() < zero:
            assert ours[name].abs().max() < zero, name
        else:
            differences.append(((ours[name] - value).abs().max() / value.abs().max()).item())
    return max(differences)
