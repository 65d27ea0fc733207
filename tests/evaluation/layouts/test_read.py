"""Layouts by name."""

import json
from typing import get_args, get_type_hints

import pytest

from triptych.errors import DataError, TriptychError
from triptych.evaluation.layouts.read import Layout, layout_files, read_layout
from triptych.stages.evaluate_config import Task


def test_the_settings_know_every_layout():
    assert get_args(get_type_hints(Task)["layout"]) == ("", *get_args(Layout))


@pytest.fixture
def root(tmp_path):
    for name in ("v_a.mp4", "vid1.avi", "YoYo/v_1.avi"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(b"x")
    return tmp_path / "videos"


def test_rows_come_as_groups(tmp_path, root):
    path = tmp_path / "testlist01.txt"
    path.write_text("YoYo/v_1.avi\n")
    [group] = read_layout("ucf101", path, root, "What is done?")
    assert group.prompt[0]["content"][1]["text"] == "What is done?"
    path.write_text("YoYo/v_1.avi\nYoYo/v_1.avi\n")
    with pytest.raises(DataError, match="duplicate_id"):
        read_layout("ucf101", path, root)
    path.write_text("")
    with pytest.raises(DataError, match="empty_file"):
        read_layout("ucf101", path, root)


def test_annotations_that_ask_take_no_other_question(tmp_path, root):
    path = tmp_path / "generic_qa.json"
    path.write_text(json.dumps([{"video_name": "v_a", "Q": "q", "A": "a"}]))
    assert len(read_layout("video_chatgpt", path, root)) == 1
    with pytest.raises(TriptychError, match="bring their questions"):
        read_layout("video_chatgpt", path, root, "What?")


def test_every_file_that_is_read_is_told(tmp_path):
    for name in ("test_q.json", "test_a.json", "youtube_mapping.txt", "test_list.txt"):
        (tmp_path / name).write_text("[]")
    for name in ("a_test_split1.txt", "b_test_split1.txt", "b_test_split2.txt"):
        (tmp_path / name).write_text("")

    def files(layout, name):
        return {path.name for path in layout_files(layout, tmp_path / name)}

    assert files("activitynet_qa", "test_q.json") == {"test_q.json", "test_a.json"}
    assert files("msvd_qa", "test_q.json") == {"test_q.json", "test_a.json", "youtube_mapping.txt"}
    assert files("msvd", "All.txt") == {"All.txt", "test_list.txt"}
    assert files("hmdb51", "a_test_split1.txt") == {"a_test_split1.txt", "b_test_split1.txt"}
    assert files("ucf101", "testlist01.txt") == {"testlist01.txt"}
