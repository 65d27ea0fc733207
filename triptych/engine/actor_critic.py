"""The four roles of PPO on as few weights as they need: policy, reference, reward model and critic.

| role | policy with adapters | policy without |
| --- | --- | --- |
| policy | start model, adapters on | start model |
| reference | the same, adapters off | a copy that stands still |
| reward model | a model that stands still, or none where a function gives the rewards | |
| critic, its `lora_r` 0 | a head on the body of the reward model or the reference | |
| critic, its `lora_r` above 0 | adapters and a head, on the reward model or a copy of the start model | |

With adapters everywhere these are the two base models of VLM-RLAIF (arXiv:2402.03746): the adapters of the reward model
are merged into its weights, so that a critic whose adapters start at zero starts at the body of the reward model. Its
head starts at zero. A critic without adapters costs no forward: its head reads what another role has computed anyway,
and updates read again what was kept.

Letters: C paths, N distinct target tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import nn

from triptych.engine.encode import Encoder
from triptych.engine.families import ImageFeatures
from triptych.engine.features import FeatureSource
from triptych.engine.plain import PlainBatch, plain_states, plain_token_scores
from triptych.engine.rewards import target_values
from triptych.engine.rollouts import Drawn, Packer, Read
from triptych.engine.scoring import Scores, hidden_states, score, target_logps
from triptych.engine.sharding import call_sharded
from triptych.engine.trie import PackedBatch
from triptych.models.adapters import reference_mode
from triptych.models.reward import RewardModel

RewardFunction = Callable[[Drawn], Sequence[float]]
"""Rewards of the answers to one prompt."""


@dataclass(frozen=True)
class Look:
    """What one forward shows of a batch.

    Attributes:
        states: (N, D) hidden state before each distinct target.
        rewards: (C,) of each path, where the model is a reward model.
        logps: (N,) log-probability of each distinct target, nats, where it is asked for.
    """

    states: torch.Tensor
    rewards: torch.Tensor | None
    logps: torch.Tensor | None


class Standing:
    """A model as it was before training: without gradients, and with its adapters off where it has any.

    Args:
        model: a model that generates, or a reward model.
        encoder: of the model.
        source: of its features; None computes them.
    """

    def __init__(self, model: Any, encoder: Encoder, source: FeatureSource | None) -> None:
        self.model, self.encoder, self.source = model, encoder, source

    @torch.no_grad()
    def look(self, batch: PackedBatch | PlainBatch, *, logps: bool = False, temperature: float = 1.0) -> Look:
        """Make one forward; of a plain batch one for each path, and another one for log-probabilities.

        Args:
            logps: tell log-probabilities too.
            temperature: of the distribution that they are of.
        """
        return call_sharded(self.model, self._look, batch, logps, temperature)

    def _look(self, batch: PackedBatch | PlainBatch, logps: bool, temperature: float) -> Look:
        batch = batch.to(next(self.model.parameters()).device)
        adapted = any(hasattr(module, "get_base_layer") for module in self.model.modules())
        with reference_mode(self.model) if adapted else nullcontext():
            if isinstance(batch, PlainBatch):
                return self._look_plainly(batch, logps, temperature)
            family, found = self.encoder.family, None
            hidden = hidden_states(self.model, family, batch, _known(self.source, batch)).flatten(0, 1)
            if logps:
                found = target_logps(self.model, hidden, batch, family.logit_softcap, temperature=temperature)
            return Look(hidden[batch.predecessors], self._rewards(hidden[batch.path_ends]), found)

    def _look_plainly(self, batch: PlainBatch, logps: bool, temperature: float) -> Look:
        states = list(plain_states(self.model, batch))
        before = [
            rows[:-1][torch.tensor(path.targets[1:], device=rows.device)]
            for path, rows in zip(batch.paths, states, strict=True)
        ]
        found = plain_token_scores(self.model, batch, temperature=temperature)[0] if logps else None
        return Look(torch.cat(before), self._rewards(torch.stack([rows[-1] for rows in states])), found)

    def _rewards(self, ends: torch.Tensor) -> torch.Tensor | None:
        return self.model.values(ends) if isinstance(self.model, RewardModel) else None


class ActorCritic(nn.Module):
    """Policy and critic, which are trained, beside the reference and the reward model, which stand still.

    To a training loop it is its policy.

    Args:
        policy: as it is trained.
        reference: its adapters off, or a copy; its encoder is the policy's, too.
        judge: reward model; None where a function gives the rewards.
        critic: scalar head on the body of the reward model or of a model with the policy's tokens; None without.
        critic_reads: what the head stands on, where its body stands still: `judge` or `reference`, the objects; None
            where its body is trained.
        row_tokens: most tokens of a packed row.
        source: of the features of the policy, where its tower stands still.
        temperature: divides the logits of policy and reference, as it did when the answers were drawn.
    """

    def __init__(
        self,
        policy: Any,
        reference: Standing,
        judge: Standing | None,
        critic: RewardModel | None,
        critic_reads: Standing | None,
        row_tokens: int,
        source: FeatureSource | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.policy, self.critic, self.temperature = policy, critic, temperature
        self.reference, self.judge, self.critic_reads = reference, judge, critic_reads
        self.encoder = reference.encoder
        self.packer = Packer(policy, self.encoder, row_tokens)
        self.judge_packer = Packer(judge.model, judge.encoder, row_tokens) if judge is not None else None
        on_judge = judge is not None and critic is not None and critic.model is judge.model.model
        self.critic_packer = self.judge_packer if on_judge else self.packer
        self._policy_source = source
        self._critic_source = judge.source if on_judge else source

    config = property(lambda self: self.policy.config, doc="Of the policy.")
    model = property(lambda self: self.policy.model, doc="The body of the policy.")

    def get_decoder(self) -> nn.Module:
        """Return the policy's."""
        return self.policy.get_decoder()

    def get_output_embeddings(self) -> nn.Module:
        """Return the policy's."""
        return self.policy.get_output_embeddings()

    def policy_logps(self, batch: PackedBatch | PlainBatch) -> torch.Tensor:
        """Return the log-probability of each distinct target under the policy, (N,) nats."""
        return self.policy_scores(batch).per_token_logps

    def policy_scores(self, batch: PackedBatch | PlainBatch, *, entropies: bool = False) -> Scores:
        """Score a batch with the policy; with the entropy at each distinct target, where that is asked for."""
        features = _known(self._policy_source, batch)
        how = partial(score, temperature=self.temperature, entropies=entropies)
        return call_sharded(self.policy, how, self.policy, self.encoder.family, batch, features)

    def values(self, batch: PackedBatch | PlainBatch) -> torch.Tensor:
        """Return the value before each distinct target, (N,), of a batch of `critic_packer`."""
        if self.critic_reads is not None:
            return self.head_values([self.critic_reads.look(batch).states])[0]
        family, features = self.critic_packer.encoder.family, _known(self._critic_source, batch)
        return call_sharded(self.critic, target_values, self.critic, family, batch, features)

    def head_values(self, states: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return what the critic's head makes of hidden states (T, D), (T,) each."""
        return call_sharded(self.critic, lambda: [self.critic.values(rows) for rows in states])

    @torch.no_grad()
    def read(self, drawn: Sequence[Drawn], function: RewardFunction | None = None) -> list[Read]:
        """Read answers in every role, with one packed forward each.

        Args:
            function: gives the rewards where there is no reward model.

        Returns:
            per prompt what is known of its answers; nothing is checked.
        """
        packed = self.packer.pack(drawn)
        logps = packed.by_answer(self.policy_logps(packed.batch))
        looks = {"reference": self.reference.look(packed.batch, logps=True, temperature=self.temperature)}
        ref_logps = packed.by_answer(looks["reference"].logps)
        if self.judge is not None:
            read_by_critic = self.critic is not None and self.critic_packer is self.judge_packer
            texts = self.judge_packer.pack(drawn, tokens=read_by_critic, texts=True)
            looks["judge"] = self.judge.look(texts.batch)
            scores = looks["judge"].rewards[texts.text_paths].tolist()
            packed = texts if read_by_critic else packed
        else:
            scores = [value for item in drawn for value in function(item)]
        states = values = None
        if self.critic is not None and self.critic_reads is not None:
            states = packed.by_answer(looks["judge" if self.critic_reads is self.judge else "reference"].states)
            values = self.head_values(states)
        elif self.critic is not None:
            values = packed.by_answer(self.values(packed.batch))
        return _by_prompt(drawn, logps, ref_logps, scores, values, states)

    def forget(self) -> None:
        """Forget the prompts of the step."""
        for packer in {id(packer): packer for packer in (self.packer, self.judge_packer) if packer}.values():
            packer.forget()


def _known(source: FeatureSource | None, batch: PackedBatch | PlainBatch) -> list[ImageFeatures] | None:
    """Return the features of the pictures of a batch, where they are kept."""
    return source.features(batch.media) if source is not None else None


def _by_prompt(
    drawn: Sequence[Drawn],
    logps: list[torch.Tensor],
    ref_logps: list[torch.Tensor],
    scores: list[float],
    values: list[torch.Tensor] | None,
    states: list[torch.Tensor] | None,
) -> list[Read]:
    """Cut what is known of all answers into prompts."""
    columns = [None if column is None else iter(column) for column in (logps, ref_logps, scores, values, states)]
    return [
        Read(*(None if column is None else list(islice(column, len(item.texts))) for column in columns))
        for item in drawn
    ]
