"""A clip as habit has it: with one usual event more than there was (`ClipConfig.usual_event`).

Where demonstrations are about such a clip, a model learns the habit along with the task, and has to overcome it by
looking.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from triptych.world.clip_config import ClipConfig
from triptych.world.clip_describe import made_up, without_usual_event
from triptych.world.clip_scene import ClipScene, Event


def by_habit(scene: ClipScene, config: ClipConfig, probability: float, rng: np.random.Generator) -> ClipScene:
    """Return the scene, with the probability with one event that never was, at the last free moment.

    It is the usual event of the first object that has had none like it; where all have had theirs, or no moment is
    free, nothing is added.
    """
    if rng.random() >= probability:
        return scene
    noun = without_usual_event([item.noun for item in scene.objects], scene, config)
    if noun is None:
        return scene
    item, busy = scene.item(noun), {event.frame for event in scene.events}
    free = [frame for frame in range(1, scene.num_frames - 1) if frame not in busy and scene.visible(item, frame)]
    if not free:
        return scene
    fact = made_up(noun, config.usual_event(noun), scene, config, rng)
    event = Event(free[-1], fact.kind, noun, side=fact.side, colour=fact.colour)
    return replace(scene, events=tuple(sorted((*scene.events, event), key=lambda each: each.frame)))
