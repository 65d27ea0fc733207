"""Our side: the `ppo` stage, its parts timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.ppo.case import Case, Iteration, draw_trained, settings
from benchmarks.ppo.clock import Clock
from triptych.engine.actor_critic import ActorCritic
from triptych.engine.actor_critic_loading import build_actor_critic
from triptych.engine.loop import TrainingLoop
from triptych.engine.rollouts import Drawn
from triptych.engine.run import RunDirectory
from triptych.stages.ppo import backward_updates, read_prompts
from triptych.stages.ppo_rollouts import Rollouts
from triptych.stages.ppo_update import Experience, Updater


class Ours:
    """Takes the steps of the stage, as `triptych.stages.ppo.run` does.

    Args:
        case: what is compared.
        work: folder of the case.
    """

    def __init__(self, case: Case, work: Path) -> None:
        self._config = config = settings(case, work)
        self._clock = Clock()
        self.roles, _ = build_actor_critic(
            config, config.model, config.reward_model, critic=True, critic_lora_r=config.critic_lora_r
        )
        draw_trained(self.roles.critic)
        self._prompts = read_prompts(config.data, config.root)
        directory = RunDirectory(config.out, config)
        self._loop = TrainingLoop(directory, self.roles, config, num_steps=case.iterations, title="ppo")
        self._rollouts = Rollouts(self._loop, self.roles, config, None)
        self._updater = _Recorder(self._loop, self.roles, config)
        self._steps = self._loop.steps()
        _time_parts(self._clock, self.roles, self._loop, self._rollouts)

    way = "packed"
    """How the side goes about it."""

    def iterate(self, drawn: Sequence[Drawn] | None = None) -> Iteration:
        """Take a step on answers of its own."""
        config, step = self._config, next(self._steps)
        first = step * config.prompts_per_step
        self._updater.losses.clear()
        start = time.perf_counter()
        with self._clock.part("other"):
            experience = self._rollouts.collect(
                self._prompts[first : first + config.prompts_per_step], step, config.kl_coef
            )
            metrics = backward_updates(self._loop, self._updater, config, experience, step, config.kl_coef)
            self._loop.update(**metrics)
        seconds = time.perf_counter() - start
        if self._loop.step == self._loop.num_steps:
            next(self._steps, None)  # ends the progress bar
        figures = figures_of(experience, self._updater.losses)
        return Iteration(seconds, self._clock.take(), experience.drawn, figures)


def figures_of(experience: Experience, losses: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Return what both sides must agree on.

    Args:
        experience: of the iteration.
        losses: metrics of each update.
    """
    rollout, mask = experience.rollout, experience.rollout.completion_mask
    return {
        "scores": rollout.scores.tolist(),
        "rewards": experience.rewards.tolist(),
        "logps": rollout.per_token_logps[mask].tolist(),
        "ref_logps": rollout.ref_per_token_logps[mask].tolist(),
        "values": rollout.values[mask].tolist(),
        "advantages": experience.advantages[mask].tolist(),
        "policy_loss": [metrics["loss/policy"] for metrics in losses],
        "value_loss": [metrics["loss/value"] for metrics in losses],
    }


class _Recorder(Updater):
    """Keeps the losses of each update."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.losses: list[dict[str, float]] = []

    def backward(self, *args: Any) -> dict[str, float]:
        metrics = super().backward(*args)
        self.losses.append(metrics)
        return metrics


def _time_parts(clock: Clock, roles: ActorCritic, loop: TrainingLoop, rollouts: Rollouts) -> None:
    """Have the clock count what each part takes."""
    for model in (roles.policy, roles.reference.model, roles.judge.model):
        clock.watch_vision(model)
    rollouts.draw = clock.timed("sampling", rollouts.draw)
    roles.reference.look = clock.timed("reading: reference", roles.reference.look)
    roles.judge.look = clock.timed("reading: reward", roles.judge.look)
    current = "policy update"

    def in_turn(role: str, function: Any) -> Any:
        def counted(*args: Any) -> Any:
            nonlocal current
            if not torch.is_grad_enabled():
                return clock.timed(f"reading: {role}", function)(*args)
            current = f"{role} update"
            return clock.timed(current, function)(*args)

        return counted

    roles.policy_logps = in_turn("policy", roles.policy_logps)
    roles.values = in_turn("critic", roles.values)
    backward = loop.backward
    loop.backward = lambda *args: clock.timed(current, backward)(*args)
    loop.apply_gradients = clock.timed("optimiser", loop.apply_gradients)
