"""Mixed Preference Optimization (arXiv:2411.10442) and its relatives on pairs of completions.

One packed forward scores chosen and rejected of every pair of a micro-batch: prompt and pictures once per group, a
shared beginning once. Reference log-probabilities come from the start model before the first step and are kept beside
the data, or are computed in every step. With loss_type [sigmoid], [bco_pair] or [sft] the stage is DPO, BCO, or SFT on
the chosen answers; `docs/objectives.md` lists the others.

The update does not depend on how a step is cut into micro-batches. Where a loss couples the pairs of a step (the reward
shift of BCO, the sort of AOT, a mean over tokens) and the step has several micro-batches, a pass without gradients
computes the log-probabilities of the whole step first. The loss of the step is differentiated with respect to them, and
the second pass carries that gradient on, one micro-batch at a time. Dropout is off, so both passes see one function.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from triptych.data.batches import plan_by_tokens, plan_items, units_by_name
from triptych.data.frame_cache import frame_cache_in
from triptych.engine.distributed import is_main, on_main, own_rows, world_size
from triptych.engine.encode import Encoder
from triptych.engine.estimate import estimate
from triptych.engine.features import frozen_features
from triptych.engine.inputs import data_root, input_fingerprints
from triptych.engine.live_reference import LiveReference, StoredReference
from triptych.engine.loop import TrainingLoop, load_start_model, prepare_model
from triptych.engine.pair_scorer import PairScorer
from triptych.engine.pairs import PairRow, mismatched, read_pairs
from triptych.engine.preflight import check_before_training
from triptych.engine.reference import ROUNDING, ROUNDING_BF16, ReferenceCache, fill_reference
from triptych.engine.run import RunDirectory
from triptych.errors import TriptychError
from triptych.models.adapters import disable_dropout
from triptych.models.loading import load_processor
from triptych.objectives.mpo import Mix, RewardShift, StepLoss, join_logps, mixed_loss, start_value, step_loss
from triptych.objectives.names import CONVENTIONS, LOSSES, Convention
from triptych.objectives.preference import PairLogps
from triptych.stages.configs import MpoConfig as Config

IGNORED = ("out", "reference_cache", "feature_cache", "frame_cache", "logging_steps")
"""Settings that change no result."""


def run(config: Config) -> dict[str, Any]:
    """Optimise preferences and return what `done.json` says of it."""
    inputs = input_fingerprints([config.model, *config.data])
    directory = RunDirectory(config.out, config, inputs=inputs, ignore=IGNORED)
    if directory.done is not None:
        return directory.done
    pairs = read_pairs(config.data, config.root)
    model = load_start_model(config.model, config)
    processor = load_processor(config.model)
    disable_dropout(model)
    encoder = Encoder(processor, model.config, frame_cache_in(config.frame_cache))
    mix = Mix(**config.mix)
    lengths = on_main(lambda: check_before_training(encoder, pairs, config.row_tokens))
    steps = _plan(config, pairs, lengths)
    live = _live_reference(config, model, encoder)
    model = prepare_model(model, config, encoder)
    reference = live or _stored_reference(config, model, inputs[config.model], encoder, pairs, steps)
    loop = TrainingLoop(directory, model, config, num_steps=len(steps), title="mpo")
    features = frozen_features(loop.model, encoder.family, config.feature_cache)
    scorer = PairScorer(loop, encoder, reference, mix, config.row_tokens, features)
    _announce(config, loop, scorer, steps, lengths)
    shift = RewardShift(**loop.state.get("reward_shift", {}))
    if config.sync_ref_model:
        _keep_reference(reference, loop)
    for step in loop.steps():
        if config.sync_ref_model and step and step % config.ref_model_sync_steps == 0:
            reference.follow(loop.model, config.ref_model_mixup_alpha)
        record = backward_step(loop, scorer, steps[step], CONVENTIONS[config.convention], shift)
        if step == 0:
            _check_start(record, loop.model, bf16=config.bf16)
        loop.state["reward_shift"] = {"mean": shift.mean, "count": shift.count}
        loop.update(**record.metrics(loop, shift))
    return loop.finish(processor, loop.summary() | {"pairs": len(pairs), "delta": shift.mean})


def backward_step(
    loop: TrainingLoop, scorer: PairScorer, rows: list[PairRow], convention: Convention, shift: RewardShift
) -> Record:
    """Add the gradient of the loss of a step.

    Args:
        rows: the pairs of the step, of all ranks.
        shift: brought up to date.
    """
    record = Record(scorer.mix)
    for window in _windows(loop, scorer.mix, rows, convention):
        kl = scorer.kl(window.mismatched) if window.mismatched else 0.0
        logps, scored = scorer.look(window.parts)
        losses = _losses(loop, window, logps, scorer.mix, shift, kl)
        for part, loss in zip(window.parts, losses, strict=True):
            if len(window.parts) > 1:  # `look` was a pass without gradients
                scored = scorer.score(part)
            loop.backward(loss.at(*scorer.policy_logps(part, scored)), scored.batch)
        record.add(losses, kl)
    return record


@dataclass(frozen=True)
class Window:
    """Micro-batches whose pairs are coupled by the loss: those of the whole step, or one.

    Attributes:
        parts: the pairs of each micro-batch.
        mismatched: the same with completions under foreign prompts, for `kto`; else empty.
        share: weight of each pair in the loss of the step.
        over_ranks: pairs are coupled with those of the other ranks too.
        shifted: `bco_pair` has its reward shift.
    """

    parts: list[list[PairRow]]
    mismatched: list[list[PairRow]]
    share: float
    over_ranks: bool
    shifted: bool


def _windows(loop: TrainingLoop, mix: Mix, rows: list[PairRow], convention: Convention) -> Iterator[Window]:
    """Cut a step into windows. Only coupled pairs need one window of all micro-batches, which costs a second pass."""
    parts, kto = loop.micro_batches(rows), "kto" in mix.loss_type
    if mix.couples_pairs and not convention.per_micro_batch:
        others = loop.micro_batches(mismatched(rows)) if kto else []
        yield Window(parts, others, 1 / len(rows), over_ranks=True, shifted=convention.shifted)
        return
    for part in parts:
        share = 1 / (len(part) * len(parts) * loop.total(1)) if convention.per_micro_batch else 1 / len(rows)
        others = [mismatched(part)] if kto else []
        yield Window([part], others, share, over_ranks=False, shifted=convention.shifted)


def _losses(
    loop: TrainingLoop, window: Window, logps: list[PairLogps], mix: Mix, shift: RewardShift, kl: float
) -> list[StepLoss]:
    """Return the loss of each micro-batch of a window, taken where all coupled pairs of all ranks are in sight."""
    mine = join_logps(logps)
    pairs = _gather(loop, mine) if window.over_ranks else mine
    delta = 0.0
    if "bco_pair" in mix.loss_type and window.shifted:
        mean_reward = torch.cat(pairs.rewards(mix.beta)).mean().item()
        delta = shift.update(loop.total(mean_reward) / loop.total(1))
    loss = step_loss(pairs, mix, share=window.share, delta=delta, kl=kl)
    own = own_rows(torch.arange(len(pairs)), len(mine)) if window.over_ranks else [0]
    start = int(own[0]) if len(own) else 0  # a rank whose pairs do not count may take the loss of any
    losses = []
    for part in logps:
        losses.append(loss.rows(start, start + len(part)))
        start += len(part)
    return losses


def _gather(loop: TrainingLoop, logps: PairLogps) -> PairLogps:
    """Return the pairs of all ranks, by rank."""
    columns = torch.stack([getattr(logps, field.name) for field in fields(PairLogps)], dim=1)
    return PairLogps(*loop.gather(columns).unbind(dim=1))


class Record:
    """What the micro-batches of a step say, under TRL's names.

    Args:
        mix: the loss.
    """

    def __init__(self, mix: Mix) -> None:
        self.mix = mix
        self.losses: list[StepLoss] = []
        self._kls: list[float] = []

    def add(self, losses: list[StepLoss], kl: float) -> None:
        """Add the micro-batches of a window."""
        self.losses += losses
        self._kls.append(kl)

    def metrics(self, loop: TrainingLoop, shift: RewardShift) -> dict[str, float]:
        """Return means over the pairs of the step, of all ranks."""
        logps = join_logps([loss.logps for loss in self.losses])
        values = {"logps/chosen": logps.chosen}
        for name in self.mix.loss_type:
            values[LOSSES[name].metric] = torch.cat([loss.terms[name] for loss in self.losses])
        if self.mix.needs_rejected:
            chosen, rejected = self._rewards(logps)
            values |= {
                "rewards/chosen": chosen,
                "rewards/rejected": rejected,
                "rewards/margins": chosen - rejected,
                "rewards/accuracies": (chosen > rejected).double(),
                "logps/rejected": logps.rejected,
            }
        means = loop.gather(torch.stack(list(values.values()), dim=1)).mean(dim=0)
        metrics = dict(zip(values, means.tolist(), strict=True))
        if "bco_pair" in self.mix.loss_type:
            metrics["mpo/delta"] = shift.mean
        if "kto" in self.mix.loss_type:
            metrics["kl"] = sum(self._kls) / len(self._kls)
        return metrics

    def _rewards(self, logps: PairLogps) -> tuple[torch.Tensor, torch.Tensor]:
        """Implicit rewards; without a reference those of SimPO and ORPO, beta times the log-probability per token."""
        if self.mix.needs_reference:
            return logps.rewards(self.mix.beta)
        chosen, rejected = logps.token_means()
        return self.mix.beta * chosen, self.mix.beta * rejected


def _plan(config: Config, pairs: Sequence[PairRow], lengths: Mapping[str, int]) -> list[list[PairRow]]:
    """Return the pairs of each step; pairs of one prompt stay together, so that it is computed once.

    Args:
        lengths: packed tokens per group name.
    """
    units = units_by_name(row.name for row in pairs)
    members = list(units.values())
    if not config.tokens_per_step:
        return plan_items(pairs, config.items_per_step, seed=config.seed, **config.extent, units=members)
    tokens = [lengths[name] for name in units]
    plan = plan_by_tokens(members, tokens, config.tokens_per_step, seed=config.seed, **config.extent)
    return [[pairs[number] for number in numbers] for numbers in plan]


def _announce(
    config: Config, loop: TrainingLoop, scorer: PairScorer, steps: Sequence[list[PairRow]], lengths: Mapping[str, int]
) -> None:
    """Print what the run will take of memory and time, judged by its first and its fullest step."""
    fullest = max(steps, key=lambda step: sum(lengths[name] for name in {row.name for row in step}))
    parts = [part for step in (steps[0], fullest) for part in loop.micro_batches(step)[:1]]
    expected = estimate(
        loop.model,
        config,
        [scorer.pack(part) for part in parts],
        num_steps=loop.num_steps,
        live_reference=config.reference == "live",
        num_ranks=world_size(),
    )
    if is_main():
        print(expected.describe(), file=sys.stderr)


def _live_reference(config: Config, model: torch.nn.Module, encoder: Encoder) -> LiveReference | None:
    """Return the reference that is computed in every step, if that is asked for; a copy, where training changes it."""
    if config.reference != "live" or not Mix(**config.mix).needs_reference:
        return None
    return LiveReference(None if config.lora_r else model, encoder, bf16=config.bf16)


def _stored_reference(
    config: Config,
    model: torch.nn.Module,
    model_fingerprint: str,
    encoder: Encoder,
    pairs: Sequence[PairRow],
    steps: Sequence[list[PairRow]],
) -> StoredReference:
    """Compute the reference log-probabilities that are not stored yet, before training changes the model."""
    if not Mix(**config.mix).needs_reference:
        return StoredReference({})
    rows = list(pairs)
    if "kto" in config.loss_type:
        rows += [row for step in steps for row in mismatched(step)]
    folder = Path(config.reference_cache) if config.reference_cache else data_root(config.data[0]) / ".triptych"
    cache = ReferenceCache(folder, model_fingerprint, bf16=config.bf16, load_in_4bit=config.load_in_4bit)
    values = fill_reference(cache, model, encoder, rows, row_tokens=config.row_tokens, bf16=config.bf16)
    return StoredReference(values)


def _keep_reference(reference: LiveReference, loop: TrainingLoop) -> None:
    """Let checkpoints hold the moving reference, and take it over from the one training goes on from."""
    if "reference" in loop.state:
        reference.load_state(loop.state["reference"])
    loop.state["reference"] = reference.state()


def _check_start(record: Record, model: torch.nn.Module, *, bf16: bool) -> None:
    """At step 0 the policy is the reference: rewards are 0, DPO is ln 2, BCO 2 ln 2, and so on (`start_value`).

    Raises:
        TriptychError: they are not, beyond rounding.
    """
    if not record.mix.needs_reference:
        return
    logps = join_logps([loss.logps for loss in record.losses])
    at_reference = replace(logps, chosen=logps.ref_chosen, rejected=logps.ref_rejected)
    for name, term in mixed_loss(at_reference, record.mix).terms.items():
        expected = start_value(name, record.mix)
        assert expected is None or abs(term.mean().item() - expected) < 1e-4 * expected, f"{name} starts at {term}"
    policy = torch.cat([logps.chosen, logps.rejected])
    reference = torch.cat([logps.ref_chosen, logps.ref_rejected])
    drift = ((policy - reference).abs() / reference.abs().clamp(min=1).sqrt()).max().item()
    tolerance = ROUNDING_BF16 if bf16 else ROUNDING
    if not drift <= tolerance:
        random = _random_modules(model)
        cause = f"{random[0]} draws at random in training" if random else "none is to be seen in the model"
        raise TriptychError(
            f"Before the first update the policy differs from the reference: a log-probability is off by {drift:.2g} "
            f"times the root of its size (up to {tolerance} is rounding). Likely causes: dropout or drop-path "
            f"({cause}; set it to 0 in the model's config.json), or stored reference log-probabilities of another "
            "model (delete .triptych beside the data, or give another reference_cache)."
        )


def _random_modules(model: torch.nn.Module) -> list[str]:
    """Name the modules that draw at random while training: dropout, drop-path, stochastic depth."""
    return [
        f"{name} ({type(module).__name__})"
        for name, module in model.named_modules()
        if any(word in type(module).__name__.lower() for word in ("drop", "stochasticdepth"))
        and any(isinstance(value, float) and value > 0 for value in vars(module).values())
    ]
