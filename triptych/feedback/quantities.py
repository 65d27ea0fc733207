"""Read an answer as one exact quantity: number, percent sign, unit.

Numbers are fractions, never floats, so that equality is exact. A decimal comma is not read (1,234 would have two
meanings); units are compared, not converted.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from triptych.feedback.normalise import clean, fold
from triptych.feedback.number_words import SCALES, WORDS, read_number

MAX_CHARS = 200
"""Longer texts are no quantity; this also bounds the work on hostile input."""

_UNIT_NAMES = """
mm: millimeter millimeters millimetre millimetres
cm: centimeter centimeters centimetre centimetres
m: meter meters metre metres
km: kilometer kilometers kilometre kilometres
in: inch inches
ft: foot feet
mi: mile miles
mg: milligram milligrams
g: gram grams
kg: kilogram kilograms kgs
lb: lbs pound pounds
ms: millisecond milliseconds
s: sec secs second seconds
min: mins minute minutes
h: hr hrs hour hours
day: days
year: years yr yrs
ml: mL milliliter milliliters millilitre millilitres
l: L liter liters litre litres
N: newton newtons
J: joule joules
W: watt watts
mW: milliwatt milliwatts
kW: kilowatt kilowatts
MW: megawatt megawatts
V: volt volts
Pa: pascal pascals
MPa: megapascal megapascals
Hz: hertz
kHz: kilohertz
MHz: megahertz
°: degree degrees deg \\degree ^\\circ ^{\\circ}
°C: °c celsius
°F: °f fahrenheit
%: percent \\% pct
$: \\$ dollar dollars usd USD
€: euro euros eur EUR
£: gbp GBP
¥: yen jpy JPY yuan rmb RMB cny CNY
"""
_UNITS = {
    name: symbol
    for symbol, names in (line.split(": ") for line in _UNIT_NAMES.strip().splitlines())
    for name in (symbol, *names.split())
}

_VULGAR = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_DECIMAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[ \u00a0\u2009\u202f][0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"""
    (?P<sign>[+-])?\s*(?P<currency>\\?\$|[€£¥₩₹])?\s*
    (?: (?P<whole>[0-9]+)?\s*\\[dt]?frac\{{(?P<top>[0-9]+)\}}\{{(?P<bottom>[0-9]+)\}}
      | (?:(?P<mixed>[0-9]+)[ ])?(?P<numerator>[0-9]+)\s*/\s*(?P<denominator>[0-9]+)
      | (?P<integer>[0-9]*)(?P<vulgar>[{_VULGAR}])
      | (?P<decimal>{_DECIMAL})
        (?:(?:[eE]|\s*(?:×|x|\*|\\times|\\cdot)\s*10\s*\^)\s*\{{?(?P<exponent>[+-]?[0-9]{{1,3}})\}}?(?![0-9]))?
    )""",
    re.VERBOSE,
)
_MENTIONED = re.compile(r"(?<![\w.,])(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?![\w]|[.,][0-9])")
# A word after a number that belongs to the number, or shows that more is said than one number.
_NO_NOUN_WORDS = """
dozen half halves third thirds quarter quarters tenth tenths pair pairs and or to of out plus minus times divided over
by not no more less than point squared cubed if but maybe is are was were equals vs versus from at least most per
"""
_NO_NOUN = WORDS | set(_NO_NOUN_WORDS.split())
_WORD = r"[^\W\d_]{2,}(?:['-][^\W\d_]+)*"
_NOUN = re.compile(rf"{_WORD}(?: {_WORD}){{0,2}}")
_POWER = re.compile(r"\^?\{?([23])\}?$|([²³])$")


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number with what stands behind it."""

    value: Fraction
    """As written: 5 % is 5."""
    unit: str | None = None
    """Canonical symbol of a known unit; currencies and % are units."""
    noun: str | None = None
    """Whatever else was counted, lower case: `3 red apples` has the noun `red apples`."""
    bare_integer: bool = False
    """Written in digits alone."""


@lru_cache(maxsize=4096)
def parse_quantity(text: str) -> Quantity | None:
    """Read the whole text as one quantity; None where it is anything else, such as two numbers or a sentence.

    Understood: signs, thousands separators, decimals, fractions (also LaTeX and mixed), scientific notation, percent,
    currencies before the number, units and up to three words behind it, and English number words.
    """
    if len(text) > MAX_CHARS:
        return None
    text = clean(text)
    if text[:1] == "(" and text[-1:] == ")":
        text = text[1:-1].strip()
    return _from_digits(text) or _from_words(text)


def numbers_mentioned(text: str) -> set[Fraction]:
    """Return the unsigned numbers in digits that a text mentions; 10 does not mention 1."""
    return {Fraction(match.replace(",", "")) for match in _MENTIONED.findall(fold(text)[: 10 * MAX_CHARS])}


