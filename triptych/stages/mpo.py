"""Mixed Preference Optimization (arXiv:2411.10442) and its relatives on pairs of completions.

One packed forward scores chosen and rejected of every pair of a micro-batch: prompt and pictures once per group, a
shared beginning once. Reference log-probabilities come from the start model before the first step and are kept beside
the data. With loss_type [sigmoid], [bco_pair] or [sft] the stage is DPO, BCO, or SFT on the chosen answers.

The reward shift delta of BCO is updated once per optimiser step with the mean reward of the whole step, before it is
used. When a step is cut into several micro-batches, their rewards are therefore computed in a pass without gradients
first, so that delta and with it the update do not depend on the cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from triptych.data.batches import plan_steps
from triptych.engine.encode import Encoder
from triptych.engine.inputs import data_root, input_fingerprints
from triptych.engine.loop import TrainingLoop
from triptych.engine.pairs import PairRow, completions_of, read_pairs, score_completions
from triptych.engine.reference import ReferenceCache, fill_reference
from triptych.engine.run import RunDirectory
from triptych.engine.trie import PackedBatch
from triptych.errors import TriptychError
from triptych.models.adapters import disable_dropout
from triptych.models.loading import load_model, load_processor
from triptych.objectives.mpo import RewardShift, mixed_loss, needs_reference, needs_shift
from triptych.objectives.names import METRIC_NAMES
from triptych.objectives.preference import PairLogps
from triptych.stages.configs import MpoConfig as Config

References = dict[tuple[str, int], float]


def run(config: Config) -> dict[str, Any]:
    """Optimise preferences and return what `done.json` says of it."""
    inputs = input_fingerprints([config.model, *config.data])
    directory = RunDirectory(config.out, config, inputs=inputs, ignore=("out", "reference_cache", "logging_steps"))
    if directory.done is not None:
        return directory.done
    pairs = read_pairs(config.data, config.root)
    model, processor = load_model(config.model), load_processor(config.model)
    disable_dropout(model)
    encoder = Encoder(processor, model.config)
    references = _references(config, model, inputs[config.model], encoder, pairs)
    plan = _plan(config, pairs)
    loop = TrainingLoop(directory, model, config, num_steps=len(plan), title="mpo")
    shift = RewardShift(**loop.state.get("reward_shift", {}))
    for step in loop.steps():
        rows = [pairs[n] for n in plan[step]]
        parts = loop.micro_batches(rows)
        if needs_shift(config.loss_type) and len(parts) > 1:
            shift.update(_mean_reward(loop, config, encoder, parts, references))
        metrics = StepMetrics(len(rows))
        for part in parts:
            logps, batch = loop.forward(_pair_logps, loop.model, encoder, part, references, config)
            if needs_shift(config.loss_type) and len(parts) == 1:
                shift.update(_reward_sum(logps, config.beta) / (2 * len(rows)))
            mixed = mixed_loss(
                logps,
                loss_type=config.loss_type,
                loss_weights=config.loss_weights,
                beta=config.beta,
                delta=shift.mean,
            )
            metrics.add(logps, mixed.terms, config.beta, compared=needs_reference(config.loss_type))
            loop.backward(mixed.loss.sum() / len(rows), batch)
        if step == 0 and needs_reference(config.loss_type):
            _check_start(metrics, config)
        loop.state["reward_shift"] = {"mean": shift.mean, "count": shift.count}
        loop.update(**metrics.means(), **({"mpo/delta": shift.mean} if needs_shift(config.loss_type) else {}))
    return loop.finish(processor, loop.summary() | {"pairs": len(pairs), "delta": shift.mean})


class StepMetrics:
    """Sums of what a step's micro-batches say, under TRL's names.

    Args:
        num_pairs: pairs of the step.
    """

    def __init__(self, num_pairs: int) -> None:
        self.num_pairs = num_pairs
        self.largest_drift = 0.0
        self._sums: dict[str, float] = {}

    def add(self, logps: PairLogps, terms: dict[str, torch.Tensor], beta: float, *, compared: bool) -> None:
        """Add the pairs of one micro-batch; rewards only where they are `compared` with a reference."""
        values = {"logps/chosen": logps.chosen.detach()} | {METRIC_NAMES[name]: term for name, term in terms.items()}
        if compared:
            chosen, rejected = (reward.detach() for reward in logps.rewards(beta))
            self.largest_drift = max(self.largest_drift, _drift(logps))
            values |= {
                "rewards/chosen": chosen,
                "rewards/rejected": rejected,
                "rewards/margins": chosen - rejected,
                "rewards/accuracies": (chosen > rejected).float(),
                "logps/rejected": logps.rejected.detach(),
            }
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.sum().item()

    def means(self) -> dict[str, float]:
        """Return the means over the pairs of the step."""
        return {name: total / self.num_pairs for name, total in self._sums.items()}


def _references(
    config: Config, model: torch.nn.Module, model_fingerprint: str, encoder: Encoder, pairs: Sequence[PairRow]
) -> References:
    if not needs_reference(config.loss_type):
        return {}
    folder = Path(config.reference_cache) if config.reference_cache else data_root(config.data[0]) / ".triptych"
    cache = ReferenceCache(folder, model_fingerprint + ("-bf16" if config.bf16 else ""))
    return fill_reference(cache, model, encoder, pairs, row_tokens=config.row_tokens, bf16=config.bf16)


def _plan(config: Config, pairs: Sequence[PairRow]) -> list[list[int]]:
    """Return the pairs of each step; pairs of one prompt stay together, so that it is computed once."""
    units: dict[str, list[int]] = {}
    for number, row in enumerate(pairs):
        units.setdefault(row.name, []).append(number)
    return plan_steps(
        len(pairs),
        config.items_per_step,
        num_steps=config.max_steps or None,
        epochs=None if config.max_steps else config.num_train_epochs,
        seed=config.seed,
        units=list(units.values()),
    )


def _pair_logps(
    model: torch.nn.Module, encoder: Encoder, rows: Sequence[PairRow], references: References, config: Config
) -> tuple[PairLogps, PackedBatch]:
    """Score the pairs of a micro-batch with one packed forward.

    Without a reference (SFT on the chosen completion) the rejected one is neither computed nor compared; zeros stand
    in its place.
    """
    compared = needs_reference(config.loss_type)
    scored = score_completions(model, encoder, completions_of(rows, rejected=compared), config.row_tokens)
    chosen = [(row.name, row.pair.chosen) for row in rows]
    rejected = [(row.name, row.pair.rejected) for row in rows]
    policy_chosen = torch.stack([scored.logps[place] for place in chosen])
    nothing = torch.zeros_like(policy_chosen)
    logps = PairLogps(
        chosen=policy_chosen,
        rejected=torch.stack([scored.logps[place] for place in rejected]) if compared else nothing,
        ref_chosen=policy_chosen.new_tensor([references[place] for place in chosen]) if compared else nothing,
        ref_rejected=policy_chosen.new_tensor([references[place] for place in rejected]) if compared else nothing,
        chosen_lengths=policy_chosen.new_tensor([scored.num_targets[place] for place in chosen]),
    )
    return logps, scored.batch


@torch.no_grad()
def _mean_reward(
    loop: TrainingLoop, config: Config, encoder: Encoder, parts: list[list[PairRow]], references: References
) -> float:
    """Return the mean implicit reward of a step, chosen and rejected alike, without gradients."""
    total = 0.0
    for part in parts:
        logps, _ = loop.forward(_pair_logps, loop.model, encoder, part, references, config)
        total += _reward_sum(logps, config.beta)
    return total / (2 * sum(len(part) for part in parts))


def _reward_sum(logps: PairLogps, beta: float) -> float:
    chosen, rejected = logps.rewards(beta)
    return (chosen.sum() + rejected.sum()).item()


def _drift(logps: PairLogps) -> float:
    """Return the largest distance of policy and reference, in nats, as a multiple of the root of the log-probability.

    Rounding of one token is about the same for all but the surest; over the uncertain tokens of a completion, of which
    -log p is a measure, it adds up like independent errors do.
    """
    policy, reference = torch.cat([logps.chosen, logps.rejected]), torch.cat([logps.ref_chosen, logps.ref_rejected])
    return ((policy - reference).abs() / reference.abs().clamp(min=1).sqrt()).max().item()


def _check_start(metrics: StepMetrics, config: Config) -> None:
    """At step 0 the policy is the reference: rewards and margins are 0, DPO is ln 2, BCO 2 ln 2.

    Raises:
        TriptychError: they are not, beyond rounding.
    """
    tolerance = 0.5 if config.bf16 else 0.01
    if metrics.largest_drift > tolerance:
        raise TriptychError(
            "Before the first update the policy differs from the reference: a log-probability is off by "
            f"{metrics.largest_drift:.2g} times the root of its size (up to {tolerance} is rounding). "
            "Likely causes: dropout or drop-path is on in this model, or the stored reference log-probabilities belong "
            "to another model; delete .triptych beside the data, or give another reference_cache."
        )
