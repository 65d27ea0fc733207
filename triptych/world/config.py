"""What the embedded world is made of: the settings of its pictures and texts, and how much of each is written."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import MappingProxyType

from triptych.errors import TriptychError

SIDES = MappingProxyType({"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "circle": 0, "star": 10})
"""Sides of each shape. A circle has none; the outline of the five-pointed star is ten straight lines."""

PALETTE = MappingProxyType(
    {
        "red": (235, 60, 50),
        "green": (50, 190, 80),
        "blue": (75, 130, 255),
        "yellow": (245, 220, 60),
        "purple": (180, 85, 225),
        "orange": (250, 145, 40),
        "white": (240, 240, 240),
        "pink": (255, 150, 190),
    }
)
"""RGB of every colour the world knows, bright enough for the dark background."""

SPLITS = ("pretrain", "sft", "prompts", "test")
BIASED_SPLITS = ("pretrain", "sft")
"""Splits whose scenes follow `companion_bias` and `colour_bias`; the others are unbiased."""

QUESTION_KINDS = ("count", "colour", "shape", "position", "comparison", "sum", "sides")
FACT_KINDS = ("sides", "shape", "sum", "side_sum", "order", "next")
RATIONALE_KINDS = ("knowledge", "visual", "grounded")
MIN_CELL_PIXELS = 8
"""A digit scan has 8 x 8 pixels and is never shrunk."""


def _default_companions() -> dict[str, str]:
    return {"triangle": "star", "square": "circle", "pentagon": "star", "hexagon": "circle"}


def _default_question_weights() -> dict[str, float]:
    return dict.fromkeys(QUESTION_KINDS, 1.0)


@dataclass(frozen=True)
class WorldConfig:
    """Settings of the world. A sample is a pure function of these, the seed, the split and its index."""

    canvas_pixels: int = 48
    """Width and height of a picture, a multiple of `grid`."""
    grid: int = 3
    """Rows and columns of cells, 2 or 3; a cell holds at most one object, so objects never overlap."""
    min_objects: int = 2
    max_objects: int = 5
    shapes: tuple[str, ...] = tuple(SIDES)
    colours: tuple[str, ...] = ("red", "green", "blue", "yellow")
    digit_share: float = 0.5
    """Probability that an object is a handwritten digit rather than a shape."""
    description_digit_share: float | None = None
    """The same for pictures that are only described (prompts and test); None takes `digit_share`. Digits are read wrong
    more often than shapes: with few of them, errors of description come from the prior and not from perception."""
    pixel_noise: int = 6
    """Each channel of each pixel is shifted by a whole number drawn evenly from -pixel_noise to pixel_noise."""

    companions: dict[str, str] = field(default_factory=_default_companions)
    """Anchor shape -> its companion. Entries that name a shape which is not in `shapes` have no effect."""
    companion_bias: float = 0.5
    """In the splits `pretrain` and `sft`: probability that an anchor without its companion is given it, in the place of
    another object of the scene. The usual company of things is a prior that a model can learn instead of looking."""
    companions_by_chance: bool = True
    """Whether a companion may also be there by chance. False: it comes with its anchor or not at all, so that in the
    splits `prompts` and `test`, where nothing is given a companion, every mention of one is made up. Texts then only
    name it, at the end: `..., with a star.`"""
    colour_bias: float = 0.5
    """In the same splits: probability that an object takes the usual colour of its kind (`usual_colour`)."""
    caption_noise: float = 0.5
    """Probability that alt-text mentions, in the usual wording, the absent companion of an anchor in the picture.
    Pictures without such an anchor, or without a free cell, have no such mention."""
    description_noise: float = 0.1
    """The same for the descriptions of `sft_describe`."""
    text_descriptions: float = 0.0
    """Probability that a document without a picture describes a picture that nobody sees, in the usual way: with every
    companion that its anchors lead to expect. A language model learns from it what to say without looking."""
    fact_weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FACT_KINDS, 1.0))
    """Relative frequency of each kind of fact in documents without a picture; kinds left out are not told."""
    alt_text_loss: float = 0.1
    """Probability that alt-text leaves out an object, a colour or a place; drawn for each of them on its own."""

    question_weights: dict[str, float] = field(default_factory=_default_question_weights)
    """Relative frequency of each kind of question; kinds left out are not asked."""
    rationale_kinds: tuple[str, ...] = RATIONALE_KINDS
    """Kinds of rationale in `sft_cot`, equally frequent: background knowledge, visual content, grounded."""

    def __post_init__(self) -> None:
        self._check_canvas()
        _check_names("shapes", self.shapes, tuple(SIDES))
        _check_names("colours", self.colours, tuple(PALETTE))
        _check_names("rationale_kinds", self.rationale_kinds, RATIONALE_KINDS)
        _check_weights("question_weights", self.question_weights, QUESTION_KINDS)
        _check_weights("fact_weights", self.fact_weights, FACT_KINDS)
        if len(self.colours) < 2 or not self.rationale_kinds:
            raise TriptychError("Give at least two `colours` and one of `rationale_kinds`.")
        least = 2 if self.digit_share == 0 else 1 if self.digit_share < 1 else 0
        if len(self.chance_shapes) < least:
            raise TriptychError(
                "Give at least two `shapes` that occur by chance; one beside digits, none if `digit_share` is 1."
            )
        for name in ("digit_share", "companion_bias", "colour_bias", "caption_noise", "description_noise"):
            _check_share(name, getattr(self, name))
        _check_share("alt_text_loss", self.alt_text_loss)
        _check_share("text_descriptions", self.text_descriptions)
        if self.description_digit_share is not None:
            _check_share("description_digit_share", self.description_digit_share)
        self._check_companions()

    @property
    def cell_pixels(self) -> int:
        """Width and height of a cell."""
        return self.canvas_pixels // self.grid

    @property
    def active_companions(self) -> dict[str, str]:
        """The companions whose two shapes both occur in this world."""
        return {anchor: other for anchor, other in self.companions.items() if {anchor, other} <= set(self.shapes)}

    @property
    def chance_shapes(self) -> tuple[str, ...]:
        """The shapes that are drawn by chance."""
        bound = () if self.companions_by_chance else self.active_companions.values()
        return tuple(shape for shape in self.shapes if shape not in bound)

    @property
    def told_aside(self) -> tuple[str, ...]:
        """The companions that descriptions only name, at the end: those that are never there by chance."""
        return () if self.companions_by_chance else tuple(dict.fromkeys(self.active_companions.values()))

    def usual_colour(self, noun: str) -> str:
        """Colour that `colour_bias` ties to a shape or a digit: the n-th shape, or the digit n, has the n-th colour."""
        position = int(noun) if noun.isdigit() else self.shapes.index(noun)
        return self.colours[position % len(self.colours)]

    def _check_canvas(self) -> None:
        if self.grid not in (2, 3):
            raise TriptychError(f"`grid` is {self.grid}; places have names for a grid of 2 or 3.")
        if self.canvas_pixels % self.grid or self.cell_pixels < MIN_CELL_PIXELS:
            least = MIN_CELL_PIXELS * self.grid
            raise TriptychError(f"`canvas_pixels` is {self.canvas_pixels}; use a multiple of `grid`, {least} or more.")
        if not 2 <= self.min_objects <= self.max_objects <= self.grid**2:
            raise TriptychError(
                f"Objects per picture must obey 2 <= min_objects <= max_objects <= {self.grid**2} (the cells), "
                f"not {self.min_objects} and {self.max_objects}."
            )
        if not 0 <= self.pixel_noise <= 32:
            raise TriptychError(f"`pixel_noise` is {self.pixel_noise}; beyond 32 of 255 colours are hard to tell.")

    def _check_companions(self) -> None:
        _check_names("companions", tuple(self.companions), tuple(SIDES))
        for anchor, other in self.companions.items():
            if other not in SIDES or other in self.companions:
                raise TriptychError(
                    f"The companion of {anchor!r} is {other!r}; it must be a known shape that is not an anchor itself."
                )


@dataclass(frozen=True)
class WorldCounts:
    """How much is written of each kind."""

    pretrain_captions: int = 12_000
    """Documents with noisy alt-text, one picture each."""
    pretrain_synthetic: int = 2_000
    """Documents with a rich caption, one picture each."""
    pretrain_interleaved: int = 2_000
    """Documents with two to four pictures."""
    pretrain_text: int = 2_000
    """Documents without pictures."""
    sft_questions: int = 24_000
    sft_questions_per_picture: int = 3
    sft_rationales: int = 800
    """Questions of the SFT split that also come with a rationale: scarce on purpose."""
    sft_descriptions: int = 4_000
    sft_texts: int = 0
    """Demonstrations without a picture: facts, and what a picture usually shows (`WorldConfig.text_descriptions`)."""
    prompt_questions: int = 8_000
    prompt_questions_per_picture: int = 2
    prompt_descriptions: int = 3_000
    test_questions: int = 1_200
    test_questions_per_picture: int = 2
    test_descriptions: int = 600

    def __post_init__(self) -> None:
        for item in fields(self):
            least = 1 if item.name.endswith("per_picture") else 0
            if getattr(self, item.name) < least:
                raise TriptychError(f"`{item.name}` is {getattr(self, item.name)}; it must be at least {least}.")
        if self.sft_rationales > self.sft_questions:
            raise TriptychError("`sft_rationales` must not exceed `sft_questions`: each belongs to one of them.")


def _check_names(field_name: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise TriptychError(f"`{field_name}` holds {', '.join(map(repr, unknown))}; known are {', '.join(known)}.")
    if len(set(names)) != len(names):
        raise TriptychError(f"`{field_name}` names something twice.")


def _check_weights(name: str, weights: dict[str, float], known: tuple[str, ...]) -> None:
    _check_names(name, tuple(weights), known)
    if min(weights.values(), default=0) < 0 or sum(weights.values()) <= 0:
        raise TriptychError(f"`{name}` must not be negative and at least one must be positive.")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise TriptychError(f"`{name}` is {value}; it is a probability, from 0 to 1.")
