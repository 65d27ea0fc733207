"""The comparison with TRL, on a tiny model: both sides see the same rows and agree on them before the first update."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import preference
from benchmarks.preference import SIDES, Case, median_step, write_rows
from tests.support.tiny_models import make_tiny
from triptych.data.rows import iter_groups
from triptych.engine import loop

CASE = Case(
    family="llava",
    pairs_per_question=2,
    groups=1,
    updates=1,
    answer_tokens=6,
    shared_half=False,
    cached_reference=False,
    bf16=False,
)

TEMPLATE = (
    "<s>{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ ' ASSISTANT:' if message['role'] == 'user' else '</s>' }}{% endfor %}"
)
"""Nothing follows the end of an answer, which TRL would take for a part of it."""


def changed(**changes: object) -> Case:
    return Case(**(vars(CASE) | changes))


def test_a_group_for_each_prompt_of_all_updates(tmp_path: Path) -> None:
    write_rows(changed(groups=3, updates=2), tmp_path / "data")
    groups = list(iter_groups(tmp_path / "data/rows.jsonl"))
    assert len(groups) == 3 * (2 + 1)
    assert {len(group.pairs) for group in groups} == {2}
    assert all((tmp_path / "data" / group.images[0]).is_file() for group in groups)
    assert {len(item.text.split()) for group in groups for item in group.completions} == {5}, "and the end"


@pytest.mark.parametrize("shared", [False, True])
def test_the_answers_of_a_pair_share_their_first_half_if_asked(tmp_path: Path, shared: bool) -> None:
    write_rows(changed(shared_half=shared, answer_tokens=200), tmp_path / "data")
    for group in iter_groups(tmp_path / "data/rows.jsonl"):
        words = [item.text.split() for item in group.completions]
        assert [len(text) for text in words] == [199] * 4
        assert [a[:100] == b[:100] for a, b in ((words[0], words[1]), (words[2], words[3]))] == [shared] * 2
        assert words[0][:100] != words[2][:100] and words[0][100:] != words[1][100:]


def test_the_first_update_is_not_timed() -> None:
    assert median_step([100.0, 101.0, 103.0, 106.0]) == 2.0


def test_both_sides_train_on_the_same_rows_and_agree_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl")
    monkeypatch.setattr(loop.TrainingLoop, "update", loop.TrainingLoop.update)  # so that it is put back
    make_tiny("llava", tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").write_text(TEMPLATE)
    write_rows(CASE, tmp_path / "data")
    mine = SIDES["ours"](CASE, tmp_path, CASE.pairs)
    theirs = SIDES["trl"](CASE, tmp_path, 1)
    assert len(mine.logps) == 2 * CASE.pairs * (CASE.updates + 1)
    assert mine.logps == pytest.approx(theirs.logps, rel=1e-5, abs=1e-4)
    assert mine.seconds > 0 and theirs.seconds > 0 and mine.flops > 0
    assert mine.peak_gb > 0.1


def test_the_line_has_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(side: str, case: Case, work: Path, batch_size: int) -> preference.Measured:
        seconds = {"ours": 1.0, "trl": 10.0 / batch_size}[side]
        return preference.Measured(seconds, 1.5 * seconds, [-3.0, -4.0 - (side == "trl") / 4], 1e9)

    monkeypatch.setattr(preference, "measure", measure)
    monkeypatch.setattr(preference, "machine_matrix_rate", lambda *args, fastest: 4e9 if fastest else 2e9)
    figures = preference.compare(changed(groups=2), "trl", [1, 2, 3, 4])
    assert figures["ours"] == 4.0 and figures["peer"] == 4 / 2.5 and figures["ratio"] == 2.5
    assert figures["peer_batch_size"] == 4 and set(figures["peer_by_batch_size"]) == {1, 2, 4}
    assert (figures["ours_peak_gb"], figures["peer_peak_gb"]) == (1.5, 3.75)
    assert figures["max_abs_logp_difference"] == 0.25
    assert figures["mfu"] == 0.25
    assert figures["fraction_of_matrix_rate"] == pytest.approx((1 + 1 / 3) / 2)
