"""Preference optimisation as a stage: what it checks before the first step, and what it reports."""

import json
import math

import pytest
import torch

from tests.support.smoke import run_variant
from triptych.errors import DataError, TriptychError
from triptych.objectives.names import LOSSES
from triptych.stages import mpo


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
    header, *blocks = [json.loads(line) for line in cache.read_text().splitlines()]
    blocks = [block | {"logps": [value - 5 for value in block["logps"]]} for block in blocks]
    cache.write_text("".join(json.dumps(row) + "\n" for row in [header, *blocks]))
    with pytest.raises(TriptychError, match="policy differs from the reference"):
        run_variant(small_run, "mpo", "mpo-cache-2", max_steps=1, reference_cache=str(tmp_path))


def test_a_nan_in_the_reference_cache_names_the_file_and_the_row(small_run, tmp_path):
    run_variant(small_run, "mpo", "mpo-nan", max_steps=1, reference_cache=str(tmp_path))
    (cache,) = tmp_path.glob("reference-*.jsonl")
    lines = cache.read_text().splitlines()
    cache.write_text("\n".join([*lines[:-1], '{"keys": ["x"], "logps": [null]}']) + "\n")
    with pytest.raises(DataError, match=rf"{cache.name}.*row {len(lines)}"):
        run_variant(small_run, "mpo", "mpo-nan-2", max_steps=1, reference_cache=str(tmp_path))


def test_a_second_run_computes_no_reference_again(small_run, tmp_path, monkeypatch):
    run_variant(small_run, "mpo", "mpo-once", max_steps=1, reference_cache=str(tmp_path))
    (cache,) = tmp_path.glob("reference-*.jsonl")
    before = cache.read_bytes()
    run_variant(small_run, "dpo", "mpo-twice", max_steps=1, reference_cache=str(tmp_path))
    assert cache.read_bytes() == before


def test_what_the_run_will_take_is_told_before_the_first_step(small_run, capfd):
    run_variant(small_run, "mpo", "mpo-estimate", max_steps=1)
    told = capfd.readouterr().err
    assert told.index("Memory: about") < told.index("mpo: 1 of 1") and "GFLOP/s of matrix products" in told


def test_steps_can_be_counted_in_tokens(small_run):
    few = metrics(run_variant(small_run, "mpo", "mpo-tokens-few", max_steps=0, tokens_per_step=150))
    many = metrics(run_variant(small_run, "mpo", "mpo-tokens-many", max_steps=0, tokens_per_step=100_000))
    assert many[-1]["step"] == 1 < few[-1]["step"]


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_loss_starts_where_policy_and_reference_agree(small_run):
    """All of them at once; known values are those of beta 0.1 and label_smoothing 0.1."""
    names = [name for name, kind in LOSSES.items() if kind.reference]
    changes = {"loss_type": names, "loss_weights": [1.0] * len(names), "label_smoothing": 0.1}
    row = first_row(run_variant(small_run, "mpo", "mpo-starts", max_steps=1, **changes))
    expected = dict.fromkeys(("dpo", "cdpo", "robust", "dpo_norm", "aot", "aot_unpaired"), math.log(2))
    expected |= {"bco": 2 * math.log(2), "nca": 2 * math.log(2), "hinge": 1, "apo_zero": 1, "apo_down": 1}
    expected |= {"ipo": 25, "sppo": 50, "kto": 0.5, "exo": 0.5108256, "discopop": (1 + math.log(2)) / 2}
    assert {name: row[f"mpo/{name}"] for name in expected} == pytest.approx(expected, rel=2e-5)
    assert row["kl"] == pytest.approx(0, abs=1e-5)
    assert row["loss"] == pytest.approx(sum(expected.values()), rel=2e-5)


@pytest.mark.parametrize("changes", [{}, {"lora_r": 4}], ids=["weights", "adapters"])
def test_a_live_reference_is_the_stored_one(small_run, changes):
    name = "-".join(["mpo", *changes])
    stored = run_variant(small_run, "mpo", f"{name}-stored", **changes)
    live = run_variant(small_run, "mpo", f"{name}-live", reference="live", **changes)
    curves = [[row["loss"] for row in metrics(folder)] for folder in (stored, live)]
    assert curves[1][:2] == pytest.approx(curves[0][:2], rel=1e-6)
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)  # Muon's or Adam's signs magnify the rounding


