import json
import tracemalloc

import pytest

from triptych.data import json_list
from triptych.data.formats import llava, vlm_rlaif
from triptych.data.formats.report import ConversionReport
from triptych.data.sampling import FrameSampling, clips_of
from triptych.errors import DataError
from triptych.group import Completion, Group, Pair, text_message

FRAMES = [f"anet_vidchatgpt_50frames/v_1/{n:02}.jpg" for n in range(1, 51)]
CLIP = "anet_vidchatgpt_50frames/v_1"
NAMES = [f"{n:02}.jpg" for n in range(1, 51)]


def turns(*texts):
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def gpt(text):
    return {"from": "gpt", "value": text}


def about_clip(text):
    return {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": text}]}


SFT = {"id": "s1", "src_data": "how2qa", "conversations": turns("<image>\nWho?", "Ann."), "images": FRAMES}
RM = {
    "id": "r1",
    "conversations": turns("<image>\nWhat happens?", "Somebody jumps."),
    "output_1": gpt("A man sits."),
    "output_2": gpt("A man jumps."),
    "preference": 2,
    "images": FRAMES,
}
RL = {"uid": 7, "conversations": turns("<image>\nWhy?", "For fun.", "And then?", "He falls."), "images": FRAMES}


def write_rows(tmp_path, rows):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    return path


def read_rows(tmp_path, rows, report=None):
    return list(vlm_rlaif.read(write_rows(tmp_path, rows), tmp_path, report))


@pytest.mark.parametrize("row", [SFT, RM, RL])
def test_a_row_is_recognised_and_written_as_it_was_read(tmp_path, row):
    assert vlm_rlaif.matches(row) and not llava.matches(row)
    report = ConversionReport(strict=True)
    groups = vlm_rlaif.read(write_rows(tmp_path, [row]), tmp_path, report)
    vlm_rlaif.write(groups, tmp_path / "again.json", report)
    assert json.loads((tmp_path / "again.json").read_text()) == [row]
    assert not report.losses


def test_frames_are_one_clip_and_the_marker_moves_to_the_front(tmp_path):
    row = {**SFT, "conversations": turns("Who is it?\n<image>", "Ann.")}
    (group,) = read_rows(tmp_path, [row])
    assert (group.videos, group.images) == ([CLIP], [])
    assert group.prompt == [about_clip("Who is it?")]
    assert group.meta == {"src_data": "how2qa", "vlm_rlaif": {"frames": NAMES}}


def test_more_frames_than_the_default_are_all_to_be_seen(tmp_path):
    row = {**SFT, "images": [f"v/{n:03}.jpg" for n in range(60)]}
    (group,) = read_rows(tmp_path, [row])
    assert clips_of(group)[0].sampling == FrameSampling(num_frames=60)
    report = vlm_rlaif.write([group], tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == [row] and not report.losses
    group.meta["video"] = {"num_frames": 60, "start": 1.0}
    assert vlm_rlaif.write([group], tmp_path / "again.json").losses == {"meta": 1}


def test_every_answer_of_a_demonstration_is_a_group(tmp_path):
    row = {**SFT, "conversations": turns("<image>\nWho?", "Ann.", "Where?", "At home.")}
    first, second = read_rows(tmp_path, [row])
    assert (first.id, first.completions[0].text) == ("s1/1", "Ann.")
    assert (second.id, second.completions[0].text, second.videos) == ("s1/2", "At home.", [CLIP])
    vlm_rlaif.write([first, second], tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == [row]


def test_a_preference_keeps_the_order_of_the_outputs_and_the_turn_they_replace(tmp_path):
    (group,) = read_rows(tmp_path, [RM])
    assert [completion.text for completion in group.completions] == ["A man sits.", "A man jumps."]
    assert group.pairs == [Pair(chosen=1, rejected=0)]
    assert group.prompt == [about_clip("What happens?")]
    assert group.meta["vlm_rlaif"]["last_turn"] == "Somebody jumps."


def test_ppo_asks_the_first_question_and_later_turns_wait_in_meta(tmp_path):
    (group,) = read_rows(tmp_path, [RL])
    assert (group.id, group.prompt) == ("7", [about_clip("Why?")])
    assert group.completions == [Completion("For fun.", source="gold")]
    assert group.meta["vlm_rlaif"] == {"frames": NAMES, "uid": 7, "later_turns": ["And then?", "He falls."]}


def test_a_blank_answer_is_a_prompt_and_nested_turns_and_the_key_role_are_understood(tmp_path):
    blank = {**RL, "conversations": turns("<image>\nWhy?", "\n")}
    roles = [[{"role": turn["from"], "value": turn["value"]} for turn in SFT["conversations"]]]
    prompt, demonstration = read_rows(tmp_path, [blank, {**SFT, "conversations": roles}])
    assert prompt.completions == []
    assert demonstration.completions[0].text == "Ann."


def test_our_own_groups_are_written_with_the_frames_of_their_folder(tmp_path):
    (tmp_path / "clips" / "c1").mkdir(parents=True)
    for name in ("b.png", "a.png", ".hidden"):
        (tmp_path / "clips" / "c1" / name).write_bytes(b"x")
    answers = [Completion("Up."), Completion("Down."), Completion("Left.")]
    group = Group("q", [about_clip("Where?")], videos=["clips/c1"], completions=answers, pairs=[Pair(0, 1), Pair(2, 0)])
    vlm_rlaif.write([group], tmp_path / "rows.json", root=tmp_path)
    first, second = json.loads((tmp_path / "rows.json").read_text())
    assert first["images"] == ["clips/c1/a.png", "clips/c1/b.png"]
    assert first["conversations"] == turns("<image>\nWhere?", "")
    assert (first["output_1"]["value"], first["output_2"]["value"], first["preference"]) == ("Up.", "Down.", 1)
    assert (second["output_1"]["value"], second["output_2"]["value"], second["preference"]) == ("Up.", "Left.", 2)
    question = Group("why", [about_clip("Why?")], videos=["clips/c1"])
    vlm_rlaif.write([question], tmp_path / "rl.json", root=tmp_path)
    (row,) = json.loads((tmp_path / "rl.json").read_text())
    assert (row["id"], row["uid"], row["conversations"]) == ("why", 1, turns("<image>\nWhy?", ""))


def test_a_file_holds_one_layout_and_one_clip_a_row(tmp_path):
    def group(name, **fields):
        prompt = [about_clip("?")] if fields.get("videos") else [text_message("user", "?")]
        return Group(name, fields.pop("prompt", prompt), **fields)

    clip = {"videos": ["c.mp4"], "completions": [Completion("x")]}
    several = [{"role": "user", "content": [{"type": "video"}, {"type": "video"}]}]
    late = [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "video"}]}]
    rows = [
        group("text", completions=[Completion("x")]),
        group("bare"),
        group("file", **clip),
        group("bytes", **{**clip, "videos": [b"mp4"]}),
        group("two", **{**clip, "videos": ["c", "d"]}, prompt=several),
        group("late", **clip, prompt=late),
        group("picture", prompt=[text_message("user", None)], images=["a.png"], completions=[Completion("x")]),
    ]
    report = ConversionReport()
    vlm_rlaif.write(rows, tmp_path / "a.json", report, tmp_path)
    assert report.num_rows_written == 1
    assert report.drops == {
        "format_mixed": 1,
        "video_not_a_folder": 1,
        "media_bytes": 1,
        "format_several_videos": 1,
        "format_media_first": 1,
        "format_no_image": 1,
    }


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"images": [*FRAMES[1:], FRAMES[0]]}, "frames_out_of_order"),
        ({"images": ["v/1.jpg", "v/2.jpg", "v/10.jpg"]}, "frames_out_of_order"),
        ({"images": [FRAMES[0], FRAMES[0]]}, "frames_out_of_order"),
        ({"images": ["v/1.jpg", "w/2.jpg"]}, "frames_scattered"),
        ({"images": ["../1.jpg", "../2.jpg"]}, "media_path_parent"),
        ({"images": [1]}, "media_type"),
        ({"preference": 0}, "preference_unknown"),
        ({"preference": None}, "preference_unknown"),
        ({"preference": True}, "preference_unknown"),
        ({"output_2": None}, "missing_field"),
        ({"output_1": gpt("A man jumps.")}, "pair_identical_text"),
        ({"conversations": turns("<image>\nWhat?")}, "turns_not_alternating"),
        ({"conversations": turns("<image>\nA?", "a", "<image>\nB?", "b")}, "video_count_mismatch"),
    ],
)
def test_a_row_that_cannot_be_converted_is_counted_or_raised(tmp_path, change, kind):
    report = ConversionReport()
    assert len(read_rows(tmp_path, [{**RM, **change}, RM], report)) == 1
    assert report.drops == {kind: 1}
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path, [{**RM, **change}])
    assert (caught.value.kind, caught.value.file) == (kind, tmp_path / "rows.json")


def test_a_folder_with_other_frames_than_the_row_lists_is_named(tmp_path):
    (tmp_path / CLIP).mkdir(parents=True)
    for name in [*NAMES, "51.jpg"]:
        (tmp_path / CLIP / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"lists 50 frames .* holds 51") as caught:
        read_rows(tmp_path, [RM])
    assert caught.value.kind == "frames_unlike_folder"
    (tmp_path / CLIP / "51.jpg").unlink()
    assert len(read_rows(tmp_path, [RM])) == 1


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(json_list, "_CHUNK", 1 << 14)

    def peak(num_rows):
        rows = [
            {**RM, "id": str(n), "conversations": turns(f"<image>\n{n}?", ""), "images": FRAMES[:9]}
            for n in range(num_rows)
        ]
        path = write_rows(tmp_path, rows)
        tracemalloc.start()
        vlm_rlaif.write(vlm_rlaif.read(path, tmp_path), tmp_path / "again.json")
        traced = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return traced

    peak(10)  # imports and caches
    assert peak(1200) < 600_000  # of 1200 rows that take 5 MB as objects
