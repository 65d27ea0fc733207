"""A training run in small: blocks with dropout, tied embeddings, batch statistics, Muon and AdamW side by side."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from triptych.engine.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from triptych.engine.optim import apply_learning_rate, build_optimizers, clip_gradients, learning_rate_at
from triptych.engine.run import RunDirectory
from triptych.engine.schedule import OptimizerSettings

TOTAL_STEPS, SAVE_STEPS = 20, 4

torch.set_num_threads(1)  # sums are taken in another order by other numbers of threads


@dataclass
class ToyConfig:
    out: str
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(optimizer="muon", weight_decay=0.1))


class ToyModel(nn.Module):
    """Predicts the next of a few tokens; head and embedding share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.statistics = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scratch", torch.zeros(3), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(tokens)
        for block in self.blocks:
            hidden = hidden + self.dropout(block(hidden)).tanh()
        return self.head(self.statistics(hidden))


def train(out: str | Path, *, kill_at: int = 0, optimizer: str = "muon") -> ToyModel:
    """Train for TOTAL_STEPS in all; with `kill_at` the process kills itself after that step was logged."""
    config = ToyConfig(str(out))
    config.optimizer.optimizer = optimizer
    run = RunDirectory(out, config)
    torch.manual_seed(0)
    model = ToyModel()
    optimizers = build_optimizers(model, config.optimizer)
    step, total = 0, 0.0
    if path := latest_checkpoint(run.path):
        checkpoint = load_checkpoint(path, model, optimizers, fingerprint=run.fingerprint)
        step, total = checkpoint.step, checkpoint.extra["total"]
    run.rewind(step)
    while step < TOTAL_STEPS:
        apply_learning_rate(optimizers, learning_rate_at(step, TOTAL_STEPS, config.optimizer))
        tokens = torch.randint(11, (16,))
        loss = nn.functional.cross_entropy(model(tokens), (tokens + 1) % 11)
        loss.backward()
        grad_norm = clip_gradients(model.parameters(), config.optimizer.max_grad_norm)
        for each in optimizers:
            each.step()
            each.zero_grad()
        step, total = step + 1, total + loss.item()
        run.log(step, loss=loss, grad_norm=grad_norm, total=total)
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if step % SAVE_STEPS == 0:
            save_checkpoint(run.path, step, model, optimizers, {"total": total}, fingerprint=run.fingerprint)
    run.finish({"total": total})
    return model
