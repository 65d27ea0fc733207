"""The estimate before step 0, against what PyTorch really keeps."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from triptych.engine.encode import EncodedMedia
from triptych.engine.estimate import activation_bytes, estimate, head_bytes, optimizer_bytes
from triptych.engine.families import backbone_of, family_of
from triptych.engine.optim import build_optimizers
from triptych.engine.paths import completion_paths
from triptych.engine.scoring import can_attend_by_block, score
from triptych.engine.settings import TrainingConfig
from triptych.engine.trie import TokenPath, pack
from triptych.engine.workload import Workload
from triptych.group import Completion, Group, text_message
from triptych.models.adapters import LoraSettings, add_lora, freeze
from triptych.models.lean import keep_less
from triptych.models.loading import load_model

WORDS = "There are three circles and two squares left of the green star above a hexagon. "
GROUP = Group(
    "g", [text_message("user", None, "Describe.")], ["a.png"], completions=[Completion(WORDS * 3), Completion("Five.")]
)
IMAGE_TOKENS, SIDE = 16, 56


def llava(num_layers=2, device="cpu"):
    """A LLaVA of proportions like those of real ones, in small."""
    vision = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": num_layers, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision, image_size=SIDE, patch_size=14),
        text_config=LlamaConfig(**text, num_key_value_heads=2, vocab_size=300),
        image_token_index=5,
        image_seq_length=IMAGE_TOKENS,
    )
    with torch.device(device):
        return LlavaForConditionalGeneration(config)


def llava_path(num_text=150, name="p"):
    media = (EncodedMedia(name, {"pixel_values": torch.rand(1, 3, SIDE, SIDE)}, IMAGE_TOKENS),)
    ids = [5] * IMAGE_TOKENS + [10 + n % 200 for n in range(num_text)]
    targets = [False] * (IMAGE_TOKENS + 50) + [True] * (num_text - 50)
    return TokenPath(ids, targets, torch.arange(len(ids))[None], media, 5)


def llava_batch(num_text=150):
    path = llava_path(num_text)
    return pack([[path]], len(path.input_ids))


def saved_bytes(model, batch, *, bf16=False):
    """Bytes of all tensors kept for the backward pass, each memory once, without the weights themselves."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        score(model, family_of(model.config), batch).logps.sum()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def settings(**changes):
    return TrainingConfig(out="run", **changes)


def tune(model, what):
    if what == "frozen tower":
        freeze(model, ["vision_tower", "multi_modal_projector"])
    if what == "adapters":
        add_lora(model, LoraSettings(lora_r=4, lora_dropout=0.0))
    return model


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("what", ["everything", "frozen tower", "adapters"])
def test_activations_are_within_a_third_of_what_is_kept(what, bf16, lean):
    model, batch = llava(), llava_batch()
    if lean:
        keep_less(model)
    tune(model, what)
    memory = estimate(model, settings(bf16=bf16), [batch], num_steps=1, matrix_rate=1.0).memory
    found = memory.activations + memory.copies + memory.head / 2  # logits go when their log-softmax is there
    assert found == pytest.approx(saved_bytes(model, batch, bf16=bf16), rel=1 / 3)


def test_a_frozen_tower_keeps_nothing_and_a_connector_trained_behind_it_only_its_own():
    model, batch = llava(), llava_batch()
    ids = [10] * batch.num_tokens
    text = pack([[TokenPath(ids, [False] + [True] * (len(ids) - 1), torch.arange(len(ids))[None])]], len(ids))
    nothing = activation_bytes(model, settings(), text)
    everything = activation_bytes(model, settings(), batch) - nothing
    freeze(model, ["vision_tower"])
    connector = activation_bytes(model, settings(), batch) - nothing
    assert connector == IMAGE_TOKENS * 2 * 4 * (96 + 96), "two layers of the width of the language model"
    assert everything > 4 * connector
    freeze(model, ["multi_modal_projector"])
    assert activation_bytes(model, settings(), batch) == nothing


