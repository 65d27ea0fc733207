"""The plain way says of the same answers what the stage says: rewards, advantages, losses, update after update."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.ppo import case as case_module
from benchmarks.ppo.case import Case, write_case
from benchmarks.ppo.ours import Ours
from benchmarks.ppo.plain import Plain
from benchmarks.ppo.sides import differences

TINY = {"prompts": 2, "samples": 3, "prompt_tokens": 582, "answer_tokens": 7, "iterations": 2, "tiny": True}


@pytest.mark.parametrize(
    "case",
    [Case(**TINY, critic_lora_r=2), Case(**TINY, critic_lora_r=0, frozen_tower=True)],
    ids=["adapters", "head"],
)
def test_both_sides_agree_in_every_update(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_module, "LEARNING_RATE", 3e-5)  # so that an update is felt in the next one
    write_case(case, tmp_path)
    ours, plain = Ours(case, tmp_path), Plain(case, tmp_path, [2, 4])
    ours.roles.encoder.stop_ids |= set(range(0, 300, 6))  # so that answers end after a few tokens, some of them
    start = ours.roles.policy.get_output_embeddings().weight.detach().clone()
    mine = [ours.iterate() for _ in range(case.iterations)]
    assert len({len(ids) for one in mine for item in one.drawn for ids in item.token_ids}) > 3, "of several lengths"
    theirs = [plain.iterate(one.drawn) for one in mine]
    assert max(differences(mine, theirs).values()) < 1e-4
    for one in mine + theirs:
        assert len(one.figures["policy_loss"]) == len(one.figures["value_loss"]) == case.epochs * case.updates
        assert len(set(one.figures["scores"])) == case.prompts * case.samples, "rewards tell answers apart"
        assert max(map(abs, one.figures["values"])) > 1e-3
        assert min(one.parts.values()) > 0
    moved = [side.get_output_embeddings().weight.detach() - start for side in (ours.roles.policy, plain.policy)]
    assert moved[0].abs().max() > 1e-4, "eight updates"
    assert torch.linalg.vector_norm(moved[0] - moved[1]) < 0.01 * torch.linalg.vector_norm(moved[0])
    assert "generate for" in plain.way


def test_the_plain_way_draws_as_many_tokens_as_the_answers_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(**TINY)
    write_case(case, tmp_path)
    ours, plain = Ours(case, tmp_path), Plain(case, tmp_path, [2])
    shapes = []
    generate = plain._generate
    monkeypatch.setattr(plain, "_generate", lambda prompts: shapes.append(tuple(generate(prompts).shape)))
    drawn = ours.iterate().drawn
    plain.iterate(drawn)
    shapes.clear()
    plain.iterate(drawn)
    assert sum(rows for rows, _ in shapes) == case.answers
    assert {tokens for _, tokens in shapes} == {case.answer_tokens}
