"""Comparison instructions: a clip, perhaps a narrative of it as context, two answers; which is better, and why.

A small model that learns from them can be its own judge. The better answer is the one of higher quality by the oracle
(`ClipScore.quality`); answers that are equally good are not compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from triptych.world.clip_config import NUM_LANES, ClipConfig
from triptych.world.clip_describe import clause, tell, with_made_up_event
from triptych.world.clip_errors import spoil
from triptych.world.clip_facts import OBJECT, WHOLE, About, facts_of
from triptych.world.clip_open import OpenQuestion, draw_open_questions
from triptych.world.clip_oracle import ORDER, ClipScore, judge_clip
from triptych.world.clip_parts import part_abouts
from triptych.world.clip_questions import DOING, ClipQuestion, draw_clip_questions
from triptych.world.clip_scene import DIRECTIONS_OF, SIDES_OF, ClipScene
from triptych.world.randomness import pick, pick_weighted

CONTEXT_LINE = "Context: {context}\n"
COMPARISON_TEMPLATE = (
    "{context}Question: {question}\nAnswer A: {first}\nAnswer B: {second}\n"
    "Which answer is more accurate, helpful, natural and concise? Begin with the letter A or B, then give the reason."
)
"""What a judge is asked by default (`triptych.feedback.judge`); `context` is a `CONTEXT_LINE` or nothing. The criteria
are those of VLM-RLAIF's annotators (arXiv:2402.03746)."""
JUDGEMENT_TEMPLATE = "{context}Question: {question}\nGive the most accurate, helpful, natural and concise answer."
"""What a judge is asked who compares answers by their probability (`triptych.feedback.answer_judge`)."""
VERDICTS = ("A", "B")
"""First word of a verdict: the better answer."""
_NUM_ERRORS = {0: 0.3, 1: 0.4, 2: 0.2, 3: 0.1}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one question of which the first is better."""

    question: str
    better: str
    worse: str
    context: str | None
    reason: str
    """Why, with `{worse}` for the letter of the worse answer."""

    def prompt(self, *, swapped: bool) -> str:
        """Return the text of the instruction; `swapped` puts the better answer second."""
        answers = (self.worse, self.better) if swapped else (self.better, self.worse)
        return comparison_prompt(self.question, *answers, context=self.context)

    def verdict(self, *, swapped: bool) -> str:
        """Return what a judge should say: `A is better because B says that the star stops, which is not so.`"""
        best, worst = VERDICTS[::-1] if swapped else VERDICTS
        return f"{best} is better because {self.reason.format(worse=worst)}."


def comparison_prompt(question: str, first: str, second: str, *, context: str | None = None) -> str:
    """Return the text that asks which of two answers is better; the video is a part of its own before it."""
    line = "" if context is None else CONTEXT_LINE.format(context=context)
    return COMPARISON_TEMPLATE.format(context=line, question=question, first=first, second=second)


def draw_any_comparison(scene: ClipScene, config: ClipConfig, rng: np.random.Generator) -> tuple[Comparison, About]:
    """Draw a comparison, of short answers with the probability `closed_share`, and what its question is about."""
    if rng.random() < config.closed_share and (questions := draw_clip_questions(scene, config, 1, rng)):
        return draw_closed_comparison(scene, questions[0], config, rng), WHOLE
    [question] = draw_open_questions(scene, 1, rng)
    return draw_comparison(scene, question, config, rng), question.about


def draw_closed_comparison(
    scene: ClipScene, question: ClipQuestion, config: ClipConfig, rng: np.random.Generator
) -> Comparison:
    """Compare the answer to a question with a wrong one of the same sort."""
    context = draw_context(scene, config, rng) if rng.random() < config.context_share else None
    reason = f"the answer is {question.answer}"
    wrong = wrong_answer(question, scene, config, rng)
    return Comparison(question.direct_prompt, question.answer, wrong, context, reason)


def draw_judgement(scene: ClipScene, config: ClipConfig, rng: np.random.Generator) -> tuple[str, str, About]:
    """Draw a question as a judge is asked it who compares answers by their probability: what is asked, what is right,
    and what it is about."""
    context = draw_context(scene, config, rng) if rng.random() < config.context_share else None
    line = "" if context is None else CONTEXT_LINE.format(context=context)
    if rng.random() < config.closed_share and (questions := draw_clip_questions(scene, config, 1, rng)):
        asked, answer, about = questions[0].direct_prompt, questions[0].answer, WHOLE
    else:
        [question] = draw_open_questions(scene, 1, rng)
        asked, answer, about = pick(rng, question.texts), question.answer, question.about
    return JUDGEMENT_TEMPLATE.format(context=line, question=asked), answer, about


def wrong_answer(question: ClipQuestion, scene: ClipScene, config: ClipConfig, rng: np.random.Generator) -> str:
    """Draw a wrong answer of the sort of the right one."""
    answer = question.answer
    if match := re.fullmatch(r"What happens first: (.*), or (.*)\?", question.text):
        return next(clause for clause in match.groups() if clause != answer)
    if question.kind == "count":
        return str(pick(rng, [number for number in range(NUM_LANES + 1) if abs(number - int(answer)) in (1, 2)]))
    nouns = (*(item.noun for item in scene.objects), *config.shapes)
    ways = DIRECTIONS_OF["y"] if "direction" in question.text else SIDES_OF["y"]
    sorts = (("yes", "no"), (*SIDES_OF["x"], *ways), config.colours, DOING, nouns)
    sort = next(sort for sort in sorts if answer in sort)
    return pick(rng, [other for other in dict.fromkeys(sort) if other != answer])


def draw_comparison(
    scene: ClipScene, question: OpenQuestion, config: ClipConfig, rng: np.random.Generator
) -> Comparison:
    """Draw two answers with none to three errors each, one better than the other, and perhaps a context.

    The context is the narrative that a model might give of the clip, part by part, with its habits
    (`ClipConfig.part_noise`).
    """
    while True:
        answers = [_draw_answer(scene, question.about, config, rng) for _ in range(2)]
        scores = [judge_clip(answer, scene, question.about) for answer in answers]
        if scores[0].quality != scores[1].quality:
            break
    best = int(scores[1].quality > scores[0].quality)
    context = draw_context(scene, config, rng) if rng.random() < config.context_share else None
    reason = _reason(scores[best], scores[1 - best])
    return Comparison(question.texts[0], answers[best], answers[1 - best], context, reason)


def draw_context(scene: ClipScene, config: ClipConfig, rng: np.random.Generator) -> str:
    """Draw the narrative that a model might give of a clip, part by part, habits and errors included."""
    told = []
    for about in part_abouts(scene, config):
        facts = with_made_up_event(facts_of(scene, about), scene, config, config.part_noise, rng)
        told.append(tell(spoil(facts, scene, config, rng) if rng.random() < config.context_errors else facts))
    return " ".join(told)


def _draw_answer(scene: ClipScene, about: About, config: ClipConfig, rng: np.random.Generator) -> str:
    facts = facts_of(scene, about)
    for _ in range(pick_weighted(rng, _NUM_ERRORS)):
        facts = spoil(facts, scene, config, rng)
    return tell(facts)


def _reason(better: ClipScore, worse: ClipScore) -> str:
    """Name the first wrong claim of the worse answer, if it has more of them, else what it leaves out."""
    wrong = [judgement for judgement in worse.judgements if not judgement.right]
    if len(wrong) > better.num_wrong:
        told = f"{wrong[0].text[0].lower()}{wrong[0].text[1:]}"
        if wrong[0].kind == ORDER:
            return "{worse} tells things in the wrong order"
        if wrong[0].kind == OBJECT:
            return f"{{worse}} tells of {told}, which is not there"
        return f"{{worse}} says that {told}, which is not so"
    missing = next((fact for fact in worse.missing if fact in better.covered), None)
    return "{worse} tells less of what happens" if missing is None else f"{{worse}} does not say that {clause(missing)}"
