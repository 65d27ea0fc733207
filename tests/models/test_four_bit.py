"""QLoRA: 4-bit weights under adapters, from loading over the packed trie to a plain folder."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from PIL import Image
from torch import nn

from tests.models.tiny_mm1 import tiny_mm1
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of
from triptych.engine.flops import matrix_parameters
from triptych.engine.paths import completion_paths
from triptych.engine.scoring import score
from triptych.engine.trie import pack
from triptych.errors import TriptychError
from triptych.group import Completion, Group, text_message
from triptych.models.adapters import LoraSettings, add_lora, count_parameters, merge_adapters, reference_mode
from triptych.models.four_bit import four_bit_layers, is_four_bit, num_bytes, num_weights
from triptych.models.loading import load_model, load_processor

FAMILIES = ("llava", "qwen2_5_vl", "mm1")
END = {"llava": "</s>", "qwen2_5_vl": "<|im_end|>", "mm1": "<|end|>"}
TEXTS = ("There are three circles.", "There are two squares.", "Five.")
ASK = [text_message("user", None, "How many?")]


@pytest.fixture
def four_bit(tiny_folder):
    """Return a function that loads a tiny model in 4 bits; adapters that are `moved` do something."""

    def load(family, *, adapters=True, moved=True):
        model = load_model(tiny_folder(family), load_in_4bit=True)
        if adapters:
            torch.manual_seed(0)
            add_lora(model, LoraSettings(lora_r=2, lora_dropout=0.0))
        for name, parameter in model.named_parameters():
            if moved and "lora_B" in name:
                nn.init.normal_(parameter, std=0.05)
        return model

    return load


def plain_logps(model, processor, family, root):
    """Score each completion by the model's own forward over what its own processor makes of the texts."""
    pictures = [[Image.open(root / "a.png").convert("RGB")]]
    prompt = processor.apply_chat_template(ASK, add_generation_prompt=True, tokenize=False)
    start = processor(text=[prompt], images=pictures, return_tensors="pt")["input_ids"].shape[1]
    logps = []
    for text in TEXTS:
        inputs = processor(text=[prompt + text + END[family]], images=pictures, return_tensors="pt")
        per_token = model(**inputs).logits.log_softmax(-1)[:, :-1].gather(-1, inputs["input_ids"][:, 1:, None])
        logps.append(per_token[:, start - 1 :].sum())
    return torch.stack(logps)


def packed_logps(model, processor, root):
    encoder = Encoder(processor, model.config)
    group = Group("g", ASK, ["a.png"], completions=[Completion(text) for text in TEXTS])
    paths = completion_paths(encoder, backbone_of(model), encoder.prompt(group, root), group.completions)
    return score(model, encoder.family, pack([paths], 1024)).logps


