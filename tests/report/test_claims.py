import pytest

from triptych.report.claims import Claim, mark_claims


def _claims(**verdicts):
    return [{"text": text.replace("_", " "), "right": right} for text, right in verdicts.items()]


def test_a_piece_is_judged_by_the_shortest_claim_that_it_belongs_to():
    claims = _claims(a_green_star=False, a_green_star_stops=True)
    assert mark_claims("Then a green star stops.", claims) == (
        [Claim("Then ", None), Claim("a green star", False), Claim(" stops", True), Claim(".", None)],
        [],
    )


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_of_claims_in_the_same_words_a_wrong_one_counts(order):
    claims = [{"text": "it stops", "right": right} for right in order]
    assert mark_claims("It  stops", claims) == ([Claim("It  stops", False)], [])


def test_claims_in_the_same_words_are_found_one_after_the_other():
    claims = [{"text": text, "right": right} for right in (False, True) for text in ("a star", "a star stops")]
    claims[0]["right"] = True
    pieces, unplaced = mark_claims("a star stops, a star stops.", claims)
    assert [(piece.text, piece.right) for piece in pieces] == [
        ("a star", True),
        (" stops", False),
        (", ", None),
        ("a star stops", True),
        (".", None),
    ]
    assert unplaced == []


def test_the_pieces_join_to_the_text_and_claims_without_a_place_are_returned():
    text = "One thing and another."
    pieces, unplaced = mark_claims(text, _claims(another=True, something_else=False))
    assert "".join(piece.text for piece in pieces) == text
    assert unplaced == [Claim("something else", False)]


@pytest.mark.parametrize("claims", [None, "x", [], ["x"], [{"text": "", "right": True}], [{"text": "a", "right": 1}]])
def test_what_is_no_claim_marks_nothing(claims):
    assert mark_claims("a b", claims) == ([Claim("a b", None)], [])


def test_a_text_without_words_has_no_pieces():
    assert mark_claims("", _claims(a=True)) == ([], [Claim("a", True)])
