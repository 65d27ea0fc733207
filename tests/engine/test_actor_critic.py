"""The roles of PPO against models that play one role each."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.distributed.tensor import DTensor

from tests.support.drawn import alone_logps, alone_rewards, alone_values, disturb, draw, random_head
from tests.support.ranks import run_ranks
from triptych.engine.actor_critic_loading import build_actor_critic
from triptych.engine.encode import Encoder
from triptych.engine.settings import TrainingConfig
from triptych.errors import TriptychError
from triptych.models.loading import load_model, load_processor, save_model
from triptych.models.reward import RewardModel
from triptych.models.reward_loading import load_reward_model

TOLERANCE = {"rtol": 0, "atol": 1e-5}
ARRANGEMENTS = [
    pytest.param({}, 0, "reward", id="whole policy, head on the reward model"),
    pytest.param({}, 0, "policy", id="whole policy, head on the reference"),
    pytest.param({"lora_r": 4}, 0, "reward", id="adapters, head on the reward model"),
    pytest.param({"lora_r": 4}, 0, "policy", id="adapters, head on the reference"),
    pytest.param({"lora_r": 4}, 4, "reward", id="two bases and adapters, as in the paper"),
    pytest.param({"lora_r": 4}, 4, "policy", id="adapters on a copy of the start model"),
]


@pytest.fixture(scope="session")
def judge_folder(tiny_folder, tmp_path_factory):
    """Return a function that writes a reward model of a family, of other weights than the tiny model's."""

    def write(family):
        folder = tmp_path_factory.mktemp("judge") / family
        model = RewardModel.from_base(load_model(tiny_folder(family)))
        disturb(model, seed=5)
        save_model(random_head(model, 1), load_processor(tiny_folder(family)), folder)
        return folder

    return write


@pytest.fixture(scope="session")
def mm1_judge(judge_folder):
    return judge_folder("mm1")


def build(model, judge, *, critic_lora_r=0, critic_base="auto", critic=True, temperature=1.0, **settings):
    config = TrainingConfig(out="unused", row_tokens=512, **settings)
    judge = str(judge) if judge else None
    options = {"critic": critic, "critic_base": critic_base, "critic_lora_r": critic_lora_r, "temperature": temperature}
    return build_actor_critic(config, str(model), judge, **options)[0]


def assert_rows(ours, theirs):
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, **TOLERANCE)


def flat(reads, name):
    return [row for read in reads for row in getattr(read, name)]


@pytest.mark.parametrize(("settings", "critic_lora_r", "base"), ARRANGEMENTS)
def test_every_role_says_what_a_model_of_its_own_would(
    tiny_folder, mm1_judge, picture_root, settings, critic_lora_r, base
):
    """After training has moved policy and critic: reference and reward model stand where they stood."""
    roles = build(tiny_folder("mm1"), mm1_judge, critic_lora_r=critic_lora_r, critic_base=base, **settings)
    drawn = draw(roles.policy, roles.encoder, picture_root)
    before = roles.read(drawn)
    assert_rows(flat(before, "logps"), flat(before, "ref_logps"))
    assert not torch.cat(flat(before, "values")).any()
    disturb(roles)
    with torch.no_grad():
        reads = roles.read(drawn)
        assert (torch.cat(flat(reads, "logps")) - torch.cat(flat(before, "logps"))).abs().max() > 0.1
        assert_rows(flat(reads, "ref_logps"), flat(before, "ref_logps"))
        start, processor = load_model(tiny_folder("mm1")), load_processor(tiny_folder("mm1"))
        assert_rows(flat(reads, "ref_logps"), alone_logps(start, processor, drawn))
        assert_rows(flat(reads, "logps"), alone_logps(roles.policy, processor, drawn))
        judge = load_reward_model(mm1_judge)
        rewards = alone_rewards(judge, Encoder(processor, judge.config.base_config), drawn)
        assert flat(reads, "scores") == pytest.approx(rewards.tolist(), abs=1e-5)
        body = roles.critic.model if critic_lora_r else (judge.model if base == "reward" else start.model)
        alone = SimpleNamespace(model=body, score=roles.critic.score)
        assert_rows(flat(reads, "values"), alone_values(alone, processor, drawn))
        packed = roles.critic_packer.pack(drawn)
        assert_rows(packed.by_answer(roles.values(packed.batch)), flat(reads, "values"))
        if critic_lora_r:
            assert reads[0].states is None
        else:
            assert_rows([roles.critic.values(rows) for rows in flat(reads, "states")], flat(reads, "values"))


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "mllama"])
def test_roles_of_other_families_agree_with_models_of_their_own(tiny_folder, judge_folder, picture_root, family):
    judge_path = judge_folder(family)
    roles = build(tiny_folder(family), judge_path, lora_r=4)
    drawn = draw(roles.policy, roles.encoder, picture_root)
    drawn = drawn if family != "mllama" else drawn[:2]  # its processor wants a picture
    disturb(roles)
    with torch.no_grad():
        reads = roles.read(drawn)
        if family == "llava":  # the others have inputs that go with the length
            start, processor = load_model(tiny_folder(family)), load_processor(tiny_folder(family))
            judge = load_reward_model(judge_path)
            assert_rows(flat(reads, "ref_logps"), alone_logps(start, processor, drawn))
            assert_rows(flat(reads, "logps"), alone_logps(roles.policy, processor, drawn))
            alone = SimpleNamespace(model=judge.model, score=roles.critic.score)
            assert_rows(flat(reads, "values"), alone_values(alone, processor, drawn))
        one_by_one = [read for item in drawn for read in roles.read([item])]
    for name in ("logps", "ref_logps", "values"):
        assert_rows(flat(reads, name), flat(one_by_one, name))
    assert flat(reads, "scores") == pytest.approx(flat(one_by_one, "scores"), abs=1e-5)


