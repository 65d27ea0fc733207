from typing import get_args

import pytest

from triptych.errors import DataError
from triptych.feedback.prompts import ANSWER_FORMATS, INSTRUCTIONS, CotKind, CotStyle, cot_prompt
from triptych.group import Completion, Group, Pair, prompt_text, text_message


def question(text="How many dogs?", **fields):
    return Group(id="q", prompt=[text_message("user", None, text)], images=["a.png"], answer="2", **fields)


def test_there_is_a_wording_for_every_kind_and_format():
    assert set(INSTRUCTIONS) == set(get_args(CotKind))
    assert set(ANSWER_FORMATS) == set(get_args(CotStyle))
    assert len(set(INSTRUCTIONS.values())) == len(INSTRUCTIONS)


@pytest.mark.parametrize("kind", get_args(CotKind))
@pytest.mark.parametrize("style", get_args(CotStyle))
def test_the_request_follows_the_question_and_the_picture_stays(kind, style):
    group = cot_prompt(question(), kind, style=style)
    group.check()
    assert prompt_text(group) == f"<image>How many dogs?\n{INSTRUCTIONS[kind]}\n{ANSWER_FORMATS[style]}"
    assert (group.id, group.meta["cot"], group.answer, group.images) == (f"q:cot-{kind}", kind, "2", ["a.png"])


def test_the_original_group_is_left_alone_and_its_completions_stay_behind():
    original = question(completions=[Completion("2"), Completion("3")], pairs=[Pair(0, 1)], meta={"split": "train"})
    before = original.to_row()
    group = cot_prompt(original, "plain")
    assert original.to_row() == before
    assert (group.completions, group.pairs, group.meta) == ([], [], {"split": "train", "cot": "plain"})


@pytest.mark.parametrize(
    "request_for_brevity",
    [
        "Answer the question using a single word or phrase.",
        "Answer with the option's letter from the given choices directly.",
        "Please answer yes or no.",
        "Answer briefly.",
        "Give the answer only.",
    ],
)
def test_a_request_for_a_bare_answer_is_removed(request_for_brevity):
    group = cot_prompt(question(f"How many dogs?\n{request_for_brevity}"), "plain")
    assert prompt_text(group) == prompt_text(cot_prompt(question(), "plain"))


def test_such_words_inside_the_question_stay():
    text = "Answer briefly. Then what does the sign say?"
    assert text in prompt_text(cot_prompt(question(text), "plain"))


def test_the_last_user_message_is_the_question():
    talk = [text_message("user", "Hello"), text_message("assistant", "Hi"), text_message("user", "Why?")]
    group = cot_prompt(Group(id="q", prompt=talk), "plain")
    assert [message["content"][0]["text"].splitlines()[0] for message in group.prompt] == ["Hello", "Hi", "Why?"]


@pytest.mark.parametrize("prompt", [[], [text_message("assistant", "Hi")], [text_message("user", None)]])
def test_a_prompt_without_a_question_is_an_error(prompt):
    with pytest.raises(DataError, match="no_question"):
        cot_prompt(Group(id="q", prompt=prompt), "plain")
