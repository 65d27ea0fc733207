"""A batch of completions that the policy drew, what is logged of it, and what must not be trained on.

Letters: B completions, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from triptych.objectives.masked import Reduce, check_completions, fill, moments, this_rank_only


class Diverged(ValueError):
    """Training has left the range in which its numbers mean anything.

    Attributes:
        problem: what happened, with the numbers.
        remedy: what to try.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(f"{problem} {remedy}")


@dataclass(frozen=True)
class Rollout:
    """Completions of one rollout batch on this rank, scored, before any update.

    Attributes:
        per_token_logps: (B, T) of the policy that drew them, recomputed by the engine, nats.
        ref_per_token_logps: (B, T) of the reference.
        completion_mask: (B, T), True from the first to the last token of each.
        scores: (B,) of the reward model.
        ended: (B,) bool, True where a completion ends with an end-of-sequence token.
        values: (B, T) as in `gae`; None without a value model.
    """

    per_token_logps: torch.Tensor
    ref_per_token_logps: torch.Tensor
    completion_mask: torch.Tensor
    scores: torch.Tensor
    ended: torch.Tensor
    values: torch.Tensor | None = None

    def __post_init__(self) -> None:
        check_completions(self.completion_mask)
        of_tokens = (self.per_token_logps, self.ref_per_token_logps, self.values)
        shapes = {tuple(tensor.shape) for tensor in of_tokens if tensor is not None}
        if shapes != {tuple(self.completion_mask.shape)} or not (self.scores.shape == self.ended.shape == (len(self),)):
            raise ValueError(
                f"A rollout of {tuple(self.completion_mask.shape)} tokens has log-probabilities or values of shape "
                f"{sorted(shapes)}, scores of {tuple(self.scores.shape)} and ends of {tuple(self.ended.shape)}."
            )

    def __len__(self) -> int:
        return len(self.completion_mask)


def rollout_metrics(
    rollout: Rollout,
    completion_rewards: torch.Tensor,
    kl_penalties: torch.Tensor,
    *,
    kl_coef: float,
    reduce: Reduce = this_rank_only,
) -> dict[str, float]:
    """Return what is logged of a rollout batch: means over the completions of all ranks, under TRL's names.

    Args:
        completion_rewards: (B,) from the function of that name in `shaping.py`.
        kl_penalties: (B, T) from `token_kl` by the estimator in use, before `kl_coef`.

    Returns:
        `objective/kl` is the sum of log pi - log pi_ref over a completion whatever estimator is in use, so that
        curves compare; `objective/entropy` the sum of -log pi; `objective/rlhf_reward` the reward after all penalties.
    """
    mask = rollout.completion_mask
    logps, ref_logps = fill(rollout.per_token_logps, mask), fill(rollout.ref_per_token_logps, mask)
    non_score = -kl_coef * fill(kl_penalties, mask).sum(1)
    of_completions = {
        "objective/kl": (logps - ref_logps).sum(1),
        "objective/entropy": -logps.sum(1),
        "objective/scores": rollout.scores,
        "objective/non_score_reward": non_score,
        "objective/rlhf_reward": completion_rewards + non_score,
        "completions/mean_length": mask.sum(1),
        "completions/clipped_ratio": ~rollout.ended,
    }
    sums = torch.stack([values.detach().double().sum() for values in of_completions.values()])
    *sums, count = reduce(torch.cat([sums, sums.new_tensor([len(rollout)])])).tolist()
    metrics = {name: total / count for name, total in zip(of_completions, sums, strict=True)}
    _, variance = moments(rollout.scores, torch.ones_like(rollout.ended), reduce)
    return metrics | {"objective/scores_std": variance.sqrt().item(), "objective/kl_coef": kl_coef}


def value_metrics(
    values: torch.Tensor, returns: torch.Tensor, completion_mask: torch.Tensor, *, reduce: Reduce = this_rank_only
) -> dict[str, float]:
    """Return what is logged of the values of a rollout batch, over the tokens of all ranks.

    `value/explained_variance` is 1 - Var(R - V) / Var(R): 1 where the values are the returns up to a constant, 0
    where a constant would do as well, below 0 where it would do better. It is left out where all returns are equal.

    Args:
        values, returns: (B, T) of the rollout and from `gae`.
    """
    mean_value, _ = moments(values, completion_mask, reduce)
    mean_return, variance = moments(returns, completion_mask, reduce)
    _, unexplained = moments(returns - values, completion_mask, reduce)
    metrics = {"value/mean": mean_value.item(), "returns/mean": mean_return.item()}
    if variance > 0:
        metrics["value/explained_variance"] = (1 - unexplained / variance).item()
    return metrics


