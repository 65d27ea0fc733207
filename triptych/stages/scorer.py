"""A scorer of texts and videos: a CLIP (arXiv:2103.00020) trained on captions, for retrieval and for CLIPScore.

A video is the mean of its frames (CLIP4Clip without parameters, arXiv:2104.08860), so what comes out is a plain CLIP
folder. A caption looks for its video among all of the step, and the video for its caption. Captions that say the same,
and captions of the same video, are not held against each other.

All captions of a step are compared at once, however many micro-batches and ranks share it: features are computed first,
then the loss and its gradient with respect to them, and then, micro-batch by micro-batch, the gradient of the weights
(GradCache, Gao et al. 2021, arXiv:2101.06983). Every rank holds the whole model.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from triptych.data.batches import plan_items
from triptych.data.frame_cache import frame_cache_in
from triptych.data.held_out import Located, refuse_shared
from triptych.data.rows import read_groups
from triptych.engine.captioned import CaptionBatch, Captioned, CaptionEncoder, CaptionWorkload, require_media
from triptych.engine.distributed import all_reduce_sum, is_main, on_main, own_rows, share_of_rank, world_size
from triptych.engine.inputs import data_root, input_fingerprints
from triptych.engine.loop import TrainingLoop, choose_trained
from triptych.engine.run import RunDirectory
from triptych.errors import DataError, TriptychError
from triptych.evaluation.retrieval import queries_of, rank_videos, summarise_retrieval
from triptych.evaluation.text_video import TextVideoScorer
from triptych.models.adapters import disable_dropout
from triptych.models.loading import load_processor
from triptych.models.mm1.tokenizer import train_tokenizer
from triptych.models.scorer import build_scorer, load_scorer, mean_frames, num_cut, picture_features, text_features
from triptych.objectives.contrastive import contrastive_loss, negative_pairs
from triptych.stages.scorer_config import ScorerConfig as Config

IGNORED = ("out", "logging_steps", "frame_cache")
"""Settings that change no result."""
LARGEST_SCALE = 100.0
"""Cosines are multiplied by no more than this (CLIP, section 2.5)."""


def run(config: Config) -> dict[str, Any]:
    """Train a scorer and return what `done.json` says of it."""
    models = [path for path in (config.init, config.tokenizer) if path]
    inputs = input_fingerprints([*models, *config.data, *config.eval_data])
    directory = RunDirectory(config.out, config, inputs=inputs, ignore=IGNORED)
    if directory.done is not None:
        return directory.done
    rows, apart = read_captioned(config.data, config.root), read_captioned(config.eval_data, config.root)
    refuse_shared(rows, apart, config.eval_data)
    items = [Captioned(text, group, root) for group, root in rows for text in queries_of(group)]
    model, processor = _start_model(config, items)
    counts = {"captions": len(items), "videos": len({item.subject for item in items}), "held_out": len(apart)}
    counts |= {"cut_captions": _announce_cut(model, processor, items)}
    disable_dropout(model)
    model = choose_trained(model, config)
    encoder = CaptionEncoder(
        model, processor, max_frames=config.max_frames, frame_cache=frame_cache_in(config.frame_cache)
    )
    steps = _plan(config, items)
    loop = TrainingLoop(directory, model, config, num_steps=len(steps), title="scorer", workload=CaptionWorkload(model))
    for step in loop.steps():
        loop.update(**backward_step(loop, encoder, steps[step]))
    _limit_scale(model)
    measured = on_main(lambda: measure(model, processor, apart)) if apart else {}
    return loop.finish(processor, loop.summary() | counts | measured, measured)


def read_captioned(files: Sequence[str], root: str) -> list[Located]:
    """Read the rows of every file, in order, with the data roots of their media.

    Raises:
        DataError: kind `missing_answer`, a row without a caption; `no_media`, one without picture or video; and what
            `read_groups` raises, for a medium that is not there too.
    """
    rows = []
    for file in files:
        place = data_root(file, root)
        for group in read_groups(file, place):
            try:
                require_media(group)
                queries_of(group)
            except DataError as error:
                raise error.located(file=file) from error
            rows.append((group, place))
    return rows


def backward_step(loop: TrainingLoop, encoder: CaptionEncoder, items: Sequence[Captioned]) -> dict[str, float]:
    """Add the gradient of the loss of a step.

    Args:
        loop: of the training.
        encoder: makes the batches.
        items: the captions of the step, of all ranks.

    Returns:
        means over the captions of all ranks, and the scale of the logits.
    """
    model = loop.model
    _limit_scale(model)
    batches = [encoder.batch(part) for part in loop.micro_batches(items)]
    with torch.set_grad_enabled(len(batches) == 1):  # of several, each is computed again when its turn comes
        parts = [loop.forward(embed, model, encoder, batch) for batch in batches]
    texts, videos = (loop.gather(torch.cat(side)).requires_grad_() for side in zip(*parts, strict=True))
    log_scale = model.logit_scale.detach().clone().requires_grad_()
    negatives = negative_pairs([item.text for item in items], [item.subject for item in items])
    found = contrastive_loss(texts, videos, log_scale.exp(), negatives.to(texts.device))
    *by_features, by_scale = torch.autograd.grad(found.loss.mean(), [texts, videos, log_scale])
    # All ranks come to the same gradient of the scale, and what they come to is added up.
    scale_share = by_scale / (min(world_size(), len(items)) * len(batches))
    shares = zip(*(_own_parts(side, items, batches) for side in (found.loss.detach(), *by_features)), strict=True)
    for number, (losses, *gradients) in enumerate(shares):
        batch = batches[number]
        own = parts[number] if len(batches) == 1 else loop.forward(embed, model, encoder, batch)
        linear = model.logit_scale * scale_share
        linear = linear + sum((part * gradient).sum() for part, gradient in zip(own, gradients, strict=True))
        loop.backward(losses.sum() / len(items) + linear - linear.detach(), batch)
    _sum_gradients(model)
    return {
        "contrastive/accuracy": found.accuracies.double().mean().item(),
        "contrastive/scale": log_scale.exp().item(),
    }


def embed(model: Any, encoder: CaptionEncoder, batch: CaptionBatch) -> tuple[Tensor, Tensor]:
    """Return features of captions and of their videos, (N, D) each, of length 1."""
    pixels = batch.pixels.to(next(model.parameters()).device)
    pictures = picture_features(model, {"pixel_values": encoder.normalised(pixels)})
    videos = torch.nn.functional.normalize(mean_frames(pictures, batch.counts), dim=-1)
    return text_features(model, batch.texts), videos


def measure(model: Any, processor: Any, rows: Sequence[Located]) -> dict[str, Any]:
    """Return how well captions find their videos among those of all rows: `r1`, `r5`, `r10`, `median_rank`."""
    scorer = TextVideoScorer(lambda: (model, processor))
    videos = [scorer.video(group, root) for group, root in rows]
    found = rank_videos([queries_of(group) for group, _ in rows], videos, scorer.compare_videos)
    return summarise_retrieval(found, [str(Captioned("", group, root).subject) for group, root in rows])


def _start_model(config: Config, items: Sequence[Captioned]) -> tuple[Any, Any]:
    """Load the model to fine-tune, or build the one that the configuration describes."""
    if config.init:
        model, processor = load_scorer(config.init)
        if model.config.model_type != "clip":
            raise TriptychError(f"{config.init} is of the type {model.config.model_type!r}; the loss here is CLIP's.")
        return model, processor
    if config.tokenizer:
        return build_scorer(config.model, load_processor(config.tokenizer).tokenizer, seed=config.seed)
    texts = (item.text for item in items)
    return build_scorer(config.model, train_tokenizer(texts, config.vocab_size), seed=config.seed)


def _announce_cut(model: Any, processor: Any, items: Sequence[Captioned]) -> int:
    """Tell, and return, how many captions are longer than the model takes."""
    number = num_cut(model, processor.tokenizer, [item.text for item in items])
    if number and is_main():
        print(f"{number:,} of {len(items):,} captions are cut at what the text tower takes.", file=sys.stderr)
    return number


def _plan(config: Config, items: Sequence[Captioned]) -> list[list[Captioned]]:
    """Return the captions of each step."""
    return plan_items(items, config.items_per_step, seed=config.seed, **config.extent)


def _own_parts(values: Tensor, items: Sequence[Captioned], batches: Sequence[CaptionBatch]) -> Iterator[Tensor]:
    """Yield the rows of this rank's batches, given those of all items; zeros for a batch that counts for nothing."""
    mine = len(share_of_rank(items))
    own = own_rows(values, mine)  # every rank asks, also one without any
    own = own if mine else torch.zeros_like(values[:1])
    return iter(own.split([len(batch.counts) for batch in batches]))


@torch.no_grad()
def _limit_scale(model: Any) -> None:
    model.logit_scale.clamp_(max=math.log(LARGEST_SCALE))


def _sum_gradients(model: torch.nn.Module) -> None:
    """Add up the gradients of all ranks, each of which holds the whole model."""
    if world_size() > 1:
        for parameter in model.parameters():
            if parameter.requires_grad:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = all_reduce_sum(own)
