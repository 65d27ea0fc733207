"""Best of N: several answers are drawn, and the one that a reward model likes best is given.

What a reward model is worth shows here without any training on it. The distribution of the best of N answers is at most
log N - (N - 1) / N nats away from that of one, whatever the reward (Stiennon et al. 2020, arXiv:2009.01325, appendix
G.3; exact where no two answers have the same reward), which is what a policy of like reward is to be compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import log
from pathlib import Path

from triptych.data.frame_cache import frame_cache_in
from triptych.engine.encode import Encoder
from triptych.engine.features import frozen_features
from triptych.engine.rewards import reward_all
from triptych.generation.protocol import Codec, Generator, Request, Sample, SamplingParams
from triptych.group import Completion, Group
from triptych.models.loading import load_processor
from triptych.models.reward_loading import load_reward_model


def kl_bound(num_samples: int) -> float:
    """Return log N - (N - 1) / N, the most nats by which the best of N answers departs from one."""
    return log(num_samples) - (num_samples - 1) / num_samples


class RewardScorer:
    """Rewards texts as answers.

    Args:
        path: folder of the reward model.
        dtype: precision of its weights.
        row_tokens: most tokens of a packed row.
        frame_cache: folder of stored frames of video files; where empty they are decoded each time.
    """

    def __init__(self, path: str, *, dtype: str = "float32", row_tokens: int = 8192, frame_cache: str = "") -> None:
        self._model = load_reward_model(path, dtype=dtype).requires_grad_(False)
        self._encoder = Encoder(load_processor(path), self._model.config.base_config, frame_cache_in(frame_cache))
        self._features = frozen_features(self._model, self._encoder.family)
        self._row_tokens = row_tokens

    def rewards(self, answered: Sequence[tuple[Group, Sequence[Sample]]], root: Path) -> list[list[float]]:
        """Return the reward of each sample of each row.

        Raises:
            DataError: kind `too_long`, a prompt with an answer has more tokens than a packed row.
            TriptychError: a reward is not finite.
        """
        wanted = {}
        for number, (group, samples) in enumerate(answered):
            completions = [self._completion(sample) for sample in samples]
            wanted[str(number)] = (replace(group, completions=completions, pairs=[]), root, list(range(len(samples))))
        rewards = reward_all(self._model, self._encoder, wanted, self._row_tokens, self._features)
        return [[rewards[name, index] for index in indices] for name, (_, _, indices) in wanted.items()]

    def _completion(self, sample: Sample) -> Completion:
        """Return a completion that has a token to be rewarded at: one without words counts as ended."""
        has_words = bool(self._encoder.tokenizer(sample.text, add_special_tokens=False)["input_ids"])
        return Completion(sample.text, truncated=sample.truncated and has_words)


class BestOf:
    """Answers with the best of several samples; of equal ones with the first.

    Args:
        generator: draws the samples.
        scorer: rewards them.
        num_samples: drawn for each answer, at least 2.
        temperature: of the samples, above 0.
    """

    independent = False  # rewards depend, by rounding, on what else is in a packed row

    def __init__(self, generator: Generator, scorer: RewardScorer, num_samples: int, temperature: float = 1.0) -> None:
        self.name: str = generator.name
        self.codec: Codec = generator.codec
        self._generator, self._scorer = generator, scorer
        self._num_samples, self._temperature = num_samples, temperature

    def generate(self, requests: Sequence[Request], params: SamplingParams, *, root: Path) -> Iterator[list[Sample]]:
        """Yield one sample for each request of one; see `Generator.generate`."""
        several = [replace(request, num_samples=self._num_samples) for request in requests]
        drawing = replace(params, temperature=self._temperature)
        drawn = list(self._generator.generate(several, drawing, root=root))
        answered = [(request.group, samples) for request, samples in zip(requests, drawn, strict=True)]
        for samples, rewards in zip(drawn, self._scorer.rewards(answered, root), strict=True):
            yield [samples[rewards.index(max(rewards))]]
