"""Supervised fine-tuning: imitate the completions of the rows, all mixed or as a curriculum.

Rows are drawn by weight. The prompt of a row is computed once for all its completions, and rows about the same
pictures share them too. Only completion tokens are targets.

A curriculum (VLM-RLAIF, arXiv:2402.03746: easy rows, then hard ones) is one run of several parts, each with its own
rows, steps, learning rate, schedule and frozen modules. The optimizer starts anew with each part, as it does in the
paper, whose parts are two trainings: the running means of one part, at the end of its schedule, say little of the next
part's gradients at the peak of a new one.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triptych.data.frame_cache import frame_cache_in
from triptych.data.media_check import check_media
from triptych.engine.distributed import is_main, on_main
from triptych.engine.encode import Encoder
from triptych.engine.families import Family, backbone_of
from triptych.engine.features import FeatureSource, frozen_features
from triptych.engine.inputs import input_fingerprints
from triptych.engine.loop import TrainingLoop, load_start_model, prepare_model
from triptych.engine.paths import completion_paths, units_by_media
from triptych.engine.plain import PlainBatch
from triptych.engine.run import RunDirectory
from triptych.engine.scoring import Scores, can_attend_by_block, score
from triptych.engine.trie import PackedBatch, TokenPath, pack
from triptych.models.loading import load_processor
from triptych.objectives.language import token_loss
from triptych.stages.curriculum import Phase, Plan, plan_training
from triptych.stages.sft_config import SftConfig as Config
from triptych.stages.sources import Item, Mixture

IGNORED = ("out", "frame_cache", "logging_steps")
"""Settings that change no result."""


def run(config: Config) -> dict[str, Any]:
    """Fine-tune and return what `done.json` says of it."""
    sources = [*config.sources, *(source for part in config.curriculum for source in part.sources)]
    inputs = input_fingerprints([config.model, *(source.path for source in sources)])
    directory = RunDirectory(config.out, config, inputs=inputs, ignore=IGNORED)
    if directory.done is not None:
        return directory.done
    processor = load_processor(config.model)
    plan = plan_training(config, processor.tokenizer, directory.path)
    on_main(lambda: check_media(plan.mixture.drawn_rows()))
    if config.curriculum and is_main():
        print(plan.describe(), file=sys.stderr)
    for phase in plan.phases_left(directory.path):
        loop = _train(phase, plan, directory, processor)
        if phase.result is not None:
            _hand_over(loop, processor, phase.result)
            del loop  # the next phase loads a model of its own
    parts = {"parts": [part.summary for part in plan.parts]} if config.curriculum else {}
    return loop.finish(processor, loop.summary() | parts)


def _train(phase: Phase, plan: Plan, directory: RunDirectory, processor: Any) -> TrainingLoop:
    """Train the parts of a phase one after the other and return the loop of the last."""
    settings = phase.parts[0].config
    model = load_start_model(phase.model, settings)
    encoder = Encoder(processor, model.config, frame_cache_in(settings.frame_cache))
    model = prepare_model(model, settings, encoder)
    source = frozen_features(model, encoder.family)
    for part in phase.parts:
        config, named = part.config, {"part": part.name} if part.name else {}
        loop = TrainingLoop(directory, model, config, num_steps=plan.num_steps, span=part.span, title="sft")
        for step in loop.steps():
            cuts = loop.micro_batches(plan.mixture.step(step, config.items_per_step))
            encoded = [_paths(encoder, loop.model, items) for items in cuts]
            num_targets = loop.total(sum(sum(path.targets) for rows in encoded for paths in rows for path in paths))
            for rows in encoded:
                by_block = can_attend_by_block(loop.model, encoder.family)
                batch = pack(units_by_media(rows), config.row_tokens, by_block=by_block)
                scores = loop.forward(_score, loop.model, encoder.family, batch, source)
                loop.backward(token_loss(scores.per_token_logps[batch.path_targets], num_targets), batch)
            loop.update(**named, **plan.mixture.frequencies(step, config.items_per_step))
    return loop


def _score(model: Any, family: Family, batch: PackedBatch | PlainBatch, source: FeatureSource | None) -> Scores:
    """Score a batch; features of a tower that stands still are computed once for all steps."""
    return score(model, family, batch, source.features(batch.media) if source else None)


def _hand_over(loop: TrainingLoop, processor: Any, folder: Path) -> None:
    """Write the model for the next phase; the folder appears when it is whole."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    on_main(lambda: shutil.rmtree(temporary, ignore_errors=True))
    loop.write_model(processor, temporary)
    on_main(lambda: os.rename(temporary, folder))


def _paths(encoder: Encoder, model: Any, items: Sequence[Item]) -> list[list[TokenPath]]:
    """Encode rows: for each the paths of its completions."""
    prompts = Mixture.encode(items, encoder.prompts)
    return [
        completion_paths(encoder, backbone_of(model), prompt, item.group.completions)
        for item, prompt in zip(items, prompts, strict=True)
    ]