def _from_digits(text: str) -> Quantity | None:
    match = _NUMBER.match(text)
    if match is None or (value := _value(match)) is None:
        return None
    value = -value if match["sign"] == "-" else value
    rest = text[match.end() :]
    scale = re.match(r"\s*(hundred|" + "|".join(SCALES) + r")\b", rest, re.IGNORECASE)
    if scale:
        value *= SCALES.get(scale[1].lower(), 100)
        rest = rest[scale.end() :]
    tail = _tail(rest)
    if tail is None:
        return None
    unit, noun = tail
    if match["currency"]:
        if unit or noun:
            return None
        unit = _UNITS.get(match["currency"], match["currency"])
    return Quantity(value, unit, noun, bare_integer=text.isdigit())


def _value(match: re.Match[str]) -> Fraction | None:
    """Return the unsigned value; None for a fraction over zero."""
    if match["top"] or match["numerator"]:
        bottom = int(match["bottom"] or match["denominator"])
        whole = int(match["whole"] or match["mixed"] or 0)
        return whole + Fraction(int(match["top"] or match["numerator"]), bottom) if bottom else None
    if match["vulgar"]:
        part = Fraction(unicodedata.numeric(match["vulgar"])).limit_denominator(10)
        return int(match["integer"] or 0) + part
    digits = re.sub(r"[,\s]", "", match["decimal"])
    return Fraction(digits.rstrip(".") or "0") * Fraction(10) ** int(match["exponent"] or 0)


def _from_words(text: str) -> Quantity | None:
    words = re.split(r"[\s-]+", text.lower())
    negative = words[0] in ("minus", "negative")
    value, end = read_number(words, int(negative))
    if value is None:
        return None
    tail = _tail(" " + " ".join(words[end:]) if end < len(words) else "")
    if tail is None:
        return None
    return Quantity(Fraction(-value if negative else value), *tail)


def _tail(rest: str) -> tuple[str | None, str | None] | None:
    """Return (unit, noun) of what follows the number; None where that is neither."""
    spaced, rest = rest[:1].isspace(), re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r"\1", rest).strip(" \u00a0~\\,")
    if not rest:
        return None, None
    if unit := _unit(rest):
        return unit, None
    # A word glued to the number is part of a name (3D, 2nd, 7up), not something counted.
    if spaced and _NOUN.fullmatch(rest) and not _NO_NOUN & set(re.split(r"[\s-]", rest.lower())):
        return None, rest.lower()
    return None


def _unit(text: str) -> str | None:
    """Return the canonical symbol of a unit, a power of one (cm²) or a ratio of two (km/h); None for anything else.

    Prefixes make case count (mW, MW), so a unit is looked up as written before case is ignored.
    """
    if unit := _UNITS.get(text) or _UNITS.get(text.lower()):
        return unit
    over, slash, under = text.partition("/")
    if slash and (top := _unit(over.strip())) and (bottom := _unit(under.strip())):
        return f"{top}/{bottom}"
    if power := _POWER.search(text):
        base = _UNITS.get(text[: power.start()].rstrip())
        return base and f"{base}^{power[1] or {'²': 2, '³': 3}[power[2]]}"
    return None


def same_quantity(prediction: Quantity, truth: Quantity, *, rel_tol: float = 0.0, abs_tol: float = 0.0) -> bool:
    """Return whether two quantities are equal, within |p - t| <= max(rel_tol |t|, abs_tol).

    A unit given on one side only is taken as understood; a percentage also equals the share it stands for (12 % and
    0.12). Two bare integers between 1900 and 2099 are years and always compared exactly.
    """
    if not _compatible(prediction, truth):
        return False
    if all(side.bare_integer and 1900 <= side.value <= 2099 for side in (prediction, truth)):
        rel_tol = abs_tol = 0.0

    def close(left: Fraction, right: Fraction) -> bool:
        return abs(left - right) <= max(Fraction(str(rel_tol)) * abs(right), Fraction(str(abs_tol)))

    if close(prediction.value, truth.value):
        return True
    if truth.unit == "%" and prediction.unit is None:
        return close(prediction.value, truth.value / 100)
    if prediction.unit == "%" and truth.unit is None:
        return close(prediction.value / 100, truth.value)
    return False


def _compatible(one: Quantity, other: Quantity) -> bool:
    if one.unit and other.unit:
        return one.unit == other.unit
    if one.noun and other.noun:
        # "apples" and "red apples" count the same thing, "apples" and "oranges" do not.
        left, right = ({word.removesuffix("s") for word in side.noun.split()} for side in (one, other))
        return left <= right or right <= left
    return not (one.unit and other.noun) and not (one.noun and other.unit)
