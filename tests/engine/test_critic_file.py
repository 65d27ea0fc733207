"""The file of a critic: what is in it, and that it is put back where it fits and nowhere else."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.drawn import disturb
from triptych.engine.actor_critic_loading import build_actor_critic
from triptych.engine.critic_file import load_critic, save_critic
from triptych.engine.settings import TrainingConfig
from triptych.errors import TriptychError

HEAD = {"score.weight", "score.bias"}


@pytest.fixture
def build(tiny_folder):
    """Return a function that builds the roles with a function for rewards."""

    def make(critic_lora_r=0, critic_file="", **settings):
        config = TrainingConfig(out="unused", row_tokens=512, **settings)
        options = {"critic": True, "critic_lora_r": critic_lora_r, "critic_file": str(critic_file)}
        return build_actor_critic(config, str(tiny_folder("mm1")), None, **options)[0]

    return make


@pytest.mark.parametrize(("settings", "adapted"), [({"lora_r": 4}, False), ({"lora_r": 4, "critic_lora_r": 2}, True)],
                         ids=["head on the policy's body", "adapters"])  # fmt: skip
def test_head_and_adapters_come_back_and_nothing_of_the_policy(build, tmp_path, settings, adapted):
    roles, path = build(**settings), tmp_path / "critic.safetensors"
    disturb(roles)
    save_critic(roles, path, lora_alpha=16)
    saved = load_file(path)
    assert saved.keys() >= HEAD and all("lora_" in name for name in saved.keys() - HEAD)
    assert (saved.keys() > HEAD) == adapted
    again = build(critic_file=path, **settings)
    for name, value in saved.items():
        assert torch.equal(again.critic.get_parameter(name), value)
        assert torch.equal(roles.critic.get_parameter(name), value)
    policy = {name: value for name, value in build(**settings).policy.named_parameters() if "lora_" in name}
    assert all(torch.equal(again.policy.get_parameter(name), value) for name, value in policy.items())


def test_a_critic_of_another_arrangement_is_refused_and_the_difference_named(build, tmp_path):
    path = tmp_path / "critic.safetensors"
    save_critic(build(lora_r=4, critic_lora_r=2), path, lora_alpha=16)
    with pytest.raises(TriptychError, match=r"lora_A.* is \(2, 96\) there and \(3, 96\) here.*critic_lora_r"):
        build(lora_r=4, critic_lora_r=3, critic_file=path)
    with pytest.raises(TriptychError, match="lora_alpha is 16 there and absent here"):
        build(lora_r=4, critic_file=path)
    with pytest.raises(TriptychError, match="lora_alpha is 16 there and 8 here"):
        build(lora_r=4, critic_lora_r=2, lora_alpha=8, critic_file=path)


def test_what_is_no_critic_is_refused(build, tmp_path):
    roles = build(lora_r=4)
    with pytest.raises(TriptychError, match=r"cannot be read as a critic.*critic\.safetensors of a run of ppo"):
        load_critic(roles, tmp_path / "nothing.safetensors", lora_alpha=16)
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(TriptychError, match="cannot be read as a critic"):
        load_critic(roles, tmp_path / "text.safetensors", lora_alpha=16)
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(TriptychError, match=r"does not fit: score\.bias is absent there and \(1,\) here"):
        load_critic(roles, tmp_path / "other.safetensors", lora_alpha=16)
