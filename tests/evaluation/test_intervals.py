from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from triptych.errors import TriptychError
from triptych.evaluation.intervals import mean, over_seeds, paired_difference, ratio, share


def test_wilson_interval_by_hand():
    # z = 1.959964, n = 10, p = 0.2: centre (0.2 + z²/20) / (1 + z²/10) = 0.3920729 / 1.3841459 = 0.2832598,
    # half width z / 1.3841459 * sqrt(0.016 + z²/400) = 1.4160097 * 0.1601013 = 0.2267110.
    estimate = share(2, 10)
    assert estimate["value"] == 0.2
    assert estimate["ci"] == pytest.approx([0.0566822, 0.5098375], abs=1e-6)


def test_wilson_interval_of_none_and_all():
    # With no hits the upper bound is z² / (n + z²) = 3.8414588 / 13.8414588.
    assert share(0, 10)["ci"] == [0.0, pytest.approx(0.2775328, abs=1e-6)]
    assert share(10, 10)["ci"] == [pytest.approx(1 - 0.2775328, abs=1e-6), 1.0]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2000), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_interval_equals_scipy_and_holds_the_share(num_total, data, confidence):
    num_hits = data.draw(st.integers(0, num_total))
    estimate = share(num_hits, num_total, confidence=confidence)
    expected = stats.binomtest(num_hits, num_total).proportion_ci(confidence, method="wilson")
    assert estimate["ci"] == pytest.approx([expected.low, expected.high], abs=1e-9)
    low, high = estimate["ci"]
    assert 0 <= low <= estimate["value"] <= high <= 1


@pytest.mark.parametrize(("num_hits", "num_total"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_shares_are_refused(num_hits, num_total):
    with pytest.raises(TriptychError, match="no share"):
        share(num_hits, num_total)


def test_t_interval_over_three_seeds_by_hand():
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653: half width 4.302653 / sqrt(3).
    estimate = over_seeds([1.0, 2.0, 3.0])
    assert estimate["value"] == 2
    assert estimate["ci"] == pytest.approx([2 - 4.302653 / sqrt(3), 2 + 4.302653 / sqrt(3)], abs=1e-5)


def test_a_single_seed_has_no_interval_and_nothing_no_mean():
    with pytest.raises(TriptychError, match="more seeds"):
        over_seeds([0.5])
    with pytest.raises(TriptychError, match="no values"):
        mean([])


def test_bootstrap_is_deterministic_and_close_to_the_t_interval_for_many_items():
    values = np.random.default_rng(0).random(2000)
    bootstrap = mean(values)
    assert mean(values) == bootstrap
    assert mean(values, seed=1) != bootstrap
    exact = mean(values, method="t")
    assert bootstrap["value"] == pytest.approx(exact["value"])
    width = exact["ci"][1] - exact["ci"][0]
    assert bootstrap["ci"] == pytest.approx(exact["ci"], abs=0.1 * width)


def test_equal_values_leave_no_doubt():
    assert mean([0.25] * 8) == {"value": 0.25, "ci": [0.25, 0.25]}


def test_a_ratio_is_of_sums_and_resamples_items_together():
    assert ratio([1, 2], [4, 8])["value"] == 0.25
    assert ratio([1, 2], [4, 8])["ci"] == [0.25, 0.25]
    # Items without a denominator cannot make the ratio undefined.
    estimate = ratio([0, 1], [0, 1])
    assert estimate["value"] == 1 and estimate["ci"] == [1.0, 1.0]


@pytest.mark.parametrize(("tops", "bottoms"), [([1], [1, 2]), ([0, 0], [0, 0]), ([], [])])
def test_impossible_ratios_are_refused(tops, bottoms):
    with pytest.raises(TriptychError, match="ratio"):
        ratio(tops, bottoms)


@pytest.mark.parametrize("method", ["bootstrap", "t"])
def test_a_paired_difference_is_sharper_than_two_intervals(method):
    generator = np.random.default_rng(0)
    difficulty = generator.random(400)
    first, second = difficulty + 0.05 + 0.01 * generator.random(400), difficulty
    estimate = paired_difference(first, second, method=method)
    assert estimate["value"] == pytest.approx(np.mean(first) - np.mean(second))
    assert estimate["ci"][0] > 0.05
    assert mean(first, method=method)["ci"][0] < mean(second, method=method)["ci"][1]
    reverse = paired_difference(second, first, method=method)
    assert reverse["value"] == pytest.approx(-estimate["value"])


def test_paired_values_need_the_same_items():
    with pytest.raises(TriptychError, match="same items"):
        paired_difference([1.0], [1.0, 2.0])


def test_the_bootstrap_does_not_hold_all_resamples_at_once(monkeypatch):
    values = list(range(50))
    whole = mean(values)
    monkeypatch.setattr("triptych.evaluation.intervals._RESAMPLES_AT_ONCE", 50 * 7)
    assert mean(values) == whole
