"""Supervised fine-tuning: imitate the completions of the rows.

Rows are drawn by weight. The prompt of a row is computed once for all its completions, and rows about the same
pictures share them too. Only completion tokens are targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of
from triptych.engine.inputs import input_fingerprints
from triptych.engine.loop import TrainingLoop, load_start_model, prepare_model
from triptych.engine.paths import completion_paths, units_by_media
from triptych.engine.run import RunDirectory
from triptych.engine.scoring import can_attend_by_block, score
from triptych.engine.trie import TokenPath, pack
from triptych.errors import DataError
from triptych.models.loading import load_processor
from triptych.objectives.language import token_loss
from triptych.stages.configs import SftConfig as Config
from triptych.stages.sources import Item, Mixture, read_mixture


def run(config: Config) -> dict[str, Any]:
    """Fine-tune and return what `done.json` says of it."""
    inputs = input_fingerprints([config.model, *(source.path for source in config.sources)])
    directory = RunDirectory(config.out, config, inputs=inputs, ignore=("out", "logging_steps"))
    if directory.done is not None:
        return directory.done
    model = load_start_model(config.model, config)
    processor = load_processor(config.model)
    encoder = Encoder(processor, model.config)
    num_steps = config.max_steps or _steps_of_epochs(config)
    mixture = read_mixture(config.sources, num_steps * config.items_per_step, config.seed)
    _check_completions(mixture)
    model = prepare_model(model, config, encoder)
    loop = TrainingLoop(directory, model, config, num_steps=num_steps, title="sft")
    for step in loop.steps():
        parts = loop.micro_batches(mixture.step(step, config.items_per_step))
        encoded = [_paths(encoder, loop.model, items) for items in parts]
        num_targets = loop.total(sum(sum(path.targets) for rows in encoded for paths in rows for path in paths))
        for rows in encoded:
            by_block = can_attend_by_block(loop.model, encoder.family)
            batch = pack(units_by_media(rows), config.row_tokens, by_block=by_block)
            scores = loop.forward(score, loop.model, encoder.family, batch)
            loop.backward(token_loss(scores.per_token_logps[batch.path_targets], num_targets), batch)
        loop.update(**mixture.frequencies(step, config.items_per_step))
    return loop.finish(processor, loop.summary())


def _paths(encoder: Encoder, model: Any, items: Sequence[Item]) -> list[list[TokenPath]]:
    """Encode rows: for each the paths of its completions."""
    prompts = Mixture.encode(items, encoder.prompts)
    return [
        completion_paths(encoder, backbone_of(model), prompt, item.group.completions)
        for item, prompt in zip(items, prompts, strict=True)
    ]


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
