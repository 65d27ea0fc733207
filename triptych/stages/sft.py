"""Supervised fine-tuning: imitate the completions of the rows.

Rows are drawn by weight. The prompt of a row is computed once for all its completions, and rows about the same
pictures share them too. Only completion tokens are targets.
"""

from __future__ import annotations

from typing import Any

from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of
from triptych.engine.inputs import input_fingerprints
from triptych.engine.loop import TrainingLoop
from triptych.engine.paths import completion_paths, units_by_media
from triptych.engine.run import RunDirectory
from triptych.engine.scoring import score
from triptych.engine.trie import pack
from triptych.errors import DataError
from triptych.models.loading import load_model, load_processor
from triptych.objectives.language import token_loss
from triptych.stages.configs import SftConfig as Config
from triptych.stages.sources import Mixture, read_mixture


def run(config: Config) -> dict[str, Any]:
    """Fine-tune and return what `done.json` says of it."""
    inputs = input_fingerprints([config.model, *(source.path for source in config.sources)])
    directory = RunDirectory(config.out, config, inputs=inputs, ignore=("out", "logging_steps"))
    if directory.done is not None:
        return directory.done
    model, processor = load_model(config.model), load_processor(config.model)
    encoder = Encoder(processor, model.config)
    num_steps = config.max_steps or _steps_of_epochs(config)
    mixture = read_mixture(config.sources, num_steps * config.items_per_step, config.seed)
    _check_completions(mixture)
    loop = TrainingLoop(directory, model, config, num_steps=num_steps, title="sft")
    for step in loop.steps():
        items = mixture.step(step, config.items_per_step)
        prompts = mixture.encode(items, encoder.prompts)
        rows = [
            completion_paths(encoder, backbone_of(loop.model), prompt, item.group.completions)
            for item, prompt in zip(items, prompts, strict=True)
        ]
        num_targets = sum(sum(path.targets) for paths in rows for path in paths)
        for micro in loop.micro_batches(rows):
            batch = pack(units_by_media(micro), config.row_tokens)
            scores = loop.forward(score, loop.model, encoder.family, batch)
            loop.backward(token_loss(scores.per_token_logps[batch.path_targets], num_targets), batch)
        loop.update(**mixture.frequencies(step, config.items_per_step))
    return loop.finish(processor, loop.summary())


def _steps_of_epochs(config: Config) -> int:
    """Return the steps in which as many rows are drawn as the sources hold, times the epochs."""
    from triptych.data.rows import iter_groups

    num_rows = sum(sum(1 for _ in iter_groups(source.path)) for source in config.sources)
    return max(1, round(num_rows * config.num_train_epochs / config.items_per_step))


def _check_completions(mixture: Mixture) -> None:
    for group in mixture.distinct_groups():
        if not group.completions or not all(completion.text for completion in group.completions):
            raise DataError(
                "A row for supervised fine-tuning has no completion, or an empty one.",
                remedy="Give every row at least one completion with text.",
                kind="empty_completion",
                row=group.id,
            )
