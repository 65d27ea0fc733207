"""Pairs under the policy and the reference: what a preference objective looks at.

Letters: P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from triptych.engine.encode import Encoder
from triptych.engine.features import FeatureSource
from triptych.engine.live_reference import Reference
from triptych.engine.loop import TrainingLoop
from triptych.engine.pairs import PairRow, ScoredCompletions, completions_of, pack_completions, score_completions
from triptych.engine.trie import PackedBatch
from triptych.objectives.mpo import Mix
from triptych.objectives.pointwise import kl_estimate
from triptych.objectives.preference import PairLogps


class PairScorer:
    """Scores the pairs of a micro-batch under the policy and the reference, with one packed forward each.

    Args:
        loop: holds the policy; a `TrainingLoop`, or what else has its `model`, `forward` and `gather`.
        encoder: of its processor.
        reference: where reference log-probabilities come from.
        mix: says what is needed of a pair.
        row_tokens: most tokens in a packed row.
        features: of pictures, where nothing that makes them is trained.
    """

    def __init__(
        self,
        loop: TrainingLoop,
        encoder: Encoder,
        reference: Reference,
        mix: Mix,
        row_tokens: int,
        features: FeatureSource | None = None,
    ) -> None:
        self._loop, self._encoder, self._reference = loop, encoder, reference
        self.mix, self._row_tokens, self._features = mix, row_tokens, features

    def pack(self, rows: Sequence[PairRow]) -> PackedBatch:
        """Return the batch that `score` runs, without its features."""
        wanted = completions_of(rows, rejected=self.mix.needs_rejected)
        return pack_completions(self._loop.model, self._encoder, wanted, self._row_tokens).batch

    def score(self, rows: Sequence[PairRow]) -> ScoredCompletions:
        """Score the completions that the loss looks at, each once, under the policy."""
        wanted = completions_of(rows, rejected=self.mix.needs_rejected)
        return self._loop.forward(
            score_completions, self._loop.model, self._encoder, wanted, self._row_tokens, self._features
        )

    def look(self, parts: list[list[PairRow]]) -> tuple[list[PairLogps], ScoredCompletions]:
        """Return the log-probabilities of each micro-batch, and what the last was scored to.

        Several are scored without gradients; one is scored with them, so that it need not be scored again.
        """
        logps = []
        with torch.set_grad_enabled(len(parts) == 1):
            for part in parts:
                scored = self.score(part)
                logps.append(self._compare(part, scored))
        return logps, scored

    def policy_logps(self, rows: Sequence[PairRow], scored: ScoredCompletions) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-probabilities of chosen and rejected, (P,) each; zeros stand for a rejected one not needed."""
        chosen = torch.stack([scored.logps[row.name, row.pair.chosen] for row in rows])
        if not self.mix.needs_rejected:
            return chosen, torch.zeros_like(chosen)
        return chosen, torch.stack([scored.logps[row.name, row.pair.rejected] for row in rows])

    @torch.no_grad()
    def kl(self, parts: list[list[PairRow]]) -> float:
        """Return KTO's z of mismatched pairs, over all ranks; see `mismatched` and `kl_estimate`."""
        ratios = [torch.cat(self._compare(part, self.score(part)).ratios()) for part in parts]
        return kl_estimate(self._loop.gather(torch.cat(ratios))).item()

    def _compare(self, rows: Sequence[PairRow], scored: ScoredCompletions) -> PairLogps:
        """Put the policy's log-probabilities beside the reference's, detached and in double precision."""
        chosen, rejected = (value.detach().double() for value in self.policy_logps(rows, scored))
        places = [(row.name, row.pair.chosen) for row in rows], [(row.name, row.pair.rejected) for row in rows]
        nothing = torch.zeros_like(chosen)
        references = [nothing, nothing]
        if self.mix.needs_reference:
            values = self._reference.logps(self._loop.model, self._encoder, scored)
            references = [chosen.new_tensor([values[place] for place in side]) for side in places]
        lengths = [chosen.new_tensor([scored.num_targets.get(place, 1) for place in side]) for side in places]
        return PairLogps(chosen, rejected, *references, *lengths)