def with_gradients(model, logps):
    model.zero_grad()
    (logps * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("family", FAMILIES)
def test_only_linear_layers_of_the_language_model_are_quantised_and_memory_shrinks(family, tiny_folder, four_bit):
    model, plain = four_bit(family, adapters=False), load_model(tiny_folder(family))
    layers = dict(four_bit_layers(model))
    decoder = model.get_decoder()
    linear = {id(module) for module in decoder.modules() if isinstance(module, nn.Linear)}
    assert {id(layer) for layer in layers.values()} == linear and linear
    rest = {name: value for name, value in model.named_parameters() if name.removesuffix(".weight") not in layers}
    for name, value in rest.items():
        if name.removesuffix(".bias") not in layers:
            assert torch.equal(value, plain.get_parameter(name)), name
    assert matrix_parameters(model) == matrix_parameters(plain), "for the FLOPs of a step"
    frozen = count_parameters(model)
    assert frozen.trainable + frozen.frozen == count_parameters(plain).trainable
    for layer in layers.values():
        assert num_weights(layer.weight) == layer.in_features * layer.out_features
        # half a byte for each weight; for each block of 64 one byte of scale, of which each 256 share 4 bytes; and
        # for the whole layer two tables, of 16 and of 256 values, and an offset
        blocks = num_weights(layer.weight) // 64
        assert num_bytes(layer.weight) == 32 * blocks + blocks + 4 * -(-blocks // 256) + 4 * (16 + 256 + 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_packed_trie_scores_a_quantised_model_as_its_plain_forwards_do(family, tiny_folder, four_bit, picture_root):
    model, processor = four_bit(family), load_processor(tiny_folder(family))
    packed = packed_logps(model, processor, picture_root)
    gradients = with_gradients(model, packed)
    plain = plain_logps(model, processor, family, picture_root)
    expected = with_gradients(model, plain)
    torch.testing.assert_close(packed, plain, rtol=2e-6, atol=1e-5)
    assert len(expected) == 28 and all(gradient.abs().max() > 0 for gradient in expected.values())
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp(min=1.0)
        torch.testing.assert_close(gradients[name] / scale, gradient / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_activations_give_the_same_gradients(family, tiny_folder, four_bit, picture_root):
    model, processor = four_bit(family), load_processor(tiny_folder(family))
    model.train()
    expected = with_gradients(model, packed_logps(model, processor, picture_root))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found = with_gradients(model, packed_logps(model, processor, picture_root))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_without_its_adapters_the_policy_is_the_loaded_model_bit_for_bit(four_bit, tiny_folder, picture_root):
    processor = load_processor(tiny_folder("llava"))
    loaded = four_bit("llava", adapters=False)
    policy = four_bit("llava")
    with torch.no_grad():
        expected = packed_logps(loaded, processor, picture_root)
        with reference_mode(policy):
            assert torch.equal(packed_logps(policy, processor, picture_root), expected)
        assert not torch.allclose(packed_logps(policy, processor, picture_root), expected, atol=1e-2)


def test_a_forward_without_gradients_changes_nothing_of_those_that_follow(four_bit, tiny_folder, picture_root):
    """bitsandbytes would re-pack the weights for inference where the processor has AVX512-BF16, and lose gradients."""
    model, processor = four_bit("mm1", moved=False), load_processor(tiny_folder("mm1"))
    before = with_gradients(model.train(), packed_logps(model, processor, picture_root))
    with torch.no_grad():
        evaluated = packed_logps(model.eval(), processor, picture_root)
    scored = packed_logps(model.train(), processor, picture_root)
    assert torch.equal(scored, evaluated)
    after = with_gradients(model, scored)
    assert all(torch.equal(after[name], gradient) for name, gradient in before.items())


@pytest.mark.parametrize("targets", [(), ("q_proj",)])
def test_the_merged_folder_is_plain_and_gives_the_outputs_of_the_trained_model(
    targets, four_bit, tiny_folder, picture_root, tmp_path
):
    processor = load_processor(tiny_folder("llava"))
    model = four_bit("llava", adapters=False)
    add_lora(model, LoraSettings(lora_r=2, lora_dropout=0.0, lora_target_modules=targets and ["layers.*.q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    with torch.no_grad():
        trained = packed_logps(model, processor, picture_root)
        assert merge_adapters(model) is model
        assert not any(is_four_bit(module) for module in model.modules())
        model.save_pretrained(tmp_path)
        loaded = type(model).from_pretrained(tmp_path)
        assert "quantization_config" not in loaded.config.to_dict()
        torch.testing.assert_close(packed_logps(loaded, processor, picture_root), trained, rtol=2e-6, atol=1e-5)


def test_an_adapter_that_is_not_finite_is_not_merged(four_bit):
    model = four_bit("mm1")
    nn.init.constant_(next(p for name, p in model.named_parameters() if "lora_A" in name), torch.inf)
    with pytest.raises(
        TriptychError, match=r"Cannot merge the adapter of model\.language_model\.layers\.0.*not finite"
    ):
        merge_adapters(model)


def test_bfloat16_computes_products_in_bfloat16_and_keeps_the_rest(tiny_folder):
    model = load_model(tiny_folder("llava"), load_in_4bit=True, compute_dtype="bfloat16")
    assert {layer.compute_dtype for _, layer in four_bit_layers(model)} == {torch.bfloat16}
    assert model.get_output_embeddings().weight.dtype == torch.float32
    add_lora(model, LoraSettings(lora_r=2, lora_dropout=0.0))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=torch.arange(9)[None]).logits
    logits.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_without_bitsandbytes_the_extra_is_named(tiny_folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(TriptychError, match=r"pip install 'triptych\[qlora\]'"):
        load_model(tiny_folder("llava"), load_in_4bit=True)


def test_a_plain_model_counts_its_bytes_as_they_are():
    model, _ = tiny_mm1()
    assert all(num_bytes(p) == 4 * num_weights(p) == 4 * p.numel() for p in model.parameters())
