"""What holds for every training stage: resume to the same floats, and updates that do not depend on the cut."""

import pytest
import torch
from safetensors.torch import load_file

import triptych.engine.loop as loop_module
from tests.support.runs import curve
from tests.support.smoke import run_variant
from triptych.errors import TriptychError
from triptych.models.loading import load_model

STAGES = ["pretrain", "sft", "mpo", "dpo", "sft_on_chosen"]
TR_DPO = {"reference": "live", "sync_ref_model": True, "ref_model_sync_steps": 2}
VARIANTS = [*((name, {}) for name in STAGES), ("dpo", TR_DPO)]


class Killed(Exception):
    """Stands for SIGKILL: nothing of the stage runs after it."""


@pytest.mark.parametrize(
    ("name", "changes"), VARIANTS, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_a_stage_killed_between_checkpoints_ends_with_the_same_curve_and_weights(small_run, name, changes, monkeypatch):
    prefix = "-".join([name, *changes])
    whole = run_variant(small_run, name, f"{prefix}-whole", **changes)
    update = loop_module.TrainingLoop.update

    def update_and_die(self, **metrics):
        update(self, **metrics)
        if self.step == 5 if name in ("mpo", "dpo", "sft_on_chosen") else self.step == 8:
            raise Killed

    monkeypatch.setattr(loop_module.TrainingLoop, "update", update_and_die)
    with pytest.raises(Killed):
        run_variant(small_run, name, f"{prefix}-killed", **changes)
    monkeypatch.setattr(loop_module.TrainingLoop, "update", update)
    killed = run_variant(small_run, name, f"{prefix}-killed", **changes)
    assert curve(killed) == curve(whole)
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (whole, killed)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("name", STAGES)
def test_the_update_does_not_depend_on_how_a_step_is_cut(small_run, name, monkeypatch):
    gradients, losses = {}, {}

    def run_cut(parts):
        seen = []

        def keep(parameters, max_norm):
            grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
            seen.append(torch.cat([grad.flatten() for grad in grads]).clone())
            return float(seen[-1].norm())

        monkeypatch.setattr(loop_module, "clip_gradients", keep)
        settings = {
            "per_device_train_batch_size": 8 // parts,
            "gradient_accumulation_steps": parts,
            "max_steps": 3,
            "optimizer": "adamw",
            "learning_rate": 1e-4,
        }
        folder = run_variant(small_run, name, f"{name}-cut-{parts}", **settings)
        gradients[parts] = seen
        losses[parts] = [row["loss"] for row in curve(folder)]
        return curve(folder)

    curves = [run_cut(parts) for parts in (1, 2, 8)]
    for parts in (2, 8):
        assert losses[parts] == pytest.approx(losses[1], rel=3e-6)  # a sum of 100 nats is rounded at 1e-5
        scale = gradients[1][0].abs().max()
        assert (gradients[parts][0] - gradients[1][0]).abs().max() < 1e-6 * scale
    if name == "mpo":
        deltas = [[row["mpo/delta"] for row in rows] for rows in curves]
        assert any(abs(value) > 1e-6 for value in deltas[0])
        assert deltas[1] == pytest.approx(deltas[0], abs=1e-6)
        assert deltas[2] == pytest.approx(deltas[0], abs=1e-6)


def test_a_finished_stage_given_again_returns_its_result_without_work(small_run, monkeypatch):
    folder = run_variant(small_run, "sft", "sft-again", max_steps=2)
    before = (folder / "done.json").stat().st_mtime_ns
    monkeypatch.setattr(loop_module.TrainingLoop, "__init__", None)
    run_variant(small_run, "sft", "sft-again", max_steps=2)
    assert (folder / "done.json").stat().st_mtime_ns == before


def test_a_folder_with_other_settings_is_refused_by_name(small_run):
    run_variant(small_run, "sft", "sft-settings", max_steps=2)
    with pytest.raises(TriptychError, match="max_steps"):
        run_variant(small_run, "sft", "sft-settings", max_steps=3)


def test_lora_freezing_and_bf16_train_only_what_they_should_and_save_a_plain_model(small_run):
    folder = run_variant(
        small_run,
        "mpo",
        "mpo-lora",
        max_steps=2,
        lora_r=4,
        freeze=["model.vision_tower"],
        bf16=True,
        learning_rate=0.01,
    )
    start, end = load_model(small_run / "sft" / "model"), load_model(folder / "model")
    changed = {
        name
        for (name, before), after in zip(start.named_parameters(), end.parameters(), strict=True)
        if not torch.equal(before, after)
    }
    assert changed
    assert all("language_model.layers" in name and name.endswith("proj.weight") for name in changed)
    assert not (folder / "model" / "adapter_config.json").exists()


def test_gradient_checkpointing_gives_the_same_curve(small_run):
    plain = run_variant(small_run, "mpo", "mpo-plain", max_steps=2)
    recomputed = run_variant(small_run, "mpo", "mpo-recomputed", max_steps=2, gradient_checkpointing=True)
    assert [row["loss"] for row in curve(recomputed)] == pytest.approx([row["loss"] for row in curve(plain)], rel=1e-6)
