import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.feedback.number_words import SCALES, TENS, UNITS, replace_number_words


def spell(number: int) -> str:
    """Write a whole number in English: the inverse, written independently."""
    for scale, value in sorted(SCALES.items(), key=lambda item: -item[1]):
        if number >= value:
            rest = number % value
            return f"{spell(number // value)} {scale}" + (f" {spell(rest)}" if rest else "")
    if number >= 100:
        return f"{spell(number // 100)} hundred" + (f" and {spell(number % 100)}" if number % 100 else "")
    names = {value: word for word, value in (UNITS | TENS).items()}
    return names.get(number) or f"{names[number - number % 10]} {names[number % 10]}"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**12 - 1) | st.integers(0, 2000))
def test_every_number_is_read_from_its_words(number):
    assert replace_number_words([*spell(number).split(), "dogs"]) == [str(number), "dogs"]


@pytest.mark.parametrize(
    ("words", "replaced"),
    [
        ("one two three", "1 2 3"),
        ("nineteen ninety eight", "19 98"),
        ("five and six", "5 and 6"),
        ("hundred", "hundred"),
        ("none", "none"),
        ("one hundred and", "100 and"),
        ("five thousand thousand", "5000 thousand"),
        ("zero hundred", "0 hundred"),
    ],
)
def test_words_that_do_not_form_one_number_stay_apart(words, replaced):
    assert " ".join(replace_number_words(words.split())) == replaced