def test_policy_and_reference_are_read_at_the_temperature_of_the_draw(tiny_folder, mm1_judge, picture_root):
    roles = build(tiny_folder("mm1"), mm1_judge, lora_r=4, temperature=0.6)
    drawn = draw(roles.policy, roles.encoder, picture_root)
    disturb(roles)
    start, processor = load_model(tiny_folder("mm1")), load_processor(tiny_folder("mm1"))
    with torch.no_grad():
        reads = roles.read(drawn)
        assert_rows(flat(reads, "logps"), alone_logps(roles.policy, processor, drawn, temperature=0.6))
        assert_rows(flat(reads, "ref_logps"), alone_logps(start, processor, drawn, temperature=0.6))


def test_over_two_ranks_every_weight_lies_in_slices_and_roles_say_the_same(tiny_folder, mm1_judge, picture_root):
    folder, settings = tiny_folder("mm1"), {"lora_r": 4, "critic_lora_r": 4}
    drawn = draw(load_model(folder), Encoder(load_processor(folder), load_model(folder).config), picture_root)

    def work():
        roles = build(folder, mm1_judge, **settings)
        models = (roles.policy, roles.reference.model, roles.judge.model, roles.critic)
        sliced = [isinstance(parameter, DTensor) for model in models for parameter in model.parameters()]
        return roles.read(drawn), sliced

    expected, whole = work()
    assert not any(whole)
    for reads, sliced in run_ranks(work):
        assert all(sliced)
        for name in ("logps", "ref_logps", "values"):
            assert_rows(flat(reads, name), flat(expected, name))
        assert flat(reads, "scores") == pytest.approx(flat(expected, "scores"), abs=1e-5)


def test_only_policy_and_critic_are_trained_and_the_critic_is_told_by_name(tiny_folder, mm1_judge):
    def trained(**settings):
        roles = build(tiny_folder("mm1"), mm1_judge, **settings)
        return {name for name, parameter in roles.named_parameters() if parameter.requires_grad}

    head = {"critic.score.weight", "critic.score.bias"}
    whole = trained()
    assert head < whole and all(name.startswith("policy.") and "lora" not in name for name in whole - head)
    paper = trained(lora_r=4, critic_lora_r=4)
    assert head < paper and all("lora_" in name for name in paper - head)
    assert {name.split(".")[0] for name in paper} == {"policy", "critic"}
    assert head < trained(lora_r=4, critic_lora_r=4, critic_base="policy")
    assert not any(name.startswith("critic") for name in trained(critic=False))


def test_a_function_gives_the_rewards_where_there_is_no_model(tiny_folder, picture_root):
    roles = build(tiny_folder("mm1"), None, lora_r=4)
    drawn = draw(roles.policy, roles.encoder, picture_root)
    reads = roles.read(drawn, lambda item: [len(item.group.images) + n for n in range(len(item.texts))])
    assert [read.scores for read in reads] == [[1, 2, 3, 4], [1, 2, 3, 4], [0, 1, 2, 3]]


def test_a_reward_model_of_other_tokens_rewards_texts_but_carries_no_critic(tiny_folder, judge_folder, picture_root):
    judge_path = judge_folder("llava")
    roles = build(tiny_folder("mm1"), judge_path)
    assert roles.critic_packer is roles.packer and roles.critic_reads is roles.reference
    drawn = draw(roles.policy, roles.encoder, picture_root)
    judge, processor = load_reward_model(judge_path), load_processor(judge_path)
    with torch.no_grad():
        rewards = alone_rewards(judge, Encoder(processor, judge.config.base_config), drawn)
        scores = flat(roles.read(drawn), "scores")
    texts = [text for item in drawn for text in item.texts]
    kept = [n for n, text in enumerate(texts) if text]  # an empty one that was cut off is read as one that ended
    assert [scores[n] for n in kept] == pytest.approx([rewards[n].item() for n in kept], abs=1e-5)
    with pytest.raises(TriptychError, match="other tokens"):
        build(tiny_folder("mm1"), judge_path, critic_base="reward")


def test_a_critic_on_a_reward_model_that_is_not_there_is_refused(tiny_folder):
    with pytest.raises(TriptychError, match="a function gives the rewards"):
        build(tiny_folder("mm1"), None, critic_base="reward")


def test_a_trained_vision_tower_leaves_the_reference_alone(tiny_folder, picture_root):
    roles = build(tiny_folder("mm1"), None, critic=False)
    drawn = draw(roles.policy, roles.encoder, picture_root)
    before = roles.read(drawn, lambda item: [0.0] * len(item.texts))
    with torch.no_grad():
        for parameter in roles.policy.model.vision_tower.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    after = roles.read(drawn, lambda item: [0.0] * len(item.texts))
    assert_rows(flat(after, "ref_logps"), flat(before, "ref_logps"))
    assert (torch.cat(flat(after, "logps")) - torch.cat(flat(before, "logps"))).abs().max() > 1e-3


def test_gradients_of_the_critic_do_not_reach_the_policy(tiny_folder, mm1_judge, picture_root):
    roles = build(tiny_folder("mm1"), mm1_judge, lora_r=4, critic_lora_r=4)
    disturb(roles)
    packed = roles.critic_packer.pack(draw(roles.policy, roles.encoder, picture_root))
    roles.values(packed.batch).sum().backward()
    reached = {name.split(".")[0] for name, p in roles.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"critic"}
    assert roles.critic.score.weight.grad.any()
