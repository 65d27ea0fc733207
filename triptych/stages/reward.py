"""Reward model of VLM-RLAIF (arXiv:2402.03746) from preference pairs: a scalar head on the body of any model.

One packed forward rewards chosen and rejected of every pair of a micro-batch: prompt and media once per group, a shared
beginning once. The loss is Bradley-Terry with a term that keeps rewards near 0. Pairs are held out by picture or video,
never by pair; on them accuracy and calibration are measured.

Unlike the released code, a reward is read at the end of the completion itself and not after a further turn that asks
for a rating; the head starts at zero; and the centring term is a square of each pair (`centring` has the other).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from triptych.data.balance import balance_lengths
from triptych.data.batches import plan_items, units_by_name
from triptych.data.files import encode_line, write_bytes_atomic, write_text_atomic
from triptych.data.frame_cache import frame_cache_in
from triptych.data.held_out import Located, hold_out, refuse_shared
from triptych.engine.distributed import is_main, on_main, world_size
from triptych.engine.encode import Encoder
from triptych.engine.estimate import estimate
from triptych.engine.features import FeatureSource, frozen_features
from triptych.engine.inputs import input_fingerprints
from triptych.engine.loop import TrainingLoop, load_start_model, prepare_model
from triptych.engine.pairs import PairRow, Place, completions_of, pack_completions, read_pairs
from triptych.engine.preflight import check_before_training
from triptych.engine.rewards import check_finite, check_informative, reward_all, score_rewards
from triptych.engine.run import RunDirectory
from triptych.errors import DataError
from triptych.evaluation.reward_accuracy import measure_pairs, reliability_svg
from triptych.models.adapters import disable_dropout
from triptych.models.loading import load_processor
from triptych.models.reward_loading import start_reward_model
from triptych.objectives.reward import RewardLoss, pair_metrics, reward_loss
from triptych.stages.reward_config import RewardConfig as Config

IGNORED = ("out", "feature_cache", "frame_cache", "logging_steps")
"""Settings that change no result."""
HELD_OUT, RELIABILITY = "held_out.jsonl", "reliability.svg"


def run(config: Config) -> dict[str, Any]:
    """Train a reward model and return what `done.json` says of it."""
    inputs = input_fingerprints([config.model, *config.data, *config.eval_data])
    directory = RunDirectory(config.out, config, inputs=inputs, ignore=IGNORED)
    if directory.done is not None:
        return directory.done
    pairs, apart = split_pairs(config)
    _check_margins(config, [*pairs, *apart])
    model = load_start_model(config.model, config, start_reward_model)
    processor = load_processor(config.model)
    disable_dropout(model)
    encoder = Encoder(processor, model.config.base_config, frame_cache_in(config.frame_cache))
    lengths = on_main(lambda: check_before_training(encoder, [*pairs, *apart], config.row_tokens))
    steps = _plan(config, pairs)
    model = prepare_model(model, config, encoder)
    loop = TrainingLoop(directory, model, config, num_steps=len(steps), title="reward")
    features = frozen_features(loop.model, encoder.family, config.feature_cache)
    _announce(config, loop, encoder, steps, lengths)
    for step in loop.steps():
        metrics = backward_step(loop, encoder, config, steps[step], features)
        if config.eval_steps and (step + 1) % config.eval_steps == 0:
            metrics |= _eval_metrics(config, apart, _reward(loop, encoder, config, apart, features))
        loop.update(**metrics)
    rewards = _reward(loop, encoder, config, apart or steps[-1], features)
    check_informative(rewards)
    measured = _measure(encoder, apart, rewards) if apart else {}
    on_main(lambda: _write(directory, apart, rewards, measured))
    result = loop.summary() | {"pairs": len(pairs), "held_out_pairs": len(apart)} | measured
    return loop.finish(processor, result, {name: measured[name] for name in ("accuracy", "ece") if name in measured})


def split_pairs(config: Config) -> tuple[list[PairRow], list[PairRow]]:
    """Read the pairs to train on and those held out, which are about other pictures and videos.

    Raises:
        DataError: kind `held_out_media`, `eval_data` has a medium that is trained on; and what `read_pairs` raises.
        TriptychError: all pairs would be held out.
    """
    pairs = read_pairs(config.data, config.root)
    if config.eval_data:
        apart = [replace(row, name=f"eval {row.name}") for row in read_pairs(config.eval_data, config.root)]
        refuse_shared(list(_groups(pairs).values()), list(_groups(apart).values()), config.eval_data)
        return _chosen_for_training(config, pairs), apart
    if not config.eval_share:
        return _chosen_for_training(config, pairs), []
    groups = _groups(pairs)
    is_out = dict(zip(groups, hold_out(list(groups.values()), config.eval_share), strict=True))
    kept = [row for row in pairs if not is_out[row.name]]
    return _chosen_for_training(config, kept), [row for row in pairs if is_out[row.name]]


def _chosen_for_training(config: Config, pairs: list[PairRow]) -> list[PairRow]:
    if config.balance_lengths:
        pairs = balance_lengths(pairs, _lengths)
    return pairs[: config.max_pairs or None]


def _lengths(row: PairRow) -> tuple[int, int]:
    """Return the characters of the chosen and the rejected answer."""
    completions, pair = row.group.completions, row.pair
    return len(completions[pair.chosen].text), len(completions[pair.rejected].text)


def backward_step(
    loop: TrainingLoop, encoder: Encoder, config: Config, rows: list[PairRow], features: FeatureSource | None
) -> dict[str, float]:
    """Add the gradient of the loss of a step.

    Args:
        rows: the pairs of the step, of all ranks.

    Returns:
        means over the pairs of all ranks, under TRL's names.

    Raises:
        TriptychError: a reward is not finite.
    """
    rewards: dict[Place, float] = {}
    columns: list[dict[str, torch.Tensor]] = []
    for part in loop.micro_batches(rows):
        scored = loop.forward(score_rewards, loop.model, encoder, completions_of(part), config.row_tokens, features)
        chosen, rejected = (torch.stack([scored.rewards[place] for place in side]).double() for side in _sides(part))
        loss = _loss(config, part, chosen, rejected)
        loop.backward(loss.loss.sum() / len(rows), scored.packed.batch)
        columns.append(
            pair_metrics(chosen, rejected) | {"reward/bradley_terry": loss.preference, "reward/centring": loss.centring}
        )
        rewards |= {place: value.item() for place, value in scored.rewards.items()}
    table = torch.cat([torch.stack(list(part.values()), dim=1) for part in columns])
    means = loop.gather(table).mean(dim=0)
    check_finite(rewards)
    return dict(zip(columns[0], means.tolist(), strict=True))


def _loss(config: Config, rows: Sequence[PairRow], chosen: torch.Tensor, rejected: torch.Tensor) -> RewardLoss:
    margins = None
    if config.margin_scale:
        margins = chosen.new_tensor([config.margin_scale * row.pair.margin for row in rows])
    return reward_loss(
        chosen,
        rejected,
        margins=margins,
        label_smoothing=config.label_smoothing,
        center_rewards_coefficient=config.center_rewards_coefficient,
        centring=config.centring,
    )


def _sides(rows: Sequence[PairRow]) -> tuple[list[Place], list[Place]]:
    """Return the places of the chosen and of the rejected completions."""
    return [(row.name, row.pair.chosen) for row in rows], [(row.name, row.pair.rejected) for row in rows]


def _reward(
    loop: TrainingLoop, encoder: Encoder, config: Config, rows: list[PairRow], features: FeatureSource | None
) -> dict[Place, float]:
    """Return the rewards of the completions of pairs, without gradients."""
    wanted = completions_of(rows)
    return reward_all(loop.model, encoder, wanted, config.row_tokens, features, bf16=config.bf16)


def _eval_metrics(config: Config, apart: Sequence[PairRow], rewards: Mapping[Place, float]) -> dict[str, float]:
    """Return loss and metrics of the held-out pairs, named as those of training with `eval_` in front."""
    chosen, rejected = (torch.tensor([rewards[place] for place in side]).double() for side in _sides(apart))
    values = {"loss": _loss(config, apart, chosen, rejected).loss} | pair_metrics(chosen, rejected)
    return {f"eval_{name}": value.mean().item() for name, value in values.items()}


def _measure(encoder: Encoder, apart: Sequence[PairRow], rewards: Mapping[Place, float]) -> dict[str, Any]:
    """Return accuracy and calibration on the held-out pairs; see `measure_pairs`."""
    lengths = {
        (name, index): len(encoder.completion(group.completions[index].text))
        for name, (group, _, indices) in completions_of(apart).items()
        for index in indices
    }
    chosen, rejected = _sides(apart)
    return measure_pairs(
        [rewards[place] for place in chosen],
        [rewards[place] for place in rejected],
        [(lengths[first], lengths[second]) for first, second in zip(chosen, rejected, strict=True)],
    )


def _write(
    directory: RunDirectory, apart: Sequence[PairRow], rewards: Mapping[Place, float], measured: Mapping[str, Any]
) -> None:
    """Write the rewards of the held-out pairs, and the plot of their reliability."""
    if not apart:
        return
    rows = (
        {
            "id": row.group.id,
            "chosen": row.pair.chosen,
            "rejected": row.pair.rejected,
            "source": row.pair.source,
            "rewards": {side: rewards[row.name, getattr(row.pair, side)] for side in ("chosen", "rejected")},
        }
        for row in apart
    )
    write_bytes_atomic(directory.path / HELD_OUT, b"".join(map(encode_line, rows)))
    plot = reliability_svg(measured["calibration"], ece=measured["ece"], accuracy=measured["accuracy"])
    write_text_atomic(directory.path / RELIABILITY, plot)


def _plan(config: Config, pairs: Sequence[PairRow]) -> list[list[PairRow]]:
    """Return the pairs of each step; pairs of one prompt stay together, so that it is computed once."""
    units = list(units_by_name(row.name for row in pairs).values())
    return plan_items(pairs, config.items_per_step, seed=config.seed, **config.extent, units=units)


def _announce(
    config: Config,
    loop: TrainingLoop,
    encoder: Encoder,
    steps: Sequence[list[PairRow]],
    lengths: Mapping[str, int],
) -> None:
    """Print what the run will take of memory and time, judged by its first and its fullest step."""
    fullest = max(steps, key=lambda step: sum(lengths[name] for name in {row.name for row in step}))
    parts = [part for step in (steps[0], fullest) for part in loop.micro_batches(step)[:1]]
    batches = [pack_completions(loop.model, encoder, completions_of(part), config.row_tokens).batch for part in parts]
    expected = estimate(loop.model, config, batches, num_steps=loop.num_steps, num_ranks=world_size())
    if is_main():
        print(expected.describe(), file=sys.stderr)


def _groups(rows: Sequence[PairRow]) -> dict[str, Located]:
    """Return the groups of pairs with the data roots of their media, by name."""
    return {row.name: (row.group, row.root) for row in rows}


def _check_margins(config: Config, rows: Sequence[PairRow]) -> None:
    for row in rows:
        if config.margin_scale and row.pair.margin is None:
            raise DataError(
                "A pair has no margin, which margin_scale asks for.",
                remedy="Give every pair its `margin`, or set margin_scale to 0.",
                kind="no_margin",
                row=row.group.id,
            )
