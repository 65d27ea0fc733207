import json
import shutil
from collections import Counter

import pytest

from tests.report.video_run import HOSTILE, RIGHT, write_rows, write_video_run
from triptych.report.before_after import before_after
from triptych.report.clip_answers import clip_answers, score_of
from triptych.report.pictures import Pictures
from triptych.report.reading import read_run


def _answers(folder):
    return clip_answers(read_run(folder), Pictures())


@pytest.mark.parametrize(
    ("row", "score"),
    [
        ({"true": {"correctness": 5.0, "detail": 2.0}, "scores": {"correctness": 1.0}}, 3.5),
        ({"scores": {"correctness": None, "detail": 4.0}}, 4.0),
        ({"scores": {"correctness": None}}, None),
        ({"match": True, "exact": False}, 1.0),
        ({"match": None, "exact": True}, 1.0),
        ({"exact": False}, 0.0),
        ({"better": [0, 0], "tied": [1, 4]}, 0.625),  # found at once, and one of four that stand first together
        ({"better": 2, "tied": 1}, 0.0),
        ({"verdict": "correct"}, 1.0),
        ({"prediction": "x"}, None),
    ],
)
def test_an_answer_is_as_good_as_what_was_measured_of_it(row, score):
    assert score_of(row) == score


def test_answers_of_all_models_are_compared_with_those_of_the_start_model(tmp_path):
    found = _answers(write_video_run(tmp_path / "run"))
    assert (found.before, found.after, [task.name for task in found.tasks]) == ("sft", "ppo", ["qa", "generic"])
    assert found.tasks[0].counts == [("ppo", Counter({"better": 2, "the same": 2}))]
    changes = [(sample.change, [answer.right for answer in sample.answers]) for sample in found.tasks[0].samples]
    assert [change for change, _ in changes] == ["better", "better", "the same"]
    assert changes[0][1] == [False, True]


def test_claims_are_marked_where_the_oracle_knows_the_clip(tmp_path):
    found = _answers(write_video_run(tmp_path / "run"))
    old, new = found.tasks[1].samples[0].answers
    assert [(piece.text, piece.right) for piece in old.texts[0]] == [
        ("A green star", False),
        (" stops", True),
        (".", None),
    ]
    assert (old.right, new.right) == (False, True)
    assert (old.note, new.note) == ("oracle, of 5: correctness 2.5", "oracle, of 5: correctness 5")
    assert new.texts[0][0].text == "A red star stops"


def test_clips_show_the_frames_that_the_rows_of_the_questions_take(tmp_path):
    folder = write_video_run(tmp_path / "run")
    strip = _answers(folder).tasks[0].samples[0].pieces[0].strip
    assert (strip.times[0], len(strip.times)) == ("1.0 s", 6)
    (folder / "clips" / "test_questions.jsonl").unlink()  # then all ten frames, from the first one on
    strip = _answers(folder).tasks[0].samples[0].pieces[0].strip
    assert (strip.times[0], strip.note) == ("0.0 s", "8 of the 10 frames that the row takes")


def test_a_run_that_was_moved_finds_its_clips_again(tmp_path):
    folder = write_video_run(tmp_path / "old" / "run")
    shutil.move(folder, tmp_path / "run")
    samples = [sample for task in _answers(tmp_path / "run").tasks for sample in task.samples]
    assert all(sample.pieces[0].strip.problem == "" for sample in samples)


def test_without_an_oracle_nothing_is_marked_and_the_judge_is_named(tmp_path):
    found = _answers(write_video_run(tmp_path / "run", oracle=False))
    old = found.tasks[1].samples[0].answers[0]
    assert (old.right, len(old.texts[0]), old.note) == (None, 1, "judge, of 5: correctness 2.5")


def test_with_the_start_model_alone_its_answers_are_shown(tmp_path):
    folder = write_video_run(tmp_path / "run")
    shutil.rmtree(folder / "evaluate_ppo")
    found = _answers(folder)
    assert (found.before, found.after) == ("sft", "")
    assert [(task.counts, len(task.samples)) for task in found.tasks] == [([], 3), ([], 3)]


def test_both_wordings_ranks_and_what_is_no_text_are_shown(tmp_path):
    rows = [
        {"prompt": "<video>Why?", "prompt_paraphrase": "<video>What for?", "prediction": "a"}
        | {"prediction_paraphrase": HOSTILE, "task": "consistency"},
        {"prompt": "<video>Tell.", "prediction": "", "better": [0, 4], "tied": [1, 1], "task": "find", "answer": RIGHT},
        {"prompt": "<video>Act?", "prediction": "go", "better": 1, "tied": 2, "verdict": "wrong", "task": "acts"},
    ]
    rows = [row | {"id": "1", "videos": ["gone"]} for row in rows]
    write_rows(tmp_path / "evaluate_sft" / "samples.jsonl", rows)
    (tmp_path / "evaluate_sft" / "config.yaml").write_text("tasks: [x, {name: find, data: gone.jsonl}]")
    wordings, find, acts = (task.samples[0] for task in _answers(tmp_path).tasks)
    assert wordings.pieces[-1].text == "Why?\nOr: What for?"
    assert [[piece.text for piece in text] for text in wordings.answers[0].texts] == [["a"], [HOSTILE]]
    assert (find.answers[0].note, find.answers[0].texts) == ("its caption finds it at rank 3", [[]])
    assert (acts.answers[0].note, acts.answers[0].right) == ("the right class has rank 2.5", False)
    assert "Clip not shown" in acts.pieces[0].strip.problem


def test_answers_about_pictures_are_told_elsewhere(tmp_path):
    folder = write_video_run(tmp_path / "run")
    run = read_run(folder)
    assert before_after(run, Pictures()).tasks == []
    path = folder / "evaluate_sft" / "samples.jsonl"
    rows = [json.loads(line) | {"videos": []} for line in path.read_text().splitlines()]
    write_rows(path, rows)
    shutil.rmtree(folder / "evaluate_ppo")
    run = read_run(folder)
    assert clip_answers(run, Pictures()) is None
    assert len(before_after(run, Pictures()).tasks) == 2
