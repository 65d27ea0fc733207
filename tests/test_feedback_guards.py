"""Judges that decide nothing, preferences that prefer nothing, tasks that measure nothing: counted, or refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from tests.support.guards import refused, run_stage, video_row, write_media, write_rows
from triptych.data.rows import read_groups
from triptych.errors import DataError, TriptychError
from triptych.generation.protocol import Sample
from triptych.group import Completion, Pair
from triptych.stages import pairs, task_models

ANSWERS = ("A red star moves.", "Two squares.")
NEITHER, TIE = "I would rather not say.", "Both answers are equal."


class Judging:
    """A model that answers with `answers`, and judges with one reply whatever it is asked."""

    name, independent = "judging", False

    def __init__(self, reply, answers=ANSWERS):
        self.reply, self.answers = reply, answers

    def generate(self, requests, params, *, root):
        for request in requests:
            asked = request.group.prompt[-1]["content"][-1]["text"]
            judging = "Answer A:" in asked or "grade" in asked or "check an answer" in asked
            texts = [self.reply] if judging else self.answers[: request.num_samples]
            yield [Sample(text, 4, False, seed) for seed, text in enumerate(texts)]


@pytest.fixture
def root(tmp_path):
    write_media(tmp_path)
    rows = [replace(video_row(f"g{number}"), completions=[], pairs=[]) for number in range(3)]
    write_rows(tmp_path / "prompts.jsonl", rows)
    return tmp_path


@pytest.mark.parametrize(("reply", "answers", "counted", "told", "remedy"), [
    (NEITHER, ANSWERS, {"unparsed": 3, "judge_unparsed": 6},
     "3 comparisons whose replies name neither answer (unparsed)", "judge.by: likelihood"),
    ("A, for it is better.", ANSWERS, {"order_dependent": 3, "judge_first": 6},
     "3 comparisons decided by the place an answer stands at (order_dependent)", "stronger labeller"),
    (TIE, ANSWERS, {"tie": 3, "judge_tie": 6}, "3 comparisons called equal (tie)", "temperature"),
    ("A", ("The same.",) * 2, {"identical_text": 3},
     "3 answers with the text of another one (identical_text)", "Raise temperature"),
], ids=["neither", "always A", "always a tie", "the same answers"])  # fmt: skip
def test_a_judge_that_decides_nothing_is_counted_and_the_next_stage_says_why_it_has_no_pairs(
    reply, answers, counted, told, remedy, root, tiny_folder, monkeypatch, capsys
):
    monkeypatch.setattr(pairs, "make_generator", lambda *_, **__: Judging(reply, answers))
    settings = {"judge": {"by": "text", "context": False}, "num_samples": 2}
    result = run_stage("pairs", tiny_folder("mm1"), root / "prompts.jsonl", root / "made", **settings)
    assert result["pairs"] == 0 and counted.items() <= result["pairing"].items()
    assert json.loads((root / "made" / "done.json").read_text())["result"] == result
    warning = capsys.readouterr().err
    assert "Warning: 3 of 3 rows have no pair." in warning and told in warning and remedy in warning
    error = refused("reward", tiny_folder("mm1"), root / "made" / "pairs.jsonl", root / "reward")
    assert error.kind == "no_pairs" and "made/pairs.jsonl" in str(error.file)
    assert told in error.problem and remedy in error.remedy
    assert (reply == NEITHER) == (f"such a reply is {NEITHER!r}" in error.problem)


def test_a_judge_that_decides_most_comparisons_is_not_warned_of(root, tiny_folder, capsys):
    rows = [video_row(f"g{number}") for number in range(3)]
    data = write_rows(root / "answers.jsonl", [replace(row, pairs=[]) for row in rows])
    judge = {"function": f"{__name__}:shorter_first"}
    result = run_stage("pairs", tiny_folder("mm1"), data, root / "made", judge=judge)
    assert result["pairs"] == 3 and "Warning" not in capsys.readouterr().err
    assert [pair.chosen for row in read_groups(root / "made" / "pairs.jsonl") for pair in row.pairs] == [1, 1, 1]


def shorter_first(first, second, group):
    """A judge."""
    return int(len(second) < len(first))


@pytest.mark.parametrize(("change", "kind", "told"), [
    ({"completions": [Completion("The same."), Completion("The same.")]}, "pair_same_text", "are the same text"),
    ({"completions": [Completion("One."), Completion("")]}, "empty_rejected", "rejected completion is empty"),
    ({"pairs": [Pair(0, 1), Pair(1, 0)]}, "pairs_undecided", "prefers the opposite"),
    ({"pairs": []}, "no_pairs", "no preference pair"),
], ids=["one text", "empty", "ties both ways", "none"])  # fmt: skip
def test_a_set_of_pairs_that_prefers_nothing_is_refused(change, kind, told, root, tiny_folder):
    data = write_rows(root / "pairs.jsonl", [replace(video_row("g1"), **change)])
    error = refused("reward", tiny_folder("mm1"), data, root / "run")
    assert error.kind == kind and told in error.problem and str(error.file) == str(data)
    assert error.row == (None if kind == "no_pairs" else "g1") and error.remedy
    write_rows(data, [video_row("g1")])
    assert run_stage("reward", tiny_folder("mm1"), data, root / "run")["pairs"] == 1  # mended, the same command goes on


def test_a_pair_of_completions_that_are_not_there_is_named(root, tiny_folder):
    data = write_rows(root / "pairs.jsonl", [video_row("g1"), video_row("g2")])
    data.write_text(re.sub(r'("rejected": ?)1', r"\g<1>7", data.read_text(), count=1))
    error = refused("reward", tiny_folder("mm1"), data, root / "run")
    assert (error.kind, str(error.file), error.row) == ("pair_index_out_of_range", str(data), "1 (id g1)")


def evaluated(root, tiny_folder, data, **task):
    tasks = [{"name": "it", "data": str(data), "max_new_tokens": 2} | task]
    return run_stage("evaluate", tiny_folder("mm1"), data, root / "run", tasks=tasks)


@pytest.mark.parametrize("kind", ["video_qa", "generative", "retrieval", "actions", "accuracy"])
def test_a_task_without_rows_is_refused(kind, root, tiny_folder):
    (root / "none.jsonl").write_text("")
    with pytest.raises(TriptychError, match=rf"\[empty_file\] file {root}/none.jsonl"):
        evaluated(root, tiny_folder, root / "none.jsonl", kind=kind)
    assert not (root / "run" / "done.json").exists()


@pytest.mark.parametrize(("kind", "refusal"), [("retrieval", "too_few_videos"), ("actions", "too_few_classes")])
def test_a_choice_among_one_is_refused(kind, refusal, root, tiny_folder):
    data = write_rows(root / "one.jsonl", [video_row("g1")])
    with pytest.raises(DataError) as caught:
        evaluated(root, tiny_folder, data, kind=kind)
    assert (caught.value.kind, str(caught.value.file)) == (refusal, str(data)) and caught.value.remedy
    assert not (root / "run" / "done.json").exists()
    other = replace(video_row("g2"), answer="square", pairs=[], completions=[])
    write_rows(data, [video_row("g1"), other])
    assert evaluated(root, tiny_folder, data, kind=kind)


@pytest.mark.parametrize(("task", "share"), [
    ({"kind": "video_qa"}, "unread_it"), ({"kind": "generative", "aspects": ["detail"]}, "unread_detail_it"),
])  # fmt: skip
def test_replies_of_a_judge_that_cannot_be_read_are_counted_and_told(
    task, share, root, tiny_folder, monkeypatch, capsys
):
    monkeypatch.setattr(task_models, "make_generator", lambda *_, **__: Judging(NEITHER))
    data = write_rows(root / "rows.jsonl", [video_row("g1"), video_row("g2")])
    result = evaluated(root, tiny_folder, data, **task)
    assert result[share]["value"] == 1.0
    rows = [json.loads(line) for line in (root / "run" / "samples.jsonl").read_text().splitlines()]
    assert all(NEITHER in str(row) for row in rows)
    told = capsys.readouterr().err
    assert "Warning: of the judge's replies in the task 'it', 2 of 2 could not be read" in told and NEITHER in told
