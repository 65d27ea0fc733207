"""Judges of two answers from their settings, for the stages that have one."""

from __future__ import annotations

from triptych.feedback.answer_judge import ANSWER_PROMPT, AnswerJudge
from triptych.feedback.context import Narrator
from triptych.feedback.judge import JUDGE_PROMPT, FunctionJudge, Judge
from triptych.generation.protocol import SamplingParams
from triptych.stages.pairs_config import JudgeSettings


def make_judge(settings: JudgeSettings, seed: int) -> Judge | AnswerJudge | FunctionJudge:
    """Return the judge that settings describe; `seed` is that of its replies."""
    if settings.function:
        return FunctionJudge(settings.function)
    if settings.by == "answer":
        return AnswerJudge(settings.prompt or ANSWER_PROMPT, settings.min_confidence)
    params = SamplingParams(temperature=0.0, max_new_tokens=settings.max_new_tokens)
    return Judge(settings.by, settings.prompt or JUDGE_PROMPT, params, seed, settings.min_confidence)


def make_narrator(settings: JudgeSettings, seed: int) -> Narrator | None:
    """Return what tells a judge its context, or None for one that gets none; `seed` is that of the captions."""
    if settings.function or not settings.context:
        return None
    params = SamplingParams(temperature=0.0, max_new_tokens=settings.context_tokens)
    return Narrator(settings.context_request, settings.context_frames, settings.context_total_frames, params, seed)
