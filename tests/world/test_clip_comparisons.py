"""Comparison instructions."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.world.clip_scenes import CONFIG, drawn
from triptych.feedback import judge
from triptych.feedback.context import CAPTION_REQUEST
from triptych.world.clip_comparisons import (
    COMPARISON_TEMPLATE,
    CONTEXT_LINE,
    Comparison,
    comparison_prompt,
    draw_closed_comparison,
    draw_comparison,
    wrong_answer,
)
from triptych.world.clip_open import NARRATIVE_PROMPT, draw_open_questions
from triptych.world.clip_oracle import judge_clip
from triptych.world.clip_questions import draw_clip_questions
from triptych.world.randomness import rng_for

SCENES = drawn(50)


def _draw(index: int, **changes: float) -> tuple[Comparison, object]:
    scene, rng = SCENES[index], rng_for("compare", index)
    [question] = draw_open_questions(scene, 1, rng)
    return draw_comparison(scene, question, replace(CONFIG, **changes), rng), question


def test_the_prompt_by_hand() -> None:
    asked = comparison_prompt("What happens?", "It stops.", "It leaves.")
    assert asked == (
        "Question: What happens?\nAnswer A: It stops.\nAnswer B: It leaves.\n"
        "Which answer is more accurate, helpful, natural and concise? "
        "Begin with the letter A or B, then give the reason."
    )
    assert comparison_prompt("Q?", "a", "b", context="A star.").startswith("Context: A star.\nQuestion: Q?\n")


def test_a_model_that_learns_from_them_can_be_the_judge_of_the_feedback_stage() -> None:
    assert (COMPARISON_TEMPLATE, CONTEXT_LINE) == (judge.JUDGE_PROMPT, judge.CONTEXT_LINE)
    assert NARRATIVE_PROMPT == CAPTION_REQUEST
    for swapped, letter in ((False, "A"), (True, "B")):
        verdicts = [_draw(index)[0].verdict(swapped=swapped) for index in range(len(SCENES))]
        assert {judge.read_verdict(verdict) for verdict in verdicts} == {letter}


def test_the_better_answer_is_better_by_the_oracle() -> None:
    for index, scene in enumerate(SCENES):
        comparison, question = _draw(index)
        better, worse = (judge_clip(text, scene, question.about) for text in (comparison.better, comparison.worse))
        assert better.quality > worse.quality


def test_both_orders_ask_the_same_and_answer_the_other_way() -> None:
    comparison, question = _draw(0)
    first, second = comparison.prompt(swapped=False), comparison.prompt(swapped=True)
    assert f"Answer A: {comparison.better}\nAnswer B: {comparison.worse}\n" in first
    assert f"Answer A: {comparison.worse}\nAnswer B: {comparison.better}\n" in second
    assert comparison.verdict(swapped=False).startswith("A is better because B ")
    assert comparison.verdict(swapped=True).startswith("B is better because A ")
    assert question.texts[0] in first


def test_the_reason_is_a_fact_about_the_worse_answer() -> None:
    forms = (
        r"B tells of (.*), which is not there",
        r"B says that (.*), which is not so",
        r"B tells things in the wrong order",
        r"B does not say that (.*)",
    )
    seen = set()
    for index, scene in enumerate(SCENES):
        comparison, question = _draw(index)
        reason = comparison.verdict(swapped=False).removeprefix("A is better because ").removesuffix(".")
        [(number, match)] = [(n, found) for n, form in enumerate(forms) if (found := re.fullmatch(form, reason))]
        seen.add(number)
        worse = judge_clip(comparison.worse, scene, question.about)
        if number < 2:
            wrong = [item.text.lower() for item in worse.judgements if not item.right]
            assert match[1].lower() in wrong
        elif number == 2:
            assert any(item.kind == "order" and not item.right for item in worse.judgements)
        else:
            assert match[1] not in comparison.worse and judge_clip(match[1], scene).num_wrong == 0
    assert seen == {0, 1, 2, 3}


def test_a_context_tells_the_clip_part_by_part() -> None:
    assert all(_draw(index, context_share=0.0)[0].context is None for index in range(5))
    for index in range(20):
        exact, _ = _draw(index, context_share=1.0, part_noise=0.0)
        assert judge_clip(exact.context, SCENES[index]).num_wrong == 0
        assert f"Context: {exact.context}\n" in exact.prompt(swapped=True)
        assert 1 <= exact.context.count("At first") + exact.context.count("Nothing happens") <= 3
    noisy = [_draw(index, context_share=1.0, part_noise=1.0)[0] for index in range(20)]
    assert sum(judge_clip(item.context, scene).num_wrong > 0 for item, scene in zip(noisy, SCENES, strict=False)) > 15


@pytest.mark.parametrize("index", [1, 2])
def test_a_comparison_is_a_pure_function_of_its_key(index: int) -> None:
    assert _draw(index) == _draw(index)


def test_a_wrong_answer_is_another_one_of_the_same_sort() -> None:
    seen = set()
    for number, scene in enumerate(SCENES):
        rng = rng_for("wrong", number)
        for question in draw_clip_questions(scene, CONFIG, 12, rng):
            wrong = wrong_answer(question, scene, CONFIG, rng)
            assert wrong != question.answer
            sorts = (r"yes|no", r"\d", r"red|green|blue|yellow", r"left|right|top|bottom|up|down", r".+")
            if question.text.startswith("Which object"):
                sort = "noun"
                assert wrong in CONFIG.shapes or wrong.isdigit()
            else:
                sort = next(each for each in sorts if re.fullmatch(each, question.answer))
                assert re.fullmatch(sort, wrong)
            seen.add(sort)
    assert len(seen) == 6


def test_a_comparison_of_short_answers_says_which_is_right() -> None:
    for number, scene in enumerate(SCENES):
        [question] = draw_clip_questions(scene, CONFIG, 1, rng_for("closed", number))
        comparison = draw_closed_comparison(scene, question, replace(CONFIG, context_share=1.0), rng_for(number))
        assert (comparison.question, comparison.better) == (question.direct_prompt, question.answer)
        assert comparison.worse != comparison.better and comparison.context
        assert comparison.verdict(swapped=True) == f"B is better because the answer is {question.answer}."
