"""How far a policy has left the model it was trained from, by the answers it gives.

For an answer y to a prompt x this is log p(y | x) - log r(y | x), policy over reference, summed over its tokens. Its
mean over answers drawn at temperature 1 estimates the divergence KL(p || r) per answer. Over greedy answers it is the
log-ratio of what was said and no divergence of distributions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from triptych.engine.encode import Encoder
from triptych.engine.features import FeatureSource, frozen_features
from triptych.engine.plain import PlainBatch
from triptych.engine.rollouts import Drawn, Packer, same_tokens, usable_answer
from triptych.engine.scoring import score
from triptych.engine.trie import PackedBatch
from triptych.errors import TriptychError
from triptych.generation.local import LocalGenerator
from triptych.generation.protocol import Sample
from triptych.group import Group
from triptych.models.loading import load_model, load_processor

PROMPTS_AT_ONCE = 64
"""Prompts of one packed forward."""


class LogRatios:
    """Compares a model with a reference by the tokens of answers that the model drew.

    Args:
        generator: samples from the model; its samples tell their tokens.
        reference: folder of the reference.
        dtype: precision of its weights.
        row_tokens: most tokens of a packed row.

    Raises:
        TriptychError: the two models have different tokens.
    """

    def __init__(
        self, generator: LocalGenerator, reference: str, *, dtype: str = "float32", row_tokens: int = 8192
    ) -> None:
        self._encoder = generator.encoder
        loaded = load_model(reference, dtype=dtype)
        if not same_tokens(self._encoder, Encoder(load_processor(reference), loaded.config)):
            raise TriptychError(
                f"The reference {reference} has other tokens than the model that is measured, so the two cannot be "
                "compared token by token. Name the model that this one was trained from."
            )
        models = [model.requires_grad_(False).eval() for model in (generator.model, loaded)]
        self._models = [(model, frozen_features(model, self._encoder.family)) for model in models]
        self._packer = Packer(generator.model, self._encoder, row_tokens)

    @torch.no_grad()
    def __call__(self, groups: Sequence[Group], samples: Sequence[Sample], root: Path) -> list[float]:
        """Return the log-ratio of each answer, in nats.

        Args:
            groups: the prompts.
            samples: one answer to each, as it was drawn.
            root: data root of the media.

        Raises:
            DataError: kind `too_long`, a prompt with its answer has more tokens than a packed row.
        """
        drawn = [self._drawn(n, *pair, root) for n, pair in enumerate(zip(groups, samples, strict=True))]
        ratios: list[float] = []
        for start in range(0, len(drawn), PROMPTS_AT_ONCE):
            packed = self._packer.pack(drawn[start : start + PROMPTS_AT_ONCE])
            self._packer.forget()
            policy, reference = (self._logps(model, source, packed.batch) for model, source in self._models)
            ratios += [row.double().sum().item() for row in packed.by_answer(policy - reference)]
        return ratios

    def _logps(
        self, model: torch.nn.Module, source: FeatureSource | None, batch: PackedBatch | PlainBatch
    ) -> torch.Tensor:
        features = source.features(batch.media) if source is not None else None
        return score(model, self._encoder.family, batch, features).per_token_logps

    def _drawn(self, number: int, group: Group, sample: Sample, root: Path) -> Drawn:
        ids, text, ended = usable_answer(self._encoder, sample.token_ids, sample.text, ended=not sample.truncated)
        return Drawn(str(number), group, root, [ids], [text], [ended])