def check_rollout(
    rollout: Rollout,
    *,
    kl_limit: float | None = None,
    value_limit: float | None = None,
    reduce: Reduce = this_rank_only,
) -> None:
    """Check a rollout batch before it is trained on; with `reduce`, all ranks come to the same verdict.

    Args:
        kl_limit: most nats by which completions may differ from the reference on average (`objective/kl`).
        value_limit: largest magnitude of a value.

    Raises:
        Diverged: a score, log-probability or value is NaN or infinite, or beyond its limit; says what to try.
    """
    mask = rollout.completion_mask
    logps, ref_logps = fill(rollout.per_token_logps, mask), fill(rollout.ref_per_token_logps, mask)
    values = None if rollout.values is None else fill(rollout.values, mask)
    parts = {"scores": rollout.scores, "logps": logps, "ref_logps": ref_logps, "values": values}
    bad = {name: (~part.isfinite()).sum() for name, part in parts.items() if part is not None}
    bad["kl"] = (logps - ref_logps).sum()
    bad["large"] = mask.new_zeros(()) if values is None else (values.abs() > (value_limit or math.inf)).sum()
    bad["completions"] = mask.any(1).sum()
    totals = reduce(torch.stack([count.detach().double() for count in bad.values()])).tolist()
    _judge(dict(zip(bad, totals, strict=True)), kl_limit, value_limit)


def _judge(totals: dict[str, float], kl_limit: float | None, value_limit: float | None) -> None:
    """Raise for the first fault of a rollout batch; see `check_rollout`."""
    completions = int(totals["completions"])
    if totals["scores"]:
        raise Diverged(
            f"{int(totals['scores'])} of {completions} completions have a score that is NaN or infinite.",
            "Look at the reward model alone: train it again with a lower learning rate, or in bfloat16 instead of "
            "float16.",
        )
    for name, whose in (("logps", "the policy's"), ("ref_logps", "the reference's")):
        if totals[name]:
            raise Diverged(
                f"{int(totals[name])} of {whose} log-probabilities are NaN or infinite.",
                "Lower the learning rate or max_grad_norm, and train anew.",
            )
    if totals.get("values"):
        raise Diverged(
            f"{int(totals['values'])} values are NaN or infinite.",
            "Lower the learning rate or vf_coef, and train anew.",
        )
    if totals["large"]:
        raise Diverged(
            f"{int(totals['large'])} values are beyond +-{value_limit}.",
            "The value model has run away from the returns: lower the learning rate, vf_coef or reward_scale, set "
            "cliprange_value, or raise the limit if rewards really are that large.",
        )
    if kl_limit is not None and totals["kl"] / completions > kl_limit:
        raise Diverged(
            f"The policy is {totals['kl'] / completions:.1f} nats per completion away from the reference, more than "
            f"{kl_limit}.",
            "It has most likely learned to please the reward model: raise kl_coef, steer it by a target, lower the "
            "learning rate, or end before this step (max_steps).",
        )


def check_update(metrics: Mapping[str, float], *, approx_kl_limit: float | None = None) -> None:
    """Check the metrics of an update batch, summed over its micro-batches and ranks, before or after its step.

    Args:
        metrics: from `update_metrics`, and others such as the gradient norm.
        approx_kl_limit: most nats per token that the policy may move within one rollout batch (`ppo/approx_kl`).

    Raises:
        Diverged: a metric is NaN or infinite, or the policy moved too far; says what to try.
    """
    if broken := [name for name, value in metrics.items() if not math.isfinite(value)]:
        raise Diverged(
            f"{', '.join(broken)} of this update is NaN or infinite.",
            "Lower the learning rate or max_grad_norm, and train anew.",
        )
    moved = metrics.get("ppo/approx_kl", 0.0)
    if approx_kl_limit is not None and moved > approx_kl_limit:
        raise Diverged(
            f"The policy moved by {moved:.3g} nats per token since the rollout, more than {approx_kl_limit}.",
            "Its old completions no longer tell about it: lower the learning rate, take fewer epochs per rollout "
            "batch, or more completions per update.",
        )
