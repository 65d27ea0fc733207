import copy
import json

import pytest
from hypothesis import given, settings

from tests.data.strategies import groups
from triptych.errors import DataError
from triptych.group import Completion, Group, Pair, fingerprint, prompt_text, text_message

ROW = {
    "id": "q1",
    "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}],
    "images": ["a.png"],
    "completions": [{"text": "Two."}, {"text": "Three."}],
    "pairs": [{"chosen": 0, "rejected": 1}],
}


@settings(max_examples=60, deadline=None)
@given(groups())
def test_a_row_that_went_through_json_gives_the_same_group(group):
    assert Group.from_row(json.loads(json.dumps(group.to_row()))) == group


def test_a_row_leaves_out_what_holds_nothing():
    assert Group("a", [text_message("user", "Hi")]).to_row() == {
        "id": "a",
        "prompt": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }


def test_null_means_absent_and_text_content_becomes_a_part():
    group = Group.from_row(
        {
            "id": "a",
            "prompt": [{"role": "user", "content": "Hi"}],
            "images": None,
            "answer": None,
            "completions": [{"text": "x", "reward": None}, {"text": "y", "reward": 1}],
            "pairs": [{"chosen": 1, "rejected": 0, "source": None}],
        }
    )
    assert group.prompt == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert group.completions == [Completion("x"), Completion("y", reward=1.0)]
    assert group.pairs == [Pair(1, 0, source="imported")]


def change(path, value):
    """Return ROW with the value at `path` replaced."""
    row = copy.deepcopy(ROW)
    target = row
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return row


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        (["id"], None, "missing_field"),
        (["id"], 7, "wrong_type"),
        (["id"], "", "empty_id"),
        (["prompt"], "How many?", "wrong_type"),
        (["colour"], 1, "unknown_field"),
        (["prompt", 0], "How many?", "malformed_message"),
        (["prompt", 0, "role"], "human", "unknown_role"),
        (["prompt", 0, "name"], "Ann", "unknown_field"),
        (["prompt", 0, "content"], None, "unknown_part"),
        (["prompt", 0, "content", 0], {"type": "audio"}, "unknown_part"),
        (["prompt", 0, "content", 0], {"type": "image", "image": "a.png"}, "unknown_field"),
        (["images"], [], "image_count_mismatch"),
        (["images"], ["a.png", "b.png"], "image_count_mismatch"),
        (["videos"], ["a.mp4"], "video_count_mismatch"),
        (["images"], [3], "media_type"),
        (["images"], [{"base64": "?"}], "media_encoding"),
        (["completions", 0], "Two.", "wrong_type"),
        (["completions", 0], {}, "missing_field"),
        (["completions", 0, "reward"], "high", "wrong_type"),
        (["completions", 0, "reward"], float("nan"), "non_finite_number"),
        (["completions", 0, "correct"], 1, "wrong_type"),
        (["completions", 0, "seed"], True, "wrong_type"),
        (["completions", 0, "parent"], "0", "wrong_type"),
        (["completions", 0, "parent"], 2, "parent_out_of_range"),
        (["pairs", 0, "rejected"], 2, "pair_index_out_of_range"),
        (["pairs", 0, "rejected"], -1, "pair_index_out_of_range"),
        (["pairs", 0, "rejected"], 0, "pair_identical"),
        (["pairs", 0, "margin"], float("inf"), "non_finite_number"),
        (["pairs", 0, "judge"], "good", "wrong_type"),
    ],
)
def test_a_malformed_row_is_refused_by_name(path, value, kind):
    with pytest.raises(DataError) as caught:
        Group.from_row(change(path, value))
    assert caught.value.kind == kind
    assert caught.value.remedy


def test_a_row_that_is_no_object_is_refused():
    with pytest.raises(DataError, match="not an object"):
        Group.from_row(["q1"])


def test_the_fingerprint_ignores_the_order_of_keys_and_counts_bytes_by_content():
    assert fingerprint({"a": 1, "b": b"x"}) == fingerprint({"b": b"x", "a": 1})
    assert fingerprint(b"x") != fingerprint(b"y")
    with pytest.raises(TypeError):
        fingerprint(object())


def test_prompt_text_shows_media_in_their_places():
    group = Group("a", [text_message("user", None, "How many?"), text_message("assistant", "Two.")], images=["a.png"])
    assert prompt_text(group) == "<image>How many?\nTwo."
