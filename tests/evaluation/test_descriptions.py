import pytest

from triptych.errors import TriptychError
from triptych.evaluation.descriptions import aggregate_descriptions, resolve_scorer
from triptych.evaluation.intervals import share


def score(num_claims, num_wrong, coverage=0.5):
    return {
        "hallucinated": num_wrong > 0,
        "num_claims": num_claims,
        "num_wrong": num_wrong,
        "coverage": coverage,
        "claims": [],
    }


def test_texts_mentions_and_coverage_are_shares_of_their_own():
    result = aggregate_descriptions([score(4, 0, 1.0), score(4, 2, 0.5), score(2, 1, 0.0), score(0, 0, 0.5)])
    assert result["hallucination"] == share(2, 4)
    assert result["mentions"]["value"] == 3 / 10
    assert result["coverage"]["value"] == 0.5
    for estimate in result.values():
        low, high = estimate["ci"]
        assert 0 <= low <= estimate["value"] <= high <= 1


def test_the_order_of_texts_does_not_change_the_values():
    scores = [score(3, 1, 0.1), score(5, 0, 0.9), score(1, 1, 0.4)]
    forward, backward = aggregate_descriptions(scores), aggregate_descriptions(scores[::-1])
    assert {name: item["value"] for name, item in forward.items()} == pytest.approx(
        {name: item["value"] for name, item in backward.items()}
    )


def test_without_a_claim_nothing_is_known_of_mentions():
    assert aggregate_descriptions([score(0, 0), score(0, 0)])["mentions"] == {"value": 0.0, "ci": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"hallucinated": True, "num_claims": 1, "num_wrong": 1}, "lacks coverage"),
        (score(1, 2), "contradicts"),
        (score(2, 1) | {"hallucinated": False}, "contradicts"),
    ],
)
def test_a_broken_score_is_reported_with_its_place(broken, message):
    with pytest.raises(TriptychError, match=f"Score 1 .*{message}"):
        aggregate_descriptions([score(1, 0), broken])


def test_no_descriptions_have_no_rates():
    with pytest.raises(TriptychError):
        aggregate_descriptions([])


def test_a_scorer_is_found_by_its_import_path():
    assert resolve_scorer("json:loads")("[1]") == [1]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("json.loads", "package.module:function"),
        (":loads", "package.module:function"),
        ("json:", "package.module:function"),
        ("no_such_module:score", "cannot be imported"),
        (".relative:score", "cannot be imported"),
        ("json:no_such_function", "no function"),
        ("json:__name__", "no function"),
    ],
)
def test_a_scorer_that_cannot_be_found_says_why(path, message):
    with pytest.raises(TriptychError, match=message):
        resolve_scorer(path)
