import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.report.wording import clock, duration, first_word, fixed, number, shorten, split_shared


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12345, "12,345"),
        (21034.6, "21,035"),
        (2483.4, "2,483"),
        (0.0123456, "0.0123"),
        (3.14159, "3.14"),
        (0.0000031, "3.1e−6"),
        (-2.5, "−2.5"),
    ],
)
def test_numbers_are_printed_as_in_a_table(value, text):
    assert number(value) == text


def test_fixed_numbers_use_a_true_minus_and_zero_has_no_sign():
    assert fixed(-0.04) == "0.0"
    assert fixed(0.04, sign=True) == "0.0"
    assert fixed(-1.25, 2, sign=True) == "−1.25"
    assert fixed(9.5, sign=True) == "+9.5"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (372, "6 min 12 s"),
        (3600, "1 h"),
        (11040, "3 h 4 min"),
        (176400, "2 d 1 h"),
    ],
)
def test_durations_show_their_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_long_texts_are_cut_and_say_how_much_is_missing():
    assert shorten("abc", 3) == "abc"
    assert shorten("abcdefgh", 3) == "abc … (5 more characters)"


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("I see 3 stars", "I see 4 stars", "I see "),
        ("a star here", "a start here", "a "),  # `star` and `start` share letters, not a word
        ("a star", "a star and more", "a star"),
        ("same", "same", "same"),
        ("", "text", ""),
        ("one, two", "one; two", "one"),
    ],
)
def test_texts_part_at_the_first_word_that_differs(first, second, shared):
    assert split_shared(first, second)[0] == shared


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab ,"), st.text(alphabet="ab ,"))
def test_the_parts_of_a_split_join_to_the_texts(first, second):
    shared, rest_first, rest_second = split_shared(first, second)
    assert (shared + rest_first, shared + rest_second) == (first, second)


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_the_first_word_and_what_surrounds_it_join_to_the_text(text):
    assert "".join(first_word(text)) == text


def test_the_first_word_stands_alone():
    assert first_word("  star, red") == ("  ", "star", ", red")
    assert first_word("<b>") == ("", "<", "b>")
    assert first_word("") == ("", "", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.26, "3.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1:00"),
        (65.4, "1:05"),
        (3600, "1:00:00"),
        (7389, "2:03:09"),
    ],
)
def test_moments_of_a_video_are_printed_as_on_a_clock(seconds, text):
    assert clock(seconds) == text
