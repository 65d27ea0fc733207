import json

import pytest

from tests.report.report_run import write_run
from triptych.report.before_after import Claim, before_after, is_right, place_claims
from triptych.report.pictures import Pictures
from triptych.report.reading import read_run


def _write(folder, model, verdicts, task="cot"):
    path = folder / f"evaluate_{model}" / f"samples-{task}.jsonl"
    path.parent.mkdir()
    (path.parent / "config.yaml").write_text("seed: 0")
    rows = [
        {"id": name, "task": task, "prompt": "<image>Why?", "prediction": f"{model} says {name}", "verdict": verdict}
        for name, verdict in verdicts.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ({"verdict": "correct", "score": 0}, True),
        ({"verdict": "no_answer", "score": 1}, False),
        ({"verdict": "faithful", "score": 0.2}, True),
        ({"score": 1.0}, True),
        ({"score": 0.4}, False),
        ({}, None),
        ({"claims": [{"text": "a", "right": True}], "score": 0.1}, True),
        ({"claims": [{"text": "a", "right": True}, {"text": "b", "right": False}], "verdict": "correct"}, False),
        ({"claims": []}, True),
    ],
)
def test_an_answer_is_right_by_its_claims_its_verdict_or_its_score(row, right):
    assert is_right(row) is right


def test_answers_are_joined_by_task_and_id_and_their_changes_counted(tmp_path):
    _write(tmp_path, "sft", {"a": "wrong", "b": "wrong", "c": "correct", "d": "correct", "only sft": "wrong"})
    _write(tmp_path, "mpo", {"d": "correct", "c": "no_answer", "b": "wrong", "a": "correct", "only mpo": "wrong"})
    found = before_after(read_run(tmp_path), Pictures())
    (task,) = found.tasks
    assert (found.before, found.after, task.title) == ("sft", "mpo", "Chain of thought")
    assert task.counts == {"mended": 1, "broken": 1, "still wrong": 1, "right both times": 1}
    assert [(sample.change, sample.id) for sample in task.samples] == [
        ("mended", "a"),
        ("broken", "c"),
        ("still wrong", "b"),
        ("right both times", "d"),
    ]
    broken = task.samples[1]
    assert [(answer.model, answer.right, answer.verdict) for answer in broken.answers] == [
        ("sft", True, "correct"),
        ("mpo", False, "no answer"),
    ]
    assert broken.answers[1].pieces == [Claim("mpo says c", None)]
    assert broken.pieces[0].text == "Why?"


def test_tasks_come_in_the_order_of_the_story(tmp_path):
    found = before_after(read_run(write_run(tmp_path / "run", curves=False)), Pictures())
    assert [task.title for task in found.tasks] == [
        "Direct answers",
        "Chain of thought",
        "Descriptions, greedy",
        "Descriptions, sampled",
    ]
    assert all(len(task.samples) <= 5 for task in found.tasks)
    assert all(sample.pieces[0].picture.problem == "" for task in found.tasks for sample in task.samples)


def test_with_the_start_model_alone_its_answers_are_shown(tmp_path):
    _write(tmp_path, "sft", {name: "wrong" for name in "abcdef"})
    found = before_after(read_run(tmp_path), Pictures())
    assert (found.before, found.after) == ("sft", "")
    assert len(found.tasks[0].samples) == 3
    assert all(len(sample.answers) == 1 and sample.change == "" for sample in found.tasks[0].samples)


def test_without_samples_there_is_nothing_to_compare(tmp_path):
    assert before_after(read_run(tmp_path), Pictures()) is None


def test_claims_are_placed_in_the_text():
    text = "A red star at the\ntop, a blue 3 and nothing else."
    claims = [{"text": "a red star at the top", "right": True}, {"text": "a blue 3", "right": False}]
    pieces, unplaced = place_claims(text, claims)
    assert pieces == [
        Claim("A red star at the\ntop", True),
        Claim(", ", None),
        Claim("a blue 3", False),
        Claim(" and nothing else.", None),
    ]
    assert unplaced == []


def test_one_wrong_claim_makes_shared_words_wrong():
    claims = [{"text": "two stars", "right": right} for right in (True, False, True)]
    assert place_claims("two stars", claims) == ([Claim("two stars", False)], [])


def test_claims_in_other_words_than_the_text_are_listed():
    assert place_claims("a star", [{"text": "a dog", "right": False}, "a star"]) == (
        [Claim("a star", None)],
        [Claim("a dog", False)],
    )


def test_the_pieces_join_to_the_text_whatever_the_claims():
    text = "a (b) a"
    claims = [{"text": "a", "right": True}, {"text": "(b)", "right": False}, {"text": "", "right": True}, None]
    assert "".join(piece.text for piece in place_claims(text, claims)[0]) == text
