"""What a judge is told of a video besides the video: a narrative, made of captions of its clips.

VLM-RLAIF (arXiv:2402.03746): the frames of a video are cut into clips of at most 20, the model itself describes each
clip in detail, and the descriptions, in order, are the narrative. It depends on the video alone, not on the question,
so each distinct video is told once. A row with pictures instead of videos has one caption of them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from triptych.data.sampling import META, FrameSampling, clips_of, fewest_parts
from triptych.errors import TriptychError
from triptych.generation.protocol import Generator, Request, Sample, SamplingParams
from triptych.group import Group, fingerprint

CAPTION_REQUEST = "Describe the video in detail."
CAPTION_PARAMS = SamplingParams(temperature=0.0, max_new_tokens=256)


@dataclass(frozen=True)
class Narrative:
    """What is told of the media of a row.

    Attributes:
        text: captions of the clips, in order.
        samples: of each clip, for counting; empty where another row of the same media brought the narrative about.
    """

    text: str
    samples: list[list[Sample]] = field(default_factory=list)


@dataclass(frozen=True)
class Narrator:
    """Tells videos clip by clip.

    Attributes:
        request: asks for the caption of a clip.
        max_frames: most frames of a clip (the paper's 20 makes three clips of its 50 frames).
        num_frames: of a video in all its clips; 0 takes those that the row shows, as in the paper. With more than
            these, the narrative tells what fits no single prompt.
        params: how captions are drawn.
        seed: of their samples.

    Raises:
        TriptychError: max_frames is below 1, num_frames below 0, or the request is empty.
    """

    request: str = CAPTION_REQUEST
    max_frames: int = 20
    num_frames: int = 0
    params: SamplingParams = CAPTION_PARAMS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_frames < 1:
            raise TriptychError(f"max_frames is {self.max_frames}; a clip needs at least 1.")
        if self.num_frames < 0:
            raise TriptychError(f"num_frames is {self.num_frames}; write 0 for the frames of the row.")
        if not self.request.strip():
            raise TriptychError("The request for captions is empty.")

    def tell(self, groups: Sequence[Group], generator: Generator, root: Path) -> list[Narrative]:
        """Return the narrative of each row; a row without media has an empty one."""
        owners: dict[str, Group] = {}
        keys = [_media_key(group) for group in groups]
        for key, group in zip(keys, groups, strict=True):
            owners.setdefault(key, group)
        asked = {key: list(self._clips(key, group)) for key, group in owners.items()}
        requests = [Request(clip, seed=self.seed) for clips in asked.values() for clip in clips]
        drawn = iter(generator.generate(requests, self.params, root=root) if requests else ())
        told: dict[str, Narrative] = {}
        for key, clips in asked.items():
            samples = [next(drawn) for _ in clips]
            told[key] = Narrative(" ".join(item[0].text.strip() for item in samples), samples)
        narratives = []
        for key in keys:
            narratives.append(told[key])
            told[key] = Narrative(told[key].text)  # paid for by the first row
        return narratives

    def _clips(self, key: str, group: Group) -> Iterator[Group]:
        """Yield a row that shows each clip and asks for its caption."""
        if group.images:
            yield self._asking(f"narrative/{key}", group.images, [], [])
        for number, clip in enumerate(clips_of(group)):
            sampling = clip.sampling
            if self.num_frames and sampling.num_parts == 1:
                sampling = replace(sampling, num_frames=self.num_frames)
            num_parts = fewest_parts(sampling.num_frames, self.max_frames) if sampling.num_parts == 1 else 1
            for part in range(num_parts):
                shown = replace(sampling, num_parts=num_parts, part=part) if num_parts > 1 else sampling
                yield self._asking(f"narrative/{key}/{number}/{part}", [], [clip.item], [shown])

    def _asking(self, name: str, images: list, videos: list, policies: Sequence[FrameSampling]) -> Group:
        parts = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
        message = {"role": "user", "content": [*parts, {"type": "text", "text": self.request}]}
        meta = {META: [item.to_dict() for item in policies]} if policies else {}
        return Group(name, [message], images=images, videos=videos, meta=meta)


def _media_key(group: Group) -> str:
    return fingerprint([group.images, group.videos, group.meta.get(META)])
