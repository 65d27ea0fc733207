"""Preference data without annotators, as in MPO (arXiv:2411.10442, section 3), from any model or server.

correctness: draw answers to questions whose answer is known; right ones are preferred to wrong ones and to ones that
give no clear answer. dropout_ntp: keep the first half of an answer and let the same model tell the rest without the
media; the answer it gave with them is preferred. rlaif_v: of two answers the one is preferred of which a labeller
rejects fewer claims. ai_feedback: two answers are judged with a narrative of the media as context (VLM-RLAIF,
arXiv:2402.03746).

Rows are read as a stream and worked on in blocks, by this process, several, or a Ray cluster.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from triptych.config import config_dict
from triptych.data.card import write_data_card
from triptych.data.media_check import check_media
from triptych.data.rows import iter_groups
from triptych.data.shortfall import few_pairs
from triptych.engine.blocks import Block, Work, run_blocks
from triptych.engine.inputs import data_root, input_fingerprints
from triptych.engine.run import RunDirectory
from triptych.engine.workers import make_workers
from triptych.errors import DataError, TriptychError
from triptych.feedback.ai_feedback import AiFeedbackMaker
from triptych.feedback.answers import AnswerRule
from triptych.feedback.claims import FunctionClaims, ModelClaims
from triptych.feedback.maker import PairMaker
from triptych.feedback.makers import CorrectnessMaker, DropoutNtpMaker
from triptych.feedback.rlaif_v import RlaifVMaker
from triptych.feedback.statistics import describe_pairs
from triptych.generation.backends import make_generator
from triptych.generation.protocol import Codec, Generator, Request, Sample, SamplingParams
from triptych.generation.settings import SPEED_SETTINGS, Backend
from triptych.generation.store import StoredGenerator
from triptych.stages.judges import make_judge, make_narrator
from triptych.stages.pairs_config import PairsConfig as Config

IGNORED = ("out", "engine", "workers", "frame_cache", *SPEED_SETTINGS, *(f"labeller_{name}" for name in SPEED_SETTINGS))
"""Settings that change no result."""


def run(config: Config) -> dict[str, Any]:
    """Make pairs and return the counts that `done.json` holds; the rows are in `pairs.jsonl`."""
    directory = RunDirectory(config.out, config, inputs=input_fingerprints(_inputs(config)), ignore=IGNORED)
    if directory.done is not None:
        return directory.done
    root = data_root(config.data, config.root)
    num_rows, media = _check(config)
    if media and (config.model or config.labeller):
        check_media((group, root, config.data) for group in iter_groups(config.data))
    path = run_blocks(
        directory.path,
        "pairs.jsonl",
        iter_groups(config.data),
        num_rows,
        config.block_size,
        make_workers(partial(_make_work, config, root), engine=config.engine, num_workers=config.workers),
        title=f"pairs {config.method}",
        stored=directory.record_time,
    )
    counts = describe_pairs(iter_groups(path))
    if warning := few_pairs(iter_groups(path)):
        print(f"Warning: {warning}", file=sys.stderr)
    write_data_card(directory.path, _facts(config, counts, media, directory.seconds))
    return directory.finish(counts | {"root": str(root)})


def _facts(config: Config, counts: dict[str, Any], media: list[str], seconds: float) -> dict[str, Any]:
    """Return what the card of the data set tells."""
    return {
        "counts": counts,
        "config": config_dict(config),
        "models": [model for model in (config.model, config.labeller) if model],
        "versions": {name: version(name) for name in ("triptych", "transformers", "torch")},
        "seconds": seconds,
        "media": media,
    }


def _inputs(config: Config) -> list[str]:
    """Return the files and folders that decide the result; a server's model is only a name."""
    models = ((config.model, config.backend), (config.labeller, config.labeller_backend))
    return [*(model for model, backend in models if model and backend.kind != "server"), config.data]


