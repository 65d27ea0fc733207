"""Attention by block against a dense mask, and against each family's forwards of single paths."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tests.engine.test_scoring import GROUPS, _rows
from tests.support.plain_forwards import ABSOLUTE, RELATIVE, assert_same_gradients, plain_logps, with_gradients
from tests.support.tiny_models import FAMILIES
from triptych.engine import trie
from triptych.engine.attention import BLOCK_ATTENTION, attends_by_block, block_attention
from triptych.engine.families import backbone_of
from triptych.engine.scoring import can_attend_by_block, score
from triptych.engine.trie import PackedBatch, TokenPath, pack

OWN_MASKS = {"gemma3", "llava_window", "paligemma", "paligemma2"}
"""Families with two-way attention or sliding windows."""
LAYER = SimpleNamespace(is_causal=True, num_key_value_groups=1)
UNITS = [
    [[5, 6, 7, 8, 9], [5, 6, 7, 8, 4, 4], [5, 6, 3], [5, 6]],
    [[1, 2, 3]],
    [[9, 9, 1, 1], [9, 9, 2], [8, 8]],
]
"""Branches below branches, a path that ends where others go on, a text by itself, and two roots."""


@pytest.fixture(autouse=True)
def blocks_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny batches too are laid out in one row."""
    monkeypatch.setattr(trie, "PAIRS_PER_BLOCK", 0)


@pytest.fixture
def batch() -> PackedBatch:
    paths = [
        [TokenPath(ids, [False] + [True] * (len(ids) - 1), torch.arange(len(ids)).unsqueeze(0)) for ids in unit]
        for unit in UNITS
    ]
    packed = pack(paths, 100, by_block=True)
    assert packed.blocks is not None and len(packed.input_ids) == 1
    return packed


def test_the_blocks_of_two_answers_to_one_prompt_as_a_table() -> None:
    paths = [TokenPath(ids, [False] * len(ids), torch.arange(4).unsqueeze(0)) for ids in ([5, 6, 7, 8], [5, 6, 3, 4])]
    packed = pack([paths], 100, by_block=True)
    table = [[" "] * 6 for _ in range(6)]
    for number, block in enumerate(packed.blocks):
        for query in range(6)[block.queries]:
            for key in range(6)[block.keys]:
                if not block.causal or key <= query:
                    assert table[query][key] == " ", "a pair is computed twice"
                    table[query][key] = str(number)
    assert ["".join(line) for line in table] == ["0     ", "00    ", "112   ", "1122  ", "11  3 ", "11  33"]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_values_and_gradients_are_those_of_the_dense_mask(
    batch: PackedBatch, groups: int, scaling: float | None
) -> None:
    inputs = _inputs(batch, num_key_heads=4 // groups)
    weights = torch.randn(1, batch.num_tokens, 4, 8)
    found, _ = block_attention(LAYER, *inputs, None, packed=batch, scaling=scaling)
    gradients = torch.autograd.grad((found * weights).sum(), inputs)
    dense = _dense(batch, inputs, scaling)
    expected = torch.autograd.grad((dense * weights).sum(), inputs)
    torch.testing.assert_close(found, dense, rtol=0, atol=2e-6)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-5)


def test_bfloat16_is_as_close_to_float32_as_the_dense_mask_is(batch: PackedBatch) -> None:
    inputs = _inputs(batch)
    exact = _dense(batch, inputs, None)
    halves = [part.bfloat16() for part in inputs]
    found, _ = block_attention(LAYER, *halves, None, packed=batch)
    assert found.dtype == torch.bfloat16
    assert (found - exact).abs().max() <= 1.5 * (_dense(batch, halves, None) - exact).abs().max()


def test_under_autocast_inputs_of_two_precisions_are_computed_in_the_lower_one(batch: PackedBatch) -> None:
    query, key, value = _inputs(batch)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = block_attention(LAYER, query, key, value.bfloat16(), None, packed=batch)
    expected, _ = block_attention(LAYER, query.bfloat16(), key.bfloat16(), value.bfloat16(), None, packed=batch)
    assert torch.equal(found, expected)


def test_scores_far_from_zero_do_not_overflow(batch: PackedBatch) -> None:
    inputs = [200 * part for part in _inputs(batch)]
    found, _ = block_attention(LAYER, *inputs, None, packed=batch)
    torch.testing.assert_close(found, _dense(batch, inputs, None), rtol=1e-5, atol=1e-3)


