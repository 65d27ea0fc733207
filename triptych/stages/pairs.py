"""Preference data without annotators, as in MPO (arXiv:2411.10442, section 3).

correctness: draw answers to questions whose answer is known; right ones are preferred to wrong ones and to ones that
give no clear answer. dropout_ntp: keep the first half of an answer and let the same model tell the rest without the
media; the answer it gave with them is preferred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from triptych.data.rows import read_groups
from triptych.engine.blocks import run_blocks
from triptych.engine.encode import Encoder
from triptych.engine.inputs import data_root, input_fingerprints
from triptych.engine.run import RunDirectory
from triptych.errors import DataError
from triptych.feedback.answers import AnswerRule
from triptych.feedback.correctness import judge_samples, select_pairs
from triptych.feedback.dropout_ntp import Codec, dropout_ntp
from triptych.feedback.prompts import cot_prompt
from triptych.generation.local import LocalGenerator
from triptych.generation.protocol import Request, Sample, SamplingParams
from triptych.group import Completion, Group
from triptych.models.loading import load_model, load_processor
from triptych.stages.configs import PairsConfig as Config


def run(config: Config) -> dict[str, Any]:
    """Make pairs and return the counts that `done.json` holds; the rows are in `pairs.jsonl`."""
    directory = RunDirectory(config.out, config, inputs=input_fingerprints([config.model, config.data]))
    if directory.done is not None:
        return directory.done
    root = data_root(config.data, config.root)
    groups = read_groups(config.data)
    _check(config, groups)
    encoder, generator = _generator(config)
    make = {"correctness": _correctness, "dropout_ntp": _dropout_ntp}[config.method]

    def work(block: list[Group]) -> Iterator[dict[str, Any]]:
        return (group.to_row() for group in make(config, block, encoder, generator, root))

    rows = run_blocks(
        directory.path,
        "pairs.jsonl",
        groups,
        config.block_size,
        work,
        title=f"pairs {config.method}",
        stored=directory.record_time,
    )
    return directory.finish(_count([Group.from_row(row) for row in rows]) | {"root": str(root)})


def _generator(config: Config) -> tuple[Encoder, LocalGenerator]:
    model = load_model(config.model, dtype=config.dtype)
    encoder = Encoder(load_processor(config.model), model.config)
    return encoder, LocalGenerator(model, encoder, batch_sequences=config.batch_sequences)


def _check(config: Config, groups: list[Group]) -> None:
    if not groups:
        raise DataError(
            "The file holds no rows.", remedy="Give rows with prompts.", kind="empty_file", file=config.data
        )
    for group in groups:
        if config.method == "correctness" and not group.answer:
            raise DataError(
                "The row has no `answer`, which correctness pairs are checked against.",
                remedy="Add the answer, or use method dropout_ntp for rows without a clear truth.",
                kind="missing_answer",
                file=config.data,
                row=group.id,
            )


def _params(config: Config, temperature: float) -> SamplingParams:
    return SamplingParams(temperature, config.top_k, config.top_p, config.max_new_tokens)


def _correctness(
    config: Config, groups: list[Group], encoder: Encoder, generator: LocalGenerator, root: Path
) -> Iterator[Group]:
    """Draw, check and pair the answers of a block of questions."""
    rule = AnswerRule(style=config.answer_style, kind=config.answer_kind)
    if config.cot_prompt:
        groups = [cot_prompt(group, config.cot_prompt, style=config.answer_style) for group in groups]
    requests = [Request(group, config.num_samples, config.seed) for group in groups]
    answers = generator.generate(requests, _params(config, config.temperature), root=root)
    for group, samples in zip(groups, answers, strict=True):
        counts: Counter[str] = Counter()
        judged = judge_samples(group, samples, rule, model=generator.name)
        judged.pairs = select_pairs(
            judged,
            max_pairs=config.max_pairs,
            max_format_pairs=config.max_format_pairs,
            seed=config.seed,
            rule=rule,
            counts=counts,
        )
        yield _noted(judged, counts)


def _dropout_ntp(
    config: Config, groups: list[Group], encoder: Encoder, generator: LocalGenerator, root: Path
) -> Iterator[Group]:
    """Draw the chosen answers of a block where the rows bring none, then continue their halves without media."""
    bare = [group for group in groups if not group.completions]
    requests = [Request(group, config.num_samples, config.seed) for group in bare]
    drawn = generator.generate(requests, _params(config, config.temperature), root=root)
    num_truncated: dict[str, int] = {}
    for group, samples in zip(bare, drawn, strict=True):
        group.completions = [_as_completion(sample, generator.name) for sample in samples if not sample.truncated]
        num_truncated[group.id] = len(samples) - len(group.completions)
    codec = Codec(encode=lambda text: encoder.completion(text, end_of_turn=False), decode=encoder.decode)
    counts: Counter[str] = Counter()
    paired = dropout_ntp(
        groups,
        generator,
        _params(config, config.continuation_temperature),
        codec,
        root=root,
        keep_ratio=config.keep_ratio,
        seed=config.seed,
        counts=counts,
    )
    for group in paired:
        counts["chosen_truncated"] += num_truncated.get(group.id, 0)
        yield _noted(group, counts)
        counts.clear()


def _noted(group: Group, counts: Counter[str]) -> Group:
    """Keep with the row what was made of it and what was left out, and why."""
    group.meta = group.meta | {"pairing": dict(+counts)}
    return group


def _as_completion(sample: Sample, model: str) -> Completion:
    return Completion(text=sample.text, source="sampled", model=model, seed=sample.seed, num_tokens=sample.num_tokens)


def _count(groups: list[Group]) -> dict[str, Any]:
    """Count what a person wants to know of a set of pairs."""
    verdicts = Counter(item.verdict for group in groups for item in group.completions if item.verdict)
    pairing: Counter[str] = Counter()
    for group in groups:
        pairing.update(group.meta.get("pairing", {}))
    return {
        "prompts": len(groups),
        "prompts_with_pairs": sum(bool(group.pairs) for group in groups),
        "completions": sum(len(group.completions) for group in groups),
        "pairs": sum(len(group.pairs) for group in groups),
        "pairs_by_source": dict(Counter(pair.source for group in groups for pair in group.pairs)),
        "verdicts": dict(verdicts),
        "pairing": dict(pairing),
    }
