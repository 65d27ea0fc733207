"""What every training stage shares around its loop: resume, schedule, update, log, save.

The stage keeps its loop on the page and its loss in its own hands:

    loop = TrainingLoop(directory, model, config, num_steps=n, title="sft")
    for step in loop.steps():
        for micro in loop.micro_batches(rows_of(step)):
            loss = ...
            loop.backward(loss, batch)
        loop.update()
    return loop.finish(processor, {})
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from triptych.data.batches import split_micro
from triptych.engine.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from triptych.engine.flops import model_flops_utilisation
from triptych.engine.optim import apply_learning_rate, build_optimizers, clip_gradients, current_learning_rate
from triptych.engine.progress import Progress
from triptych.engine.run import RunDirectory
from triptych.engine.schedule import learning_rate_at
from triptych.engine.settings import TrainingConfig
from triptych.engine.trie import PackedBatch
from triptych.engine.workload import Workload
from triptych.errors import TriptychError
from triptych.models.adapters import LoraSettings, add_lora, freeze, merge_adapters
from triptych.models.loading import save_model

Item = TypeVar("Item")
Result = TypeVar("Result")


class TrainingLoop:
    """Steps through training and can stop and go on at any of them.

    Args:
        directory: where metrics and checkpoints go.
        model: freshly loaded; freezing and adapters of `config` are applied here.
        config: optimiser, batch, precision and logging settings.
        num_steps: optimiser steps in all.
        title: shown beside the progress bar.
    """

    def __init__(
        self, directory: RunDirectory, model: torch.nn.Module, config: TrainingConfig, *, num_steps: int, title: str
    ) -> None:
        torch.manual_seed(config.seed)
        self.directory, self.config, self.num_steps = directory, config, num_steps
        self.model = prepare_model(model, config)
        self.optimizers = build_optimizers(self.model, config)
        self.state: dict[str, Any] = {}
        """Small values that a stage keeps from step to step; saved in checkpoints."""
        self.step = 0
        self._resume()
        self._title = title
        self._workload = Workload(self.model)
        self._device = next(self.model.parameters()).device.type
        self._dtype = torch.bfloat16 if config.bf16 else torch.float32
        self._bar: Progress | None = None
        self._begin_step()

    def steps(self) -> Iterator[int]:
        """Yield the numbers of the steps still to be done, counted from 0, under a progress bar."""
        self.model.train()
        with Progress(self._title, self.num_steps, done=self.step, unit="step") as self._bar:
            while self.step < self.num_steps:
                yield self.step

    def micro_batches(self, items: Sequence[Item]) -> list[list[Item]]:
        """Cut the items of a step into `gradient_accumulation_steps` contiguous parts, fewer where items are fewer."""
        return split_micro(items, self.config.gradient_accumulation_steps)

    def forward(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call `function` in the precision of the configuration."""
        with torch.autocast(self._device, torch.bfloat16, enabled=self.config.bf16):
            return function(*args)

    def backward(self, loss: torch.Tensor, batch: PackedBatch) -> None:
        """Add the gradient of a micro-batch's share of the step's loss."""
        if not torch.isfinite(loss):
            raise TriptychError(
                f"The loss is {loss.item()} at step {self.step + 1}. Lower learning_rate or max_grad_norm, or look for "
                "broken rows with `triptych data check`."
            )
        loss.backward()
        self._loss += loss.item()
        self._num_tokens += batch.num_tokens
        self._flops += self._workload.training_flops(batch)

    def update(self, **metrics: float) -> None:
        """Take the optimiser step, then log and save where it is time.

        Raises:
            TriptychError: the gradient is not finite.
        """
        multiplier = learning_rate_at(self.step, self.num_steps, self.config)
        apply_learning_rate(self.optimizers, multiplier)
        grad_norm = clip_gradients(self.model.parameters(), self.config.max_grad_norm)
        if not math.isfinite(grad_norm):  # else the weights, and with the next checkpoint the run, would be lost
            raise TriptychError(
                f"The gradient is not finite at step {self.step + 1}, though the loss is. Lower learning_rate."
            )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        last = self.step == self.num_steps
        if self.step % self.config.logging_steps == 0 or self.step == 1 or last:
            self._log(grad_norm, metrics)
        if self.config.save_steps and self.step % self.config.save_steps == 0 and not last:
            self._save()
        self._bar.advance(1, loss=self._loss)
        self._begin_step()

    def summary(self) -> dict[str, Any]:
        """Return what `done.json` says of any training run."""
        return {"steps": self.num_steps, "model": str(self.directory.path / "model")}

    def finish(self, processor: Any, result: dict[str, Any]) -> dict[str, Any]:
        """Write the final model folder, then `done.json`, and return the result."""
        save_model(merge_adapters(self.model), processor, self.directory.path / "model")
        return self.directory.finish(result)

    def _begin_step(self) -> None:
        self._loss, self._num_tokens, self._flops = 0.0, 0, 0.0
        self._step_started = time.perf_counter()

    def _log(self, grad_norm: float, metrics: dict[str, float]) -> None:
        seconds = time.perf_counter() - self._step_started
        self.directory.log(
            self.step,
            loss=self._loss,
            grad_norm=grad_norm,
            learning_rate=current_learning_rate(self.optimizers),
            tokens_per_second=self._num_tokens / seconds,
            mfu=model_flops_utilisation(self._flops, seconds, self._dtype, self._device),
            **metrics,
        )

    def _save(self) -> None:
        self.directory.record_time()
        save_checkpoint(
            self.directory.path,
            self.step,
            self.model,
            self.optimizers,
            self.state,
            fingerprint=self.directory.fingerprint,
        )

    def _resume(self) -> None:
        if (path := latest_checkpoint(self.directory.path)) is not None:
            checkpoint = load_checkpoint(path, self.model, self.optimizers, fingerprint=self.directory.fingerprint)
            self.step, self.state = checkpoint.step, dict(checkpoint.extra)
        self.directory.rewind(self.step)


def prepare_model(model: torch.nn.Module, config: TrainingConfig) -> torch.nn.Module:
    """Freeze what the configuration names, add adapters, and switch on recomputation of activations."""
    if config.freeze:
        freeze(model, config.freeze)
    if config.lora_r:
        model = add_lora(
            model,
            LoraSettings(
                lora_r=config.lora_r,
                lora_alpha=config.lora_alpha,
                lora_dropout=config.lora_dropout,
                lora_target_modules=config.lora_target_modules,
            ),
        )
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model
