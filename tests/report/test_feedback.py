import json
import re

import pytest

from tests.report.video_run import RIGHT, WRONG, finish, pair_row, row, write_rows, write_video_run
from triptych.report.feedback import AGREE, DIFFER, EQUAL, SHOWN, feedback_stages, section
from triptych.report.pictures import Pictures
from triptych.report.reading import read_run


def _stages(folder):
    run = read_run(folder)
    return feedback_stages(run, list(run.stages.values()), Pictures())


def _table(folder):
    found = section(_stages(folder))
    heads = [head for head, _ in found.columns[1:]]
    return {name: dict(zip(heads, cells, strict=True)) for name, cells in found.rows}


def test_the_table_counts_what_became_of_every_comparison(tmp_path):
    cells = _table(write_video_run(tmp_path / "run"))["feedback"]
    values = {name: cell.value for name, cell in cells.items()}
    # Four pairs, one verdict that changed, one that could not be read; six replies name the first, four the second.
    assert values == {
        "Judge": "the model itself",
        "Compared": "6",
        "Pairs": "4",
        "Changed": "1",
        "Ties": "0",
        "Unread": "1",
        "Says the first": "60.0 %",
        "Confidence": "0.70",
        "Oracle agrees": "66.7 %",  # of three pairs; in the other one it sees no difference
    }
    assert cells["Judge"].interval == "by likelihood, context"
    assert cells["Says the first"].interval == "31.3 – 83.2"  # Wilson, 6 of 10


def test_a_pair_shows_what_judge_reward_model_and_oracle_said(tmp_path):
    (found,) = _stages(write_video_run(tmp_path / "run"))
    shown = {item.id: item for item in found.shown}
    first, second = shown["prompt-0"], shown["prompt-1"]
    assert first.context == "Context of clip 0."
    assert [(order.first, order.letter, order.confidence) for order in first.orders] == [
        ("chosen", "A", 0.6),
        ("rejected", "B", 0.8),
    ]
    chosen, rejected = first.sides
    assert [(piece.text, piece.right) for piece in rejected.pieces] == [
        ("A green star", False),
        (" stops", True),
        (".", None),
    ]
    assert (chosen.reward, rejected.reward, first.rewarded, first.oracle) == (0.5, -0.5, "the chosen", AGREE)
    assert (second.rewarded, second.oracle) == ("the rejected", DIFFER)
    assert (shown["prompt-2"].rewarded, shown["prompt-2"].oracle) == ("", EQUAL)
    # The row takes six frames from the second one on, of the third frame that means.
    assert first.pieces[0].strip.times[0] == "1.0 s"
    assert len(first.pieces[0].strip.times) == 6
    assert "Clip not shown" in shown["prompt-3"].pieces[0].strip.problem


def test_pairs_whose_rewards_are_known_come_first(tmp_path):
    folder = write_video_run(tmp_path / "run")
    scene = json.loads((folder / "feedback" / "pairs.jsonl").read_text().splitlines()[0])["meta"]["scene"]
    pairs = [pair_row(number, {"scene": scene}, RIGHT, WRONG) for number in range(20)]
    write_rows(folder / "feedback" / "pairs.jsonl", pairs)
    held = {"chosen": 1, "rejected": 0, "source": "ai_feedback", "rewards": {"chosen": 0.0, "rejected": 0.0}}
    write_rows(folder / "reward" / "held_out.jsonl", [held | {"id": f"prompt-{n}"} for n in (7, 13)])
    (found,) = _stages(folder)
    assert len(found.shown) == SHOWN[AGREE]
    assert {item.id for item in found.shown[:2]} == {"prompt-7", "prompt-13"}
    assert (found.shown[0].rewarded, found.shown[2].rewarded) == ("neither", "")


def test_of_a_users_own_videos_no_word_of_an_oracle_is_said(tmp_path):
    folder = write_video_run(tmp_path / "run", oracle=False)
    assert "Oracle agrees" not in _table(folder)["feedback"]
    (found,) = _stages(folder)
    assert not found.knows_oracle
    assert len(found.shown) == 4
    assert {(item.oracle, side.oracle) for item in found.shown for side in item.sides} == {("", "")}
    assert all(piece.right is None for item in found.shown for side in item.sides for piece in side.pieces)


def test_a_judge_by_text_is_quoted_and_has_no_confidence(tmp_path):
    folder = write_video_run(tmp_path / "run")
    write_rows(folder / "feedback" / "pairs.jsonl", [pair_row(0, {}, RIGHT, WRONG, confidence=None)])
    assert "Confidence" not in _table(folder)["feedback"]
    (found,) = _stages(folder)
    assert found.histogram is None
    assert [order.reply for order in found.shown[0].orders] == ["A is better.", "B is better."]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"judge": {"by": "text", "context": False}, "labeller": "org/Judge-7B/"}, ("Judge-7B", "by text, no context")),
        ({"judge": {"function": "a.b:prefer"}}, ("prefer", "a function")),
        ({"judge": None}, ("the model itself", "by text, context")),
    ],
)
def test_the_judge_is_named(tmp_path, config, told):
    folder = write_video_run(tmp_path / "run")
    finish(folder, "feedback", {}, config | {"method": "ai_feedback", "data": str(folder / "clips" / "x.jsonl")})
    judge = _table(folder)["feedback"]["Judge"]
    assert (judge.value, judge.interval) == told


def test_several_stages_have_a_line_each_and_the_later_ones_fewer_pairs(tmp_path):
    folder = write_video_run(tmp_path / "run", oracle=False)
    (folder / "other").mkdir()
    write_rows(folder / "other" / "pairs.jsonl", [pair_row(number, {}, RIGHT, WRONG) for number in range(3)])
    assert list(_table(folder)) == ["feedback", "other"]
    assert [len(found.shown) for found in _stages(folder)] == [4, 1]


def test_a_stage_without_a_pair_tells_what_became_of_its_comparisons(tmp_path):
    folder = write_video_run(tmp_path / "run")
    changed = {"pairing": {"judge_first": 2, "order_dependent": 1}}
    write_rows(folder / "feedback" / "pairs.jsonl", [row(0, "a", "What?", changed)])
    (found,) = _stages(folder)
    assert (found.num_pairs, found.shown, found.histogram) == (0, [], None)
    assert _table(folder)["feedback"]["Says the first"].value == "100.0 %"


def test_pairs_that_no_judge_made_are_no_feedback(tmp_path):
    folder = write_video_run(tmp_path / "run")
    path = folder / "feedback" / "pairs.jsonl"
    path.write_text(re.sub('"judge_[a-z]+": ', '"x": ', path.read_text().replace("ai_feedback", "dropout_ntp")))
    assert _stages(folder) == []
