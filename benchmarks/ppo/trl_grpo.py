"""TRL's GRPOTrainer on the same model and prompts, as many answers, one optimiser step for all of them.

As it comes, but for what makes it faster: no gradient checkpointing. It has no critic, no reward model (a function of
the text takes their place) and, with its `beta` of 0, no reference; each answer is trained on once, so that it needs no
log-probabilities before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback

from benchmarks.ppo.case import Case, Iteration, settings
from benchmarks.ppo.clock import Clock
from triptych.data.rows import iter_groups


def train(case: Case, work: Path, batch_size: int, tell: Callable[[Iteration], None]) -> None:
    """Run the trainer.

    Args:
        batch_size: answers in a forward of the update.
        tell: called after each iteration; the next one begins when it returns.
    """
    from trl import GRPOTrainer

    clock = Clock()
    model = AutoModelForImageTextToText.from_pretrained(work / "policy", dtype=torch.float32)
    clock.watch_vision(model)
    model.generate = clock.timed("sampling", model.generate)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=number_of_letters,
        args=_arguments(case, work, batch_size),
        train_dataset=Dataset.from_list(list(_rows(work))),
        processing_class=AutoProcessor.from_pretrained(work / "policy"),
        callbacks=[_Report(clock, tell)],
    )
    trainer.training_step = clock.timed("policy update", trainer.training_step)
    trainer.train()


def number_of_letters(completions: list[list[dict[str, str]]], **kwargs: Any) -> list[float]:
    """Reward answers; some get more than others."""
    return [float(len(messages[0]["content"])) for messages in completions]


def _arguments(case: Case, work: Path, batch_size: int) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(work / "trl"),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=case.answers // batch_size,
        num_generations=case.samples,
        max_completion_length=case.answer_tokens,
        # A model with random weights does not end its answers by itself; the tiny one now and then does.
        generation_kwargs={"min_new_tokens": case.answer_tokens},
        max_steps=case.iterations,
        learning_rate=settings(case, work).learning_rate,
        bf16=False,
        gradient_checkpointing=False,
        shuffle_dataset=False,
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )


def _rows(work: Path) -> Any:
    for group in iter_groups(work / "data/rows.jsonl"):
        yield {
            "images": [Image.open(work / "data" / group.images[0]).convert("RGB")],
            "prompt": [{"role": "user", "content": group.prompt[0]["content"][1]["text"]}],
        }


class _Report(TrainerCallback):
    """Tells what each iteration took."""

    def __init__(self, clock: Clock, tell: Callable[[Iteration], None]) -> None:
        self._clock, self._tell = clock, tell

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        seconds, parts = time.perf_counter() - self._start, self._clock.take()
        parts["other"] = seconds - sum(parts.values())
        self._tell(Iteration(seconds, parts, [], {}))
