"""What a free text claims about a picture: which objects, of which colour, where.

A reader of plain words, not of grammar: it goes over the text once, keeps what it knows (a colour, a number, a place)
until a noun takes it, and ignores words it does not know. So it also reads what half-trained models write.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field

from triptych.world.config import PALETTE, SIDES

ANY, ANY_DIGIT, ANY_SHAPE = "object", "digit", "shape"
NOWHERE = "nowhere"
"""The place of a claim that contradicts itself, such as `at the top bottom`."""

_COUNTING = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_COUNTING)}
_MOST = 10
"""Larger numbers of objects are read as this one: more than any picture holds."""
_GENERIC = {
    **dict.fromkeys(("object", "thing", "item", "figure"), ANY),
    **dict.fromkeys(("digit", "number", "numeral"), ANY_DIGIT),
    "shape": ANY_SHAPE,
}
_SINGULAR = {**{shape: shape for shape in SIDES}, **_GENERIC}
_PLURAL = {f"{word}s": noun for word, noun in _SINGULAR.items()}
_NOUNS = {*_SINGULAR, *_PLURAL, *_NUMBER_WORDS, *map(str, range(10))}
_VERTICAL = {"top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}
_HORIZONTAL = {"left": "left", "right": "right"}
_PLACE_WORDS = {*_VERTICAL, *_HORIZONTAL, "centre", "center", "middle"}
_DEFINITE = {"the", "this", "that", "these", "those"}
_ARTICLES = {"a", "an", "another", *_DEFINITE}
_NEGATIONS = {"no", "not", "without", "never", "neither", "nor", "isn", "aren"}
_QUANTIFIERS = {"each", "every", "any"}
"""They open general statements, such as `each star counts as 1`, which claim no object."""
_COPULAS = {"is", "are", "was", "were"}
_STOPS = {".", "!", "?", ";", "\n"}
_JOINTS = {",", "and", "but", "or"}
_PICTURE = {"picture", "image", "photo", "canvas", "scene", "grid", "frame"}
_BANDS = {"row", "column", "half", "part"}
_PREPOSITIONS = {"at", "on", "in", "to", "near", "by"}
_ADJECTIVES = {"large", "small", "big", "little", "tiny", "bright", "dark", "light", "handwritten", "written"}
_ADJECTIVES |= {"filled", "solid", "coloured", "colored", "single", "same"}
_OTHER_WORDS = {"of", "with", "there", "it", "its", "has", "have", "as", "so", "than", "then", "which", "also", "now"}
_OTHER_WORDS |= {"above", "below", "counts", "make", "makes", "while", "s", "t"}
_KNOWN = {*PALETTE, *_NOUNS, *_PLACE_WORDS, *_ARTICLES, *_NEGATIONS, *_QUANTIFIERS, *_COPULAS, *_STOPS, *_JOINTS}
_KNOWN |= {*_PICTURE, *_BANDS, *_PREPOSITIONS, *_ADJECTIVES, *_OTHER_WORDS}
_TOKEN = re.compile(r"[a-z]+|\d+|[.!?;,\n]")
_FINAL_ANSWER = re.compile(r"final answer\b.*", re.IGNORECASE | re.DOTALL)


@dataclass(slots=True)
class Claim:
    """One mention of one or several objects that are said to be in the picture."""

    noun: str
    """A shape, a digit (`"3"`), `ANY`, `ANY_DIGIT`, `ANY_SHAPE`, or a word that names nothing in this world."""
    colour: str | None
    start: int
    """First and last + 1 character of the mention in the text."""
    end: int
    places: list[str] = field(default_factory=list)
    number: int = 1
    """How many objects it claims; each place belongs to one of them."""
    definite: bool = False
    """True for `the red 3`, which may refer back to an earlier mention."""
    plural: bool = False
    """True for a plural without a number."""

    @property
    def is_generic(self) -> bool:
        """True where the noun does not say which kind of object is meant."""
        return self.noun in (ANY, ANY_DIGIT, ANY_SHAPE)

    @property
    def is_empty(self) -> bool:
        """True for talk of objects in general: `the digits`, `more red objects`."""
        return self.is_generic and not self.places and (self.colour is None or self.plural)


def read_claims(text: str) -> list[Claim]:
    """Return the claims of a text in the order in which they are made.

    Mentions that claim nothing are left out: of groups as such (`the digits`), of absence (`no star`), of numbers in
    sums; and so is a final answer.
    """
    return _Reader(_FINAL_ANSWER.sub("", text)).read()


class _Reader:
    """One pass over the tokens of a text; `self.at` is the index of the current one.

    Kept for a sentence: the last claim (with the index of its last token), and a place named before its object.
    Kept for a clause: whether it denies, whether `is` or `are` came after the last noun.
    Kept for a noun phrase: its article, colour and number, and the index of its first token.
    """

    def __init__(self, text: str) -> None:
        matches = list(_TOKEN.finditer(text.lower()))
        self.tokens = [match.group() for match in matches]
        self.spans = [match.span() for match in matches]
        self.claims: list[Claim] = []
        self.at = 0
        self._start_sentence()

    def read(self) -> list[Claim]:
        """Go over all tokens."""
        while self.at < len(self.tokens):
            self._read_token(self.tokens[self.at])
            self.at += 1
        return [claim for claim in self.claims if not claim.is_empty]

    def _start_sentence(self) -> None:
        self.last: Claim | None = None
        self.last_token = -1
        self.place: tuple[str, int] | None = None  # and the index of its first token
        self.place_is_borrowed = False  # the last claim has its place from before its noun
        self._start_clause()

    def _start_clause(self) -> None:
        self.negated = self.copula = False
        self._start_noun_phrase()

    def _start_noun_phrase(self, article: str = "") -> None:
        self.article = article
        self.colour: str | None = None
        self.number: int | None = None
        self.phrase: int | None = self.at if article else None

    def _read_token(self, token: str) -> None:
        if token in _STOPS:
            self._start_sentence()
        elif token in _JOINTS:
            self._start_clause()
        elif token in _ARTICLES:
            if self._token(self.at + 1) not in _PLACE_WORDS:  # else it is part of a place, as in `a 3 at the top`
                self._start_noun_phrase(token)
        elif token in _NEGATIONS or token in _QUANTIFIERS:
            self.negated = True
        elif token in _COPULAS:
            self.copula = True
        elif token in _PLACE_WORDS:
            self._read_place()
        elif token in PALETTE:
            self._read_colour(token)
        elif token in _SINGULAR or token in _PLURAL:
            self._read_noun(token)
        elif token.isdigit() or token in _NUMBER_WORDS:
            self._read_number(_NUMBER_WORDS.get(token, token))
        elif token not in _KNOWN and (self.colour or (self.article and self._place_follows())):
            self._claim(token)  # `a red dog`, `a dog at the top`

    def _skip(self, words: Container[str], start: int) -> int:
        """Return the index of the first token from `start` on that is not one of the words."""
        while start < len(self.tokens) and self.tokens[start] in words:
            start += 1
        return start

    def _token(self, index: int) -> str:
        return self.tokens[index] if 0 <= index < len(self.tokens) else "."

    def _place_follows(self) -> bool:
        return self._token(self._skip(_PREPOSITIONS | _DEFINITE, self.at + 1)) in _PLACE_WORDS

    def _read_colour(self, colour: str) -> None:
        """Keep the colour for the noun that follows, or give it to the object before: `the star is red`."""
        noun_follows = self._token(self._skip(_ADJECTIVES, self.at + 1)) in _NOUNS
        if noun_follows or not (self.copula and self.last):
            self.colour = colour
            self.phrase = self.at if self.phrase is None else self.phrase
        elif self.last.colour is None and not self.negated:
            self.last.colour = colour
            self._extend(self.at)

    def _read_number(self, number: str) -> None:
        """Tell a number of objects (`3 stars`) from a digit in the picture (`a 3`, `red 3`, `3 at the top`)."""
        if self._token(self._skip(_ADJECTIVES | set(PALETTE), self.at + 1)) in _PLURAL:
            self.number = min(int(number[:4]), _MOST)
            self.phrase = self.at if self.phrase is None else self.phrase
        elif self.tokens[self.at] == "one":
            if self.colour:
                self._claim(ANY)  # `the red one`
        elif self.colour or self.article or self._place_follows():
            self._claim(number)

    def _read_noun(self, token: str) -> None:
        noun = _SINGULAR.get(token) or _PLURAL[token]
        following = self._token(self.at + 1)
        if token in _SINGULAR and noun == ANY_DIGIT and (following.isdigit() or following in _NUMBER_WORDS):
            self.phrase = self.at if self.phrase is None else self.phrase
            self.at += 1  # `the digit 3` is one mention
            noun = _NUMBER_WORDS.get(following, following)
        self._claim(noun, plural=token in _PLURAL)

    def _claim(self, noun: str, *, plural: bool = False) -> None:
        """Record a mention that ends at the current token, unless the clause denies it."""
        if self.negated or self.number == 0:
            self.last = None
        elif self.copula and self.last and self.last.is_generic and self.article not in _DEFINITE:
            if not self.last.is_empty or self.last.definite:  # else a definition: `a shape with 3 sides is a triangle`
                self.last.noun = noun  # `the blue object is a star`
                self.last.colour = self.last.colour or self.colour
                self._extend(self.at)
        else:
            self._add_claim(noun, plural)
        self._start_clause()

    def _add_claim(self, noun: str, plural: bool) -> None:
        first = self.at if self.phrase is None else self.phrase
        self.place_is_borrowed = self.place is not None
        if self.place:
            first = min(first, self.place[1])
        self.last = Claim(
            noun=noun,
            colour=self.colour,
            start=self.spans[first][0],
            end=self.spans[self.at][1],
            places=[self.place[0]] if self.place else [],
            number=self.number or 1,
            definite=self.article in _DEFINITE,
            plural=plural and self.number is None,
        )
        self.last_token, self.place = self.at, None
        self.claims.append(self.last)

    def _read_place(self) -> None:
        """Read a run such as `top left corner` and give it to the object before it, or keep it for the next one."""
        start, stop = self.at, self._skip(_PLACE_WORDS, self.at)
        self.at = stop - 1
        following = self._token(stop)
        if following in _BANDS or (following == "of" and not self._of_picture(stop)):
            return  # `in the top row` is no cell; `to the left of the star` tells of another object
        place = _place_name(self.tokens[start:stop])
        if self._is_adjective(start, stop):
            self._start_noun_phrase(self._token(start - 1))
            self.phrase, self.place = start - 1, (place, start)
            return
        if self.colour:  # broken grammar: `a red at the top left`
            self._claim(ANY)
        if not self.negated:
            self._give_place(place, start, stop)

    def _give_place(self, place: str, start: int, stop: int) -> None:
        last, before = self.last, start - 1
        while self._token(before) in _PREPOSITIONS | _DEFINITE:
            before -= 1
        if last and self.place_is_borrowed and before == self.last_token:
            last.places.clear()  # what follows the noun at once is surer than what stood before it
        if last and (last.plural or len(last.places) < last.number):
            last.places.append(place)
            self.place_is_borrowed = False
            self._extend(stop - 1)
        else:
            self.place = (place, start)

    def _is_adjective(self, start: int, stop: int) -> bool:
        """True for a place within a noun phrase: `the top left star`."""
        noun_follows = self._token(self._skip(_ADJECTIVES | set(PALETTE), stop)) in _NOUNS
        after_article = self._token(start - 1) in _ARTICLES and self._token(start - 2) not in _PREPOSITIONS
        return noun_follows and after_article

    def _of_picture(self, of: int) -> bool:
        return self._token(self._skip(_DEFINITE, of + 1)) in _PICTURE

    def _extend(self, token: int) -> None:
        """Let the last claim reach to a token."""
        if self.last:
            self.last.end, self.last_token = self.spans[token][1], token


def _place_name(words: list[str]) -> str:
    """Return the canonical name of a place: `upper left` is `top left`, `middle right` is `right`."""
    vertical = {_VERTICAL[word] for word in words if word in _VERTICAL}
    horizontal = {_HORIZONTAL[word] for word in words if word in _HORIZONTAL}
    if len(vertical) > 1 or len(horizontal) > 1:
        return NOWHERE
    return " ".join([*vertical, *horizontal]) or "centre"
