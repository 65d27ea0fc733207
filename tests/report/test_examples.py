import json

from tests.report.report_run import HOSTILE, append, write_run
from tests.report.video_run import row, write_rows, write_video_run
from triptych.report.examples import Chosen, data_kinds, pair_stages
from triptych.report.pictures import Pictures
from triptych.report.reading import read_run


def _pairs(folder):
    run = read_run(folder)
    return run, pair_stages(run, run.stages.values(), Pictures())


def _write_pairs(folder, rows):
    (folder / "pairs").mkdir()
    (folder / "pairs" / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _row(identifier, chosen, rejected, **pair):
    return {
        "id": identifier,
        "prompt": [{"role": "user", "content": "Why?"}],
        "completions": [{"text": chosen}, {"text": rejected}],
        "pairs": [{"chosen": 0, "rejected": 1} | pair],
    }


def test_the_choice_depends_on_the_keys_and_not_on_their_order():
    keys = [f"row-{number}" for number in range(100)]
    forwards, backwards = Chosen(5), Chosen(5)
    for key in keys:
        forwards.offer(key, key)
    for key in reversed(keys):
        backwards.offer(key, key)
    assert forwards.items == backwards.items
    assert len(set(forwards.items)) == 5


def test_items_with_the_same_key_are_never_compared():
    chosen = Chosen(2)
    for _ in range(4):
        chosen.offer("same", {})
    assert chosen.items == [{}, {}]


def test_data_is_shown_by_file_in_the_order_of_the_manifest(tmp_path):
    kinds = data_kinds(read_run(write_run(tmp_path / "run", curves=False)), Pictures())
    assert [(kind.name, kind.count, len(kind.rows)) for kind in kinds] == [
        ("pretrain_captions", 24, 3),
        ("pretrain_interleaved", 8, 3),
        ("pretrain_text", 9, 3),
        ("sft_direct", 24, 3),
    ]


def test_documents_keep_the_order_of_pictures_and_texts(tmp_path):
    interleaved = data_kinds(read_run(write_run(tmp_path / "run", curves=False)), Pictures())[1].rows[0]
    told = [piece.text or "PICTURE" for piece in interleaved.pieces]
    assert told == ["PICTURE", "This is a blick.", "PICTURE", "Here is another blick."]


def test_a_row_of_many_pictures_shows_the_first_and_counts_the_rest(tmp_path):
    folder = write_run(tmp_path / "run", curves=False)
    images = [f"images/{number:03}.png" for number in range(9)]
    row = {"id": "many", "prompt": [{"role": "document", "content": [{"type": "image"}] * 9}], "images": images}
    (folder / "world" / "many.jsonl").write_text(json.dumps(row))
    kinds = {kind.name: kind for kind in data_kinds(read_run(folder), Pictures())}
    pieces = kinds["many"].rows[0].pieces
    assert sum(piece.picture is not None for piece in pieces) == 4
    assert pieces[-1].text == "[and 5 more pictures]"


def test_pairs_are_counted_by_source_and_reason(tmp_path):
    _, (correctness, dropout) = _pairs(write_run(tmp_path / "run", curves=False))
    counts = [(item.source, item.reason, item.count) for item in correctness.counts]
    assert counts[0] == ("correctness", "wrong", 24)
    assert counts[1][:2] == ("format", "no answer")
    assert correctness.total == 24 + counts[1][2]
    assert correctness.num_without == 1
    assert correctness.notes == [
        ("answers judged", {"correct": 24, "no answer": 24, "wrong": 24}),
        ("left out while pairing", {"duplicate text": 3, "no correct answer": 1}),
    ]
    assert (dropout.num_without, dropout.notes) == (0, [])
    assert [(item.source, item.reason, item.count) for item in dropout.counts] == [
        ("dropout_ntp", "told without the picture", 24)
    ]


def test_about_twelve_pairs_are_shown_the_same_number_of_every_source(tmp_path):
    _, found = _pairs(write_run(tmp_path / "run", curves=False))
    assert [pair.source for stage in found for pair in stage.shown] == (
        ["correctness"] * 4 + ["format"] * 4 + ["dropout_ntp"] * 4
    )


def test_pairs_are_split_where_they_part(tmp_path):
    _write_pairs(tmp_path, [_row("a", "I see 3 stars.", "I see 4 stars.", margin=0.5)])
    _, (stage,) = _pairs(tmp_path)
    (pair,) = stage.shown
    assert (pair.shared, pair.chosen, pair.rejected) == ("I see ", ("", "3", " stars."), ("", "4", " stars."))
    assert pair.margin == 0.5


def test_dropout_pairs_tell_where_the_picture_was_taken_away(tmp_path):
    row = _row("a", "A red star and a circle", "A red star on the left", source="dropout_ntp")
    row["completions"][1] |= {"parent": 0, "cut": 10}
    _write_pairs(tmp_path, [row])
    _, (stage,) = _pairs(tmp_path)
    assert "first 10 characters" in stage.shown[0].remark


def test_long_completions_are_cut(tmp_path):
    _write_pairs(tmp_path, [_row("a", "x" * 5000 + " yes", "x" * 5000 + " no " + "z" * 5000)])
    _, (stage,) = _pairs(tmp_path)
    pair = stage.shown[0]
    assert len(pair.shared) < 700 and "4,401 more characters" in pair.shared
    assert len(pair.rejected[2]) < 1300


def test_the_reason_of_a_judge_is_told(tmp_path):
    _write_pairs(tmp_path, [_row("a", "x", "y", source="ai_feedback", judge={"reason": "invents a dog"})])
    _, (stage,) = _pairs(tmp_path)
    assert stage.counts[0].reason == "invents a dog"


def test_rows_that_are_no_groups_are_told_and_left_out(tmp_path):
    folder = write_run(tmp_path / "run", curves=False)
    append(folder / "pairs_dropout" / "pairs.jsonl", '{"id": "bad", "prompt": 3}\n{"id": "torn", "pro')
    run, (_, dropout) = _pairs(folder)
    assert dropout.total == 24
    assert len(run.problems) == 1 and "row bad" in run.problems[0]


def test_hostile_text_is_kept_as_it_is_until_it_is_printed(tmp_path):
    _, (correctness, _) = _pairs(write_run(tmp_path / "run", curves=False))
    texts = ["".join([pair.shared, *pair.rejected]) for pair in correctness.shown]
    assert HOSTILE in texts


def test_clips_are_shown_as_the_row_takes_them_and_pairs_of_a_judge_elsewhere(tmp_path):
    folder = write_video_run(tmp_path / "run")
    pair = {"chosen": 0, "rejected": 1, "source": "dropout_ntp"}
    answers = [{"text": "A star stops."}, {"text": "A star leaves.", "parent": 0, "cut": 7}]
    write_rows(folder / "clips" / "pairs.jsonl", [])
    write_rows(folder / "dropout" / "pairs.jsonl", [row(1, "d", "What?", {}, completions=answers, pairs=[pair])])
    (folder / "dropout" / "config.yaml").write_text(f"data: {folder / 'clips' / 'rows.jsonl'}")
    found = {item.stage.name: item for item in _pairs(folder)[1]}
    (shown,) = found["dropout"].shown
    assert shown.pieces[0].strip.times[0] == "1.0 s"
    assert shown.remark == "Rejected continues the first 7 characters of chosen without the video."
    assert found["dropout"].counts[0].reason == "told without the video"
    assert (found["feedback"].total, found["feedback"].shown) == (4, [])
    assert found["feedback"].counts[0].reason == "preferred less"


def test_every_world_of_a_run_shows_its_data(tmp_path):
    folder = write_video_run(tmp_path / "run")
    kinds = data_kinds(read_run(folder), Pictures())
    assert [(kind.name, kind.count) for kind in kinds] == [("test_questions", 4), ("test_generic", 4)]
    assert all(shown.pieces[0].strip.problem == "" for kind in kinds for shown in kind.rows)
