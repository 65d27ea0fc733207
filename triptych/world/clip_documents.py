"""Pre-training documents of clips: a clip and what happens in it, and texts about clips that nobody sees."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from triptych.data.sampling import FrameSampling, moments
from triptych.world.clip_comparisons import draw_any_comparison
from triptych.world.clip_config import ClipConfig
from triptych.world.clip_describe import caption, narrate
from triptych.world.clip_facts import WHOLE, About
from triptych.world.clip_open import CAPTION_PROMPT, NARRATIVE_PROMPT, draw_open_questions
from triptych.world.clip_parts import frames_of, part_abouts, part_sampling
from triptych.world.clip_questions import draw_clip_questions
from triptych.world.clip_scene import DIRECTIONS_OF, ClipObject, ClipScene
from triptych.world.describe import listed, sentence, where, with_article
from triptych.world.randomness import pick

QUESTIONS_PER_TEXT = 3
PLACES = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)
PLACE_GRID = 16
"""Columns and rows in which a still tells places."""


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
    """Say what is where in a frame: `A red star at the top left (1, 2) and a green 3 on the right (14, 7).`

    The numbers are how far right and how far down the middle of an object lies, in `PLACE_GRID`ths of the canvas. Who
    has learnt to tell them sees small steps from frame to frame.
    """
    mentions = [
        f"{with_article(f'{scene.colour(item.noun, frame)} {item.noun}')} {where(_place(scene, item, frame))}"
        f" ({', '.join(map(str, _cell(scene, item, frame, PLACE_GRID)))})"
        for item in scene.present(frame)
    ]
    return sentence(listed(mentions)) if mentions else "Nothing is there."


def track(scene: ClipScene, config: ClipConfig, rng: np.random.Generator) -> ClipText:
    """Tell where each object is in each frame of a part, or of the whole, and which way it came there.

    `The star: red (3, 7), right red (5, 7), still red (5, 7), away.` The tokens of a frame are pooled into one before a
    model sees a video; nothing but this asks for all that the one must tell, and for each step.
    """
    parts = part_abouts(scene, config)
    part = int(rng.integers(len(parts)))
    sampling = part_sampling(config, len(parts), part) if rng.random() < 0.5 else part_sampling(config)
    frames = moments(sampling, frames_of(scene))
    told = []
    for item in scene.objects:
        seen = [_seen(scene, item, frame, before) for before, frame in pairwise([None, *frames])]
        told.append(f"The {item.noun}: {', '.join(seen)}.")
    return ClipText(" ".join(told), sampling, parts[part] if sampling.num_parts > 1 else WHOLE)


def _seen(scene: ClipScene, item: ClipObject, frame: int, before: int | None) -> str:
    if item not in scene.present(frame):
        return "away"
    words = f"{scene.colour(item.noun, frame)} ({', '.join(map(str, _cell(scene, item, frame, PLACE_GRID)))})"
    if before is None or item not in scene.present(before):
        return words
    step = item.positions[frame] - item.positions[before]
    return f"{DIRECTIONS_OF[scene.axis][int(step > 0)] if step else 'still'} {words}"


def _place(scene: ClipScene, item: ClipObject, frame: int) -> str:
    """Name the ninth of the canvas that the middle of an object lies in."""
    column, row = _cell(scene, item, frame, 3)
    return PLACES[row][column]


def _cell(scene: ClipScene, item: ClipObject, frame: int, grid: int) -> tuple[int, int]:
    """Return the column and the row, of `grid` each, that the middle of an object lies in."""
    along, across = (
        min(max(grid * (2 * start + item.size) // (2 * scene.canvas_pixels), 0), grid - 1)
        for start in (item.positions[frame], item.across)
    )
    return (along, across) if scene.axis == "x" else (across, along)


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
