"""Pre-training documents of clips: a clip and what happens in it, and texts about clips that nobody sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triptych.data.sampling import FrameSampling
from triptych.world.clip_comparisons import draw_any_comparison
from triptych.world.clip_config import ClipConfig
from triptych.world.clip_describe import caption, narrate
from triptych.world.clip_facts import WHOLE, About
from triptych.world.clip_open import CAPTION_PROMPT, NARRATIVE_PROMPT, draw_open_questions
from triptych.world.clip_parts import part_abouts, part_sampling
from triptych.world.clip_questions import draw_clip_questions
from triptych.world.clip_scene import ClipObject, ClipScene
from triptych.world.describe import listed, sentence, where, with_article
from triptych.world.randomness import pick

QUESTIONS_PER_TEXT = 3
PLACES = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)


@dataclass(frozen=True, slots=True)
class ClipText:
    """What a document says of a clip."""

    text: str
    sampling: FrameSampling
    """The frames it is shown with."""
    about: About = WHOLE


def clip_texts(scene: ClipScene, config: ClipConfig, rng: np.random.Generator) -> list[ClipText]:
    """Return what documents tell of a clip, from a second to the whole: what is short is learnt first.

    What happens within a second, twice; one part, where the clip is cut into parts; the whole in the order of time; the
    whole object by object.
    """
    whole, parts = part_sampling(config), part_abouts(scene, config)
    told = [_moment(scene, config, rng) for _ in range(2)]
    if len(parts) > 1:
        part = int(rng.integers(len(parts)))
        told.append(ClipText(narrate(scene, parts[part]), part_sampling(config, len(parts), part), parts[part]))
    return [*told, ClipText(narrate(scene), whole), ClipText(caption(scene), whole)]


def still(scene: ClipScene, frame: int) -> str:
    """Say what is where in a frame: `A red star at the top left and a green 3 on the right.`"""
    mentions = [
        f"{with_article(f'{scene.colour(item.noun, frame)} {item.noun}')} {where(_place(scene, item, frame))}"
        for item in scene.present(frame)
    ]
    return sentence(listed(mentions)) if mentions else "Nothing is there."


def _place(scene: ClipScene, item: ClipObject, frame: int) -> str:
    """Name the ninth of the canvas that the middle of an object lies in."""
    along, across = (
        min(max(3 * (2 * start + item.size) // (2 * scene.canvas_pixels), 0), 2)
        for start in (item.positions[frame], item.across)
    )
    return PLACES[across][along] if scene.axis == "x" else PLACES[along][across]


def _moment(scene: ClipScene, config: ClipConfig, rng: np.random.Generator) -> ClipText:
    """Tell what happens within about a second around one of the events."""
    length = min(config.fps, scene.num_frames - 1)
    middle = pick(rng, scene.events).frame if scene.events else 0
    start = int(np.clip(middle - 1 - rng.integers(length - 1), 0, scene.num_frames - 1 - length))
    about = About(start=start, stop=start + length + 1)
    frames = min(config.num_frames, length + 1)
    sampling = FrameSampling(num_frames=frames, start=start / config.fps, end=(start + length) / config.fps)
    return ClipText(narrate(scene, about), sampling, about)


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
