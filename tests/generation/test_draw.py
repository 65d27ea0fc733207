"""Streams of uniform numbers, filters and inverse-CDF sampling."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from triptych.generation.draw import (
    draw,
    inverse_cdf,
    keep_top_k,
    keep_top_p,
    process_logits,
    split_mix,
    stream_seeds,
    uniforms,
)
from triptych.generation.protocol import Request, SamplingParams
from triptych.group import Group

REQUEST = Request(Group("a", []), num_samples=3, seed=7)
INF = math.inf


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


def kept(logits: torch.Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero()[:, 0].tolist() for row in logits]


def draw_at(logits: torch.Tensor, *uniform: float) -> list[int]:
    rows = torch.zeros(len(uniform), dtype=torch.long)
    return inverse_cdf(logits, rows, torch.tensor(uniform)).tolist()


def test_split_mix_gives_the_published_numbers() -> None:
    # Seed 1234567: the example of rosettacode.org; seed 0: the reference implementation of Vigna.
    expected = [
        [6457827717110365317, 3203168211198807973, 9817491932198370423],
        [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
    ]
    assert split_mix(np.array([1234567, 0], dtype=np.uint64), 3).tolist() == expected


def test_uniform_numbers_lie_in_the_unit_interval_and_are_evenly_spread() -> None:
    numbers = uniforms(stream_seeds(replace(REQUEST, num_samples=1000)), 50)
    assert numbers.dtype == torch.float32
    assert numbers.min() >= 0 and numbers.max() < 1
    tenths = torch.histc(numbers, 10, 0, 1) / numbers.numel()
    assert (tenths - 0.1).abs().max() < 5 * math.sqrt(0.1 * 0.9 / numbers.numel())
    correlation = torch.corrcoef(numbers[:, :2].T)[0, 1]
    assert abs(correlation) < 5 / math.sqrt(1000)


def test_the_number_of_a_step_does_not_depend_on_how_many_are_asked_for() -> None:
    seeds = stream_seeds(REQUEST)
    assert torch.equal(uniforms(seeds, 9)[:, :4], uniforms(seeds, 4))


def test_the_stream_of_a_sample_does_not_depend_on_how_many_samples_there_are() -> None:
    assert stream_seeds(replace(REQUEST, num_samples=12))[:3] == stream_seeds(REQUEST)


def test_every_part_of_a_request_that_changes_what_is_asked_changes_the_streams() -> None:
    requests = [
        REQUEST,
        replace(REQUEST, seed=8),
        replace(REQUEST, group=Group("b", [])),
        replace(REQUEST, prefix="It"),
        replace(REQUEST, without_media=True),
        # parts that would read alike if they were only strung together
        replace(REQUEST, group=Group("a1", [])),
        replace(REQUEST, prefix="1"),
    ]
    seeds = [seed for request in requests for seed in stream_seeds(request)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_top_k_keeps_the_k_most_likely_tokens_and_those_that_equal_the_last() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 5.0]])
    assert kept(keep_top_k(logits, 2)) == [[0, 2], [0, 1, 2, 3]]
    assert kept(keep_top_k(logits, 1)) == [[0], [3]]
    assert torch.equal(keep_top_k(logits, 9), logits)


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.01, [1]),  # the most likely token always stays
        (0.5, [1]),  # reached exactly
        (0.51, [1, 3]),
        (0.75, [1, 3]),
        (0.8, [0, 1, 3]),  # 0 and 2 are equally likely: the lower id comes first
        (0.9, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_the_share(top_p: float, expected: list[int]) -> None:
    assert kept(keep_top_p(logits_of(0.125, 0.5, 0.125, 0.25), top_p)) == [expected]


def test_top_p_takes_the_lower_ids_among_many_equal_tokens() -> None:
    assert kept(keep_top_p(torch.zeros(1, 4096), 0.25)) == [list(range(1024))]


def test_the_inverse_of_the_cumulative_distribution_is_taken_by_hand() -> None:
    logits = logits_of(0.25, 0.5, 0.25)  # cumulative 0.25, 0.75, 1
    assert draw_at(logits, 0.0, 0.2499, 0.2501, 0.7499, 0.7501, 1 - 2**-24) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [0, 1, 5, 60, 500])
@pytest.mark.parametrize("top_p", [1e-6, 0.2, 0.9, 1.0])
def test_processed_logits_are_those_of_transformers(temperature: float, top_k: int, top_p: float) -> None:
    logits = 3 * torch.randn(16, 300, generator=torch.Generator().manual_seed(0))
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    processed = process_logits(logits, SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p))
    assert torch.equal(processed, warpers(None, logits))


def test_a_token_of_no_probability_is_never_drawn() -> None:
    logits = torch.tensor([[-INF, 0.3, -INF, -INF, 0.1, -INF]])
    assert set(draw_at(logits, 0.0, 0.3, 0.6, 1 - 2**-24)) == {1, 4}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(-50, 50))
def test_a_shift_of_all_logits_changes_nothing_that_is_drawn(seed: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-64, 64, (4, 9), generator=generator) / 16
    shift = round(shift * 16) / 16  # exact in float32, as are the sums
    rows, uniform = torch.tensor([0, 1, 2, 3, 0]), torch.rand(5, generator=generator)
    assert torch.equal(inverse_cdf(logits, rows, uniform), inverse_cdf(logits + shift, rows, uniform))


def test_each_sample_draws_from_its_own_row() -> None:
    logits = torch.full((3, 3), -INF).fill_diagonal_(0)
    drawn = draw(logits, torch.tensor([2, 0, 0, 1]), torch.rand(4), SamplingParams())
    assert drawn.tolist() == [2, 0, 0, 1]


def test_temperature_zero_takes_the_most_likely_token() -> None:
    logits = torch.tensor([[0.1, 0.3, 0.2], [5.0, 4.0, 4.9]])
    drawn = draw(logits, torch.tensor([1, 0, 1]), torch.tensor([0.9, 0.9, 0.9]), SamplingParams(temperature=0))
    assert drawn.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SamplingParams(), [0.4, 0.3, 0.2, 0.1]),
        # temperature 1/2 squares the probabilities: 16, 9, 4, 1 of 30
        (SamplingParams(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        (SamplingParams(top_k=2), [4 / 7, 3 / 7, 0, 0]),
        (SamplingParams(top_p=0.75), [4 / 9, 3 / 9, 2 / 9, 0]),
        # after the temperature the first two tokens hold 25/30, so that top-p keeps these two
        (SamplingParams(temperature=0.5, top_p=0.8), [16 / 25, 9 / 25, 0, 0]),
        # top-k comes first: of the three left, two hold 7/9
        (SamplingParams(top_k=3, top_p=0.75), [4 / 7, 3 / 7, 0, 0]),
    ],
)
def test_drawn_frequencies_match_the_distribution(params: SamplingParams, expected: list[float]) -> None:
    number = 40_000
    uniform = uniforms(stream_seeds(replace(REQUEST, num_samples=number)), 1)[:, 0]
    rows = torch.zeros(number, dtype=torch.long)
    drawn = draw(logits_of(0.4, 0.3, 0.2, 0.1).to(torch.float64), rows, uniform, params)
    shares = torch.bincount(drawn, minlength=4) / number
    for share, probability in zip(shares.tolist(), expected, strict=True):
        assert abs(share - probability) <= 4.5 * math.sqrt(probability * (1 - probability) / number)
