"""TRL's trainer runs on what is written for both sides, and draws as many tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ppo.case import Case, Iteration, write_case
from benchmarks.ppo.trl_grpo import number_of_letters, train


def test_it_tells_of_each_iteration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trl")
    case = Case(prompts=2, samples=2, prompt_tokens=582, answer_tokens=3, iterations=2, tiny=True)
    write_case(case, tmp_path)
    told: list[Iteration] = []
    train(case, tmp_path, 2, told.append)
    assert len(told) == case.iterations
    for one in told:
        assert min(one.parts[name] for name in ("sampling", "vision", "policy update")) > 0
        assert sum(one.parts.values()) == pytest.approx(one.seconds)
    logged = capsys.readouterr().out
    assert logged.count("'completions/min_length': '3'") == logged.count("'completions/max_length': '3'") == 2


def test_longer_answers_are_rewarded_more() -> None:
    assert number_of_letters([[{"content": "ab"}], [{"content": "abc"}]]) == [2.0, 3.0]