def test_without_a_packed_batch_it_is_sdpa(batch: PackedBatch) -> None:
    query, key, value = _inputs(batch)
    found, _ = block_attention(LAYER, query, key, value, None)
    expected = scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)
    assert torch.equal(found, expected)


def test_with_dropout_the_dense_mask_is_taken(batch: PackedBatch) -> None:
    inputs = _inputs(batch)
    torch.manual_seed(0)
    found, _ = block_attention(LAYER, *inputs, None, packed=batch, dropout=0.5)
    torch.manual_seed(0)
    mask = batch.attention_mask(torch.float32)
    expected = scaled_dot_product_attention(*inputs, attn_mask=mask, dropout_p=0.5).transpose(1, 2)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_path_is_scored_as_in_a_forward_of_its_own(family: str, tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of(family)
    assert can_attend_by_block(tiny.model, tiny.encoder.family) == (family not in OWN_MASKS)
    if family in OWN_MASKS:
        return
    packed = _pack(tiny)
    logps, gradients = with_gradients(tiny.model, lambda: score(tiny.model, tiny.encoder.family, packed).logps)
    expected, expected_gradients = with_gradients(tiny.model, lambda: plain_logps(tiny, GROUPS))
    torch.testing.assert_close(logps, expected, rtol=RELATIVE, atol=ABSOLUTE)
    assert_same_gradients(gradients, expected_gradients)


@pytest.mark.parametrize("family", ["llava", "qwen3_vl"])
def test_recomputed_activations_attend_as_in_the_forward_though_another_batch_came_between(
    family: str, tiny_of: Callable[[str], Any]
) -> None:
    tiny = tiny_of(family)
    first, second = _pack(tiny), _pack(tiny, GROUPS[::-1])

    def two_batches() -> torch.Tensor:
        logps = score(tiny.model, tiny.encoder.family, first).logps
        return logps + score(tiny.model, tiny.encoder.family, second).logps.flip(0)

    kept, gradients = with_gradients(tiny.model, two_batches)
    tiny.model.train()
    tiny.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    again, recomputed = with_gradients(tiny.model, two_batches)
    tiny.model.gradient_checkpointing_disable()
    tiny.model.eval()
    assert torch.equal(again, kept)
    assert_same_gradients(recomputed, gradients)


def test_attention_that_does_not_know_the_packed_batch_gives_no_number(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("llava")
    packed = _pack(tiny)
    handle = (
        backbone_of(tiny.model).get_decoder().layers[0].self_attn.register_forward_pre_hook(_forget, with_kwargs=True)
    )
    with torch.no_grad():
        logps = score(tiny.model, tiny.encoder.family, packed).logps
    handle.remove()
    assert logps.isnan().all()


def test_a_model_set_to_other_attention_takes_the_dense_mask(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("llava")
    packed = _pack(tiny)
    expected = score(tiny.model, tiny.encoder.family, packed).logps
    tiny.model.set_attn_implementation("eager")
    assert not attends_by_block(backbone_of(tiny.model).get_decoder())
    found = score(tiny.model, tiny.encoder.family, packed).logps
    tiny.model.set_attn_implementation("sdpa")
    torch.testing.assert_close(found, expected, rtol=RELATIVE, atol=ABSOLUTE)


def test_a_saved_configuration_does_not_name_the_attention(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("llava")
    assert attends_by_block(backbone_of(tiny.model).get_decoder())
    assert BLOCK_ATTENTION not in tiny.model.config.to_json_string(use_diff=False)


def _inputs(batch: PackedBatch, num_key_heads: int = 4) -> list[torch.Tensor]:
    """Query, key and value as a layer makes them: (1, T, heads, size), transposed."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(1, batch.num_tokens, heads, 8) for heads in (4, num_key_heads, num_key_heads)]
    return [torch.randn(shape, generator=draw).transpose(1, 2).requires_grad_() for shape in shapes]


def _dense(batch: PackedBatch, inputs: list[torch.Tensor], scaling: float | None) -> torch.Tensor:
    mask = batch.attention_mask(torch.float32).to(inputs[0].dtype)
    return scaled_dot_product_attention(*inputs, attn_mask=mask, scale=scaling, enable_gqa=True).transpose(1, 2)


def _forget(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    return args, {name: value for name, value in kwargs.items() if name != "packed"}


def _pack(tiny: Any, groups: list = GROUPS) -> PackedBatch:
    packed = pack(_rows(tiny, groups), 10_000, by_block=True)
    assert packed.blocks is not None
    return packed
