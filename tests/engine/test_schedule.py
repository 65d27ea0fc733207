import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.engine.schedule import OptimizerSettings, law_learning_rate, learning_rate_at
from triptych.errors import TriptychError


def shares(total, **settings):
    return [learning_rate_at(step, total, OptimizerSettings(**settings)) for step in range(total)]


def test_cosine_with_warm_up_by_hand():
    # 10 steps, 2 of warm-up: 1/2, 2/2, then progress 0/8 ... 7/8; cos(pi/4) = 0.70710678, cos(pi/2) = 0
    values = shares(10, warmup_ratio=0.2, lr_scheduler="cosine")
    assert values[:3] == [0.5, 1.0, 1.0]
    assert values[4] == pytest.approx((1 + 0.70710678) / 2)
    assert values[6] == pytest.approx(0.5)
    assert values[8] == pytest.approx((1 - 0.70710678) / 2)
    assert 0 < values[9] < 0.05


def test_linear_by_hand():
    assert shares(4, warmup_ratio=0.0, lr_scheduler="linear") == [1.0, 0.75, 0.5, 0.25]


def test_constant_after_warm_up():
    assert shares(4, warmup_ratio=0.5, lr_scheduler="constant") == [0.5, 1.0, 1.0, 1.0]


def test_the_fall_ends_towards_the_minimum_share():
    # half-way: 0.1 + 0.9 * 0.5
    assert shares(8, warmup_ratio=0.0, min_lr_ratio=0.1)[4] == pytest.approx(0.55)
    assert shares(10_000, warmup_ratio=0.0, min_lr_ratio=0.1)[-1] == pytest.approx(0.1, abs=1e-6)


def test_the_warm_up_is_rounded_up_as_in_transformers():
    # ceil(0.03 * 50) = 2
    assert shares(50, warmup_ratio=0.03, lr_scheduler="constant")[:3] == [0.5, 1.0, 1.0]


@given(
    total=st.integers(1, 60),
    warmup=st.floats(0, 1),
    minimum=st.floats(0, 1),
    kind=st.sampled_from(["cosine", "linear", "constant"]),
)
def test_no_step_is_spent_at_zero_or_above_the_peak(total, warmup, minimum, kind):
    values = shares(total, warmup_ratio=warmup, min_lr_ratio=minimum, lr_scheduler=kind)
    assert all(0 < value <= 1 + 1e-12 for value in values)
    peak = math.ceil(warmup * total)
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)


def test_a_step_outside_the_run_is_refused():
    for step in (-1, 10):
        with pytest.raises(ValueError, match="not in"):
            learning_rate_at(step, 10, OptimizerSettings())


@pytest.mark.parametrize(
    ("num_parameters", "expected"),
    # the printed formula, worked out to three digits; the paper then used 6e-5, 4e-5 and 2e-5 for the last three
    [
        (9e6, 6.75e-4),
        (85e6, 2.62e-4),
        (302e6, 1.54e-4),
        (1.2e9, 8.58e-5),
        (3e9, 5.83e-5),
        (7e9, 4.08e-5),
        (30e9, 2.21e-5),
    ],
)
def test_the_mm1_law_at_the_sizes_of_the_paper(num_parameters, expected):
    assert law_learning_rate(int(num_parameters)) == pytest.approx(expected, rel=3.5e-3)


def test_the_mm1_law_refuses_an_empty_model():
    with pytest.raises(ValueError, match="positive"):
        law_learning_rate(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "`learning_rate` is 0.0; it must be positive"),
        ({"muon_learning_rate": float("nan")}, "`muon_learning_rate` is nan"),
        ({"warmup_ratio": 100}, "`warmup_ratio` is 100; it is a share"),
        ({"min_lr_ratio": -0.1}, "`min_lr_ratio` is -0.1"),
        ({"weight_decay": -1}, "`weight_decay` is -1; it must not be negative"),
        ({"max_grad_norm": -1}, "`max_grad_norm` is -1"),
        ({"module_learning_rates": {"vision": 0.0}}, "`module_learning_rates.vision` is 0.0"),
        ({"module_learning_rates": {"(": 1.0}}, r"'\(' is no regular expression"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings, message):
    with pytest.raises(TriptychError, match=message):
        OptimizerSettings(**settings)
