"""Sampled answers as the roles of PPO see them: packed once per tokenizer, read with one forward per role.

An answer is the tokens that the policy drew, not its text, which may have other tokens: its probabilities are those it
was drawn with. A reward model reads the text in its own tokens, as in its training. Where a critic stands on the body
of the reward model, the drawn tokens lie in the same trie; as a rule they are the same tokens and cost nothing.

Letters: B answers of all prompts, prompt after prompt; N distinct target tokens; T tokens of the longest answer; D
hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from triptych.engine.encode import EncodedPrompt, Encoder
from triptych.engine.families import backbone_of
from triptych.engine.paths import answer_paths, units_by_media
from triptych.engine.plain import PlainBatch
from triptych.engine.scoring import can_attend_by_block
from triptych.engine.trie import PackedBatch, TokenPath, pack
from triptych.group import Group
from triptych.objectives.rollout import Rollout

PROMPT_BYTES = 2**30
"""Most bytes of preprocessed pictures kept from one forward of a step to the next."""


@dataclass(frozen=True)
class Drawn:
    """A prompt and the answers that the policy drew for it.

    Attributes:
        name: of the prompt, no other's within the step.
        root: data root of its media.
        token_ids: of each answer, at least one; with the token that ended it.
        texts: of each answer.
        ended: of each answer, whether a token ended it, and not the limit.
    """

    name: str
    group: Group
    root: Path
    token_ids: list[list[int]]
    texts: list[str]
    ended: list[bool]


@dataclass(frozen=True)
class Read:
    """What the roles say of the answers to one prompt, without gradients.

    Attributes:
        logps, ref_logps: per answer, of its tokens, nats.
        scores: reward of each answer.
        values: per answer, before each of its tokens; None without a critic.
        states: per answer (T, D), what the head of a critic reads whose body stands still; None where it does not.
    """

    logps: list[torch.Tensor]
    ref_logps: list[torch.Tensor]
    scores: list[float]
    values: list[torch.Tensor] | None = None
    states: list[torch.Tensor] | None = None


@dataclass(frozen=True)
class PackedAnswers:
    """Answers laid out for one forward.

    Attributes:
        batch: the packed batch; its targets are the drawn tokens.
        drawn_paths: path of each answer in the tokens drawn; empty where they are not in the batch.
        text_paths: path of each answer in the tokens of its text; likewise.
    """

    batch: PackedBatch | PlainBatch
    drawn_paths: list[int]
    text_paths: list[int]

    def by_answer(self, per_token: torch.Tensor) -> list[torch.Tensor]:
        """Return what belongs to distinct targets (N, ...) answer by answer; gradients of shared tokens add up."""
        counts = torch.bincount(self.batch.path_of_target, minlength=self.batch.num_paths).tolist()
        rows = per_token[self.batch.path_targets.to(per_token.device)].split(counts)
        return [rows[path] for path in self.drawn_paths]


class Packer:
    """Packs answers for one tokenizer; prompts are encoded once per step, as far as memory goes.

    Args:
        model: with the body that computes the positions; any that is trained beside it may share the batches.
        encoder: of the model.
        row_tokens: most tokens of a packed row.
    """

    def __init__(self, model: torch.nn.Module, encoder: Encoder, row_tokens: int) -> None:
        self.encoder = encoder
        self._model, self._row_tokens = model, row_tokens
        self._by_block = can_attend_by_block(model, encoder.family)
        self._known: dict[str, EncodedPrompt] = {}
        self._free = PROMPT_BYTES

    def pack(self, drawn: Sequence[Drawn], *, tokens: bool = True, texts: bool = False) -> PackedAnswers:
        """Lay out the answers in the tokens drawn, in those of their texts, or in both.

        Raises:
            DataError: kind `too_long`, a prompt with an answer has more tokens than a row.
        """
        rows: list[list[TokenPath]] = []
        drawn_paths: list[TokenPath] = []
        text_paths: list[TokenPath] = []
        for item, prompt in zip(drawn, self._prompts(drawn), strict=True):
            own = self._paths(prompt, item.token_ids) if tokens else []
            read = self._paths(prompt, self._text_tokens(item)) if texts else []
            read = [replace(path, targets=[False] * len(path.input_ids)) for path in read]
            drawn_paths += own
            text_paths += read
            rows.append(own + read)
        units = units_by_media(rows)
        place = {id(path): number for number, path in enumerate(chain.from_iterable(units))}
        return PackedAnswers(
            pack(units, self._row_tokens, by_block=self._by_block),
            [place[id(path)] for path in drawn_paths],
            [place[id(path)] for path in text_paths],
        )

    def forget(self) -> None:
        """Forget the prompts of the step."""
        self._known.clear()
        self._free = PROMPT_BYTES

    def _prompts(self, drawn: Sequence[Drawn]) -> list[EncodedPrompt]:
        found = {item.name: self._known[item.name] for item in drawn if item.name in self._known}
        missing = [item for item in drawn if item.name not in found]
        for root in dict.fromkeys(item.root for item in missing):
            items = [item for item in missing if item.root == root]
            prompts = self.encoder.prompts([item.group for item in items], root)
            for item, prompt in zip(items, prompts, strict=True):
                found[item.name] = prompt
                self._keep(item.name, prompt)
        return [found[item.name] for item in drawn]

    def _keep(self, name: str, prompt: EncodedPrompt) -> None:
        size = sum(tensor.nbytes for item in prompt.media for tensor in item.inputs.values())
        if size <= self._free:
            self._known[name] = prompt
            self._free -= size

    def _paths(self, prompt: EncodedPrompt, answers: list[list[int]]) -> list[TokenPath]:
        return answer_paths(self.encoder, backbone_of(self._model), prompt, answers)

    def _text_tokens(self, item: Drawn) -> list[list[int]]:
        """Return the tokens of the texts of answers; for a placeholder that one spells out there is no picture."""
        encoder, without = self.encoder, placeholders(self.encoder)
        answers = []
        for text, ended in zip(item.texts, item.ended, strict=True):
            ids = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
            ids = [token for token in ids if token not in without]
            answers.append(ids + encoder.end_of_turn if ended or not ids else ids)
        return answers


def placeholders(encoder: Encoder) -> set[int]:
    """Return the tokens that stand for pictures and videos."""
    return {encoder.family.image_token_id, encoder.family.video_token_id} - {None}


def same_tokens(encoder: Encoder, other: Encoder) -> bool:
    """Say whether two models have the same tokens, so that what is packed for one can be read by the other."""
    return all(
        getattr(encoder.tokenizer, name)() == getattr(other.tokenizer, name)()
        for name in ("get_vocab", "get_added_vocab")
    ) and placeholders(encoder) == placeholders(other)


def usable_answer(encoder: Encoder, token_ids: Sequence[int], text: str, *, ended: bool) -> tuple[list[int], str, bool]:
    """Return tokens and text of an answer, and whether it ended, as they can be fed back to the model.

    A policy may draw the placeholder of a picture, for which there is none. The answer is then cut off before it; one
    that begins with it counts as the token that ends a turn.
    """
    ids = list(token_ids)
    first = next((n for n, token in enumerate(ids) if token in placeholders(encoder)), None)
    if first is None:
        return ids, text, ended
    ids = ids[:first] or list(encoder.end_of_turn)
    return ids, encoder.decode(ids), False


def as_rollout(reads: Sequence[Read], drawn: Sequence[Drawn], device: torch.device) -> Rollout:
    """Join what is known of the answers to several prompts, on one device."""

    def padded(rows: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        return pad_sequence(list(chain.from_iterable(rows)), batch_first=True).to(device)

    logps = [read.logps for read in reads]
    return Rollout(
        per_token_logps=padded(logps),
        ref_per_token_logps=padded([read.ref_logps for read in reads]),
        completion_mask=padded([[torch.ones_like(row, dtype=torch.bool) for row in rows] for rows in logps]),
        scores=torch.tensor([score for read in reads for score in read.scores], device=device),
        ended=torch.tensor([ended for item in drawn for ended in item.ended], device=device),
        values=padded([read.values for read in reads]) if reads[0].values is not None else None,
    )
