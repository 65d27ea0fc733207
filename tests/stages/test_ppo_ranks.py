"""PPO over several ranks, all models in slices, against one process."""

import pytest
import torch
from safetensors.torch import load_file

import triptych.engine.loop as loop_module
from tests.stages import toy_ppo
from tests.stages.toy_ppo import samples
from tests.support.ranks import RankDied, run_ranks
from tests.support.runs import curve, weights

SETTINGS = {"max_steps": 2, "num_samples": 2, "num_ppo_epochs": 1, "eps": 1e-3, "learning_rate": 1e-3}
PAPER = {"lora_r": 4, "critic_lora_r": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return toy_ppo.write_prompts(tmp_path_factory.mktemp("prompts"))


@pytest.fixture(scope="module")
def judge_folder(tiny_folder, tmp_path_factory):
    return toy_ppo.write_judge(tiny_folder("mm1"), tmp_path_factory.mktemp("judge") / "model")


@pytest.fixture(scope="module")
def train(tiny_folder, root, judge_folder):
    """Return a function that runs the stage, with the reward model unless a function is named."""

    def run(out, family="mm1", **settings):
        return toy_ppo.train(out, tiny_folder(family), root, **({"reward_model": str(judge_folder)} | settings))

    return run


def assert_like(out, whole):
    """The curves agree, as do the weights; the answers are the same."""
    for row, expected in zip(curve(out), curve(whole), strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert [row["text"] for row in samples(out)] == [row["text"] for row in samples(whole)]
    for (name, ours), theirs in zip(weights(out).items(), weights(whole).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6, msg=name)
    if (whole / "critic.safetensors").exists():
        critics = [load_file(folder / "critic.safetensors") for folder in (out, whole)]
        torch.testing.assert_close(*critics, rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", [
    pytest.param(PAPER | {"temperature": 0.8, "entropy_coef": 0.1}, id="two bases and adapters"),
    pytest.param({"prompts_per_step": 1}, id="whole weights, head on the reward model, a rank without a prompt"),
    pytest.param({"prompts_per_step": 3, "per_device_train_batch_size": 1}, marks=pytest.mark.slow,
                 id="more prompts on one rank than on the other"),
    pytest.param({"lora_r": 4, "reward_model": toy_ppo.LIKES_E}, marks=pytest.mark.slow, id="head on the reference"),
    pytest.param({"algorithm": "rloo", "prompts_per_step": 3}, marks=pytest.mark.slow, id="rloo"),
])  # fmt: skip
def test_two_ranks_train_to_the_curve_answers_and_weights_of_one_process(train, tmp_path, settings):
    settings = SETTINGS | settings
    train(tmp_path / "one", **settings)
    first, second = run_ranks(lambda: train(tmp_path / "two", **settings))
    assert first == second
    assert_like(tmp_path / "two", tmp_path / "one")


def test_two_ranks_answer_prompts_about_videos_like_one_process(train, tmp_path):
    """Qwen2.5-VL, whose videos have features of their own; in some micro-batches one rank has a video, one has none."""
    settings = SETTINGS | {"family": "qwen2_5_vl", "data": "videos", "reward_model": toy_ppo.LIKES_E, "lora_r": 4}
    settings |= {"critic_lora_r": 2, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    train(tmp_path / "one", **settings)
    run_ranks(lambda: train(tmp_path / "two", **settings))
    assert_like(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_two_ranks_train_adapters_on_4_bits_like_one_process(train, tmp_path):
    pytest.importorskip("bitsandbytes")
    settings = SETTINGS | PAPER | {"load_in_4bit": True}
    train(tmp_path / "one", **settings)
    run_ranks(lambda: train(tmp_path / "two", **settings))
    assert_like(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("ranks_after", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_killed_on_two_ranks_goes_on_with_any_number(train, tmp_path, monkeypatch, ranks_after):
    settings = SETTINGS | PAPER | {"max_steps": 3, "save_steps": 1, "kl_target": 0.5}
    train(tmp_path / "whole", **settings)
    update = loop_module.TrainingLoop.apply_gradients

    def die(self):
        if self.step == 2:
            raise RuntimeError("killed")
        return update(self)

    monkeypatch.setattr(loop_module.TrainingLoop, "apply_gradients", die)
    with pytest.raises(RankDied, match="killed"):
        run_ranks(lambda: train(tmp_path / "killed", **settings))
    monkeypatch.setattr(loop_module.TrainingLoop, "apply_gradients", update)
    assert [row["step"] for row in curve(tmp_path / "killed")] == [1, 2]
    if ranks_after == 1:
        train(tmp_path / "killed", **settings)
    else:
        run_ranks(lambda: train(tmp_path / "killed", **settings))
    assert_like(tmp_path / "killed", tmp_path / "whole")