def test_weights_are_cast_where_gradients_pass_and_one_block_at_a_time_where_it_is_recomputed():
    # A block: query and output 96 x 96, key and value 96 x 48, three of the feed-forward 96 x 256. The head 96 x 300.
    block, head = 2 * 96 * 96 + 2 * 96 * 48 + 3 * 96 * 256, 96 * 300

    def copies(**changes):
        memory = estimate(model, settings(**changes), [llava_batch()], num_steps=1, matrix_rate=1.0).memory
        return memory.copies / 2

    model = llava(num_layers=3)
    # of the tower two layers, 4 x 64 x 64 + 2 x 64 x 256 each; of the connector 64 x 96 and 96 x 96
    assert copies(bf16=True) == 3 * block + head + 2 * (4 * 64 * 64 + 2 * 64 * 256) + 64 * 96 + 96 * 96
    freeze_tower(model)
    assert copies(bf16=True) == 3 * block + head
    assert copies(bf16=True, gradient_checkpointing=True) == block + head
    assert copies() == 0


def test_a_row_that_is_attended_by_block_has_no_mask():
    model = llava()
    assert can_attend_by_block(model, family_of(model.config))
    units = [[llava_path(500, f"p{n}")] for n in range(4)]
    batch, dense = pack(units, 600, by_block=True), pack(units, 600)
    length = IMAGE_TOKENS + 500
    assert batch.blocks is not None and batch.input_ids.shape == (1, 4 * length)
    assert dense.blocks is None and dense.input_ids.shape == (4, length)
    found = activation_bytes(model, settings(), batch)
    assert found + head_bytes(model, settings(), batch) / 2 == pytest.approx(saved_bytes(model, batch), rel=1 / 3)
    assert activation_bytes(model, settings(), dense) - found == 4 * 4 * length**2


def test_recomputed_blocks_keep_their_inputs_and_one_of_them_is_at_work():
    batch = llava_batch()
    two, four = freeze_tower(llava(2)), freeze_tower(llava(4))
    block = (saved_bytes(four, batch) - saved_bytes(two, batch)) / 2
    four.train()
    four.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    config = settings(gradient_checkpointing=True)
    found = activation_bytes(four, config, batch) + head_bytes(four, config, batch) / 2
    assert found == pytest.approx(saved_bytes(four, batch) + block, rel=1 / 3)


def freeze_tower(model):
    return tune(model, "frozen tower")


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", ["mm1", "llava", "llava_onevision", "internvl", "qwen2_5_vl", "qwen3_vl", "smolvlm"])
def test_the_rule_holds_for_every_family_within_a_factor_of_two(family, lora, tiny_of):
    tiny = tiny_of(family)
    model = tune(copy.deepcopy(tiny.model), "adapters" if lora else "everything")
    prompt = tiny.encoder.prompt(GROUP, tiny.root)
    batch = pack([completion_paths(tiny.encoder, backbone_of(model), prompt, GROUP.completions)], 2048)
    found = activation_bytes(model, settings(), batch) + head_bytes(model, settings(), batch) / 2
    assert 1 / 2 < found / saved_bytes(model, batch) < 2


@pytest.mark.parametrize("changes", [{}, {"lora_r": 4}, {"optimizer": "muon"}, {"freeze": ["vision_tower"]}])
def test_weights_gradients_and_optimizer_are_exact(changes):
    config, batch = settings(**changes), llava_batch()
    model = llava()
    if config.freeze:
        freeze(model, config.freeze)
    if config.lora_r:
        add_lora(model, LoraSettings(lora_r=4))
    memory = estimate(model, config, [batch], num_steps=1, matrix_rate=1.0).memory
    optimizers = build_optimizers(model, config)
    score(model, family_of(model.config), batch).logps.sum().backward()
    for parameter in model.parameters():  # the last layer of CLIP is not used by LLaVA, and gets no gradient
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    assert memory.optimizer == sum(value.nbytes for state in states for value in state.values())
    assert memory.gradients == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert memory.weights == sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])