def test_a_reference_that_follows_at_once_is_the_policy_again(small_run):
    """TR-DPO with alpha 1 every second step: rewards start at 0 again in steps 1, 3 and 5."""
    changes = {"reference": "live", "sync_ref_model": True, "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 1.0}
    rows = metrics(run_variant(small_run, "dpo", "tr-dpo", **changes))
    margins = [abs(row["rewards/margins"]) for row in rows]
    assert max(margins[0::2]) < 1e-5
    assert min(margins[1::2]) > 1e-4


def test_a_reference_that_follows_slowly_stays_between(small_run):
    live = {"reference": "live", "max_steps": 3}
    slow = live | {"sync_ref_model": True, "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 0.5}
    still, moved = (
        metrics(run_variant(small_run, "dpo", name, **changes)) for name, changes in (("still", live), ("slow", slow))
    )
    assert moved[1]["loss"] == still[1]["loss"]
    assert 0 < moved[2]["rewards/margins"] < still[2]["rewards/margins"]


def test_losses_without_a_reference_need_no_cache(small_run, tmp_path):
    changes = {"loss_type": ["simpo", "orpo"], "loss_weights": [1.0, 0.5], "beta": 2.0, "max_steps": 2}
    row = first_row(run_variant(small_run, "mpo", "free", reference_cache=str(tmp_path / "cache"), **changes))
    assert row["loss"] == pytest.approx(row["mpo/simpo"] + 0.5 * row["mpo/orpo"], rel=1e-9)
    assert row["rewards/chosen"] < 0
    assert not (tmp_path / "cache").exists()


class DropPath(torch.nn.Module):
    """Leaves a layer out at random in training; calls its probability as no model of transformers does."""

    def __init__(self, layer, rate):
        super().__init__()
        self.layer, self.rate = layer, rate

    def forward(self, hidden):
        kept = torch.rand(len(hidden), 1, 1) >= self.rate if self.training else 1.0
        return self.layer(hidden) * kept


@pytest.mark.parametrize("reference", ["cached", "live"])
def test_drop_path_that_could_not_be_switched_off_is_noticed_before_the_first_update_and_named(
    small_run, monkeypatch, reference
):
    load = mpo.load_start_model

    def load_with_drop_path(*args, **kwargs):
        model = load(*args, **kwargs)
        layer = model.model.language_model.layers[0]
        layer.mlp = DropPath(layer.mlp, 0.9)
        return model

    monkeypatch.setattr(mpo, "load_start_model", load_with_drop_path)
    with pytest.raises(TriptychError, match=r"layers\.0\.mlp \(DropPath\) draws at random"):
        run_variant(small_run, "mpo", f"drop-path-{reference}", max_steps=1, reference=reference)


def test_features_of_a_frozen_tower_are_kept_for_reference_epochs_and_runs(small_run, tmp_path):
    frozen = {"freeze": ["model.vision_tower", "model.connector"], "max_steps": 2, "reference": "live"}
    trained = first_row(run_variant(small_run, "mpo", "tower-trained", max_steps=2))
    rows = [
        metrics(run_variant(small_run, "mpo", f"tower-{name}", **frozen, **folder))
        for name, folder in (
            ("memory", {}),
            ("disk", {"feature_cache": str(tmp_path)}),
            ("again", {"feature_cache": str(tmp_path)}),
        )
    ]
    assert rows[0][0]["loss"] == pytest.approx(trained["loss"], rel=1e-6)
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]] == [row["loss"] for row in rows[2]]
    assert any(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_type": ["dpo"], "loss_weights": [1.0]}, "loss_type dpo"),
        ({"feature_cache": "features"}, "feature_cache"),
        ({"loss_weights": [1.0]}, "give one each"),
        ({"beta": 0.0}, "beta is 0"),
        ({"data": ["{run}/world/prompts_cot.jsonl"]}, "no preference pair"),
    ],
)
def test_bad_settings_are_refused_with_the_remedy(small_run, changes, message):
    with pytest.raises(TriptychError, match=message):
        run_variant(small_run, "mpo", "mpo-bad", **changes)
