"""The plain way: `generate` of transformers, and for each role one forward of rows that hold an answer each.

What the objectives say of the numbers is the same code on both sides (`triptych.objectives`); everything that computes
them is not: transformers' own models as they are loaded, a padded row per answer with its picture, logits of the answer
alone. `generate` has its cache; it answers all prompts together or one by one, and forwards take as many rows as is
fastest, both found out in the first iteration, which is not timed.

Letters: B answers, T tokens of the longest one, P tokens of the longest prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageTextToText, AutoModelForSequenceClassification, AutoProcessor

from benchmarks.ppo.case import Case, Iteration, draw_trained, settings
from benchmarks.ppo.clock import Clock
from benchmarks.ppo.ours import figures_of
from triptych.engine.rollouts import Drawn
from triptych.models.adapters import freeze
from triptych.objectives.ppo import policy_loss, token_weights, update_size, value_loss, weighted_sum
from triptych.objectives.rollout import Rollout
from triptych.stages.ppo import plan_updates
from triptych.stages.ppo_update import Experience, experience_of

Inputs = dict[str, torch.Tensor]


class Plain:
    """Takes the steps of PPO the plain way.

    Args:
        case: what is compared.
        work: folder of the case.
        batch_sizes: numbers of rows of a forward to choose from.
    """

    def __init__(self, case: Case, work: Path, batch_sizes: Sequence[int]) -> None:
        self._case, self._config, self._clock = case, settings(case, work), Clock()
        self._processor = AutoProcessor.from_pretrained(self._config.model)
        self.policy = AutoModelForImageTextToText.from_pretrained(self._config.model)
        self._reference = deepcopy(self.policy).requires_grad_(False)
        self._judge, self.critic = (
            AutoModelForSequenceClassification.from_pretrained(self._config.reward_model).requires_grad_(False)
            for _ in range(2)
        )
        freeze(self.policy, self._config.freeze)
        if case.critic_lora_r:
            self.critic.add_adapter(
                LoraConfig(
                    r=case.critic_lora_r,
                    lora_alpha=self._config.lora_alpha,
                    target_modules=r".*language_model\..*_proj",
                )
            )
        self.critic.score.requires_grad_(True)
        draw_trained(self.critic)
        self._trained = [p for model in (self.policy, self.critic) for p in model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, self._config.learning_rate, weight_decay=0.0, fused=True)
        for model in (self.policy, self._reference, self._judge, self.critic):
            self._clock.watch_vision(model)
        self._batch_sizes = sorted({min(size, case.answers) for size in batch_sizes})
        self._together = self._reading_rows = self._update_rows = 0
        self._step = 0

    @property
    def way(self) -> str:
        """What was found to be fastest."""
        return (
            f"generate for {self._together} prompts at a time, {self._reading_rows} rows per forward, "
            f"{self._update_rows} per update"
        )

    def iterate(self, drawn: Sequence[Drawn]) -> Iteration:
        """Draw answers, then learn from those that are given, which have as many tokens."""
        if not self._step:
            self._choose(drawn)
        start = time.perf_counter()
        with self._clock.part("other"):
            asked = [self._prompt(item) for item in drawn]
            for part in _batches(asked, self._together):
                self._generate(part)
            prompts = [prompt for prompt in asked for _ in range(self._case.samples)]
            answers = list(chain.from_iterable(item.token_ids for item in drawn))
            rollout = self._read(drawn, prompts, answers)
            experience = experience_of(self._config, list(drawn), rollout, None, self._config.kl_coef)
            losses = list(self._update(experience, prompts, answers))
        seconds = time.perf_counter() - start
        self._step += 1
        return Iteration(seconds, self._clock.take(), list(drawn), figures_of(experience, losses))

    def _prompt(self, item: Drawn) -> Inputs:
        text = self._processor.apply_chat_template(item.group.prompt, add_generation_prompt=True)
        images = [Image.open(item.root / name).convert("RGB") for name in item.group.images]
        return dict(self._processor(text=text, images=images, return_tensors="pt"))

    @torch.no_grad()
    def _generate(self, prompts: Sequence[Inputs]) -> torch.Tensor:
        """Draw answers (B, T) to prompts of one length."""
        with self._clock.part("sampling"):
            inputs = {name: torch.cat([prompt[name] for prompt in prompts]) for name in prompts[0]}
            output = self.policy.generate(
                **inputs,
                do_sample=True,
                top_k=0,
                num_return_sequences=self._case.samples,
                min_new_tokens=self._case.answer_tokens,
                max_new_tokens=self._case.answer_tokens,
                pad_token_id=self._processor.tokenizer.pad_token_id,
            )
        return output[:, inputs["input_ids"].shape[1] :]

    @torch.no_grad()
    def _read(self, drawn: Sequence[Drawn], prompts: Sequence[Inputs], answers: Sequence[list[int]]) -> Rollout:
        """Read answers in every role, each with forwards of its own."""
        clock, size = self._clock, self._reading_rows
        parts = [(list(some), list(ids)) for some, ids in _parts(size, prompts, answers)]
        with clock.part("reading: policy"):
            logps = _joined(self._logps(self.policy, *part) for part in parts)
        with clock.part("reading: reference"):
            ref_logps = _joined(self._logps(self._reference, *part) for part in parts)
        with clock.part("reading: reward"):
            texts = _parts(size, prompts, self._text_tokens(drawn))
            scores = torch.cat([self._judge(**self._rows(*part)[0]).logits[:, 0] for part in texts])
        with clock.part("reading: critic"):
            values = _joined(self._values(*part) for part in parts)
        lengths = torch.tensor([len(ids) for ids in answers])
        ended = torch.tensor([flag for item in drawn for flag in item.ended])
        mask = torch.arange(logps.shape[1]) < lengths[:, None]
        return Rollout(logps, ref_logps, mask, scores, ended, values)

    def _update(
        self, experience: Experience, prompts: Sequence[Inputs], answers: Sequence[list[int]]
    ) -> Iterator[dict[str, float]]:
        """Take all updates and yield the losses of each."""
        config, clock, samples = self._config, self._clock, self._case.samples
        for numbers in plan_updates(self._case.prompts, config, self._step):
            rows = [row for number in numbers for row in range(number * samples, (number + 1) * samples)]
            size = update_size(experience.rollout.completion_mask[rows], max_completion_tokens=config.max_new_tokens)
            losses = {"loss/policy": 0.0, "loss/value": 0.0}
            for part in _batches(rows, self._update_rows):
                inputs = [prompts[row] for row in part], [answers[row] for row in part]
                width = max(len(ids) for ids in inputs[1])
                weights = token_weights(experience.rollout.completion_mask[part, :width], config.average, size)
                with clock.part("policy update"):
                    loss = self._policy_loss(experience, part, inputs, weights)
                    loss.backward()
                losses["loss/policy"] += loss.item()
                with clock.part("critic update"):
                    loss = self._value_loss(experience, part, inputs, weights)
                    (config.vf_coef * loss).backward()
                losses["loss/value"] += loss.item()
            with clock.part("optimiser"):
                torch.nn.utils.clip_grad_norm_(self._trained, config.max_grad_norm)
                self._optimizer.step()
                self._optimizer.zero_grad()
            yield losses

    def _policy_loss(
        self, experience: Experience, rows: list[int], inputs: tuple[Any, Any], weights: torch.Tensor
    ) -> torch.Tensor:
        rollout, columns = experience.rollout, slice(weights.shape[1])
        loss = policy_loss(
            self._logps(self.policy, *inputs),
            rollout.per_token_logps[rows, columns],
            experience.advantages[rows, columns],
            rollout.completion_mask[rows, columns],
            cliprange=self._config.cliprange,
        )
        return weighted_sum(loss.loss, weights)

    def _value_loss(
        self, experience: Experience, rows: list[int], inputs: tuple[Any, Any], weights: torch.Tensor
    ) -> torch.Tensor:
        rollout, columns = experience.rollout, slice(weights.shape[1])
        loss = value_loss(
            self._values(*inputs),
            rollout.values[rows, columns],
            experience.returns[rows, columns],
            rollout.completion_mask[rows, columns],
            cliprange_value=self._config.cliprange_value,
        )
        return weighted_sum(loss.loss, weights)

    def _logps(self, model: Any, prompts: Sequence[Inputs], answers: Sequence[list[int]]) -> torch.Tensor:
        """Return the log-probability of each token of the answers, (B, T) nats; of no meaning at padding."""
        inputs, start = self._rows(prompts, answers)
        targets = inputs["input_ids"][:, start:]
        logits = model(**inputs, logits_to_keep=targets.shape[1] + 1).logits[:, :-1]
        return -cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)

    def _values(self, prompts: Sequence[Inputs], answers: Sequence[list[int]]) -> torch.Tensor:
        """Return the value before each token of the answers, (B, T); of no meaning at padding."""
        inputs, start = self._rows(prompts, answers)
        return self.critic.values(self.critic.model(**inputs).last_hidden_state[:, start - 1 : -1])

    def _rows(self, prompts: Sequence[Inputs], answers: Sequence[list[int]]) -> tuple[Inputs, int]:
        """Put each answer into a row with its prompt, padded on the left, and return the rows and P."""
        pad = self._processor.tokenizer.pad_token_id
        ids = [prompt["input_ids"][0].tolist() for prompt in prompts]
        longest, width = max(map(len, ids)), max(map(len, answers))
        rows, counts = [], []
        for prompt, answer in zip(ids, answers, strict=True):
            left, right = longest - len(prompt), width - len(answer)
            rows.append([pad] * left + prompt + answer + [pad] * right)
            counts.append([0] * left + [1] * (len(prompt) + len(answer)) + [0] * right)
        pixels = torch.cat([prompt["pixel_values"] for prompt in prompts])
        mask = torch.tensor(counts)
        return {"input_ids": torch.tensor(rows), "attention_mask": mask, "pixel_values": pixels}, longest

    def _text_tokens(self, drawn: Sequence[Drawn]) -> list[list[int]]:
        """Return the tokens of the texts of answers, with the one that ends a turn where it was reached."""
        tokenizer = self._processor.tokenizer
        answers = []
        for item in drawn:
            for text, ended in zip(item.texts, item.ended, strict=True):
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                answers.append([*ids, tokenizer.eos_token_id] if ended or not ids else ids)
        return answers

    def _choose(self, drawn: Sequence[Drawn]) -> None:
        """Find out which way is fastest."""
        asked = [self._prompt(item) for item in drawn]
        ways = {
            number: lambda number=number: [self._generate(part) for part in _batches(asked, number)]
            for number in {1, len(asked)}
        }
        self._together = _fastest(ways)
        prompts = [prompt for prompt in asked for _ in range(self._case.samples)]
        answers = list(chain.from_iterable(item.token_ids for item in drawn))
        most = max(self._batch_sizes)

        def forwards(size: int, gradients: bool) -> None:
            for part in _parts(size, prompts[:most], answers[:most]):
                with torch.set_grad_enabled(gradients):
                    logps = self._logps(self.policy, *part)
                if gradients:
                    logps.sum().backward()
            self._optimizer.zero_grad()

        self._reading_rows, self._update_rows = (
            _fastest({size: lambda size=size, flag=flag: forwards(size, flag) for size in self._batch_sizes})
            for flag in (False, True)
        )
        self._clock.take()


def _fastest(ways: dict[int, Callable[[], Any]]) -> int:
    """Return the key of the function that takes the least time, of several."""

    def seconds(number: int) -> float:
        start = time.perf_counter()
        ways[number]()
        return time.perf_counter() - start

    return min(ways, key=seconds) if len(ways) > 1 else next(iter(ways))


def _batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))


def _parts(size: int, *columns: Sequence[Any]) -> Iterator[tuple[list[Any], ...]]:
    """Cut several lists of the same length alike."""
    return zip(*(_batches(column, size) for column in columns), strict=True)


def _joined(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """Join (B, T) of parts, padded on the right with zeros."""
    rows = [row for part in parts for row in part]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
