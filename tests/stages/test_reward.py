"""Reward models as a stage: what they learn, that a run can be cut anywhere and in any way, and what is refused."""

import json
import math
import random

import pytest
import torch
from safetensors.torch import load_file

import triptych.engine.loop as loop_module
from tests.support.ranks import run_ranks
from tests.support.runs import curve, weights
from tests.support.tiny_models import write_picture
from triptych.config import load_config
from triptych.data.rows import write_groups
from triptych.engine.encode import Encoder
from triptych.engine.pairs import completions_of, read_pairs
from triptych.engine.rewards import reward_all
from triptych.errors import DataError, TriptychError
from triptych.group import Completion, Group, Pair, text_message
from triptych.models.loading import load_processor
from triptych.models.reward import RewardModel
from triptych.models.reward_loading import load_reward_model
from triptych.stages import reward

NUM_PICTURES, NUM_PAIRS = 30, 120
WORDS = ("a", "red", "green", "yellow", "square", "star", "triangle", "hexagon", "above", "left", "of", "three", "two")
SHORT = {"max_steps": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "save_steps": 2}

LONG = {"num_train_epochs": 4, "eval_share": 0.25, "eval_steps": 8, "max_grad_norm": 1.0, "learning_rate": 2e-3}


def toy_groups(num_pairs, first=0):
    """Whoever says circles is preferred, wherever the word stands; every third question is about no picture."""
    groups = []
    for number in range(first, first + num_pairs):
        draw = random.Random(number)
        chosen, rejected = (draw.choices(WORDS, k=draw.randint(3, 6)) for _ in range(2))
        chosen.insert(draw.randint(0, len(chosen)), "circles")
        picture = f"{number % NUM_PICTURES}.png"
        question = f"Question {number}: what is there?"
        completions = [Completion(" ".join(words)) for words in ((chosen, rejected), (rejected, chosen))[number % 2]]
        prompt = text_message("user", *([None] if number % 3 else []), question)
        pair = Pair(number % 2, 1 - number % 2, margin=float(number % 3), source="ai_feedback")
        images = [picture] if number % 3 else []
        groups.append(Group(f"g{number}", [prompt], images, completions=completions, pairs=[pair]))
    return groups


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Pictures and pairs about them."""
    root = tmp_path_factory.mktemp("toy")
    for number in range(NUM_PICTURES):
        write_picture(root / f"{number}.png", (16, 16), seed=number)
    write_groups(root / "pairs.jsonl", toy_groups(NUM_PAIRS))
    return root


@pytest.fixture(scope="module")
def train(tiny_folder, root):
    """Return a function that runs the stage."""

    def run(out, family="mm1", **settings):
        config = {
            "model": str(tiny_folder(family)),
            "data": str(root / "pairs.jsonl"),
            "out": str(out),
            "learning_rate": 1e-3,
            "row_tokens": 256,
            "logging_steps": 1,
            "save_steps": 0,
        }
        return reward.run(load_config(reward.Config, None, config | settings))

    return run


@pytest.fixture(scope="module")
def learnt(train, tmp_path_factory):
    """A run long enough to learn the toy problem."""
    out = tmp_path_factory.mktemp("learnt") / "run"
    return out, train(out, **LONG)


def test_a_toy_preference_is_learnt_and_holds_on_pictures_never_seen(learnt):
    out, result = learnt
    assert result["accuracy"]["value"] > 0.95 > 0.7 > result["longer"]["value"]
    low, high = result["accuracy"]["ci"]
    assert 0.8 < low < high <= 1
    assert result["ece"] < 0.15
    assert abs(result["mean_reward"]) < result["std_reward"]
    rows = curve(out)
    assert rows[-1]["loss"] < 0.2 and rows[-1]["rewards/accuracies"] == 1
    assert rows[-1]["rewards/margins"] == pytest.approx(rows[-1]["rewards/chosen"] - rows[-1]["rewards/rejected"])
    assert json.loads((out / "done.json").read_text())["result"] == result


def test_pairs_are_held_out_by_picture(learnt, root):
    out, result = learnt
    config = load_config(reward.Config, out / "config.yaml", None)
    pairs, apart = reward.split_pairs(config)
    assert (result["pairs"], result["held_out_pairs"]) == (len(pairs), len(apart))
    assert len(pairs) + len(apart) == NUM_PAIRS and len(apart) > 10
    pictures = [{name for row in rows for name in row.group.images} for rows in (pairs, apart)]
    assert all(pictures) and not pictures[0] & pictures[1]


def test_the_first_pairs_alone_are_trained_on_and_the_same_are_held_out(learnt):
    out, _ = learnt
    pairs, apart = reward.split_pairs(load_config(reward.Config, out / "config.yaml", None))
    few, same = reward.split_pairs(load_config(reward.Config, out / "config.yaml", {"max_pairs": 3}))
    assert (few, same) == (pairs[:3], apart)
    whole, _ = reward.split_pairs(load_config(reward.Config, out / "config.yaml", {"max_pairs": 3, "eval_share": 0.0,
                                                                                  "eval_steps": 0}))  # fmt: skip
    assert len(whole) == 3


def test_what_is_measured_on_the_way_goes_into_the_line_of_its_step(learnt):
    out, result = learnt
    rows = curve(out)
    assert [row["step"] for row in rows if "eval_loss" in row] == list(range(8, len(rows) + 1, 8))
    first, *_, last = [row for row in rows if "eval_loss" in row]
    assert last["eval_loss"] < first["eval_loss"]
    assert last["eval_rewards/accuracies"] == pytest.approx(result["accuracy"]["value"], abs=0.1)


def test_the_written_model_gives_the_rewards_it_was_measured_by(learnt):
    out, result = learnt
    model, processor = load_reward_model(out / "model"), load_processor(out / "model")
    _, apart = reward.split_pairs(load_config(reward.Config, out / "config.yaml", None))
    encoder = Encoder(processor, model.config.base_config)
    rewards = reward_all(model, encoder, completions_of(apart), 256)
    written = [json.loads(line) for line in (out / reward.HELD_OUT).read_text().splitlines()]
    assert [row["id"] for row in written] == [row.group.id for row in apart]
    for row, line in zip(apart, written, strict=True):
        assert line["rewards"]["chosen"] == pytest.approx(rewards[row.name, row.pair.chosen], abs=1e-4)
        assert line["rewards"]["rejected"] == pytest.approx(rewards[row.name, row.pair.rejected], abs=1e-4)
        assert line["source"] == "ai_feedback"
    right = sum(line["rewards"]["chosen"] > line["rewards"]["rejected"] for line in written)
    assert result["accuracy"]["value"] == right / len(written)


def test_the_folder_holds_a_card_and_a_plot(learnt):
    out, result = learnt
    card = (out / "model" / "README.md").read_text()
    assert "AutoModelForSequenceClassification.from_pretrained" in card and "import triptych.models.reward" in card
    assert f"| accuracy | {result['accuracy']['value']:.4g} |" in card and "| ece |" in card
    assert "pipeline_tag: text-classification" in card and f"{result['held_out_pairs']} held_out_pairs" in card
    assert "<svg" in (out / reward.RELIABILITY).read_text()


def test_training_starts_at_ln_2_with_all_rewards_zero(train, tmp_path):
    train(tmp_path / "run", max_steps=1)
    [row] = curve(tmp_path / "run")
    assert row["loss"] == row["reward/bradley_terry"] == pytest.approx(math.log(2), abs=1e-12)
    assert row["rewards/chosen"] == row["rewards/rejected"] == row["rewards/margins"] == row["reward/centring"] == 0
    assert row["rewards/accuracies"] == 0.5  # ties


def test_margins_of_pairs_count_where_they_are_asked_for(train, tmp_path, root):
    """At the start a pair with margin m costs ln(1 + exp(m / 2))."""
    train(tmp_path / "run", max_steps=1, num_train_epochs=1, margin_scale=0.5, eval_share=0.0, max_grad_norm=0.0,
          per_device_train_batch_size=NUM_PAIRS, gradient_accumulation_steps=1)  # fmt: skip
    margins = [row.pair.margin for row in read_pairs([str(root / "pairs.jsonl")], "")]
    expected = sum(math.log(1 + math.exp(0.5 * margin)) for margin in margins) / NUM_PAIRS
    assert curve(tmp_path / "run")[0]["loss"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("settings", [{}, {"centring": "absolute"}], ids=["square", "absolute"])
def test_the_update_does_not_depend_on_how_a_step_is_cut_but_for_the_released_centring(
    train, tmp_path, monkeypatch, learnt, settings
):
    """Steps of 8, 8 and 6 pairs; four parts of the last are of one or two pairs."""
    settings = settings | {"model": str(learnt[0] / "model"), "learning_rate": 1e-4, "eps": 1e-3, "eval_share": 0.0}
    settings |= {"num_train_epochs": 22 / NUM_PAIRS, "center_rewards_coefficient": 0.1}
    gradients, losses = {}, {}
    for parts in (1, 2, 4):
        seen = gradients[parts] = []

        def keep(parameters, max_norm, seen=seen):
            seen.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).clone())
            return 1.0

        monkeypatch.setattr(loop_module, "clip_gradients", keep)
        cut = {"per_device_train_batch_size": 8 // parts, "gradient_accumulation_steps": parts}
        train(tmp_path / str(parts), **cut, **settings)
        losses[parts] = [row["loss"] for row in curve(tmp_path / str(parts))]
    for parts in (2, 4):
        differences = [
            ((one - cut).abs().max() / one.abs().max()).item()
            for one, cut in zip(gradients[1], gradients[parts], strict=True)
        ]
        if "centring" in settings:
            assert max(differences) > 1e-4
        else:
            assert differences[0] < 1e-6 and max(differences) < 1e-5
            assert losses[parts] == pytest.approx(losses[1], rel=1e-6)


class Killed(Exception):
    """Stands for SIGKILL: nothing of the stage runs after it."""


def test_a_run_killed_between_checkpoints_ends_with_the_same_curve_weights_and_rewards(train, tmp_path, monkeypatch):
    settings = SHORT | {"max_steps": 6, "lora_r": 2, "lora_dropout": 0.1, "eval_steps": 2}
    train(tmp_path / "whole", **settings)
    update = loop_module.TrainingLoop.update

    def update_and_die(self, **metrics):
        update(self, **metrics)
        if self.step == 5:
            raise Killed

    monkeypatch.setattr(loop_module.TrainingLoop, "update", update_and_die)
    with pytest.raises(Killed):
        train(tmp_path / "killed", **settings)
    monkeypatch.setattr(loop_module.TrainingLoop, "update", update)
    train(tmp_path / "killed", **settings)
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    first, second = (weights(tmp_path / name) for name in ("whole", "killed"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    for name in (reward.HELD_OUT, reward.RELIABILITY):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("settings", [
    pytest.param({"max_steps": 0, "num_train_epochs": 0.3, "gradient_accumulation_steps": 4}, marks=pytest.mark.slow,
                 id="a last step of few pairs"),
    pytest.param({"lora_r": 2, "eval_steps": 2}, id="adapters"),
])  # fmt: skip
def test_two_ranks_train_to_the_losses_weights_and_rewards_of_one_process(train, tmp_path, settings):
    settings = SHORT | {"eps": 1e-3, "per_device_train_batch_size": 3} | settings
    one = train(tmp_path / "one", **settings)
    first, second = run_ranks(lambda: train(tmp_path / "two", **settings))
    assert first == second
    assert first["accuracy"] == one["accuracy"]
    for row, expected in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        assert row == pytest.approx(expected, rel=1e-5, abs=1e-5)
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)


def test_adapters_train_with_the_head_and_are_merged_into_a_plain_model(train, tmp_path, tiny_folder):
    train(tmp_path / "run", max_steps=3, lora_r=4, freeze=["model.vision_tower"], bf16=True, learning_rate=0.01)
    start = load_file(tiny_folder("mm1") / "model.safetensors")
    end = weights(tmp_path / "run")
    changed = {name for name in end if name not in start or not torch.equal(start[name], end[name])}
    assert {"score.weight", "score.bias"} < changed
    assert all(
        "language_model.layers" in name and name.endswith("proj.weight")
        for name in changed - {"score.weight", "score.bias"}
    )
    assert not (tmp_path / "run" / "model" / "adapter_config.json").exists()
    assert {tensor.dtype for tensor in end.values()} == {torch.float32}


def test_recomputed_activations_give_the_same_curve(train, tmp_path):
    train(tmp_path / "plain", **SHORT)
    train(tmp_path / "recomputed", **SHORT, gradient_checkpointing=True)
    pairs = zip(curve(tmp_path / "plain"), curve(tmp_path / "recomputed"), strict=True)
    assert all(ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6) for ours, theirs in pairs)


def test_a_family_without_packing_is_trained_too(train, tmp_path):
    result = train(tmp_path / "run", family="mllama", max_steps=1, per_device_train_batch_size=2)
    assert result["steps"] == 1 and isinstance(load_reward_model(tmp_path / "run" / "model"), RewardModel)


def test_training_goes_on_from_a_reward_model(train, tmp_path, learnt):
    out, _ = learnt
    train(tmp_path / "more", model=str(out / "model"), max_steps=1)
    assert curve(tmp_path / "more")[0]["loss"] < 0.3


def test_pairs_of_another_file_are_measured_in_place_of_a_share(train, tmp_path, root):
    apart = toy_groups(9, first=1000)
    for group in apart:
        group.images = [f"new{group.images[0]}"] if group.images else []
        for name in group.images:
            write_picture(root / name, (16, 16), seed=1)
    write_groups(tmp_path / "apart.jsonl", apart)
    settings = {"eval_data": str(tmp_path / "apart.jsonl"), "root": str(root), "max_steps": 1}
    result = train(tmp_path / "run", **settings)
    assert (result["pairs"], result["held_out_pairs"]) == (NUM_PAIRS, 9)


def test_nothing_held_out_is_nothing_measured(train, tmp_path):
    result = train(tmp_path / "run", max_steps=1, eval_share=0.0)
    assert result["pairs"] == NUM_PAIRS and "accuracy" not in result
    assert not (tmp_path / "run" / reward.HELD_OUT).exists()


def test_pictures_that_are_trained_on_are_not_measured_on(train, tmp_path, root):
    with pytest.raises(DataError, match=r"held_out_media.*60 picture.*such as 1\.png, 10\.png"):
        train(tmp_path / "run", eval_data=str(root / "pairs.jsonl"))


def test_a_file_without_pairs_is_refused(train, tmp_path):
    write_groups(tmp_path / "none.jsonl", [Group("a", [text_message("user", "?")])])
    with pytest.raises(DataError, match="no_pairs"):
        train(tmp_path / "run", data=str(tmp_path / "none.jsonl"))


def test_a_pair_without_the_margin_that_is_asked_for_is_refused(train, tmp_path, root):
    groups = toy_groups(3)
    groups[1].pairs[0].margin = None
    write_groups(tmp_path / "pairs.jsonl", groups)
    with pytest.raises(DataError, match=r"no_margin.*row g1"):
        train(tmp_path / "run", data=str(tmp_path / "pairs.jsonl"), root=str(root), margin_scale=1.0, eval_share=0.0)


def test_rewards_that_are_no_numbers_stop_the_run_before_they_reach_the_weights(train, tmp_path, monkeypatch):
    values = RewardModel.values
    monkeypatch.setattr(RewardModel, "values", lambda self, states: values(self, states) / 0)
    with pytest.raises(TriptychError, match="the reward nan"):
        train(tmp_path / "run", max_steps=2)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("eval_share", [0.0, 0.2])
def test_a_model_that_gives_one_reward_for_all_is_refused(train, tmp_path, eval_share):
    with pytest.raises(TriptychError, match="has learnt nothing to tell them apart by"):
        train(tmp_path / "run", max_steps=1, learning_rate=1e-12, eval_share=eval_share)
    assert not (tmp_path / "run" / "done.json").exists()


def test_a_finished_run_given_again_returns_its_result_without_work(learnt, train, monkeypatch):
    out, result = learnt
    monkeypatch.setattr(reward, "read_pairs", None)
    assert train(out, **LONG) == result
