"""The reference model beside the policy: adapters off, or a copy that stays or follows."""

import copy

import pytest
import torch

from triptych.engine.live_reference import LiveReference
from triptych.engine.pairs import score_completions
from triptych.errors import TriptychError
from triptych.group import Completion, Group, text_message
from triptych.models.adapters import LoraSettings, add_lora


@pytest.fixture
def policy(tiny_of):
    return copy.deepcopy(tiny_of("mm1").model)


@pytest.fixture
def encoder(tiny_of):
    return tiny_of("mm1").encoder


def score(model, encoder, root):
    prompt = [text_message("user", None, "What is there?")]
    item = Group("a", prompt, ["a.png"], completions=[Completion("A star."), Completion("No.")])
    with torch.no_grad():
        return score_completions(model, encoder, {"0:a": (item, root, [0, 1])}, 512)


def values(scored):
    return {place: value.item() for place, value in scored.logps.items()}


def disturb(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)


def test_a_copy_stays_what_the_policy_was(policy, encoder, picture_root):
    start = values(score(policy, encoder, picture_root))
    reference = LiveReference(policy, encoder)
    disturb(policy)
    scored = score(policy, encoder, picture_root)
    assert reference.logps(policy, encoder, scored) == start
    assert values(scored) != start


def test_with_adapters_the_reference_is_the_policy_without_them(policy, encoder, picture_root):
    start = values(score(policy, encoder, picture_root))
    add_lora(policy, LoraSettings(lora_r=2, lora_dropout=0.0))
    disturb(policy)
    scored = score(policy, encoder, picture_root)
    assert LiveReference(None, encoder).logps(policy, encoder, scored) == start
    assert values(score(policy, encoder, picture_root)) == values(scored) != start, "the adapters are on again"


def test_following_mixes_what_is_trained_and_leaves_what_is_frozen(policy, encoder):
    policy.model.vision_tower.requires_grad_(False)
    reference = LiveReference(policy, encoder)
    start = copy.deepcopy(reference.state())
    disturb(policy)
    policy.model.vision_tower.load_state_dict({k: v + 1 for k, v in policy.model.vision_tower.state_dict().items()})
    reference.follow(policy, 0.25)
    for name, theirs in policy.named_parameters():
        mixed = 0.25 * theirs.detach() + 0.75 * start[name] if theirs.requires_grad else start[name]
        torch.testing.assert_close(reference.state()[name], mixed)
    assert not any(parameter.requires_grad for parameter in reference.model.parameters())


def test_a_saved_reference_is_taken_over(policy, encoder, picture_root):
    reference = LiveReference(policy, encoder)
    reference.follow(policy, 1.0)
    disturb(policy)
    other = LiveReference(policy, encoder)
    other.load_state(copy.deepcopy(reference.state()))
    scored = score(policy, encoder, picture_root)
    assert other.logps(policy, encoder, scored) == reference.logps(policy, encoder, scored)


def test_a_value_that_is_no_number_is_named(policy, encoder, picture_root):
    scored = score(policy, encoder, picture_root)
    reference = LiveReference(policy, encoder)
    with torch.no_grad():
        reference.model.model.language_model.norm.weight.fill_(float("nan"))
    with pytest.raises(TriptychError, match="completion 0 of group 0:a the log-probability nan"):
        reference.logps(policy, encoder, scored)
