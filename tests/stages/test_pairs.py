"""Making pairs as a stage."""

import json

import pytest

import triptych.generation.local as local
from tests.support.smoke import run_variant
from triptych.data.rows import read_groups
from triptych.errors import DataError


def test_dropout_pairs_record_where_the_rejected_answer_branches_off(small_run):
    groups = read_groups(small_run / "pairs_dropout" / "pairs.jsonl")
    pairs = [(group, pair) for group in groups for pair in group.pairs]
    assert pairs
    for group, pair in pairs:
        chosen, rejected = group.completions[pair.chosen], group.completions[pair.rejected]
        assert pair.source == rejected.source == "dropout_ntp"
        assert rejected.parent == pair.chosen
        assert rejected.text[: rejected.cut] == chosen.text[: rejected.cut]
        assert rejected.text != chosen.text


def test_the_counts_of_a_job_add_up_to_its_rows(small_run):
    result = json.loads((small_run / "pairs_correctness" / "done.json").read_text())["result"]
    groups = read_groups(small_run / "pairs_correctness" / "pairs.jsonl")
    assert result["prompts"] == len(groups) == 24
    assert result["completions"] == 24 * 4 == sum(result["verdicts"].values())
    assert result["pairs"] == sum(len(group.pairs) for group in groups)


@pytest.mark.parametrize("name", ["pairs_correctness", "pairs_dropout"])
def test_a_job_killed_in_a_block_ends_with_the_same_bytes(small_run, name, monkeypatch):
    generate = local.LocalGenerator.generate
    calls = []

    def generate_and_die(self, requests, params, *, root):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(self, requests, params, root=root)

    monkeypatch.setattr(local.LocalGenerator, "generate", generate_and_die)
    with pytest.raises(KeyboardInterrupt):
        run_variant(small_run, name, f"{name}-killed")
    monkeypatch.setattr(local.LocalGenerator, "generate", generate)
    killed = run_variant(small_run, name, f"{name}-killed")
    assert (killed / "pairs.jsonl").read_bytes() == (small_run / name / "pairs.jsonl").read_bytes()


def test_correctness_needs_answers_and_names_the_row_without_one(small_run):
    with pytest.raises(DataError, match=r"missing_answer.*prompts_describe/000000"):
        run_variant(small_run, "pairs_correctness", "pairs-bad", data="{run}/world/prompts_describe.jsonl")


def test_a_cot_prompt_is_put_around_the_question(small_run):
    folder = run_variant(small_run, "pairs_correctness", "pairs-cot", cot_prompt="grounded", num_samples=1)
    group = read_groups(folder / "pairs.jsonl")[0]
    assert group.id.endswith(":cot-grounded")
    assert "Final Answer" in group.prompt[-1]["content"][-1]["text"]