def test_four_bits_shrink_the_weights_and_only_the_adapters_have_gradients(tiny_folder):
    plain, quantised = load_model(tiny_folder("llava")), load_model(tiny_folder("llava"), load_in_4bit=True)
    add_lora(quantised, LoraSettings(lora_r=4))
    ids = list(range(10, 60))
    batch = pack([[TokenPath(ids, [False] + [True] * 49, torch.arange(50)[None])]], 64)
    full = estimate(plain, settings(), [batch], num_steps=1, matrix_rate=1.0).memory
    small = estimate(quantised, settings(lora_r=4, load_in_4bit=True), [batch], num_steps=1, matrix_rate=1.0).memory
    adapters = [p for name, p in quantised.named_parameters() if "lora_" in name]
    assert small.gradients == 4 * sum(p.numel() for p in adapters)
    assert small.optimizer == 2 * small.gradients + 4 * len(adapters)
    # 61,440 weights in 14 linear layers: 4 bytes before, half a byte after; beside them one byte of scale for each 64,
    # and for each of these small layers one number of scales of scales, an offset, and tables of 16 and 256 numbers.
    saved = 61_440 * 4 - (61_440 // 2 + 61_440 // 64 + 14 * 4 * (1 + 1 + 16 + 256))
    assert small.weights == full.weights + small.gradients - saved


def test_a_second_model_is_needed_only_without_adapters():
    batch = llava_batch()
    full, adapted = llava(), tune(llava(), "adapters")
    for live in (False, True):
        memory = estimate(full, settings(), [batch], num_steps=1, live_reference=live, matrix_rate=1.0).memory
        assert memory.reference == live * memory.weights
        assert (
            estimate(adapted, settings(), [batch], num_steps=1, live_reference=live, matrix_rate=1.0).memory.reference
            == 0
        )


def test_ranks_share_what_is_stored_and_not_what_they_compute():
    model, batch = llava(), llava_batch()
    one, four = (
        estimate(model, settings(), [batch], num_steps=1, num_ranks=ranks, matrix_rate=1.0).memory for ranks in (1, 4)
    )
    buffers = sum(buffer.nbytes for buffer in model.buffers() if not buffer.is_floating_point())  # whole on each
    assert four.weights - buffers == pytest.approx((one.weights - buffers) / 4, rel=1e-3)
    assert four.optimizer == one.optimizer // 4
    assert (four.activations, four.head) == (one.activations, one.head)


def test_time_is_the_arithmetic_of_all_micro_batches_over_the_rate():
    model, small, large = llava(), llava_batch(80), llava_batch(200)
    workload = Workload(model)
    config = settings(gradient_accumulation_steps=3)
    found = estimate(model, config, [small, large], num_steps=10, matrix_rate=1e9)
    mean = (workload.training_flops(small) + workload.training_flops(large)) / 2
    assert found.seconds_per_step == pytest.approx(3 * mean / 1e9)
    live = estimate(model, config, [small, large], num_steps=10, live_reference=True, matrix_rate=1e9)
    forward = (workload.forward_flops(small) + workload.forward_flops(large)) / 2
    assert live.step_flops == pytest.approx(3 * (mean + forward))
    assert forward == pytest.approx(mean / 3), "everything is trained: two thirds are the backward pass"
    assert found.memory.activations == activation_bytes(model, config, large)


def test_a_model_without_weights_can_be_estimated_and_the_sentence_names_what_is_large():
    model, batch = llava(device="meta"), llava_batch()
    assert optimizer_bytes(model, settings()) == optimizer_bytes(llava(), settings())
    text = estimate(model, settings(), [batch], num_steps=3600, matrix_rate=1e9).describe()
    assert "weights" in text and "activations" in text and "reference" not in text
    assert "per step" in text and "1 GFLOP/s" in text


def test_the_rate_is_measured_where_it_is_not_given():
    assert estimate(llava(), settings(), [llava_batch()], num_steps=1).matrix_rate > 1e8
