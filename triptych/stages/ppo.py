"""Reinforcement learning on the rewards of the policy's own answers: PPO, RLOO, GRPO (VLM-RLAIF, arXiv:2402.03746).

A step draws answers to some prompts, reads them in every role with one packed forward each, and updates the policy on
them several times. Prompt and media are computed once for all answers to a prompt. What a step does is a pure function
of the configuration, its number and the weights it starts from, so that a step that was killed is just done again;
checkpoints lie between steps.

    samples.jsonl       one row per answer: its text, what it was rewarded, and how it compares
    critic.safetensors  what was trained of the critic, to go on with
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triptych.data.batches import plan_items, split_micro
from triptych.data.files import append_jsonl, encode_line, read_jsonl, write_bytes_atomic
from triptych.data.rows import iter_groups
from triptych.engine.actor_critic_loading import build_actor_critic
from triptych.engine.critic_file import FILE, save_critic
from triptych.engine.distributed import is_main, on_main
from triptych.engine.inputs import data_root, input_fingerprints
from triptych.engine.loop import TrainingLoop
from triptych.engine.preflight import check_prompts
from triptych.engine.run import RunDirectory
from triptych.errors import DataError
from triptych.objectives.kl import KlController
from triptych.objectives.rollout import check_update
from triptych.stages.ppo_config import PpoConfig as Config
from triptych.stages.ppo_estimate import estimate_ppo
from triptych.stages.ppo_rollouts import Prompt, Rollouts, explained, reward_function
from triptych.stages.ppo_update import Experience, Updater

SAMPLES = "samples.jsonl"
IGNORED = ("out", "frame_cache", "logging_steps", "kl_limit", "value_limit", "approx_kl_limit")
"""Settings that change no result."""


def run(config: Config) -> dict[str, Any]:
    """Train on rewards and return what `done.json` says of it."""
    function = reward_function(config.reward_model)
    models = [config.model] if function else [config.model, config.reward_model]
    inputs = [*models, *config.data, *([config.critic] if config.critic else [])]
    directory = RunDirectory(config.out, config, inputs=input_fingerprints(inputs), ignore=IGNORED)
    if directory.done is not None:
        return directory.done
    prompts = read_prompts(config.data, config.root)
    roles, processor = build_actor_critic(
        config,
        config.model,
        None if function else config.reward_model,
        critic=config.algorithm == "ppo",
        critic_base=config.critic_base,
        critic_lora_r=config.critic_lora_r,
        critic_file=config.critic,
        temperature=config.temperature,
    )
    rows = {prompt.name: (prompt.group, prompt.root) for prompt in prompts}
    files = {prompt.name: prompt.file for prompt in prompts}
    lengths = on_main(lambda: check_prompts(roles.encoder, rows, config.row_tokens, config.max_new_tokens, files))
    steps = _plan(config, prompts)
    loop = TrainingLoop(directory, roles, config, num_steps=len(steps), title="ppo")
    rollouts, updater = Rollouts(loop, roles, config, function), Updater(loop, roles, config)
    controller = KlController(loop.state.get("kl_coef", config.kl_coef), config.kl_target, config.kl_horizon)
    on_main(lambda: _rewind(directory.path / SAMPLES, loop.step))
    if is_main():
        print(estimate_ppo(roles, config, steps, lengths).describe(), file=sys.stderr)
    for step in loop.steps():
        experience = rollouts.collect(steps[step], step, controller.value)
        _append(directory.path / SAMPLES, sample_rows(experience, step + 1))
        metrics = backward_updates(loop, updater, config, experience, step, controller.value)
        controller.update(experience.metrics["objective/kl"], len(experience.rollout))
        loop.state["kl_coef"] = controller.value
        loop.state.setdefault("first_score", experience.metrics["objective/scores"])
        loop.update(**metrics)
    if roles.critic is not None:
        save_critic(roles, directory.path / FILE, lora_alpha=config.lora_alpha)
    loop.model = roles.policy
    return loop.finish(processor, loop.summary() | _result(config, steps, loop.state["first_score"], experience))


def read_prompts(files: Sequence[str], root: str) -> list[Prompt]:
    """Read the rows of every file, in order.

    Raises:
        DataError: kind `no_prompts`, there is none.
    """
    prompts = [
        Prompt(f"{number}:{group.id}", group, data_root(file, root), file)
        for number, file in enumerate(files)
        for group in iter_groups(file)
    ]
    if not prompts:
        raise DataError("There is no prompt.", remedy="Check `data`.", kind="no_prompts", file=", ".join(files))
    return prompts


def backward_updates(
    loop: TrainingLoop, updater: Updater, config: Config, experience: Experience, step: int, kl_coef: float
) -> dict[str, float]:
    """Take all updates of a step, but of the last one, which `loop.update` takes, add the gradient only.

    Returns:
        metrics of the step: of the rollout, and means over the updates.

    Raises:
        TriptychError: an update is not finite, or went too far; says what to try.
    """
    start = time.perf_counter()
    updates = list(plan_updates(len(experience.drawn), config, step))
    sums: Counter[str] = Counter()
    for number, prompts in enumerate(updates, 1):
        metrics = updater.backward(experience, prompts, kl_coef)
        with explained(step):
            check_update(metrics, approx_kl_limit=config.approx_kl_limit)
        sums.update(metrics)
        if number < len(updates):
            loop.apply_gradients()
    means = {name: value / len(updates) for name, value in sums.items()}
    return experience.metrics | means | {"seconds/updates": time.perf_counter() - start}


def plan_updates(num_prompts: int, config: Config, step: int) -> Iterator[list[int]]:
    """Yield which prompts of a rollout batch make up each update: those of each epoch in an order of its own."""
    num_updates = -(-num_prompts // config.items_per_step)
    for epoch in range(config.num_ppo_epochs):
        order = np.random.default_rng([config.seed, step, epoch]).permutation(num_prompts).tolist()
        yield from split_micro(order, num_updates)


def sample_rows(experience: Experience, step: int) -> list[dict[str, Any]]:
    """Return the rows of `samples.jsonl` of a step, counted from 1."""
    rollout = experience.rollout
    lengths = rollout.completion_mask.sum(1)
    columns = {
        "score": rollout.scores,
        "reward": experience.rewards,
        "kl": experience.kl,
        "num_tokens": lengths,
        "ended": rollout.ended,
        "advantage": experience.advantages.sum(1) / lengths,
    }
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    texts = ((item.group.id, number, text) for item in experience.drawn for number, text in enumerate(item.texts))
    return [
        {"step": step, "id": group, "sample": number, "text": text, **dict(zip(columns, row, strict=True))}
        for (group, number, text), row in zip(texts, values, strict=True)
    ]


def _plan(config: Config, prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """Return the prompts of each step."""
    return plan_items(prompts, config.prompts_per_step, seed=config.seed, **config.extent)


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    on_main(lambda: append_jsonl(path, rows))


def _rewind(path: Path, step: int) -> None:
    """Forget the answers drawn after `step`, which are drawn again."""
    if path.exists():
        kept = b"".join(encode_line(row) for _, row in read_jsonl(path) if row["step"] <= step)
        write_bytes_atomic(path, kept)


def _result(config: Config, steps: Sequence[Sequence[Prompt]], first_score: float, last: Experience) -> dict[str, Any]:
    """Return what `done.json` says beside steps and model: scores and divergence of the first and last rollout."""
    return {
        "prompts": len({prompt.name for step in steps for prompt in step}),
        "answers": sum(len(step) for step in steps) * config.num_samples,
        "first_score": first_score,
        "last_score": last.metrics["objective/scores"],
        "last_kl": last.metrics["objective/kl"],
        "last_length": last.metrics["completions/mean_length"],
    }