def _make_work(config: Config, root: Path) -> Work:
    """Return what maps a block of groups to rows with pairs; loads the models or opens the clients."""
    generator = _generator(config, config.model, config.backend)
    labeller = _generator(config, config.labeller, config.labeller_backend) if config.labeller else generator

    def work(block: Block) -> Iterator[dict[str, Any]]:
        answering, labelling = (_stored(item, block) for item in (generator, labeller))
        return (group.to_row() for group in _maker(config, labelling).make(block.rows, answering, root))

    return work


def _generator(config: Config, model: str, backend: Backend) -> Generator:
    if not model:
        return NoGenerator()
    settings = {"dtype": config.dtype, "batch_sequences": config.batch_sequences, "frame_cache": config.frame_cache}
    return make_generator(model, backend, **settings)


def _stored(generator: Generator, block: Block) -> Generator:
    return StoredGenerator(generator, block.scratch) if generator.independent else generator


class NoGenerator:
    """Stands where no model was named: rows that bring all their answers need none."""

    name = ""
    codec = Codec(encode=list, decode="".join)
    independent = False

    def generate(self, requests: Sequence[Request], params: SamplingParams, *, root: Path) -> Iterator[list[Sample]]:
        """Raise `TriptychError` with the id of the first row that needs answers."""
        raise TriptychError(
            f"The row {requests[0].group.id} needs answers to be drawn, and no model is named. Give --model."
        )


def _maker(config: Config, labeller: Generator) -> PairMaker:
    """Return the method with its settings."""
    params = partial(SamplingParams, top_k=config.top_k, top_p=config.top_p, max_new_tokens=config.max_new_tokens)
    drawing = {"params": params(config.temperature), "num_samples": config.num_samples, "seed": config.seed}
    if config.method == "correctness":
        return CorrectnessMaker(
            **drawing,
            rule=AnswerRule(
                config.answer_style,
                config.answer_kind,
                config.answer_rel_tol,
                config.answer_abs_tol,
                config.answer_min_anls,
            ),
            cot=config.cot_prompt or None,
            cot_language=config.cot_language,
            pairing=_settings(
                config, "max_pairs", "max_format_pairs", "max_length_ratio", "balance_lengths", "gold_rationales"
            ),
        )
    if config.method == "rlaif_v":
        return RlaifVMaker(
            **drawing,
            claims=FunctionClaims(config.claims) if config.claims else ModelClaims(seed=config.seed),
            labeller=labeller,
            **_settings(config, "min_gap", "max_pairs"),
        )
    if config.method == "ai_feedback":
        return AiFeedbackMaker(
            **drawing,
            judge=make_judge(config.judge, config.seed),
            narrator=make_narrator(config.judge, config.seed),
            judging=labeller,
        )
    return DropoutNtpMaker(
        **drawing,
        continuation=params(config.continuation_temperature),
        replace_rejected=config.replace_rejected,
        options=_settings(config, "keep_ratio", "num_negatives", "with_media", "min_difference"),
    )


def _settings(config: Config, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


def _check(config: Config) -> tuple[int, list[str]]:
    """Return the number of rows, and which of `image` and `video` they show.

    Raises:
        DataError: there are none, two have one id, or one has no answer where answers are checked.
    """
    seen: set[int] = set()
    media: set[str] = set()
    for group in iter_groups(config.data):
        if (key := hash(group.id)) in seen:
            raise DataError(
                "Two rows have this id.",
                remedy="Give each row its own.",
                kind="duplicate_id",
                file=config.data,
                row=group.id,
            )
        seen.add(key)
        media |= {"image"} if group.images else set()
        media |= {"video"} if group.videos else set()
        if config.method == "correctness" and not group.answer:
            raise DataError(
                "The row has no `answer`, which correctness pairs are checked against.",
                remedy="Add the answer, or use method dropout_ntp for rows without a clear truth.",
                kind="missing_answer",
                file=config.data,
                row=group.id,
            )
    if not seen:
        raise DataError(
            "The file holds no rows.", remedy="Give rows with prompts.", kind="empty_file", file=config.data
        )
    return len(seen), sorted(media)
