"""Pre-training documents of clips: a clip and what happens in it, and texts about clips that nobody sees."""

from __future__ import annotations

import numpy as np

from triptych.world.clip_comparisons import draw_any_comparison
from triptych.world.clip_config import ClipConfig
from triptych.world.clip_describe import caption, narrate
from triptych.world.clip_facts import WHOLE, About
from triptych.world.clip_open import CAPTION_PROMPT, NARRATIVE_PROMPT, draw_open_questions
from triptych.world.clip_parts import part_abouts
from triptych.world.clip_questions import draw_clip_questions
from triptych.world.clip_scene import ClipScene
from triptych.world.randomness import pick

QUESTIONS_PER_TEXT = 3


def clip_texts(scene: ClipScene, config: ClipConfig, rng: np.random.Generator) -> list[tuple[str, About, int]]:
    """Return what documents tell of a clip: text, what it is about, and the part it shows (-1: the whole).

    The whole in the order of time, one part of it where it is cut into parts, and the whole object by object.
    """
    told = [(narrate(scene), WHOLE, -1), (caption(scene), WHOLE, -1)]
    parts = part_abouts(scene, config)
    if len(parts) > 1:
        part = int(rng.integers(len(parts)))
        told.append((narrate(scene, parts[part]), parts[part], part))
    return told


def text_about(scene: ClipScene, config: ClipConfig, rng: np.random.Generator) -> str:
    """Return a document without a video: a comparison of two answers, or questions with answers behind a narrative."""
    if rng.random() < 0.5:
        comparison, swapped = draw_any_comparison(scene, config, rng)[0], bool(rng.random() < 0.5)
        return f"{comparison.prompt(swapped=swapped)} {comparison.verdict(swapped=swapped)}"
    told = [f"{NARRATIVE_PROMPT} {narrate(scene)}", f"{CAPTION_PROMPT} {caption(scene)}"]
    told += [f"{pick(rng, question.texts)} {question.answer}" for question in draw_open_questions(scene, 1, rng)]
    questions = draw_clip_questions(scene, config, QUESTIONS_PER_TEXT, rng)
    told += [f"{pick(rng, (item.direct_prompt, item.cot_prompt))} {item.rationale}" for item in questions]
    return "\n".join(told)
