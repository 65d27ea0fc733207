import math

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Muon

from triptych.engine.optim import (
    apply_learning_rate,
    build_optimizers,
    clip_gradients,
    current_learning_rate,
    language_model_parameters,
)
from triptych.engine.schedule import OptimizerSettings
from triptych.errors import TriptychError


class Small(nn.Module):
    """One of everything that is treated differently."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.position_embedding = nn.Parameter(torch.zeros(5, 4))
        self.patches = nn.Conv2d(3, 4, 2)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"q_proj": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "conv": nn.Conv2d(4, 4, 1, bias=False)})
            for _ in range(2)
        )
        self.layers[0].experts_down_proj = nn.Parameter(torch.zeros(2, 4, 4))
        self.layers[0].experts_down_proj_bias = nn.Parameter(torch.zeros(2, 4))
        self.connector = nn.Linear(4, 4)
        self.head = nn.Linear(4, 6, bias=False)


def names_by_group(model, optimizers):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        (type(optimizer), group["lr"], group["weight_decay"], {names[id(p)] for p in group["params"]})
        for optimizer in optimizers
        for group in optimizer.param_groups
    ]


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = Small()
    settings = OptimizerSettings(optimizer="muon", learning_rate=1e-3, muon_learning_rate=0.01, weight_decay=0.1)
    muon, *rest = names_by_group(model, build_optimizers(model, settings))
    assert muon == (Muon, 0.01, 0.1, {"layers.0.q_proj.weight", "layers.1.q_proj.weight"})
    small = {f"layers.{n}.{name}" for n in (0, 1) for name in ("q_proj.bias", "norm.weight", "norm.bias")}
    small |= {"embed.weight", "position_embedding", "patches.bias", "connector.bias", "layers.0.experts_down_proj_bias"}
    large = {"layers.0.conv.weight", "layers.1.conv.weight", "layers.0.experts_down_proj"}
    large |= {"patches.weight", "connector.weight", "head.weight"}
    assert sorted(rest, key=lambda group: group[2]) == [(AdamW, 1e-3, 0.0, small), (AdamW, 1e-3, 0.1, large)]


def test_adamw_alone_takes_every_trainable_parameter_once():
    model = Small()
    model.patches.requires_grad_(False)
    optimizers = build_optimizers(model, OptimizerSettings())
    assert [type(optimizer) for optimizer in optimizers] == [AdamW]
    members = [name for *_, names in names_by_group(model, optimizers) for name in names]
    assert sorted(members) == sorted(name for name, _ in model.named_parameters() if not name.startswith("patches"))


def test_a_head_tied_to_the_embedding_is_not_decayed():
    model = Small()
    model.head.weight = model.embed.weight
    for _, _, decay, names in names_by_group(model, build_optimizers(model, OptimizerSettings(weight_decay=0.1))):
        if "embed.weight" in names:
            assert decay == 0.0


def test_module_learning_rates_multiply_and_the_first_match_counts():
    model = Small()
    settings = OptimizerSettings(learning_rate=1.0, module_learning_rates={r"^layers\.0": 0.5, "layers": 0.1})
    rates = {
        name: rate for _, rate, _, names in names_by_group(model, build_optimizers(model, settings)) for name in names
    }
    assert rates["layers.0.q_proj.weight"] == 0.5
    assert rates["layers.1.q_proj.weight"] == 0.1
    assert rates["connector.weight"] == 1.0


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(TriptychError, match="'vison', which matches no trainable parameter"):
        build_optimizers(Small(), OptimizerSettings(module_learning_rates={"vison": 0.1}))


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(TriptychError, match="nothing to train"):
        build_optimizers(Small().requires_grad_(False), OptimizerSettings())


def test_the_law_sets_the_learning_rate_from_the_parameters_without_embeddings():
    model = nn.Sequential(nn.Embedding(1000, 10), nn.Linear(10, 10, bias=False))
    assert language_model_parameters(model) == 100
    (optimizer,) = build_optimizers(model, OptimizerSettings(learning_rate="mm1_law"))
    # 0.5749 * 100 ** -0.4214
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5749 * 100**-0.4214, rel=1e-4)


def test_the_law_counts_the_language_model_of_a_multimodal_model():
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=4, patch_size=2)
    config = LlavaConfig(vision_config=vision, text_config=LlamaConfig(**sizes, vocab_size=9))
    # attention 4 * 8 * 8, feed-forward 3 * 8 * 16, three norms of 8
    assert language_model_parameters(LlavaForConditionalGeneration(config)) == 4 * 64 + 3 * 128 + 3 * 8


def test_a_share_of_the_peak_is_applied_to_every_group():
    model = Small()
    settings = OptimizerSettings(
        optimizer="muon", learning_rate=1.0, muon_learning_rate=10.0, module_learning_rates={"connector": 0.1}
    )
    optimizers = build_optimizers(model, settings)
    for share in (0.5, 0.25):
        apply_learning_rate(optimizers, share)
    rates = sorted({group["lr"] for optimizer in optimizers for group in optimizer.param_groups})
    assert rates == [0.025, 0.25, 2.5]
    assert current_learning_rate(optimizers) == 0.25


def test_the_first_update_of_adamw_and_its_decay_by_hand():
    # First step of AdamW: w * (1 - lr * decay) - lr * g / (|g| + eps). Here g = 2, w = 1.
    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    (optimizer,) = build_optimizers(layer, OptimizerSettings(learning_rate=0.1, weight_decay=0.5))
    for parameter in layer.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    optimizer.step()
    assert layer.weight.item() == pytest.approx(1 * (1 - 0.1 * 0.5) - 0.1)
    assert layer.bias.item() == pytest.approx(1 - 0.1)


def test_the_update_of_muon_has_singular_values_near_one():
    # Without momentum history or decay the step is -lr times the orthogonalised gradient.
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(16, 16, bias=False)])
    settings = OptimizerSettings(optimizer="muon", muon_learning_rate=0.1)
    (optimizer,) = build_optimizers(model, settings)
    before = model[0].weight.detach().clone()
    left, right = (torch.linalg.qr(torch.randn(16, 16)).Q for _ in range(2))
    model[0].weight.grad = left @ torch.diag(torch.linspace(0.1, 10, 16)) @ right
    optimizer.step()
    values = torch.linalg.svdvals((before - model[0].weight.detach()) / 0.1)
    assert values.max() < 1.3
    assert values.min() > 0.5


def test_gradients_are_scaled_to_the_largest_norm_allowed():
    # gradients (3) and (4): norm 5
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_gradients(parameters, 0.0) == pytest.approx(5.0)
    assert clip_gradients(iter(parameters), 10.0) == pytest.approx(5.0)
    assert parameters[1].grad.item() == 4.0
    assert clip_gradients(parameters, 1.0) == pytest.approx(5.0)
    assert parameters[0].grad.item() == pytest.approx(0.6, rel=1e-5)
    assert parameters[1].grad.item() == pytest.approx(0.8, rel=1e-5)


def test_a_gradient_that_is_not_finite_is_reported_and_left_alone():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, float("inf")])
    assert math.isinf(clip_gradients([parameter], 1.0))
    assert parameter.grad[0].item() == 1.0
