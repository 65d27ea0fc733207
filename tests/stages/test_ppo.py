"""PPO, RLOO and GRPO as a stage: that they learn, that a run can be cut anywhere and in any way, what stops them."""

import json

import pytest
import torch
from safetensors.torch import load_file

import triptych.engine.loop as loop_module
from tests.stages import toy_ppo
from tests.stages.toy_ppo import NUM_PROMPTS, likes_e, samples
from tests.support.runs import curve, weights
from triptych.data.rows import write_groups
from triptych.engine.actor_critic_loading import build_actor_critic
from triptych.engine.encode import Encoder
from triptych.engine.rewards import reward_all
from triptych.errors import DataError, TriptychError
from triptych.group import Completion, Group, text_message
from triptych.models.loading import load_processor
from triptych.models.reward import RewardModel
from triptych.stages import ppo

SHORT = {"num_samples": 3, "max_steps": 5, "save_steps": 2, "num_ppo_epochs": 2, "per_device_train_batch_size": 2}


def about_picture(number, *completions):
    prompt = [text_message("user", None, f"Question {number}?")]
    return Group(f"g{number}", prompt, [f"{number}.png"], completions=list(completions))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return toy_ppo.write_prompts(tmp_path_factory.mktemp("prompts"))


@pytest.fixture(scope="module")
def train(tiny_folder, root):
    """Return a function that runs the stage."""
    return lambda out, family="mm1", **settings: toy_ppo.train(out, tiny_folder(family), root, **settings)


@pytest.mark.parametrize(("algorithm", "num_steps"), [("ppo", 13), ("rloo", 10), ("grpo", 16)])
def test_the_mean_reward_rises(train, tmp_path, algorithm, num_steps):
    result = train(tmp_path / "run", data="texts", algorithm=algorithm, max_steps=num_steps, num_samples=8,
                   num_ppo_epochs=1, kl_coef=0.02)  # fmt: skip
    rows = curve(tmp_path / "run")
    scores = [row["objective/scores"] for row in rows]
    assert len(scores) == num_steps == result["steps"]
    assert sum(scores[-3:]) / 3 > 3 * max(0.5, scores[0])
    assert (result["first_score"], result["last_score"]) == (scores[0], scores[-1])
    assert result["answers"] == num_steps * NUM_PROMPTS * 8 == len(samples(tmp_path / "run"))
    assert result["last_kl"] == rows[-1]["objective/kl"] > 1


@pytest.mark.parametrize("settings", [{"algorithm": "ppo"}, {"algorithm": "rloo"}, {"algorithm": "grpo"},
                                      {"algorithm": "ppo", "lora_r": 4, "critic_lora_r": 2}], ids=str)  # fmt: skip
def test_before_any_step_the_policy_is_the_old_policy_and_the_reference(train, tmp_path, settings):
    train(tmp_path / "run", max_steps=1, num_ppo_epochs=1, gradient_accumulation_steps=2,
          per_device_train_batch_size=2, **settings)  # fmt: skip
    [row] = curve(tmp_path / "run")
    assert row["ppo/ratio"] == pytest.approx(1, abs=1e-6)
    assert row["ppo/approx_kl"] == pytest.approx(0, abs=1e-10)
    assert row["ppo/clipfrac"] == 0
    assert row["objective/kl"] == pytest.approx(0, abs=1e-5)
    assert row["objective/kl_coef"] == 0.1
    assert row["objective/rlhf_reward"] == pytest.approx(row["objective/scores"], abs=1e-5)
    if settings["algorithm"] == "ppo":
        # Values are 0 and each token's return is the score; advantages are white, so that the policy's loss is 0.
        answers = samples(tmp_path / "run")
        tokens = sum(answer["num_tokens"] for answer in answers)
        squares = sum(answer["num_tokens"] * answer["score"] ** 2 for answer in answers)
        assert row["loss/value"] == pytest.approx(squares / tokens / 2, rel=1e-5)
        assert row["loss/policy"] == pytest.approx(0, abs=1e-6)
        assert row["loss"] == pytest.approx(0.1 * row["loss/value"], abs=1e-6)


def test_a_step_draws_other_answers_than_the_one_before_from_the_same_policy(train, tmp_path):
    train(tmp_path / "run", max_steps=2, learning_rate=1e-12, num_ppo_epochs=1)
    texts = [{(row["id"], row["text"]) for row in samples(tmp_path / "run") if row["step"] == step} for step in (1, 2)]
    assert len(texts[0] & texts[1]) < len(texts[0]) / 2


