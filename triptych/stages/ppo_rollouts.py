"""The first half of a step of PPO, RLOO or GRPO: answers are drawn, read in every role, and rewarded.

Over several ranks each draws answers to its share of the prompts, while it holds the whole policy. To read them the
ranks go through the layers of every model together, each with answers of its own.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from triptych.data.batches import split_micro
from triptych.engine.actor_critic import ActorCritic, RewardFunction
from triptych.engine.distributed import gather_items, share_of_rank, world_size
from triptych.engine.loop import TrainingLoop
from triptych.engine.rollouts import Drawn, Read, as_rollout, usable_answer
from triptych.engine.sharding import call_whole
from triptych.errors import TriptychError
from triptych.feedback.plugins import resolve_function
from triptych.generation.local import LocalGenerator
from triptych.generation.protocol import Request, Sample, SamplingParams
from triptych.group import Group
from triptych.objectives.rollout import Diverged, check_rollout
from triptych.stages.ppo_config import PpoConfig as Config
from triptych.stages.ppo_update import Experience, experience_of

START_TOLERANCE = {False: 1e-3, True: 0.3}
"""Nats by which the policy may differ from the reference, on one token, before the first update; with bf16 or not."""


@dataclass(frozen=True)
class Prompt:
    """A row to be answered.

    Attributes:
        name: stands for the row; ids are unique in a file only.
        root: data root of its media.
        file: that it comes from.
    """

    name: str
    group: Group
    root: Path
    file: str


def reward_function(place: str) -> Callable[[str, Group], float] | None:
    """Return the function that `reward_model` names, or None where it is a folder or a name on the hub."""
    return resolve_function(place, "reward function") if ":" in place and not Path(place).exists() else None


class Rollouts:
    """Draws answers, has them read in every role, and says what they have earned.

    Args:
        loop: of the training.
        roles: who reads.
        config: of the stage.
        function: gives the rewards where there is no reward model.
    """

    def __init__(
        self, loop: TrainingLoop, roles: ActorCritic, config: Config, function: Callable[[str, Group], float] | None
    ) -> None:
        self._loop, self._roles, self._config = loop, roles, config
        self._function = _checked(function, config.reward_model) if function else None
        self._sampler = LocalGenerator(roles.policy, roles.encoder, batch_sequences=config.batch_sequences)

    def collect(self, prompts: Sequence[Prompt], step: int, kl_coef: float) -> Experience:
        """Return the experience of a step; every rank makes its share and comes to know all of it.

        Every rank reads as many parts as the others. One that has no share of the prompts reads along for nothing.

        Raises:
            TriptychError: a number is none, or beyond its limit; says what to try.
        """
        start = time.perf_counter()
        drawn = self.draw(prompts, step)
        middle = time.perf_counter()
        self._roles.forget()
        reads = [read for part in self._parts(drawn, len(prompts)) for read in self._read(part)]
        if not share_of_rank(prompts):
            drawn, reads = [], []
        drawn, reads = gather_items(drawn), gather_items([_travelling(read) for read in reads])
        rollout, states = as_rollout(reads, drawn, next(self._roles.parameters()).device), None
        if reads[0].states is not None:
            states = [rows for read in reads for rows in read.states]
        with explained(step):
            check_rollout(rollout, kl_limit=self._config.kl_limit, value_limit=self._config.value_limit)
        if step == 0:
            _check_start(rollout.per_token_logps - rollout.ref_per_token_logps, bf16=self._config.bf16)
        experience = experience_of(self._config, drawn, rollout, states, kl_coef)
        end = time.perf_counter()
        experience.metrics.update({"seconds/sampling": middle - start, "seconds/reading": end - middle})
        return experience

    def draw(self, prompts: Sequence[Prompt], step: int) -> list[Drawn]:
        """Draw the answers to this rank's share of the prompts of a step, or to the first where it has none."""
        seen: Counter[str] = Counter()
        asked = []
        for prompt in prompts:  # one that comes twice in a step is answered by other samples the second time
            number = seen[prompt.group.id]
            seen[prompt.group.id] += 1
            asked.append((prompt, self._request(prompt, step, number), f"{prompt.name} {number}"))
        asked = share_of_rank(asked) or asked[:1]
        answers = call_whole(
            self._roles.policy, self._answers, [(request, prompt.root) for prompt, request, _ in asked]
        )
        return [self._drawn(prompt, name, samples) for (prompt, _, name), samples in zip(asked, answers, strict=True)]

    def _request(self, prompt: Prompt, step: int, number: int) -> Request:
        num_samples = self._config.num_samples
        seed = (self._config.seed << 32) + step
        return Request(prompt.group, num_samples, seed, first_sample=number * num_samples)

    def _answers(self, asked: Sequence[tuple[Request, Path]]) -> list[list[Sample]]:
        """Return the samples of each request about media below a root."""
        answers: dict[int, list[Sample]] = {}
        for root in dict.fromkeys(root for _, root in asked):
            places = [n for n, (_, other) in enumerate(asked) if other == root]
            samples = self._loop.forward(self._sample, [asked[n][0] for n in places], root)
            answers |= zip(places, samples, strict=True)
        return [answers[n] for n in range(len(asked))]

    def _sample(self, requests: list[Request], root: Path) -> list[list[Sample]]:
        params = SamplingParams(self._config.temperature, max_new_tokens=self._config.max_new_tokens)
        return list(self._sampler.generate(requests, params, root=root))

    def _drawn(self, prompt: Prompt, name: str, samples: Sequence[Sample]) -> Drawn:
        encoder = self._roles.encoder
        usable = [usable_answer(encoder, item.token_ids, item.text, ended=not item.truncated) for item in samples]
        token_ids, texts, ended = (list(column) for column in zip(*usable, strict=True))
        return Drawn(name, prompt.group, prompt.root, token_ids, texts, ended)

    def _parts(self, drawn: list[Drawn], num_prompts: int) -> list[list[Drawn]]:
        """Cut prompts into what goes through a model at once: on every rank into the same number of parts."""
        largest, smallest = -(-num_prompts // world_size()), max(1, num_prompts // world_size())
        return split_micro(drawn, min(smallest, -(-largest // self._config.per_device_train_batch_size)))

    def _read(self, part: list[Drawn]) -> list[Read]:
        return self._loop.forward(self._roles.read, part, self._function)


@contextmanager
def explained(step: int) -> Iterator[None]:
    """Turn `Diverged` into an error for the user, with the step, counted from 0."""
    try:
        yield
    except Diverged as error:
        raise TriptychError(
            f"Stopped at step {step + 1}: {error.problem} {error.remedy} Checkpoints are as they were: the same "
            "command goes on from the last one, with another limit too; other settings need another --out."
        ) from None


def _checked(function: Callable[[str, Group], float], name: str) -> RewardFunction:
    """Return a function that rewards all answers to a prompt, and says so where a reward is no number."""

    def rewards(drawn: Drawn) -> list[float]:
        values = [function(text, drawn.group) for text in drawn.texts]
        for text, value in zip(drawn.texts, values, strict=True):
            if not isinstance(value, int | float | np.number) or not math.isfinite(value):
                raise TriptychError(
                    f"The reward function {name} gives {value!r} for an answer to row {drawn.group.id}, {text[:80]!r}; "
                    "it must return a finite number for any text, the empty one included."
                )
        return [float(value) for value in values]

    return rewards


def _check_start(differences: torch.Tensor, *, bf16: bool) -> None:
    """Before the first update the policy is the reference, and their divergence is 0."""
    if not (largest := differences.abs().max().item()) <= START_TOLERANCE[bf16]:
        raise TriptychError(
            f"Before the first update the policy differs from the reference by {largest:.2g} nats on a token. Most "
            "likely a part of the model draws at random in training: dropout or drop-path; set it to 0 in the model's "
            "config.json."
        )


def _travelling(read: Read) -> Read:
    """Return what is sent to other ranks: on the CPU, without the states, which an update then computes again."""
    if world_size() == 1:
        return read
    logps, ref_logps, values = (
        None if rows is None else [row.cpu() for row in rows] for rows in (read.logps, read.ref_logps, read.values)
    )
    return Read(logps, ref_logps, read.scores, values)
