"""The oracle of clips: which claims of a text are true, and how much of what was asked for it tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from triptych.errors import DataError
from triptych.group import Group
from triptych.world.clip_claims import ANY, ClipClaim, ClipReading, read_clip_claims
from triptych.world.clip_facts import MOVE, OBJECT, REST, WHOLE, About, Fact, facts_of
from triptych.world.clip_scene import ClipScene, Event

ORDER = "order"
"""Kind of a judgement about which of two events comes first."""
TRUTH = "truth"
"""Where the meta of a row without an answer keeps the right one, for the oracle alone."""


@dataclass(frozen=True, slots=True)
class ClipJudgement:
    """One thing that a text claims, and whether it is right."""

    text: str
    kind: str
    """`object`, `rest`, `move`, the kind of an event, or `order`."""
    right: bool


@dataclass(frozen=True, slots=True)
class ClipScore:
    """What is true in a text about a clip."""

    judgements: tuple[ClipJudgement, ...]
    """One for each claim, repeated mentions of an object counted once; those about order come last."""
    covered: tuple[Fact, ...]
    """The facts asked for that right claims tell ..."""
    missing: tuple[Fact, ...]
    """... and those that none tells."""

    @property
    def num_wrong(self) -> int:
        """Number of claims that are not so."""
        return sum(not judgement.right for judgement in self.judgements)

    @property
    def coverage(self) -> float:
        """Share of the facts asked for that the text tells, from 0 to 1."""
        total = len(self.covered) + len(self.missing)
        return len(self.covered) / total if total else 1.0

    @property
    def precision(self) -> float:
        """Share of the claims that are so, from 0 to 1; 0 for a text that claims nothing."""
        total = len(self.judgements)
        return (total - self.num_wrong) / total if total else 0.0

    @property
    def quality(self) -> float:
        """Harmonic mean of precision and coverage, from 0 to 1: to keep silent is no better than to err."""
        total = self.precision + self.coverage
        return 2 * self.precision * self.coverage / total if total else 0.0


def score_clip(prediction: str, group: Group) -> dict[str, Any]:
    """Score a text against the clip in `group.meta["scene"]` and, where there is one, `group.meta["about"]`.

    Returns:
        `hallucinated`: whether any claim is wrong; `num_claims`, `num_wrong`; `coverage`, from 0 to 1; `quality`
        (`ClipScore.quality`); and `claims`, a list of `{"text", "kind", "right"}`.
    Raises:
        DataError: the row has no scene of a clip.
    """
    scene, about = scene_of(group)
    score = judge_clip(prediction, scene, about)
    return {
        "hallucinated": score.num_wrong > 0,
        "num_claims": len(score.judgements),
        "num_wrong": score.num_wrong,
        "coverage": score.coverage,
        "quality": score.quality,
        "claims": [{"text": item.text, "kind": item.kind, "right": item.right} for item in score.judgements],
    }


def scene_of(group: Group) -> tuple[ClipScene, About]:
    """Return the clip that a row shows, and what its question is about.

    Raises:
        DataError: kind `scene_missing`.
    """
    scene = group.meta.get("scene")
    if not isinstance(scene, dict) or "events" not in scene:
        raise DataError(
            "The row has no `scene` of a clip in its `meta`, so what a text claims cannot be checked.",
            remedy="Score texts about clips that the embedded world wrote.",
            kind="scene_missing",
            row=group.id,
        )
    return ClipScene.from_dict(scene), About.from_dict(group.meta.get("about", {}))


def prefer(first: str, second: str, group: Group) -> int | None:
    """Return 0 or 1 for the text of higher quality about the clip of a row, None where they are equally good."""
    qualities = [quality(text, group) for text in (first, second)]
    return None if qualities[0] == qualities[1] else int(qualities[1] > qualities[0])


def quality(text: str, group: Group) -> float:
    """Return `ClipScore.quality` of a text; of a short answer to a question with a `truth`, 1 if it is that, else 0.

    Raises:
        DataError: the row has no scene of a clip.
    """
    if truth := group.meta.get(TRUTH):
        return float(text.strip().rstrip(".").lower() == truth.lower())
    return judge_clip(text, *scene_of(group)).quality


def num_facts(group: Group) -> float:
    """Return how much there is to tell of the clip of a row: how hard it is, for the parts of a curriculum.

    Raises:
        DataError: the row has no scene of a clip.
    """
    return float(len(facts_of(scene_of(group)[0])))


def judge_clip(text: str, scene: ClipScene, about: About = WHOLE) -> ClipScore:
    """Compare what a text claims with a clip.

    An object is right with any of the colours it has in the clip. Each claim of an event takes an event of its own; if
    there are several that fit, one that was asked for, and the next one in time. `twice`, `three objects` are right if
    it is exactly so many. A claim of order is judged where both events are right. What is true but was not asked for
    is right and covers nothing.
    """
    reading = read_clip_claims(text)
    wanted = required_facts(scene, about)
    judge = _Judge(scene, {fact.frame for fact in wanted if fact.is_event})
    results = [(claim, judge.is_right(number, claim)) for number, claim in enumerate(reading.claims)]
    kept = _without_repeats(results)
    judgements = [ClipJudgement(_span(text, claim), claim.kind, right) for claim, right in kept]
    judgements += judge.orders(text, reading)
    told = [fact for fact in wanted if judge.is_told(fact, reading.claims)]
    return ClipScore(tuple(judgements), tuple(told), tuple(fact for fact in wanted if fact not in told))


def required_facts(scene: ClipScene, about: About = WHOLE) -> list[Fact]:
    """Return what a full answer must tell; whoever asks what happens to or after something asks not who is there."""
    facts = facts_of(scene, about)
    is_description = about.noun is None and about.after is None and about.before is None
    return facts if is_description else [fact for fact in facts if fact.kind != OBJECT]


class _Judge:
    """Judges the claims of one text in order; `self.found` holds the events of each right claim of events.

    Args:
        asked: frames of the events that the question is about.
    """

    def __init__(self, scene: ClipScene, asked: set[int]) -> None:
        self.scene, self.asked = scene, asked
        self.used: set[Event] = set()
        self.found: dict[int, list[Event]] = {}
        self.right: set[int] = set()
        self.time = -1  # of the event claimed last

    def is_right(self, number: int, claim: ClipClaim) -> bool:
        right = {OBJECT: self._object, MOVE: self._motion, REST: self._motion}.get(claim.kind, self._event)(
            number, claim
        )
        if right:
            self.right.add(number)
        return right

    def orders(self, text: str, reading: ClipReading) -> list[ClipJudgement]:
        judged = []
        for earlier, later in reading.orders:
            if earlier in self.found and later in self.found:
                right = self.found[earlier][0].frame < self.found[later][-1].frame
                judged.append(ClipJudgement(_span(text, reading.claims[max(earlier, later)]), ORDER, right))
        return judged

    def is_told(self, fact: Fact, claims: Sequence[ClipClaim]) -> bool:
        """Say whether a right claim tells the fact, and says whom it is about."""
        if fact.is_event:
            return any(
                event.frame == fact.frame and claims[number].noun != ANY and _is_complete(claims[number])
                for number, events in self.found.items()
                for event in events
            )
        return any(
            number in self.right and (claim.kind, claim.noun, claim.direction) == (fact.kind, fact.noun, fact.direction)
            for number, claim in enumerate(claims)
            if claim.kind != OBJECT or claim.colour is not None
        )

    def _object(self, number: int, claim: ClipClaim) -> bool:
        count = sum(
            claim.noun in (item.noun, ANY) and claim.colour in (None, *self.scene.colours(item.noun))
            for item in self.scene.objects
        )
        return count > 0 if claim.number is None else count == claim.number

    def _motion(self, number: int, claim: ClipClaim) -> bool:
        movers = [item for item in self.scene.objects if self._is_meant(claim, item.noun)]
        fitting = [item for item in movers if self._moves(item.noun, claim)]
        return len(fitting) == claim.number if claim.number is not None else bool(fitting)

    def _moves(self, noun: str, claim: ClipClaim) -> bool:
        item = self.scene.item(noun)
        seen = [frame for frame in range(self.scene.num_frames - 1) if self.scene.visible(item, frame)]
        directions = {self.scene.motion(item, frame) for frame in seen}
        if claim.kind == REST:
            return None in directions
        return claim.direction in directions if claim.direction else directions != {None}

    def _event(self, number: int, claim: ClipClaim) -> bool:
        fitting = [event for event in self.scene.events if self._fits(claim, event)]
        if claim.number is not None:
            counted = len({event.noun for event in fitting}) if claim.noun == ANY else len(fitting)
            chosen = fitting if counted == claim.number else []
        elif claim.refers:
            chosen = fitting[:1]
        else:
            free = [event for event in fitting if event not in self.used]
            free = [event for event in free if event.frame in self.asked] or free
            chosen = ([event for event in free if event.frame > self.time] or free)[:1]
        if not chosen:
            return False
        self.used.update(chosen)
        self.found[number], self.time = chosen, chosen[-1].frame
        return True

    def _fits(self, claim: ClipClaim, event: Event) -> bool:
        if claim.kind != event.kind or claim.side not in (None, event.side):
            return False
        if claim.kind == "turn" and claim.colour not in (None, event.colour):
            return False
        if claim.kind == "cross":
            names = {claim.noun, claim.other} - {None, ANY}
            return names <= {event.noun, event.other} and (claim.noun != claim.other or claim.noun == ANY)
        return self._is_meant(claim, event.noun)

    def _is_meant(self, claim: ClipClaim, noun: str) -> bool:
        return claim.noun == noun or (claim.noun == ANY and claim.noun_colour in (None, *self.scene.colours(noun)))


def _is_complete(claim: ClipClaim) -> bool:
    """Say whether a claim of an event tells the side or the colour or the other one, where there is one to tell."""
    needed = {"enter": claim.side, "leave": claim.side, "bounce": claim.side, "turn": claim.colour}
    needed["cross"] = None if claim.other == ANY else claim.other
    return claim.kind not in needed or needed[claim.kind] is not None


def _without_repeats(results: Sequence[tuple[ClipClaim, bool]]) -> list[tuple[ClipClaim, bool]]:
    """Leave out later mentions of an object or its motion that say nothing new."""
    kept: list[tuple[ClipClaim, bool]] = []
    for claim, right in results:
        repeats = claim.kind in (OBJECT, MOVE, REST) and any(
            (claim.kind, claim.noun, claim.noun_colour) == (old.kind, old.noun, old.noun_colour)
            and claim.number == old.number
            and claim.colour in (None, old.colour)
            and claim.direction in (None, old.direction)
            for old, _ in kept
        )
        if not repeats:
            kept.append((claim, right))
    return kept


def _span(text: str, claim: ClipClaim) -> str:
    return " ".join(text[claim.start : claim.end].split())
