"""Next-token loss on target tokens."""

from __future__ import annotations

import torch


def token_loss(per_token_logps: torch.Tensor, num_targets: int) -> torch.Tensor:
    """Negative log-likelihood of target tokens with one denominator for the whole optimiser step.

    Args:
        per_token_logps: (M,) log-probabilities of this micro-batch's target tokens, nats.
        num_targets: target tokens of all micro-batches and ranks of the step, so that the sum of the parts is the
            mean over the step however it is cut.

    Raises:
        ValueError: there is no target at all.
    """
    if num_targets < 1:
        raise ValueError(
            "No token of this step is a target, so there is no loss: its documents hold nothing but pictures, or its "
            "completions are empty. Look for such rows with `triptych data check`."
        )
    return -per_token_logps.sum() / num_targets
