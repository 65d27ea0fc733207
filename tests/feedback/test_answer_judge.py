"""A judge who compares answers by their probability."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from triptych.errors import TriptychError
from triptych.feedback.answer_judge import AnswerJudge
from triptych.feedback.judge import Comparison, outcome
from triptych.group import Group, prompt_text, text_message
from triptych.world.clip_comparisons import JUDGEMENT_TEMPLATE

GROUP = Group("g", [text_message("user", None, "What moves?")], ["a.png"])


class Scorer:
    """Finds an answer as probable as `likes` says, by its text and the prompt."""

    name = "scorer"

    def __init__(self, likes, length=lambda text: 4) -> None:
        self.likes, self.length, self.asked = likes, length, []

    def answer_logps(self, groups, *, root):
        for group in groups:
            self.asked.append(prompt_text(group))
            yield [(self.likes(prompt_text(group), item.text), self.length(item.text)) for item in group.completions]


def _opinions(judge: AnswerJudge, scorer, *comparisons: Comparison):
    return list(judge.opinions(comparisons, scorer, Path(".")))


def test_the_more_probable_answer_is_better_whichever_stands_first() -> None:
    scorer = Scorer(lambda prompt, text: {"a star": -1.0, "a dog": -3.0}[text])
    judged = _opinions(
        AnswerJudge(), scorer, Comparison(GROUP, "a star", "a dog"), Comparison(GROUP, "a dog", "a star")
    )
    assert [[opinion.letter for opinion in both] for both in judged] == [["A", "B"], ["B", "A"]]
    assert [outcome(both) for both in judged] == ["first", "second"]
    # e^-1 / (e^-1 + e^-3)
    assert all(item.confidence == pytest.approx(1 / (1 + math.exp(-2)), rel=1e-12) for both in judged for item in both)


def test_what_is_compared_is_the_mean_over_the_tokens() -> None:
    likes, lengths = {"short": -4.0, "long": -6.0}, {"short": 2, "long": 6}
    scorer = Scorer(lambda prompt, text: likes[text], lengths.get)
    [both] = _opinions(AnswerJudge(), scorer, Comparison(GROUP, "short", "long"))
    assert outcome(both) == "second"
    # -4 / 2 and -6 / 6 nats per token, four tokens on the average
    assert both[0].confidence == pytest.approx(1 / (1 + math.exp(-4)), rel=1e-12)


def test_answers_of_like_probability_are_a_tie() -> None:
    scorer = Scorer(lambda prompt, text: {"a": -1.0, "b": -1.5}[text])
    [both] = _opinions(AnswerJudge(min_confidence=0.7), scorer, Comparison(GROUP, "a", "b"))
    assert outcome(both) == "tie"
    [both] = _opinions(AnswerJudge(), Scorer(lambda prompt, text: -2.0), Comparison(GROUP, "a", "b"))
    assert outcome(both) == "tie"


def test_an_answer_beyond_all_floats_less_probable_loses_without_an_overflow() -> None:
    scorer = Scorer(lambda prompt, text: {"a": -5_000.0, "b": -1.0}[text])
    [both] = _opinions(AnswerJudge(), scorer, Comparison(GROUP, "a", "b"))
    assert outcome(both) == "second" and both[0].confidence == pytest.approx(1.0)


def test_the_judge_is_asked_the_question_with_the_context() -> None:
    scorer = Scorer(lambda prompt, text: -1.0)
    _opinions(AnswerJudge(), scorer, Comparison(GROUP, "a", "b", "A star moves."), Comparison(GROUP, "a", "b"))
    asked = "Question: What moves?\nGive the most accurate, helpful, natural and concise answer."
    assert scorer.asked == [f"<image>Context: A star moves.\n{asked}", f"<image>{asked}"]


def test_the_world_teaches_what_the_judge_is_asked() -> None:
    assert AnswerJudge().prompt == JUDGEMENT_TEMPLATE


def test_what_cannot_judge_is_refused() -> None:
    with pytest.raises(TriptychError, match="judge by text instead"):
        _opinions(AnswerJudge(), SimpleNamespace(name="server"), Comparison(GROUP, "a", "b"))
    with pytest.raises(TriptychError, match=r"lacks \{context\}"):
        AnswerJudge(prompt="{question}")
    with pytest.raises(TriptychError, match=r"min_confidence is 0\.4"):
        AnswerJudge(min_confidence=0.4)
