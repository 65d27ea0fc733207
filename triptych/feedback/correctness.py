"""Preferences from correctness: a right answer is preferred to a wrong one, and to one without a clear answer.

MPO (arXiv:2411.10442), section 3.1. Departures: answers are checked by typed rules (`checking.py`); wrong answers and
broken formats are separate sources with separate limits; the sampling of pairs spreads over all completions before it
repeats one, and depends on the texts and the seed only, not on their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from triptych.errors import DataError, TriptychError
from triptych.feedback.answers import FORMAT_VERDICTS, AnswerRule, judge_answer, parse_answer
from triptych.feedback.checking import is_entailed
from triptych.generation.protocol import Sample
from triptych.group import Completion, Group, Pair, fingerprint


def judge_samples(
    group: Group, samples: Sequence[Sample], rule: AnswerRule | None = None, *, model: str | None = None
) -> Group:
    """Return the group with the samples appended as completions, each with its verdict.

    Args:
        group: a question with its truth in `answer`; `meta["choices"]`, a list of texts, names the choices A, B, C, ...
            of a multiple-choice question if given.
        samples: whole answers, drawn without a prefix.
        rule: how answers are written and compared.
        model: name of the generator, kept with each completion.
    Raises:
        DataError: the group has no truth, or one that is not of the kind the rule asks for.
    """
    judged = []
    for sample in samples:
        verdict = judge_text(group, sample.text, rule, truncated=sample.truncated)
        judged.append(
            Completion(
                text=sample.text,
                source="sampled",
                model=model,
                seed=sample.seed,
                correct=verdict == "correct",
                verdict=verdict,
                num_tokens=sample.num_tokens,
                truncated=sample.truncated,
            )
        )
    return replace(group, completions=[*group.completions, *judged])


def judge_text(group: Group, text: str, rule: AnswerRule | None = None, *, truncated: bool = False) -> str:
    """Return the verdict on one answer to the group's question.

    Raises:
        DataError: the group has no truth, or one that is not of the kind the rule asks for.
    """
    try:
        judgement = judge_answer(text, group.answer or "", rule, truncated=truncated, choices=group.meta.get("choices"))
    except TriptychError as error:
        raise DataError(
            f"The answers cannot be checked: {error}",
            remedy="Give the row an `answer` of the kind the answer rule names, or use the kind `auto`.",
            kind="unusable_answer",
            row=group.id,
        ) from error
    return judgement.verdict


def select_pairs(
    group: Group,
    *,
    max_pairs: int = 15,
    max_format_pairs: int = 15,
    seed: int = 0,
    rule: AnswerRule | None = None,
    counts: Counter[str] | None = None,
) -> list[Pair]:
    """Choose preference pairs among the judged completions of a group.

    Every right completion is preferred to every wrong one (source `correctness`) and to every one without a clear
    answer (source `format`), except where the wrong answer says the truth among other things. Completions without a
    verdict take no part. Of these combinations up to the limits are drawn, least used completions first.

    Args:
        group: its completions carry `correct` and `verdict`, as `judge_samples` leaves them.
        max_pairs: limit on pairs with a wrong answer; the paper uses 15.
        max_format_pairs: limit on pairs with a broken format.
        seed: another seed draws other combinations.
        rule: the rule the completions were judged by.
        counts: receives the numbers of pairs per source and of what was left out and why: `no_correct_answer`,
            `no_rejected_answer` (groups), `duplicate_text` and `empty_text` (completions), `identical_text`,
            `entailed_answer`, `over_the_limit` (combinations).
    Returns:
        pairs of indices into `group.completions`, correctness first; the same texts for any order of the completions.
    """
    rule, counts = rule or AnswerRule(), Counter() if counts is None else counts
    pools = _pools(group, counts)
    right, malformed = pools["right"], pools["malformed"]
    if not right or not (pools["wrong"] or malformed):
        counts["no_rejected_answer" if right else "no_correct_answer"] += 1
        return []
    wrong = [index for index in pools["wrong"] if not _says_truth(group, index, rule)]
    counts["entailed_answer"] += (len(pools["wrong"]) - len(wrong)) * len(right)
    return [
        Pair(chosen, rejected, source=source)
        for source, pool, limit in (("correctness", wrong, max_pairs), ("format", malformed, max_format_pairs))
        for chosen, rejected in _draw(group, source, (right, pool), limit, seed, counts)
    ]


def _pools(group: Group, counts: Counter[str]) -> dict[str, list[int]]:
    """Return the indices of the `right`, `wrong` and `malformed` completions, one for each distinct text."""
    pools: dict[str, dict[str, int]] = {"right": {}, "wrong": {}, "malformed": {}}
    for index, completion in enumerate(group.completions):
        if completion.correct is None:
            continue
        if not completion.text.strip():
            counts["empty_text"] += 1
            continue
        name = "right" if completion.correct else "malformed" if completion.verdict in FORMAT_VERDICTS else "wrong"
        if pools[name].setdefault(completion.text, index) != index:
            counts["duplicate_text"] += 1
    return {name: list(pool.values()) for name, pool in pools.items()}


def _says_truth(group: Group, index: int, rule: AnswerRule) -> bool:
    answer = parse_answer(group.completions[index].text, rule.style).answer
    return bool(answer and group.answer) and is_entailed(group.answer, answer, kind=rule.kind)


def _draw(
    group: Group,
    source: str,
    pools: tuple[list[int], list[int]],
    limit: int,
    seed: int,
    counts: Counter[str],
) -> list[tuple[int, int]]:
    """Draw up to `limit` combinations, each time one whose completions were used least, in an order set by hashes."""
    texts = [completion.text for completion in group.completions]
    combinations = [(chosen, rejected) for chosen in pools[0] for rejected in pools[1]]
    left = [pair for pair in combinations if texts[pair[0]] != texts[pair[1]]]
    counts["identical_text"] += len(combinations) - len(left)
    left.sort(key=lambda pair: fingerprint([seed, group.id, texts[pair[0]], texts[pair[1]]]))
    drawn: list[tuple[int, int]] = []
    chosen_uses, rejected_uses = Counter[int](), Counter[int]()
    while left and len(drawn) < limit:
        pair = min(left, key=lambda pair: chosen_uses[pair[0]] + rejected_uses[pair[1]])
        left.remove(pair)
        drawn.append(pair)
        chosen_uses[pair[0]] += 1
        rejected_uses[pair[1]] += 1
    counts["over_the_limit"] += len(left)
    counts[source] += len(drawn)
    return drawn
