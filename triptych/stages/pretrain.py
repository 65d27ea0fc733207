"""Pre-training (MM1, arXiv:2403.09611): next-token prediction on the text of a mixture of documents.

Documents are drawn by weight, packed side by side and kept apart by the attention mask, with positions that start
anew in each. Image tokens carry no target. Everything is trained unless `freeze` names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triptych.data.frame_cache import frame_cache_in
from triptych.data.media_check import check_media
from triptych.engine.distributed import on_main
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of
from triptych.engine.features import frozen_features
from triptych.engine.inputs import input_fingerprints
from triptych.engine.loop import TrainingLoop, load_start_model, prepare_model
from triptych.engine.paths import document_path
from triptych.engine.run import RunDirectory
from triptych.engine.scoring import can_attend_by_block, score
from triptych.engine.trie import TokenPath, pack
from triptych.errors import TriptychError
from triptych.group import prompt_text
from triptych.models.loading import build_mm1, load_processor
from triptych.models.mm1.tokenizer import train_tokenizer
from triptych.objectives.language import token_loss
from triptych.stages.configs import PretrainConfig as Config
from triptych.stages.sources import Item, Mixture, read_mixture

IGNORED = ("out", "frame_cache", "logging_steps")
"""Settings that change no result."""


def run(config: Config) -> dict[str, Any]:
    """Pre-train and return what `done.json` says of it."""
    paths = [source.path for source in config.sources] + ([config.init] if config.init else [])
    directory = RunDirectory(config.out, config, inputs=input_fingerprints(paths), ignore=IGNORED)
    if directory.done is not None:
        return directory.done
    if not config.max_steps:
        raise TriptychError("Pre-training draws from an endless mixture; set max_steps.")
    mixture = read_mixture(config.sources, config.max_steps * config.items_per_step, config.seed)
    on_main(lambda: check_media(mixture.drawn_rows()))
    model, processor = _model(config, mixture)
    encoder = Encoder(processor, model.config, frame_cache_in(config.frame_cache))
    model = prepare_model(model, config, encoder)
    source = frozen_features(model, encoder.family)
    loop = TrainingLoop(directory, model, config, num_steps=config.max_steps, title="pretrain")

    for step in loop.steps():
        parts = loop.micro_batches(mixture.step(step, config.items_per_step))
        encoded = [_paths(encoder, loop.model, items) for items in parts]
        num_targets = loop.total(sum(sum(path.targets) for paths in encoded for path in paths))
        for paths in encoded:
            by_block = can_attend_by_block(loop.model, encoder.family)
            batch = pack([[path] for path in paths], config.row_tokens, share=False, by_block=by_block)
            features = source.features(batch.media) if source else None
            scores = loop.forward(score, loop.model, encoder.family, batch, features)
            loop.backward(token_loss(scores.per_token_logps, num_targets), batch)
        loop.update(**mixture.frequencies(step, config.items_per_step))
    result = {"frequencies": mixture.frequencies(config.max_steps - 1, config.items_per_step)} | loop.summary()
    return loop.finish(processor, result)


def _paths(encoder: Encoder, model: Any, items: Sequence[Item]) -> list[TokenPath]:
    """Encode documents."""
    documents = Mixture.encode(items, encoder.documents)
    return [document_path(encoder, backbone_of(model), document) for document in documents]


def _model(config: Config, mixture: Mixture) -> tuple[Any, Any]:
    """Build the model named in the configuration, or load the one to continue from."""
    if config.init:
        return load_start_model(config.init, config), load_processor(config.init)
    texts = [prompt_text(group).replace("<image>", "") for group in mixture.distinct_groups()]
    tokenizer = train_tokenizer(texts, config.vocab_size)
    return build_mm1(config.model, tokenizer, seed=config.seed, position_init=config.position_init)
