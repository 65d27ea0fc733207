"""What is told of two sides, worked by hand."""

from __future__ import annotations

import pytest

from benchmarks.ppo.case import Case, Iteration
from benchmarks.ppo.sides import differences, figures_of, rounded, table

CASE = Case(prompts=2, samples=3, iterations=4)


def iterations(*seconds: float, **parts: float) -> list[Iteration]:
    return [Iteration(value, {name: value * part for name, part in parts.items()}, [], {}) for value in seconds]


def test_the_first_iteration_is_not_timed() -> None:
    figures = figures_of(CASE, iterations(100, 1, 2, 3, a=0.25, b=0.75), iterations(1, 8, 9, 4, b=1.0))
    assert (figures["ours_seconds"], figures["peer_seconds"], figures["ratio"]) == (2, 8, 4)
    assert (figures["ours"], figures["peer"]) == (3.0, 0.75), "six answers"
    assert list(figures["ours_parts"].items()) == [("b", 1.5), ("a", 0.5)], "the longest first"


def test_numbers_are_compared_name_by_name_over_all_iterations() -> None:
    mine = [Iteration(1, {}, [], {"rewards": [1.0, 2.0], "values": [0.0]}) for _ in range(2)]
    theirs = [Iteration(1, {}, [], {"rewards": [1.0, 2.5], "values": [0.0]}), mine[0]]
    assert differences(mine, theirs) == {"rewards": 0.5, "values": 0.0}
    with pytest.raises(ValueError, match="zip"):
        differences(mine, [Iteration(1, {}, [], {"rewards": [1.0]})] * 2)


def test_a_side_without_numbers_is_not_compared() -> None:
    assert differences([Iteration(1, {}, [], {"rewards": [1.0]})], [Iteration(1, {}, [], {})]) == {}


def test_the_table_has_a_line_for_each_part_of_either_side() -> None:
    lines = table(figures_of(CASE, iterations(1, 2, a=1.0), iterations(1, 4, b=1.0))).splitlines()
    assert [line.split() for line in lines] == [
        ["seconds", "ours", "peer"], ["a", "2.00"], ["b", "4.00"], ["all", "2.00", "4.00"]
    ]  # fmt: skip
    assert len({len(line) for line in lines}) == 1


def test_numbers_are_rounded_wherever_they_stand() -> None:
    assert rounded({"a": 1 / 3, "b": {"c": 1e-9, "d": "word"}, "e": 2}) == {
        "a": 0.333333, "b": {"c": 0.0, "d": "word"}, "e": 2
    }  # fmt: skip
