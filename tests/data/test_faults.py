import pytest

from triptych.data.faults import group_faults
from triptych.group import Completion, Group, Pair, text_message

QUESTION = [text_message("user", "How many?")]


def kinds(group):
    return [error.kind for error in group_faults(group)]


@pytest.mark.parametrize(
    "group",
    [
        Group("a", QUESTION),
        Group("a", [text_message("document", "A cat", None, "on a mat.\n")], images=["a.png"]),
        Group("a", [text_message("user", None)], images=["a.png"]),
        Group("a", [text_message("system", "s"), text_message("user", "u"), text_message("tool", "t")]),
        Group("a", QUESTION, completions=[Completion("a < b, <b>bold</b>\t|x|\r\n"), Completion("数字 é 🙂")]),
        Group("a", QUESTION, completions=[Completion("same"), Completion("same", reward=-3.0)]),
        Group("a", QUESTION, completions=[Completion("abc"), Completion("abd", parent=0, cut=2)], pairs=[Pair(0, 1)]),
        Group("a", QUESTION, completions=[Completion("abc"), Completion("abc", parent=0, cut=3)]),
        Group("a", QUESTION, completions=[Completion("abc"), Completion("x", parent=0)]),
        Group("a", QUESTION, completions=[Completion("abc"), Completion("abc", truncated=True)], pairs=[Pair(0, 1)]),
    ],
)
def test_ordinary_groups_have_no_faults(group):
    assert kinds(group) == []


def test_every_fault_of_a_group_is_told_and_each_fault_of_texts_once():
    group = Group(
        "a",
        [text_message("user", "<image>"), text_message("user", "<video>")],
        completions=[Completion("<|im_end|>"), Completion("\x00"), Completion("")],
        pairs=[Pair(0, 2, margin=-1.0)],
    )
    assert kinds(group) == [
        "placeholder_in_text",
        "chat_token_in_text",
        "control_character",
        "empty_rejected",
        "negative_margin",
    ]


def test_a_circle_of_parents_is_told_once_and_its_descendants_are_no_circle():
    parents = [1, 2, 0, 1, None, 5]
    group = Group("a", QUESTION, completions=[Completion(str(n), parent=p) for n, p in enumerate(parents)])
    assert [str(error.problem) for error in group_faults(group)] == [
        "Completion 0 descends from itself.",
        "Completion 5 descends from itself.",
    ]


def test_a_completion_that_is_chosen_and_rejected_is_empty_in_both_roles():
    group = Group(
        "a",
        QUESTION,
        completions=[Completion("x"), Completion(""), Completion("z")],
        pairs=[Pair(0, 1), Pair(1, 2)],
    )
    assert sorted(kinds(group)) == ["empty_chosen", "empty_rejected"]