def test_samples_tell_what_the_metrics_sum_up(train, tmp_path):
    train(tmp_path / "run", max_steps=2, algorithm="rloo", num_ppo_epochs=1)
    rows, answers = curve(tmp_path / "run"), samples(tmp_path / "run")
    for step, row in enumerate(rows, 1):
        mine = [answer for answer in answers if answer["step"] == step]
        assert [(answer["id"], answer["sample"]) for answer in mine[:5]] == [(mine[0]["id"], n) for n in range(4)] + [
            (mine[4]["id"], 0)
        ]
        for name, metric in [("score", "objective/scores"), ("reward", "objective/rlhf_reward"), ("kl", "objective/kl"),
                             ("num_tokens", "completions/mean_length")]:  # fmt: skip
            assert sum(answer[name] for answer in mine) / len(mine) == pytest.approx(row[metric], abs=1e-5)
        assert sum(not answer["ended"] for answer in mine) / len(mine) == row["completions/clipped_ratio"]
        for answer in mine:
            assert answer["score"] == likes_e(answer["text"], None)
            others = [other["reward"] for other in mine if other["id"] == answer["id"] and other is not answer]
            assert answer["advantage"] == pytest.approx(answer["reward"] - sum(others) / len(others), abs=1e-4)


def test_what_is_written_is_the_policy_alone_with_its_adapters_merged(train, tmp_path, tiny_folder):
    train(tmp_path / "run", max_steps=2, lora_r=4, critic_lora_r=2, num_ppo_epochs=1)
    start, end = load_file(tiny_folder("mm1") / "model.safetensors"), weights(tmp_path / "run")
    assert start.keys() == end.keys()
    changed = {name for name in end if not torch.equal(start[name], end[name])}
    assert changed and all("language_model.layers" in name and name.endswith("proj.weight") for name in changed)
    assert "trained on the rewards of its own answers" in (tmp_path / "run" / "model" / "README.md").read_text()
    train(tmp_path / "more", model=str(tmp_path / "run" / "model"), max_steps=1, num_ppo_epochs=1)
    assert curve(tmp_path / "more")[0]["objective/kl"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("settings", [
    {"algorithm": "ppo", "lora_r": 4, "critic_lora_r": 2},
    {"algorithm": "ppo", "average": "completion", "entropy_coef": 0.1},
    {"algorithm": "rloo", "entropy_coef": 0.1, "temperature": 0.7},
    {"algorithm": "grpo", "average": "constant", "kl_coef": 1.0},
], ids=["ppo with adapters", "ppo", "rloo", "grpo"])  # fmt: skip
def test_the_update_does_not_depend_on_how_it_is_cut(train, tmp_path, monkeypatch, settings):
    gradients, losses = {}, {}
    for parts in (1, 4):
        seen = gradients[parts] = []

        def keep(parameters, max_norm, seen=seen):
            seen.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).clone())
            return 1.0

        monkeypatch.setattr(loop_module, "clip_gradients", keep)
        cut = {"per_device_train_batch_size": NUM_PROMPTS // parts, "gradient_accumulation_steps": parts}
        train(tmp_path / str(parts), max_steps=1, num_ppo_epochs=2, learning_rate=1e-4, eps=1e-3, **cut, **settings)
        losses[parts] = curve(tmp_path / str(parts))[0]["loss"]
    first, second = (
        ((one - cut).abs().max() / one.abs().max()).item() for one, cut in zip(gradients[1], gradients[4], strict=True)
    )
    assert first < 5e-6 and second < 1e-5  # gradients of answers whose advantages cancel, in float32
    assert losses[4] == pytest.approx(losses[1], abs=1e-6)


class Killed(Exception):
    """Stands for SIGKILL: nothing of the stage runs after it."""


ADAPTERS = {"lora_r": 2, "critic_lora_r": 2}


@pytest.mark.parametrize(("settings", "place"), [
    (ADAPTERS, "sampling"), (ADAPTERS, "first update"), (ADAPTERS, "last update"),
    ({}, "first update"),
], ids=str)  # fmt: skip
def test_a_run_killed_anywhere_ends_with_the_same_curve_samples_and_weights(
    train, tmp_path, monkeypatch, settings, place, whole_runs
):
    settings = SHORT | settings | {"kl_target": 0.5, "kl_horizon": 40}
    whole = whole_runs(settings)
    target, name = {
        "sampling": (ppo.Rollouts, "draw"),
        "first update": (loop_module.TrainingLoop, "apply_gradients"),
        "last update": (loop_module.TrainingLoop, "update"),
    }[place]
    original, calls = getattr(target, name), []

    def die(self, *args, **kwargs):
        calls.append(1)
        loop = getattr(self, "_loop", self)
        if loop.step == 3:
            raise Killed
        return original(self, *args, **kwargs)

    monkeypatch.setattr(target, name, die)
    with pytest.raises(Killed):
        train(tmp_path / "killed", **settings)
    monkeypatch.setattr(target, name, original)
    train(tmp_path / "killed", **settings)
    assert curve(tmp_path / "killed") == curve(whole)
    assert (tmp_path / "killed" / ppo.SAMPLES).read_bytes() == (whole / ppo.SAMPLES).read_bytes()
    ours, theirs = weights(tmp_path / "killed"), weights(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    coefficients = [row["objective/kl_coef"] for row in curve(whole)]
    assert len(set(coefficients)) > 3  # the controller is at work, and goes on where it was


@pytest.fixture(scope="module")
def whole_runs(train, tmp_path_factory):
    """Return a function that gives the folder of a run that nothing cut, made on first use."""
    known = {}

    def run(settings):
        key = json.dumps(settings)
        if key not in known:
            known[key] = tmp_path_factory.mktemp("whole") / "run"
            train(known[key], **settings)
        return known[key]

    return run


@pytest.fixture(scope="module")
def judge_folder(tiny_folder, tmp_path_factory):
    return toy_ppo.write_judge(tiny_folder("mm1"), tmp_path_factory.mktemp("judge") / "model")


@pytest.mark.parametrize("settings", [{}, {"critic_lora_r": 2, "lora_r": 4}, {"critic_base": "policy"},
                                      {"algorithm": "rloo"}], ids=str)  # fmt: skip
def test_a_reward_model_gives_the_rewards(train, tmp_path, judge_folder, root, settings):
    train(tmp_path / "run", reward_model=str(judge_folder), max_steps=2, num_ppo_epochs=1, **settings)
    model, processor = RewardModel.from_pretrained(judge_folder), load_processor(judge_folder)
    wanted = {}
    answers = samples(tmp_path / "run")
    answers = [answer for answer in answers if answer["text"] or answer["ended"]]  # the others are no completions
    for number, answer in enumerate(answers):
        completion = Completion(answer["text"], truncated=not answer["ended"])
        wanted[str(number)] = (about_picture(answer["id"][1:], completion), root, [0])
    rewards = reward_all(model, Encoder(processor, model.config.base_config), wanted, 256)
    for number, answer in enumerate(answers):
        assert answer["score"] == pytest.approx(rewards[str(number), 0], abs=1e-5)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["inputs"].keys() >= {str(judge_folder)}


@pytest.mark.parametrize(("settings", "explained"), [
    ({"module_learning_rates": {"critic": 20.0}}, 0.5),
    ({"module_learning_rates": {"critic": 3.0}, "lora_r": 4, "critic_lora_r": 8}, 0.8),
], ids=["head", "adapters"])  # fmt: skip
def test_the_critic_learns_what_prompts_are_worth(train, tmp_path, settings, explained):
    train(tmp_path / "run", data="texts", reward_model=f"{toy_ppo.__name__}:by_prompt", max_steps=14, num_ppo_epochs=2,
          cliprange_value=None, vf_coef=1.0, max_grad_norm=0.0, kl_coef=0.0, **settings)  # fmt: skip
    rows = curve(tmp_path / "run")
    assert abs(rows[0]["value/explained_variance"]) < 1e-6 and rows[0]["value/mean"] == 0
    assert rows[-1]["value/explained_variance"] > explained
    assert rows[-1]["loss/value"] < (1 - explained) * rows[0]["loss/value"]


@pytest.mark.parametrize("settings", [{}, {"lora_r": 4, "critic_lora_r": 8}], ids=["head", "adapters"])
def test_a_run_goes_on_with_the_critic_of_another(train, tmp_path, settings):
    settings = settings | {"data": "texts", "reward_model": f"{toy_ppo.__name__}:by_prompt", "cliprange_value": None}
    settings |= {"module_learning_rates": {"critic": 20.0}, "vf_coef": 1.0, "max_grad_norm": 0.0, "kl_coef": 0.0}
    train(tmp_path / "first", max_steps=4, learning_rate=1e-3, **settings)
    learnt = curve(tmp_path / "first")[-1]["value/explained_variance"]
    critic = tmp_path / "first" / "critic.safetensors"
    train(tmp_path / "second", max_steps=1, critic=str(critic), learning_rate=1e-12, **settings)
    [row] = curve(tmp_path / "second")
    assert row["value/explained_variance"] > learnt - 0.05 > 0.3
    again = load_file(tmp_path / "second" / "critic.safetensors")
    assert again.keys() == load_file(critic).keys()
    assert all(torch.allclose(again[name], value, atol=1e-7) for name, value in load_file(critic).items())
    assert str(critic) in json.loads((tmp_path / "second" / "run.json").read_text())["inputs"]


@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_the_entropy_is_taken_off_the_loss_with_its_weight(train, tmp_path, algorithm):
    settings = {"algorithm": algorithm, "max_steps": 1, "num_ppo_epochs": 1}
    train(tmp_path / "without", **settings)
    train(tmp_path / "with", entropy_coef=0.5, **settings)
    [[without], [row]] = curve(tmp_path / "without"), curve(tmp_path / "with")
    assert "ppo/entropy" not in without and row["ppo/entropy"] > 1
    assert row["loss"] - without["loss"] == pytest.approx(-0.5 * row["ppo/entropy"], rel=1e-5)
    per_token = row["ppo/entropy"] / (1 if algorithm == "ppo" else row["completions/mean_length"])
    assert per_token == pytest.approx(row["objective/entropy"] / row["completions/mean_length"], rel=0.3), "an estimate"


def test_a_bonus_for_entropy_keeps_answers_various(train, tmp_path):
    entropy = {}
    for coefficient in (0.0, 1.0):
        out = tmp_path / str(coefficient)
        train(out, data="texts", algorithm="grpo", max_steps=8, kl_coef=0.0, entropy_coef=coefficient)
        entropy[coefficient] = curve(out)[-1]["objective/entropy"] / curve(out)[-1]["completions/mean_length"]
    assert entropy[1.0] > entropy[0.0] + 0.5


def test_answers_at_a_lower_temperature_are_likelier_and_policy_and_reference_agree_on_them(train, tmp_path):
    entropy = {}
    for temperature in (1.0, 0.3):
        out = tmp_path / str(temperature)
        train(out, max_steps=1, num_ppo_epochs=1, num_samples=8, temperature=temperature)
        [row] = curve(out)
        assert row["ppo/ratio"] == pytest.approx(1, abs=1e-6)
        assert row["objective/kl"] == pytest.approx(0, abs=1e-5)
        entropy[temperature] = row["objective/entropy"] / row["completions/mean_length"]
    assert entropy[0.3] < entropy[1.0] / 2


def test_what_an_answer_pays_for_is_taken_off_its_score(train, tmp_path):
    train(tmp_path / "run", algorithm="rloo", max_steps=1, missing_eos_penalty=8, length_penalty=10, score_clip=0.5)
    for answer in samples(tmp_path / "run"):
        expected = min(answer["score"], 0.5) - 8 * (not answer["ended"]) - 10 * answer["num_tokens"] / 6
        assert answer["reward"] == pytest.approx(expected, abs=1e-5)


def test_the_price_of_divergence_holds_the_policy_back_where_it_is_in_the_loss(train, tmp_path):
    distance = {}
    for price in (0.0, 3.0):
        out, settings = tmp_path / str(price), {"kl_coef": price, "learning_rate": 1e-3, "num_train_epochs": 10}
        result = train(out, data="texts", algorithm="grpo", **settings)
        assert result["steps"] == 10 and result["prompts"] == NUM_PROMPTS
        distance[price] = sum(row["objective/kl"] for row in curve(out)[-4:])
    assert distance[3.0] < distance[0.0] / 2


def test_a_prompt_that_comes_twice_in_a_step_is_answered_anew(train, tmp_path):
    train(tmp_path / "run", max_steps=1, prompts_per_step=2 * NUM_PROMPTS, num_ppo_epochs=1, max_new_tokens=12)
    texts = {}
    for answer in samples(tmp_path / "run"):
        texts.setdefault(answer["id"], []).append(answer["text"])
    assert len(texts) == NUM_PROMPTS
    assert all(len(set(mine)) == len(mine) == 8 for mine in texts.values())


def test_recomputed_activations_and_a_family_without_packing_train_too(train, tmp_path):
    settings = {"max_steps": 2, "num_samples": 2, "num_ppo_epochs": 1, "lora_r": 2, "critic_lora_r": 2}
    train(tmp_path / "plain", **settings)
    train(tmp_path / "recomputed", **settings, gradient_checkpointing=True)
    for ours, theirs in zip(curve(tmp_path / "plain"), curve(tmp_path / "recomputed"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5, abs=1e-6)
    result = train(tmp_path / "mllama", family="mllama", max_steps=1, num_samples=2, num_ppo_epochs=1)
    assert result["steps"] == 1


def test_a_reward_that_is_no_number_stops_training_and_names_the_row(train, tmp_path):
    with pytest.raises(TriptychError, match=r"reward function .*broken gives nan for an answer to row g2"):
        train(tmp_path / "run", reward_model=f"{toy_ppo.__name__}:broken", max_steps=1)


def test_a_reward_model_whose_rewards_are_no_numbers_stops_training(train, tmp_path, judge_folder, monkeypatch):
    monkeypatch.setattr(RewardModel, "values", lambda self, states: states.sum(-1) / 0 * 0)
    with pytest.raises(TriptychError, match=r"Stopped at step 1: .*score that is NaN.*Look at the reward model"):
        train(tmp_path / "run", reward_model=str(judge_folder), max_steps=1, algorithm="rloo")
    assert not (tmp_path / "run" / ppo.SAMPLES).exists()


def test_a_policy_that_runs_away_stops_training_with_what_to_try(train, tmp_path):
    with pytest.raises(TriptychError, match=r"Stopped at step \d+: The policy is .* nats .* raise kl_coef"):
        train(tmp_path / "run", data="texts", max_steps=9, learning_rate=0.05, kl_limit=8.0, kl_coef=0.0)
    assert not (tmp_path / "run" / "done.json").exists()


def test_values_that_explode_stop_training_with_what_to_try(train, tmp_path):
    with pytest.raises(TriptychError, match=r"Stopped at step \d: .*beyond \+-50.*lower the learning rate"):
        train(tmp_path / "run", data="texts", max_steps=6, value_limit=50.0, module_learning_rates={"critic": 1e4},
              cliprange_value=None)  # fmt: skip


def test_an_update_that_goes_too_far_stops_training(train, tmp_path):
    with pytest.raises(TriptychError, match=r"Stopped at step 1: The policy moved by .* fewer epochs"):
        train(tmp_path / "run", data="texts", max_steps=2, approx_kl_limit=1e-4)


def test_a_model_that_draws_at_random_in_training_is_found_before_the_first_update(train, tmp_path, monkeypatch):
    start = build_actor_critic

    def noisy(*args, **kwargs):
        roles, processor = start(*args, **kwargs)
        roles.policy.model.language_model.layers[0].mlp.register_forward_hook(
            lambda module, args, output: output + 0.1 * torch.randn_like(output)
        )
        return roles, processor

    monkeypatch.setattr(ppo, "build_actor_critic", noisy)
    with pytest.raises(TriptychError, match=r"Before the first update .* dropout or drop-path"):
        train(tmp_path / "run", max_steps=1)


def test_prompts_that_cannot_be_answered_are_found_before_training(train, tmp_path):
    with pytest.raises(DataError, match=r"too_long.*An answer may take 250 tokens"):
        train(tmp_path / "run", max_steps=1, max_new_tokens=250)
    write_groups(tmp_path / "none.jsonl", [])
    with pytest.raises(DataError, match=r"no_prompts|empty_file"):
        train(tmp_path / "run", data=str(tmp_path / "none"), max_steps=1)


@pytest.mark.parametrize(("settings", "message"), [
    ({"algorithm": "grpo", "num_samples": 1}, "num_samples to 2"),
    ({"algorithm": "grpo", "kl_estimator": "k1"}, "k2 or k3"),
    ({"lora_dropout": 0.1, "lora_r": 2}, "lora_dropout"),
    ({"cpu_offload": True}, "cpu_offload"),
    ({"gamma": 1.5}, r"gamma is 1\.5"),
    ({"temperature": 0.0}, r"temperature is 0\.0"),
    ({"entropy_coef": -0.1}, r"entropy_coef is -0\.1"),
    ({"algorithm": "rloo", "critic": "critic.safetensors"}, "rloo has no critic"),
    ({"cliprange": 0.0}, "cliprange is 0"),
    ({"kl_coef": -1.0}, "kl_coef is -1"),
    ({"whiten_rewards": True, "reward_scale": 10}, "whiten_rewards"),
    ({"reward_model": "no.such.module:function"}, "cannot be imported"),
], ids=str)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(train, tmp_path, settings, message):
    with pytest.raises(TriptychError, match=message):
        train(tmp_path / "run", **settings)


def test_a_finished_run_given_again_returns_its_result_without_work(train, tmp_path, monkeypatch):
    result = train(tmp_path / "run", max_steps=1)
    monkeypatch.setattr(ppo, "read_prompts", None)
    assert train(tmp_path / "run", max_steps=1) == result
