"""What PPO, RLOO or GRPO will take of memory and time, told before the first step.

How long answers will be nobody knows then, so every one is taken to have all the tokens it may have, and no token in
common with the others. Memory is therefore an upper bound; time is that of such answers at the machine's matrix rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from triptych.engine.actor_critic import ActorCritic
from triptych.engine.distributed import world_size
from triptych.engine.encode import Encoder
from triptych.engine.estimate import (
    Estimate,
    Memory,
    activation_bytes,
    copied_bytes,
    head_bytes,
    optimizer_bytes,
    stored_bytes,
)
from triptych.engine.flops import machine_matrix_rate
from triptych.engine.rollouts import Drawn, placeholders
from triptych.engine.workload import Workload
from triptych.generation.branches import FIRST_CAPACITY
from triptych.generation.local import PREFILL_TOKENS
from triptych.stages.ppo_config import PpoConfig as Config
from triptych.stages.ppo_rollouts import Prompt

LOGITS_AT_ONCE = 4
"""Tensors of the size of all logits that a draw holds: logits, probabilities, their running sums, a selection."""
NUMBERS_PER_TOKEN = 8
"""Numbers kept of every drawn token: log-probabilities, values, advantages and the like."""


def estimate_ppo(
    roles: ActorCritic,
    config: Config,
    steps: Sequence[Sequence[Prompt]],
    lengths: Mapping[str, int],
    *,
    matrix_rate: float | None = None,
) -> Estimate:
    """Estimate what training takes of one device, judged by the micro-batch with the longest prompts.

    Args:
        steps: the prompts of each.
        lengths: tokens of each prompt, by name.
        matrix_rate: FLOP/s of matrix products; None measures them, in 0.2 s.
    """
    prompts = {prompt.name: prompt for step in steps for prompt in step}
    longest = sorted(prompts, key=lambda name: -lengths[name])[: config.per_device_train_batch_size]
    part = [_longest_answers(prompts[name], roles.encoder, config) for name in longest]
    packed = roles.packer.pack(part).batch
    critic_batch = packed if roles.critic_packer is roles.packer else roles.critic_packer.pack(part).batch
    roles.forget()
    memory = _memory(roles, config, packed, critic_batch, lengths[longest[0]])
    flops = _flops(roles, config, packed, critic_batch) * config.prompts_per_step / len(part)
    if matrix_rate is None:
        matrix_rate = machine_matrix_rate(getattr(torch, config.compute_dtype), next(roles.parameters()).device.type)
    supposed = f", with answers of {config.max_new_tokens} tokens"
    return Estimate(memory, flops / world_size(), matrix_rate, len(steps), supposed)


def sampling_bytes(model: nn.Module, config: Config, prompt_tokens: int) -> int:
    """Return the bytes that drawing answers takes on one device, beside the weights.

    Args:
        model: the policy.
        prompt_tokens: of the longest prompt.
    """
    text = model.config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_token = 2 * 4 * text.num_hidden_layers * text.num_key_value_heads * head_dim
    share = -(-config.prompts_per_step // world_size())
    num_prompts = min(max(1, config.batch_sequences // config.num_samples), share)
    num_samples = min(config.batch_sequences, num_prompts * config.num_samples)
    room = FIRST_CAPACITY
    while room < config.max_new_tokens:
        room *= 2
    widest = max(layer.out_features for layer in model.get_decoder().modules() if isinstance(layer, nn.Linear))
    prefill = 3 * 4 * widest * min(max(PREFILL_TOKENS, prompt_tokens), num_prompts * prompt_tokens)
    logits = LOGITS_AT_ONCE * 4 * num_samples * model.get_output_embeddings().weight.shape[0]
    return per_token * (num_prompts * prompt_tokens + num_samples * room) + max(prefill, logits)


def _memory(roles: ActorCritic, config: Config, packed: Any, critic_batch: Any, prompt_tokens: int) -> Memory:
    num_ranks, trained = world_size(), [(roles.policy, packed)]
    if roles.critic is not None and roles.critic_reads is None:
        trained.append((roles.critic, critic_batch))
    policy = _tensors(roles.policy)
    reference = _tensors(roles.reference.model).difference(policy)
    judge = set[Any]().union(*map(_tensors, _beside(roles))) - policy - reference
    sampling = sampling_bytes(roles.policy, config, prompt_tokens)
    if num_ranks > 1:  # each holds the whole policy while it draws
        sampling += stored_bytes(tensor for tensor in policy if tensor.is_floating_point()) // (1 + config.bf16)
    return Memory(
        weights=stored_bytes(policy, num_ranks),
        copies=max(copied_bytes(model, config) for model, _ in trained) // num_ranks,
        gradients=stored_bytes((p for p in roles.parameters() if p.requires_grad), num_ranks),
        optimizer=optimizer_bytes(roles, config) // num_ranks,
        reference=stored_bytes(reference, num_ranks),
        judge=stored_bytes(judge, num_ranks),
        activations=max(activation_bytes(model, config, batch) for model, batch in trained),
        head=max(head_bytes(model, config, batch) for model, batch in trained),
        answers=_answer_bytes(roles, config),
        sampling=sampling,
    )


def _answer_bytes(roles: ActorCritic, config: Config) -> int:
    """Return the bytes kept of the answers of a step; one process keeps the states that a head reads, too."""
    numbers = NUMBERS_PER_TOKEN
    if roles.critic_reads is not None and world_size() == 1:
        numbers += roles.critic.config.get_text_config().hidden_size
    return 4 * numbers * config.prompts_per_step * config.num_samples * config.max_new_tokens


def _flops(roles: ActorCritic, config: Config, packed: Any, critic_batch: Any) -> int:
    """Return the arithmetic of a step on the prompts of one micro-batch.

    Drawing answers below shared prompts is one forward over them, token by token.
    """
    policy, again = Workload(roles.policy), config.gradient_checkpointing
    total = (3 + again * config.num_ppo_epochs) * policy.forward_flops(packed)  # drawn, read by policy and reference
    total += config.num_ppo_epochs * policy.training_flops(packed)
    if roles.judge is not None:  # its tokens are taken to be as many as the policy's
        total += Workload(roles.judge.model).forward_flops(packed)
    if roles.critic is not None and roles.critic_reads is None:
        critic = Workload(roles.critic)
        total += (1 + again * config.num_ppo_epochs) * critic.forward_flops(critic_batch)
        total += config.num_ppo_epochs * critic.training_flops(critic_batch)
    return total


def _longest_answers(prompt: Prompt, encoder: Encoder, config: Config) -> Drawn:
    """Return answers of as many tokens as there may be, that differ from the first token on."""
    without = placeholders(encoder) | set(encoder.stop_ids)
    usable = [token for token in range(len(encoder.tokenizer)) if token not in without]
    firsts = [usable[number % len(usable)] for number in range(config.num_samples)]
    answers = [[first] + [usable[-1]] * (config.max_new_tokens - 1) for first in firsts]
    texts = [encoder.decode(answer) for answer in answers]
    return Drawn(prompt.name, prompt.group, prompt.root, answers, texts, [False] * len(answers))


def _beside(roles: ActorCritic) -> list[nn.Module]:
    return [model for model in (roles.judge and roles.judge.model, roles.critic) if model is not None]


def _tensors(model: nn.Module) -> set[Any]:
    return {*model.parameters(), *model.buffers()}
