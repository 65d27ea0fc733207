"""Load the models of the roles of PPO and put them together; see `actor_critic.py` for who stands on what."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal

import torch

from triptych.data.frame_cache import frame_cache_in
from triptych.data.video_loader import VideoLoader
from triptych.engine.actor_critic import ActorCritic, Standing
from triptych.engine.critic_file import load_critic
from triptych.engine.distributed import loading_device, world_size
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of
from triptych.engine.features import frozen_features
from triptych.engine.loop import choose_trained
from triptych.engine.rollouts import same_tokens
from triptych.engine.settings import TrainingConfig
from triptych.engine.sharding import shard
from triptych.errors import TriptychError
from triptych.models.adapters import LoraSettings, add_lora, disable_dropout
from triptych.models.loading import load_model, load_processor
from triptych.models.reward import RewardModel
from triptych.models.reward_loading import load_reward_model


def build_actor_critic(
    config: TrainingConfig,
    model: str,
    reward_model: str | None,
    *,
    critic: bool,
    critic_base: Literal["auto", "reward", "policy"] = "auto",
    critic_lora_r: int = 0,
    critic_file: str = "",
    temperature: float = 1.0,
) -> tuple[ActorCritic, Any]:
    """Load the models and give them their roles; over several ranks all of them lie in shards.

    Args:
        config: precision, adapters and what is frozen.
        model: folder of the model to start from.
        reward_model: folder of the reward model; None where a function gives the rewards.
        critic: whether there is one.
        critic_base: whose body it reads; `auto` is the reward model's where there is one with the policy's tokens.
        critic_lora_r: rank of its adapters; 0 trains its head alone.
        critic_file: a critic to go on with, as `save_critic` writes it; a new one where empty.
        temperature: see `ActorCritic`.

    Returns:
        the roles, and the processor of the policy.

    Raises:
        TriptychError: a critic on a reward model with other tokens, or what loading finds.
    """
    options = _options(config)
    start, processor = load_model(model, **options), load_processor(model)
    disable_dropout(start)
    frames = VideoLoader(frame_cache_in(config.frame_cache))  # policy and reward model see the same videos
    encoder = Encoder(processor, start.config, frames)
    copied = None if config.lora_r else deepcopy(start).requires_grad_(False).eval()
    policy = choose_trained(start, config)
    source = frozen_features(policy, encoder.family)  # of a tower that stands still in the reference, too
    reference = Standing(policy, encoder, source)
    if copied is not None:
        reference = Standing(copied, encoder, source or frozen_features(copied, encoder.family))
    judge = _judge(reward_model, options, frames) if reward_model else None
    head = reads = None
    if critic:
        reads = judge if _on_judge(critic_base, encoder, judge) else reference
        host = reads.model if reads is judge or not critic_lora_r else load_model(model, **options)
        head = _critic_on(host, critic_lora_r, config)
    reads = None if critic_lora_r else reads
    roles = ActorCritic(policy, reference, judge, head, reads, config.row_tokens, source, temperature)
    if critic_file:
        load_critic(roles, critic_file, lora_alpha=config.lora_alpha)
    if world_size() > 1:
        _shard(roles, bf16=config.bf16)
    return roles, processor


def _options(config: TrainingConfig) -> dict[str, Any]:
    """Return how models are loaded: over several ranks by rank 0 alone, unless they are in 4 bits and stay whole."""
    device = None if config.load_in_4bit else loading_device()
    return {"load_in_4bit": config.load_in_4bit, "compute_dtype": config.compute_dtype, "device": device}


def _shard(roles: ActorCritic, *, bf16: bool) -> None:
    """Put every body into shards, with all heads that stand on it."""
    standing = [role for role in (roles.reference, roles.judge) if role is not None]
    models = [(roles.policy, roles.encoder), *((role.model, role.encoder) for role in standing)]
    if roles.critic is not None:
        models.append((roles.critic, roles.critic_packer.encoder))
    bodies: dict[int, dict[Any, Encoder]] = {}
    for model, encoder in models:
        bodies.setdefault(id(backbone_of(model)), {})[model] = encoder
    for heads in bodies.values():
        first, *others = heads
        shard(first, heads[first], beside=others, bf16=bf16)


def _judge(path: str, options: dict[str, Any], frames: VideoLoader) -> Standing:
    model, processor = load_reward_model(path, **options), load_processor(path)
    disable_dropout(model)
    encoder = Encoder(processor, model.config.base_config, frames)
    model.requires_grad_(False).eval()
    return Standing(model, encoder, frozen_features(model, encoder.family))


def _on_judge(base: str, encoder: Encoder, judge: Standing | None) -> bool:
    """Decide whether the critic stands on the reward model; see `build_actor_critic`."""
    if judge is None or base == "policy":
        if base == "reward":
            raise TriptychError("critic_base is reward, but a function gives the rewards; set it to policy.")
        return False
    alike = same_tokens(encoder, judge.encoder)
    if not alike and base == "reward":
        raise TriptychError(
            "critic_base is reward, but the reward model has other tokens than the policy, so that it cannot value "
            "them one by one; set critic_base to policy."
        )
    return alike


def _critic_on(host: Any, lora_r: int, config: TrainingConfig) -> RewardModel:
    """Put a new head, and adapters where wanted, on the body of a model."""
    if isinstance(host, RewardModel):
        with torch.device(next(host.parameters()).device):
            critic = RewardModel(host.config, host.model)
    else:
        critic = RewardModel.from_base(host)
    if lora_r:
        disable_dropout(critic)
        settings = LoraSettings(lora_r, config.lora_alpha, 0.0, config.lora_target_modules)
        add_lora(critic, settings)
        if config.gradient_checkpointing:
            critic.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return critic
