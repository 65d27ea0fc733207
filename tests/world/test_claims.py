import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.world.claims import read_claims


def _read(text):
    return [(claim.colour, claim.noun, *claim.places) for claim in read_claims(text)]


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        # Order of words.
        ("A red 3 at the top left and a blue star.", [("red", "3", "top left"), ("blue", "star")]),
        ("At the top left is a red 3, in the centre is a star.", [("red", "3", "top left"), (None, "star", "centre")]),
        ("In the centre, a blue star.", [("blue", "star", "centre")]),
        ("The top left star is red.", [("red", "star", "top left")]),
        ("The star on the left is red and the 3 is blue.", [("red", "star", "left"), ("blue", "3")]),
        ("the object in the centre is a blue star", [("blue", "star", "centre")]),
        ("There is a 3. It is at the top.", [(None, "3")]),
        # Broken grammar, case and punctuation.
        ("RED 3 TOP-LEFT!!! blue star centre", [("red", "3", "top left"), ("blue", "star", "centre")]),
        ("a red star top left green 4 bottom", [("red", "star", "top left"), ("green", "4", "bottom")]),
        ("a red at the top left", [("red", "object", "top left")]),
        ("a a red red star the the", [("red", "star")]),
        (
            "a red star at the top left at the bottom, a 3 on the left",
            [("red", "star", "top left"), (None, "3", "left")],
        ),
        ("a red star at the top bottom", [("red", "star", "nowhere")]),
        # Other words for the same.
        ("upper left: a large bright red star", [("red", "star", "top left")]),
        ("a star in the middle of the picture", [(None, "star", "centre")]),
        ("a star in the lower right corner", [(None, "star", "bottom right")]),
        ("the digit 7, the number four, a red three", [(None, "7"), (None, "4"), ("red", "3")]),
        ("Red 8 [top left], blue star [centre].", [("red", "8", "top left"), ("blue", "star", "centre")]),
        # Unknown things are claims, too; unknown words are not.
        ("a red dog on the left", [("red", "dog", "left")]),
        ("a dog on the left", [(None, "dog", "left")]),
        ("I think, well, a nice red star shines", [("red", "star")]),
        ("a red 12", [("red", "12")]),
        # What claims no object.
        ("", []),
        ("red red red", []),
        ("There is no star and no red 3.", []),
        ("It is not a star.", []),
        ("There are 0 stars and zero circles, but 1 square.", [(None, "square")]),
        ("The digits are 3 and 7. 3 + 7 = 10.", []),
        ("There are 3 objects, 2 digits and 1 shape.", []),
        ("Each red star counts as 1.", []),
        ("A shape with 3 sides is a triangle.", []),
        ("Row 1 and column 2 meet at the top.", []),
        ("a red star\nFinal Answer: 3 at the top", [("red", "star")]),
        # Relations tell no cell.
        ("a red star to the left of a blue 3", [("red", "star"), ("blue", "3")]),
        ("a red star in the top row", [("red", "star")]),
        ("The star is not red and not at the top.", [(None, "star")]),
    ],
)
def test_what_a_text_claims(text, claims):
    assert _read(text) == claims


def test_numbers_of_objects_are_read():
    numbers = [(claim.number, claim.colour, claim.noun, claim.places) for claim in read_claims(
        "Two red stars on the left and in the centre, 3 circles and 999999999999 blue 4s; squares at the top."
    )]  # fmt: skip
    assert numbers == [
        (2, "red", "star", ["left", "centre"]),
        (3, None, "circle", []),
        (1, "blue", "4", []),
        (1, None, "square", ["top"]),
    ]
    assert [claim.number for claim in read_claims("999999999999999999999 stars")] == [10]


def test_a_claim_knows_its_words():
    text = "Look: a red 3 at the Top Left, and in the centre a star."
    assert [text[claim.start : claim.end] for claim in read_claims(text)] == [
        "a red 3 at the Top Left",
        "centre a star",
    ]


_WORDS = "a the red blue 3 star circles two at in top left centre , . and is no of digit object zzz one row picture [ 8"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(_WORDS.split()), max_size=30).map(" ".join) | st.text(max_size=60))
def test_any_text_can_be_read(text):
    for claim in read_claims(text):
        assert 0 <= claim.start < claim.end <= len(text) or not text.isascii()
        assert len(claim.places) <= claim.number or claim.plural
