"""What every training stage shares around its loop: resume, schedule, update, log, save.

The stage keeps its loop on the page and its loss in its own hands:

    model = prepare_model(load_model(config.model), config, encoder)
    loop = TrainingLoop(directory, model, config, num_steps=n, title="sft")
    for step in loop.steps():
        for micro in loop.micro_batches(rows_of(step)):
            loss = ...
            loop.backward(loss, batch)
        loop.update()
    return loop.finish(processor, {})

Started by `torchrun`, every rank runs the same lines: `micro_batches` gives it its part of the step, the model lies in
shards over all ranks, and the gradients of all parts are added up. A step is the same set of items, divided by the same
denominator, on any number of ranks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from triptych.data.batches import split_micro
from triptych.engine.checkpoint import checkpoint_step, latest_checkpoint, load_checkpoint, save_checkpoint
from triptych.engine.distributed import (
    all_reduce_sum,
    gather_vector,
    is_main,
    loading_device,
    on_main,
    rank,
    share_of_rank,
    world_size,
)
from triptych.engine.encode import Encoder
from triptych.engine.flops import model_flops_utilisation
from triptych.engine.optim import apply_learning_rate, build_optimizers, clip_gradients, current_learning_rate
from triptych.engine.progress import Progress
from triptych.engine.run import RunDirectory
from triptych.engine.schedule import learning_rate_at
from triptych.engine.settings import TrainingConfig
from triptych.engine.sharding import call_sharded, is_sharded, shard, unshard_on_main
from triptych.engine.trie import PackedBatch
from triptych.engine.workload import Workload
from triptych.errors import TriptychError
from triptych.models.adapters import LoraSettings, add_lora, freeze, merge_adapters
from triptych.models.card import model_card, write_model_card
from triptych.models.loading import load_model, save_model

if TYPE_CHECKING:
    from triptych.engine.captioned import CaptionBatch, CaptionWorkload

Item = TypeVar("Item")
Result = TypeVar("Result")


class TrainingLoop:
    """Steps through training and can stop and go on at any of them.

    Args:
        directory: where metrics and checkpoints go.
        model: from `prepare_model`.
        config: optimiser, batch, precision and logging settings.
        num_steps: optimiser steps in all.
        title: shown beside the progress bar.
        span: the steps that this loop takes, where training has parts that each start with fresh optimizers and a
            learning rate of their own; all of them by default. The model comes as the part before left it.
        workload: counts the arithmetic of batches; by default that of a model that generates.
    """

    def __init__(
        self,
        directory: RunDirectory,
        model: torch.nn.Module,
        config: TrainingConfig,
        *,
        num_steps: int,
        title: str,
        span: range | None = None,
        workload: Workload | CaptionWorkload | None = None,
    ) -> None:
        self.directory, self.config, self.num_steps = directory, config, num_steps
        self.span = range(num_steps) if span is None else span
        self.model = model
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self.optimizers = build_optimizers(self.model, config)
        self.state: dict[str, Any] = {}
        """Small values that a stage keeps from step to step; saved in checkpoints."""
        self.step = self.span.start
        self._resume()
        self._title = title
        self._workload = workload or Workload(self.model)
        self._dtype = torch.bfloat16 if config.bf16 else torch.float32
        self._bar: Progress | None = None
        self._begin_step()

    def steps(self) -> Iterator[int]:
        """Yield the numbers of the steps still to be done, counted from 0, under a progress bar."""
        self.model.train()
        with Progress(self._title, self.num_steps, done=self.step, unit="step") as self._bar:
            while self.step < self.span.stop:
                yield self.step

    def micro_batches(self, items: Sequence[Item]) -> list[list[Item]]:
        """Cut the items of a step into contiguous parts, and return those of this rank.

        There are `gradient_accumulation_steps` parts over all ranks together, fewer where items are fewer; every rank
        has as many as the others. Where there are fewer items than ranks, a rank without any gets one that counts for
        nothing: its gradient is zero, and `total` and `gather` leave it out.
        """
        mine = share_of_rank(items)
        self._counts = bool(mine)
        parts = min(-(-self.config.gradient_accumulation_steps // world_size()), max(1, len(items) // world_size()))
        return split_micro(mine or items[:1], parts)

    def total(self, value: float) -> float:
        """Return the sum of a number over the parts of all ranks."""
        return all_reduce_sum(value if self._counts else 0.0)

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Return the rows (P_all, ...) of all ranks, given those of this rank's parts (P_local, ...); detached."""
        return gather_vector(values if self._counts else values[:0])

    def forward(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call `function`, which computes with `loop.model`, in the precision of the configuration."""
        with torch.autocast(self._device, torch.bfloat16, enabled=self.config.bf16):
            return call_sharded(self.model, function, *args)

    def backward(self, loss: torch.Tensor, batch: PackedBatch | CaptionBatch) -> None:
        """Add the gradient of a micro-batch's share of the step's loss."""
        loss = loss if self._counts else 0 * loss
        if loss.requires_grad:  # rows of text alone do not reach the vision tower, where that alone is trained
            loss.backward()
        self._loss += loss.detach()  # a number only at the update, so that the device need not be waited for here
        if self._counts:
            self._num_tokens += batch.num_tokens
            self._flops += self._workload.training_flops(batch)

    def apply_gradients(self) -> float:
        """Take an optimiser step with the gradients added up so far, and return their norm before clipping.

        `update` does so at the end of a step. A stage that takes several optimiser steps on the items of one, as PPO
        does, calls this for all but the last; the learning rate is that of the step, the logged loss their mean.

        Raises:
            TriptychError: the loss or the gradient is not finite.
        """
        share = learning_rate_at(self.step - self.span.start, len(self.span), self.config)
        apply_learning_rate(self.optimizers, share)
        grad_norm = clip_gradients(self.model.parameters(), self.config.max_grad_norm)
        self._check_finite(self._totals()[0], grad_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._num_updates += 1
        return grad_norm

    def update(self, **metrics: float | str) -> None:
        """Take the optimiser step, then log and save where it is time.

        Args:
            metrics: figures and words about the whole step, the same on every rank.

        Raises:
            TriptychError: the loss or the gradient is not finite.
        """
        grad_norm = self.apply_gradients()
        loss, num_tokens, flops = self._totals()
        loss /= self._num_updates
        self.step += 1
        edge = self.step in (self.span.start + 1, self.span.stop)
        if self.step % self.config.logging_steps == 0 or edge:
            seconds = time.perf_counter() - self._step_started
            self.directory.log(
                self.step,
                loss=loss,
                grad_norm=grad_norm,
                learning_rate=current_learning_rate(self.optimizers),
                tokens_per_second=num_tokens / seconds,
                mfu=self._utilisation(flops, seconds),
                **metrics,
            )
        if self.config.save_steps and self.step % self.config.save_steps == 0 and self.step < self.num_steps:
            self._save()
        self._bar.advance(1, loss=loss)
        self._begin_step()

    def summary(self) -> dict[str, Any]:
        """Return what `done.json` says of any training run."""
        return {"steps": self.num_steps, "model": str(self.directory.path / "model")}

    def finish(
        self, processor: Any, result: dict[str, Any], evaluation: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write the final model folder with its card, then `done.json`, and return the result.

        Args:
            evaluation: what the card says of the model's quality; see `model_card`.
        """
        self.write_model(processor, self.directory.path / "model")
        on_main(lambda: self._write_card(result, evaluation))
        return self.directory.finish(result)

    def write_model(self, processor: Any, folder: Path) -> None:
        """Write the model as it is now, in one piece and with its adapters merged; the loop cannot go on with it."""
        if is_sharded(self.model):
            unshard_on_main(self.model)
        on_main(lambda: save_model(merge_adapters(self.model), processor, folder))

    def _write_card(self, result: dict[str, Any], evaluation: Mapping[str, Any] | None) -> None:
        known = self.directory.identity
        write_model_card(
            self.directory.path / "model",
            model_card(
                self._title,
                known["config"],
                known["inputs"],
                result,
                model_type=self.model.config.model_type,
                evaluation=evaluation,
            ),
        )

    def _begin_step(self) -> None:
        self._loss, self._num_tokens, self._flops = torch.zeros((), dtype=torch.float64, device=self._device), 0, 0
        self._counts, self._num_updates = True, 0
        self._step_started = time.perf_counter()

    def _totals(self) -> list[float]:
        """Return loss, tokens and FLOPs of the step, over all ranks."""
        return all_reduce_sum(torch.tensor([self._loss, self._num_tokens, self._flops], dtype=torch.float64)).tolist()

    def _check_finite(self, loss: float, grad_norm: float) -> None:
        """Stop before what is no number reaches the weights, and with the next checkpoint the run."""
        if not math.isfinite(loss):
            raise TriptychError(
                f"The loss is {loss} at step {self.step + 1}. Lower learning_rate or max_grad_norm, or look for "
                "broken rows with `triptych data check`."
            )
        if not math.isfinite(grad_norm):
            raise TriptychError(
                f"The gradient is not finite at step {self.step + 1}, though the loss is. Lower learning_rate."
            )

    def _utilisation(self, flops: float, seconds: float) -> float:
        """Return MFU over all ranks; only rank 0, which logs it, measures what its machine can do."""
        if not is_main():
            return 0.0
        return model_flops_utilisation(flops / world_size(), seconds, self._dtype, self._device)

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
        path = on_main(lambda: latest_checkpoint(self.directory.path))
        if path is not None and checkpoint_step(path) > self.span.start:  # else it is of a part before
            checkpoint = load_checkpoint(path, self.model, self.optimizers, fingerprint=self.directory.fingerprint)
            self.step, self.state = checkpoint.step, dict(checkpoint.extra)
        self.directory.rewind(self.step)


def load_start_model(
    path: str, config: TrainingConfig, load: Callable[..., torch.nn.Module] = load_model
) -> torch.nn.Module:
    """Load the model that training starts from; with several ranks, one reads it for all. For `prepare_model`.

    Args:
        load: `load_model`, or what else takes its arguments.
    """
    return load(
        path,
        load_in_4bit=config.load_in_4bit,
        compute_dtype=config.compute_dtype,
        device=None if config.load_in_4bit else loading_device(),  # 4-bit weights stay whole on every rank
    )


def prepare_model(model: torch.nn.Module, config: TrainingConfig, encoder: Encoder) -> torch.nn.Module:
    """Make a freshly loaded model ready for training, in place.

    What the configuration names is frozen, adapters are added, recomputation of activations is switched on, and over
    several ranks the model is put into shards. The random numbers of training start here.

    Args:
        encoder: of the model.

    Raises:
        TriptychError: a setting that does not fit the model, or `cpu_offload` in one process.
    """
    model = choose_trained(model, config)
    if world_size() > 1:
        shard(model, encoder, bf16=config.bf16, cpu_offload=config.cpu_offload)
        if rank():  # the weights of adapters were drawn alike on all ranks; dropout is not to be
            torch.manual_seed(config.seed + rank())
    elif config.cpu_offload:
        raise TriptychError("cpu_offload takes shards out of GPU memory; start several processes with torchrun.")
    return model


def choose_trained(model: torch.nn.Module, config: TrainingConfig) -> torch.nn.Module:
    """Do what `prepare_model` does, but leave the model whole; on several ranks they all hold the same one then."""
    torch.manual_seed(config.seed)
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
