import pytest
import torch
from torch import nn

from tests.models.tiny_mm1 import CLIP, LLAMA, noise_image, tiny_mm1
from triptych.engine.optim import build_optimizers
from triptych.engine.schedule import OptimizerSettings
from triptych.errors import TriptychError
from triptych.models import onednn
from triptych.models.adapters import (
    LoraSettings,
    add_lora,
    count_parameters,
    disable_dropout,
    freeze,
    merge_adapters,
    reference_mode,
)
from triptych.models.loading import load_model


def logits(model, processor):
    inputs = processor(text="<|user|><image>How many?", images=[noise_image(0)], return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits


def train_a_little(model):
    """Move every weight that is trained."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1


def test_freezing_counts_and_stops_what_the_patterns_name():
    model, _ = tiny_mm1()
    total = sum(p.numel() for p in model.parameters())
    tower = sum(p.numel() for p in model.model.vision_tower.parameters())
    layer = sum(p.numel() for p in model.model.language_model.layers[0].parameters())
    assert count_parameters(model).frozen == 0
    counts = freeze(model, ["vision_tower", "language_model.layers.0"])
    assert (counts.trainable, counts.frozen) == (total - tower - layer, tower + layer)
    assert str(counts) == (
        f"{total - tower - layer:,} parameters are trained ({(total - tower - layer) / total:.2%}), "
        f"{tower + layer:,} are frozen"
    )
    assert freeze(model, ["model.*"]).trainable == model.lm_head.weight.numel()


def test_a_tied_weight_counts_once_and_freezes_as_one():
    model, _ = tiny_mm1(text_config=LLAMA | {"tie_word_embeddings": True})
    before = count_parameters(model).trainable
    assert freeze(model, ["lm_head"]).trainable == before - model.lm_head.weight.numel()
    assert not model.get_input_embeddings().weight.requires_grad


@pytest.mark.parametrize("pattern", ["vision_towr", "tower", "layers.7", "", "act_fn"])
def test_a_pattern_that_matches_nothing_is_refused(pattern):
    model, _ = tiny_mm1()
    with pytest.raises(TriptychError, match=r"matches no module with parameters.*model\.vision_tower"):
        freeze(model, [pattern])


def test_adapters_go_on_the_linear_layers_of_the_language_model_and_start_as_nothing():
    model, processor = tiny_mm1()
    before = logits(model, processor)
    assert add_lora(model, LoraSettings(lora_r=2, lora_dropout=0.0)) is model
    assert torch.equal(logits(model, processor), before)
    adapted = {name.rsplit(".lora_A", 1)[0] for name, _ in model.named_parameters() if ".lora_A" in name}
    names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
    assert adapted == {f"model.language_model.layers.{n}.{name}" for n in range(2) for name in names}
    # r * (in + out) for each: q 24-24, k and v 24-12, o 24-24, gate and up 24-48, down 48-24
    assert count_parameters(model).trainable == 2 * 2 * (48 + 36 + 36 + 48 + 72 + 72 + 72)


def test_adapters_can_be_placed_by_pattern():
    model, _ = tiny_mm1()
    add_lora(model, LoraSettings(lora_r=2, lora_target_modules=["vision_tower.*.q_proj", "connector.projection"]))
    assert count_parameters(model).trainable == 2 * (2 * (16 + 16) + (16 + 24))
    for pattern in ("layers.*.norm", "no_proj"):
        with pytest.raises(TriptychError, match="matches no Linear layer"):
            add_lora(tiny_mm1()[0], LoraSettings(lora_target_modules=[pattern]))
    with pytest.raises(TriptychError, match="has adapters already"):
        add_lora(model, LoraSettings())


def test_reference_mode_is_the_model_before_training_and_gives_the_policy_back():
    model, processor = tiny_mm1()
    before = logits(model, processor)
    add_lora(model, LoraSettings(lora_r=2, lora_dropout=0.0))
    train_a_little(model)
    policy = logits(model, processor)
    assert not torch.allclose(policy, before, atol=1e-3)
    with reference_mode(model):
        assert torch.equal(logits(model, processor), before)
        with reference_mode(model):
            pass
        assert torch.equal(logits(model, processor), before)  # the inner one did not switch them on again
    assert torch.equal(logits(model, processor), policy)
    assert count_parameters(model).trainable > 0
    with pytest.raises(ZeroDivisionError), reference_mode(model):
        raise ZeroDivisionError
    assert torch.equal(logits(model, processor), policy)
    with pytest.raises(TriptychError, match="separate model"), reference_mode(tiny_mm1()[0]):
        pass


def test_merged_adapters_leave_a_plain_model_that_computes_the_same(tmp_path):
    model, processor = tiny_mm1()
    names = [name for name, _ in model.named_parameters()]
    assert merge_adapters(model) is model  # nothing to merge
    add_lora(model, LoraSettings(lora_r=2, lora_dropout=0.0))
    train_a_little(model)
    policy = logits(model, processor)
    assert merge_adapters(model) is model
    torch.testing.assert_close(logits(model, processor), policy)
    assert [name for name, _ in model.named_parameters()] == names
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(load_model(tmp_path), processor), policy)
    add_lora(model, LoraSettings(lora_r=2))  # and it can be adapted again


def test_weights_that_are_not_finite_are_not_merged():
    model, _ = tiny_mm1()
    add_lora(model, LoraSettings(lora_r=2))
    nn.init.constant_(next(p for name, p in model.named_parameters() if "lora_A" in name), torch.inf)
    with pytest.raises(TriptychError, match=r"Cannot merge the adapter of model\.language_model\.layers\.0"):
        merge_adapters(model)


def test_without_dropout_training_mode_computes_what_evaluation_mode_does():
    model, processor = tiny_mm1(
        vision_config=CLIP | {"attention_dropout": 0.5}, text_config=LLAMA | {"attention_dropout": 0.5}
    )
    expected = logits(model, processor)
    model.train()
    assert not torch.allclose(logits(model, processor), expected, atol=1e-3)
    disable_dropout(model)
    assert torch.equal(logits(model, processor), expected)
    dropout = nn.Sequential(nn.Dropout(0.3), nn.Dropout2d(0.3))
    dropout.drop_path_rate, dropout.drop_prob, dropout.layerdrop, dropout.scale = 0.1, 0.1, 0.1, 0.1
    disable_dropout(dropout)
    assert (dropout[0].p, dropout[1].p) == (0, 0)
    assert (dropout.drop_path_rate, dropout.drop_prob, dropout.layerdrop, dropout.scale) == (0, 0, 0, 0.1)


def test_adapters_that_are_there_lose_their_dropout_and_those_added_later_keep_it():
    model, processor = tiny_mm1()
    disable_dropout(model)
    add_lora(model, LoraSettings(lora_r=2, lora_dropout=0.5))
    train_a_little(model)
    expected = logits(model.eval(), processor)
    assert not torch.allclose(logits(model.train(), processor), expected, atol=1e-3)
    disable_dropout(model)
    assert torch.equal(logits(model, processor), expected)


def test_learning_rates_per_module_reach_adapters_wherever_they_are():
    model, _ = tiny_mm1()
    add_lora(model, LoraSettings(lora_r=2, lora_target_modules=["vision_tower.*.q_proj", "layers.*.v_proj"]))
    settings = OptimizerSettings(learning_rate=0.01, module_learning_rates={"vision_tower": 0.1, "lora_B": 16.0})
    [optimizer] = build_optimizers(model, settings)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    names = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert names.keys() == {name for name, _ in model.named_parameters() if "lora_" in name}
    for name, rate in names.items():
        expected = 0.001 if "vision_tower" in name else 0.16 if "lora_B" in name else 0.01
        assert rate == pytest.approx(expected), name


def test_a_frozen_module_stays_frozen_under_adapters_elsewhere_and_an_adapter_on_it_is_trained():
    model, _ = tiny_mm1()
    freeze(model, ["vision_tower"])
    add_lora(model, LoraSettings(lora_r=2))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all("language_model" in name and "lora_" in name for name in trained)
    with pytest.raises(TriptychError, match="matches no trainable parameter"):
        build_optimizers(model, OptimizerSettings(module_learning_rates={"vision_tower": 0.1}))
    freeze(model, ["language_model.layers.0"])
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name in trained if "layers.0" not in name
    }


@pytest.mark.parametrize("settings", [{"lora_r": 0}, {"lora_alpha": 0}, {"lora_dropout": 1.0}])
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(TriptychError, match="LoRA needs"):
        LoraSettings(**settings)


def test_products_of_adapters_are_as_fast_as_those_of_the_weights(monkeypatch):
    monkeypatch.setattr(onednn, "onednn_is_faster", lambda: True)
    model, _ = tiny_mm1()
    add_lora(model, LoraSettings(lora_r=2))
    layer = model.model.language_model.layers[0].self_attn.q_proj
    assert {type(part) for part in (layer.lora_A["default"], layer.lora_B["default"])} == {onednn.OneDnnLinear}
