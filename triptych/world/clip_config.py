"""What the clips of the embedded world are made of, and how much of them is written."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from triptych.errors import TriptychError
from triptych.world.config import MIN_CELL_PIXELS, PALETTE, SIDES

EVENT_KINDS = ("enter", "leave", "bounce", "cross", "turn", "stop")
"""What can happen to an object; `turn` is a change of colour, `cross` that two objects pass each other."""
CLIP_QUESTION_KINDS = ("object", "order", "direction", "count", "colour")
NUM_LANES = 4
"""Objects move along lanes of their own, so that they never hide each other."""
_MAX_CANVAS_PIXELS = 1_024
_SHARES = (
    "digit_share",
    "narrative_noise",
    "part_noise",
    "answer_noise",
    "context_share",
    "context_errors",
    "closed_share",
)
"""Settings that are probabilities."""


@dataclass(frozen=True)
class ClipConfig:
    """Settings of the clips. A sample is a pure function of these, the seed, the split and its index."""

    canvas_pixels: int = 96
    """Width and height of a clip, a multiple of 4 (there are 4 lanes) and even, as video codecs want it."""
    fps: int = 8
    """Frames per second."""
    min_seconds: float = 2.0
    max_seconds: float = 6.0
    min_objects: int = 1
    max_objects: int = 4
    min_events: int = 2
    max_events: int = 6
    """Most events of a clip. No two come closer than a quarter of a second, so that their order is clear."""
    shapes: tuple[str, ...] = tuple(SIDES)
    colours: tuple[str, ...] = ("red", "green", "blue", "yellow")
    speeds: tuple[float, ...] = (1 / 8, 1 / 6, 1 / 5)
    """How far objects move from frame to frame, in lanes: 3, 4 and 5 pixels on the default canvas."""
    digit_share: float = 0.2
    """Probability that an object is a handwritten digit rather than a shape. No two objects of a clip are of one
    kind, so that `the star` says which one is meant."""
    pixel_noise: int = 4
    """Each channel of each pixel of each frame is shifted by a whole number drawn evenly from -pixel_noise to
    pixel_noise."""
    num_frames: int = 50
    """Most frames of a clip that are shown to a model; recorded with every row. Fewer than a clip has are a lesson in
    what gets lost between them."""
    part_frames: int = 20
    """Most frames of a part of a clip that is narrated on its own: 20 of 50 make 3 parts."""
    narrative_frames: int = 0
    """Frames of a clip that its parts show together; 0 for `num_frames`. With more than these, a narrative of the parts
    tells what one look at the whole clip cannot."""
    narrative_noise: float = 0.2
    """Probability that a narrative of the split `train` ends with an event that never happened: the usual one of its
    first object (`usual_event`). A habit of speech that looking has to overcome."""
    part_noise: float = 0.0
    """The same for narratives of parts, and for the context of a comparison, which is made of them: what is short is
    told as it is."""
    answer_noise: float = 0.0
    """Probability that a question of the split `train`, or an answer to an open one, is about the clip as habit has it,
    with one usual event that never happened."""
    context_share: float = 0.5
    """Probability that a comparison, or a question to a judge, comes with a narrative of the clip as context."""
    context_errors: float = 0.0
    """Probability that a part of a context is told with an error of some kind: the narratives that a model will make
    are not all right, and should not be trusted blindly."""
    closed_share: float = 0.0
    """Probability that a comparison, or a question to a judge, is about a question with one right, short answer."""
    question_weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLIP_QUESTION_KINDS, 1.0))
    """Relative frequency of each kind of question; kinds left out are not asked."""

    def __post_init__(self) -> None:
        self._check_canvas()
        self._check_ranges()
        _check_names("shapes", self.shapes, tuple(SIDES))
        _check_names("colours", self.colours, tuple(PALETTE))
        _check_names("question_weights", tuple(self.question_weights), CLIP_QUESTION_KINDS)
        if min(self.question_weights.values(), default=0) < 0 or sum(self.question_weights.values()) <= 0:
            raise TriptychError("`question_weights` must not be negative and at least one must be positive.")
        if not self.speeds or not all(0 < speed <= 1 for speed in self.speeds):
            raise TriptychError(f"`speeds` are {list(self.speeds)}; give at least one, each above 0 and at most 1.")
        if len(self.colours) < 2:
            raise TriptychError("Give at least two `colours`: objects change theirs.")
        if len(self.shapes) < self.max_objects:
            raise TriptychError(f"{self.max_objects} objects of different kinds need as many `shapes`.")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise TriptychError(f"`{name}` is {getattr(self, name)}; it is a probability, from 0 to 1.")

    @property
    def lane_pixels(self) -> int:
        """Width of a lane."""
        return self.canvas_pixels // NUM_LANES

    @property
    def min_frames(self) -> int:
        """Frames of the shortest clip."""
        return round(self.min_seconds * self.fps)

    @property
    def max_frames(self) -> int:
        """Frames of the longest clip."""
        return round(self.max_seconds * self.fps)

    @property
    def frames_of_parts(self) -> int:
        """Frames that the parts of a clip show together."""
        return self.narrative_frames or self.num_frames

    @property
    def gap_frames(self) -> int:
        """Fewest frames from one event to the next, and from either end of the clip to an event."""
        return max(2, -(-self.fps // 4))

    def usual_event(self, noun: str) -> str:
        """Event that `narrative_noise` makes up for a shape or a digit: for the n-th shape or the digit n, the n-th."""
        usual = ("bounce", "stop", "leave", "turn")
        return usual[(int(noun) if noun.isdigit() else tuple(SIDES).index(noun)) % len(usual)]

    def _check_canvas(self) -> None:
        least = NUM_LANES * MIN_CELL_PIXELS
        if self.canvas_pixels % NUM_LANES or not least <= self.canvas_pixels <= _MAX_CANVAS_PIXELS:
            raise TriptychError(
                f"`canvas_pixels` is {self.canvas_pixels}; use a multiple of {NUM_LANES} from {least} to "
                f"{_MAX_CANVAS_PIXELS}."
            )
        if not 0 <= self.pixel_noise <= 32:
            raise TriptychError(f"`pixel_noise` is {self.pixel_noise}; beyond 32 of 255 colours are hard to tell.")

    def _check_ranges(self) -> None:
        if not 4 <= self.fps <= 60:
            raise TriptychError(f"`fps` is {self.fps}; motion needs at least 4, and no more than 60.")
        if not 1 <= self.min_seconds <= self.max_seconds <= 60:
            raise TriptychError(
                "Seconds must obey 1 <= min_seconds <= max_seconds <= 60, "
                f"not {self.min_seconds} and {self.max_seconds}."
            )
        if not 1 <= self.min_objects <= self.max_objects <= NUM_LANES:
            raise TriptychError(
                f"Objects per clip must obey 1 <= min_objects <= max_objects <= {NUM_LANES} (the lanes), "
                f"not {self.min_objects} and {self.max_objects}."
            )
        if not 0 <= self.min_events <= self.max_events or self.max_events < 1:
            raise TriptychError(
                f"Events must obey 0 <= min_events <= max_events, not {self.min_events} and {self.max_events}."
            )
        if min(self.num_frames, self.part_frames) < 1 or -(-self.frames_of_parts // self.part_frames) > self.min_frames:
            raise TriptychError(
                "`num_frames` and `part_frames` must be at least 1, and make no more parts than the shortest clip has "
                "frames."
            )
        if self.narrative_frames < 0:
            raise TriptychError(f"`narrative_frames` is {self.narrative_frames}; it must not be negative.")


@dataclass(frozen=True)
class ClipCounts:
    """How much is written of each kind."""

    pretrain_stills: int = 8_000
    """Single pictures with what is where, to learn looking from before what happens."""
    pretrain_clips: int = 2_000
    """Clips with documents to pre-train on: what happens in the whole and in a part of it, and a caption."""
    pretrain_texts: int = 2_000
    """Documents without a video: comparisons and questions about clips that nobody sees."""
    train_clips: int = 3_000
    """Clips with questions, rationales, narratives and a caption."""
    train_questions_per_clip: int = 4
    train_rationales_per_clip: int = 1
    """The first questions of each clip come with a rationale too."""
    train_comparisons: int = 3_000
    """Clips on which two answers are compared, in both orders: no more than `train_clips`, on the first ones."""
    train_judgements_per_clip: int = 1
    """Questions as a judge is asked them who compares answers by their probability, answered without habits."""
    train_preferences_per_clip: int = 0
    """Questions with a better and a worse answer as a pair, for a reward model to start from; without context."""
    prompt_clips: int = 1_500
    """Clips with open questions and no answers, for preference data."""
    prompts_per_clip: int = 2
    prompt_questions_per_clip: int = 0
    """Questions with one right answer among them; it is recorded as `truth` in the meta of the row."""
    test_clips: int = 300
    """Held-out clips with questions, descriptions, captions and questions about order."""
    test_questions_per_clip: int = 4
    test_actions: int = 108
    """Held-out clips that show one action; the classes come in turn."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) < 0:
                raise TriptychError(f"`{item.name}` is {getattr(self, item.name)}; it must not be negative.")
        if self.train_comparisons > self.train_clips:
            raise TriptychError("`train_comparisons` must not exceed `train_clips`: each is made on one of them.")
        if self.prompt_questions_per_clip > self.prompts_per_clip:
            raise TriptychError("`prompt_questions_per_clip` must not exceed `prompts_per_clip`: it is a part of them.")
        if self.train_rationales_per_clip > self.train_questions_per_clip:
            raise TriptychError("`train_rationales_per_clip` must not exceed `train_questions_per_clip`.")


def _check_names(field_name: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise TriptychError(f"`{field_name}` holds {', '.join(map(repr, unknown))}; known are {', '.join(known)}.")
    if len(set(names)) != len(names):
        raise TriptychError(f"`{field_name}` names something twice.")
