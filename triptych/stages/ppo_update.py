"""What an answer has earned, and the gradient of an update: PPO, RLOO and GRPO on one rollout batch.

The formulas are in `triptych.objectives`; here the settings choose among them. The update does not depend on how it is
cut into micro-batches: every token has a weight that the whole update decides.

Letters: B answers, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.utils.rnn import pad_sequence

from triptych.engine.actor_critic import ActorCritic
from triptych.engine.loop import TrainingLoop
from triptych.engine.rollouts import Drawn, PackedAnswers
from triptych.objectives.advantages import gae, grpo_advantages, rloo_advantages, spread, whiten
from triptych.objectives.kl import kl_loss, token_kl
from triptych.objectives.ppo import (
    UpdateSize,
    ValueLoss,
    completion_logps,
    policy_loss,
    token_weights,
    update_metrics,
    update_size,
    value_loss,
    weighted_sum,
)
from triptych.objectives.rollout import Rollout, rollout_metrics, value_metrics
from triptych.objectives.shaping import Shaping, completion_rewards, token_rewards
from triptych.stages.ppo_config import PpoConfig as Config


@dataclass(frozen=True)
class Experience:
    """A rollout batch with what its answers have earned.

    Attributes:
        rewards: (B,) less all penalties, that of the divergence included.
        kl: (B,) nats from the reference.
        advantages: (B, T), 0 at padding.
        returns: (B, T); None without a critic.
        states: what the head of a critic reads whose body stands still, per answer (T, D).
        metrics: of the rollout.
    """

    drawn: list[Drawn]
    rollout: Rollout
    rewards: torch.Tensor
    kl: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor | None
    states: list[torch.Tensor] | None
    metrics: dict[str, float]


def experience_of(
    config: Config, drawn: list[Drawn], rollout: Rollout, states: list[torch.Tensor] | None, kl_coef: float
) -> Experience:
    """Shape the rewards of a checked rollout and estimate advantages."""
    mask = rollout.completion_mask
    shaping = Shaping(
        score_clip=config.score_clip,
        missing_eos_penalty=config.missing_eos_penalty,
        length_penalty=config.length_penalty,
        max_completion_tokens=config.max_new_tokens,
        reward_scale=config.reward_scale,
        whiten_rewards=config.whiten_rewards,
    )
    rewards = completion_rewards(rollout.scores, mask, rollout.ended, shaping)
    kl = token_kl(rollout.per_token_logps, rollout.ref_per_token_logps, mask, estimator=config.estimator)
    in_rewards = 0.0 if config.algorithm == "grpo" else kl_coef
    of_tokens = token_rewards(rewards, kl, mask, kl_coef=in_rewards, shaping=shaping)
    metrics = rollout_metrics(rollout, rewards, kl, kl_coef=kl_coef)
    returns = None
    if config.algorithm == "ppo":
        estimate = gae(of_tokens, rollout.values, mask, gamma=config.gamma, lam=config.lam)
        advantages, returns = estimate.advantages, estimate.returns
        metrics |= value_metrics(rollout.values, returns, mask)
        if config.whiten_advantages:
            advantages = whiten(advantages, mask)
    else:
        groups = torch.arange(len(rollout), device=mask.device) // config.num_samples
        whole = of_tokens.sum(1)
        if config.algorithm == "rloo":
            advantages = spread(rloo_advantages(whole, groups), mask)
        else:
            advantages = spread(grpo_advantages(whole, groups, scale=config.group_scale), mask)
    distance = token_kl(rollout.per_token_logps, rollout.ref_per_token_logps, mask).sum(1)
    return Experience(drawn, rollout, rewards - kl_coef * kl.sum(1), distance, advantages, returns, states, metrics)


class Updater:
    """Adds the gradients of updates.

    Args:
        loop: of the training; its model is `roles`.
        roles: policy and critic.
        config: of the stage.
    """

    def __init__(self, loop: TrainingLoop, roles: ActorCritic, config: Config) -> None:
        self._loop, self._roles, self._config = loop, roles, config

    def backward(self, experience: Experience, prompts: Sequence[int], kl_coef: float) -> dict[str, float]:
        """Add the gradient of the loss of one update.

        Args:
            experience: the rollout batch.
            prompts: which of its prompts, of all ranks, are in the update, with all their answers.
            kl_coef: weight of the divergence where it is a term of the loss.

        Returns:
            metrics of the update, over all ranks; not checked.
        """
        mask = experience.rollout.completion_mask[self._answers(prompts)]
        counted = mask[:, :1] if self._config.algorithm == "rloo" else mask  # RLOO weighs whole answers
        size = update_size(counted, max_completion_tokens=self._config.max_new_tokens)
        totals: dict[str, float] = {}
        for part in self._loop.micro_batches(prompts):
            for name, value in self._backward_part(experience, part, size, kl_coef).items():
                totals[name] = totals.get(name, 0.0) + value.item()
        return {name: self._loop.total(value) for name, value in totals.items()}

    def _backward_part(
        self, experience: Experience, prompts: Sequence[int], size: UpdateSize, kl_coef: float
    ) -> dict[str, torch.Tensor]:
        """Add the gradient of a micro-batch: of the policy, then of the critic, so that one graph is held at a time."""
        config, rollout = self._config, experience.rollout
        drawn, rows = [experience.drawn[n] for n in prompts], self._answers(prompts)
        packed = self._roles.packer.pack(drawn)
        logps, entropies = self._policy(packed)
        of_rows = (rows, slice(logps.shape[1]))
        mask, old_logps = rollout.completion_mask[of_rows], rollout.per_token_logps[of_rows]
        advantages = experience.advantages[of_rows]
        divergence = None
        if config.algorithm == "grpo" and kl_coef:
            divergence = kl_loss(logps, rollout.ref_per_token_logps[of_rows], mask, estimator=config.estimator)
        if config.algorithm == "rloo":
            logps, old_logps = completion_logps(logps, mask), completion_logps(old_logps, mask)
            entropies = completion_logps(entropies, mask) if entropies is not None else None
            mask, advantages = mask[:, :1], advantages[:, :1]
        weights = token_weights(mask, "token" if config.algorithm == "rloo" else config.average, size)
        policy = policy_loss(logps, old_logps, advantages, mask, cliprange=config.cliprange)
        loss = weighted_sum(policy.loss, weights)
        if divergence is not None:
            loss = loss + kl_coef * weighted_sum(divergence, weights)
        if entropies is not None:
            loss = loss - config.entropy_coef * weighted_sum(entropies, weights)
        value = None
        if experience.states is not None:  # the critic's body stands still, and nothing of it is computed again
            values = [self._roles.critic.values(experience.states[row]) for row in rows]
            value = self._value_loss(experience, rows, values)
            loss = loss + config.vf_coef * weighted_sum(value.loss, weights)
        self._loop.backward(loss, packed.batch)
        if config.algorithm == "ppo" and value is None:
            packed = self._roles.critic_packer.pack(drawn)
            values = packed.by_answer(self._loop.forward(self._roles.values, packed.batch))
            value = self._value_loss(experience, rows, values)
            self._loop.backward(config.vf_coef * weighted_sum(value.loss, weights), packed.batch)
        return update_metrics(policy, weights, mask, size, value=value, entropies=entropies)

    def _policy(self, packed: PackedAnswers) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return log-probabilities (B, T) and, where there is a bonus for them, the entropies of the policy."""
        if not self._config.entropy_coef:
            return _padded(packed.by_answer(self._loop.forward(self._roles.policy_logps, packed.batch))), None
        scores = self._loop.forward(partial(self._roles.policy_scores, entropies=True), packed.batch)
        return _padded(packed.by_answer(scores.per_token_logps)), _padded(packed.by_answer(scores.entropies))

    def _value_loss(self, experience: Experience, rows: Sequence[int], values: Sequence[torch.Tensor]) -> ValueLoss:
        padded = _padded(values)
        of_rows = (rows, slice(padded.shape[1]))
        return value_loss(
            padded,
            experience.rollout.values[of_rows],
            experience.returns[of_rows],
            experience.rollout.completion_mask[of_rows],
            cliprange_value=self._config.cliprange_value,
        )

    def _answers(self, prompts: Sequence[int]) -> list[int]:
        """Return the rows of the answers to prompts."""
        number = self._config.num_samples
        return [row for prompt in prompts for row in range(prompt * number, (prompt + 1) * number)]


def _padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    return pad_sequence(list(rows), batch_first=True)
