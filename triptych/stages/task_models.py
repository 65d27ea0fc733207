"""The models of an evaluation: which are asked, and what they are compared with. Each is loaded when first needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.evaluation.judging import TextJudge
from triptych.generation.backends import make_generator
from triptych.generation.protocol import Generator, Sample, SamplingParams
from triptych.generation.settings import Backend
from triptych.generation.store import StoredGenerator
from triptych.group import Group
from triptych.stages.evaluate_config import EvaluateConfig, Task
from triptych.stages.task_passes import Models

if TYPE_CHECKING:
    from triptych.evaluation.best_of import RewardScorer


class TaskModels:
    """Makes the models that the settings of an evaluation name.

    Paths are files in which the replies of engines that allow it are kept.
    """

    def __init__(self, config: EvaluateConfig) -> None:
        self._config = config
        self._answers_by = cache(lambda folder: self._make(folder, Backend()))

    @property
    def graders(self) -> Models:
        """The models of the second pass."""
        return Models(lambda path: _stored(self._measured, path), self._judge)

    def answering(self, task: Task, path: Path) -> Generator:
        """Return what answers the rows of a task: the model that is measured, the best of several, or another model."""
        if task.answers_by:
            return _stored(self._answers_by(task.answers_by), path)
        answering = _stored(self._measured, path)
        if self._config.best_of == 1 or task.kind == "judge" or task.by == "likelihood":
            return answering
        from triptych.evaluation.best_of import BestOf

        return BestOf(answering, self._scorer, self._config.best_of, self._config.best_of_temperature)

    @cached_property
    def log_ratios(self) -> Callable[[Sequence[Group], Sequence[Sample], Path], list[float]] | None:
        """What compares answers with the reference, where one is named."""
        if not self._config.reference:
            return None
        from triptych.evaluation.log_ratios import LogRatios

        options = {"dtype": self._config.dtype, "row_tokens": self._config.row_tokens}
        return LogRatios(self._measured, self._config.reference, **options)

    @cached_property
    def _measured(self) -> Generator:
        return self._make(self._config.model, self._config.backend)

    @cached_property
    def _judging(self) -> Generator:
        """The model that judges texts: the one that is measured unless another one is named."""
        config = self._config
        return self._make(config.judge, config.judge_backend) if config.judge else self._measured

    @cached_property
    def _scorer(self) -> RewardScorer:
        from triptych.evaluation.best_of import RewardScorer

        config = self._config
        settings = {"dtype": config.dtype, "row_tokens": config.row_tokens, "frame_cache": config.frame_cache}
        return RewardScorer(config.reward_model, **settings)

    def _make(self, model: str, backend: Backend) -> Generator:
        config = self._config
        settings = {"dtype": config.dtype, "batch_sequences": config.batch_sequences, "frame_cache": config.frame_cache}
        return make_generator(model, backend, **settings)

    def _judge(self, path: Path) -> TextJudge:
        params = SamplingParams(temperature=0.0, max_new_tokens=self._config.judge_max_new_tokens)
        return TextJudge(_stored(self._judging, path), params, self._config.seed)


def _stored(generator: Generator, path: Path) -> Generator:
    """Keep the samples of a generator whose samples do not depend on each other."""
    return StoredGenerator(generator, path) if generator.independent else generator
