"""Preference optimisation as a stage: what it checks before the first step, and what it reports."""

import json
import math

import pytest

from tests.support.smoke import run_variant
from triptych.errors import DataError, TriptychError


def first_row(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])


def test_the_first_step_starts_at_the_limits(small_run):
    row = first_row(run_variant(small_run, "mpo", "mpo-limits", max_steps=1))
    assert row["mpo/dpo"] == pytest.approx(math.log(2), abs=1e-5)
    assert row["mpo/bco"] == pytest.approx(2 * math.log(2), abs=1e-5)
    assert row["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert row["mpo/delta"] == pytest.approx(0, abs=1e-5)
    assert row["loss"] == pytest.approx(1.2 * math.log(2) + row["mpo/sft"], abs=1e-5)


def test_a_reference_cache_of_another_model_is_noticed_before_the_first_update(small_run, tmp_path):
    run_variant(small_run, "mpo", "mpo-cache", max_steps=1, reference_cache=str(tmp_path))
    (cache,) = tmp_path.glob("reference-*.jsonl")
    rows = [json.loads(line) for line in cache.read_text().splitlines()]
    cache.write_text("".join(json.dumps(row | {"logps": row["logps"] - 5}) + "\n" for row in rows))
    with pytest.raises(TriptychError, match="policy differs from the reference"):
        run_variant(small_run, "mpo", "mpo-cache-2", max_steps=1, reference_cache=str(tmp_path))


def test_a_nan_in_the_reference_cache_names_the_file_and_the_row(small_run, tmp_path):
    run_variant(small_run, "mpo", "mpo-nan", max_steps=1, reference_cache=str(tmp_path))
    (cache,) = tmp_path.glob("reference-*.jsonl")
    lines = cache.read_text().splitlines()
    cache.write_text("\n".join([*lines[:-1], '{"key": "x", "logps": null}']) + "\n")
    with pytest.raises(DataError, match=rf"{cache.name}.*row {len(lines)}"):
        run_variant(small_run, "mpo", "mpo-nan-2", max_steps=1, reference_cache=str(tmp_path))


def test_a_second_run_computes_no_reference_again(small_run, tmp_path, monkeypatch):
    run_variant(small_run, "mpo", "mpo-once", max_steps=1, reference_cache=str(tmp_path))
    (cache,) = tmp_path.glob("reference-*.jsonl")
    before = cache.read_bytes()
    run_variant(small_run, "dpo", "mpo-twice", max_steps=1, reference_cache=str(tmp_path))
    assert cache.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_type": ["kto"], "loss_weights": [1.0]}, "loss_type kto"),
        ({"loss_weights": [1.0]}, "give one each"),
        ({"beta": 0.0}, "beta is 0"),
        ({"data": ["{run}/world/prompts_cot.jsonl"]}, "no preference pair"),
    ],
)
def test_bad_settings_are_refused_with_the_remedy(small_run, changes, message):
    with pytest.raises(TriptychError, match=message):
        run_variant(small_run, "mpo", "mpo-bad", **changes)
