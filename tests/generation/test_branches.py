"""Rows of distinct continuations, and attention to shared prompts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.errors import TriptychError
from triptych.generation.branches import FIRST_CAPACITY, BranchCache, Prompts, attending_to_branches, branch_attention

KV_HEADS, QUERIES, SIZE = 2, 3, 4


def random_prompts(lengths: list[int], generator: torch.Generator, num_layers: int = 1) -> Prompts:
    """Prompts whose first token's key is their own number, and whose position is ten times it."""
    shape = (len(lengths), KV_HEADS, max(lengths), SIZE)
    layers = [tuple(torch.randn(shape, generator=generator) for _ in range(2)) for _ in range(num_layers)]
    for keys, _ in layers:
        keys[:, 0, 0, 0] = torch.arange(len(lengths))
    return Prompts(layers, torch.tensor(lengths), 10 * torch.arange(len(lengths)))


def prompt_numbers(cache: BranchCache) -> list[int]:
    """The number of each row's prompt, read from its keys."""
    return cache.prompts.layers[0][0][cache.prompt_of_row, 0, 0, 0].int().tolist()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_distinct_continuation_is_a_row_that_holds_its_own_history(data: st.DataObject) -> None:
    """Samples draw from three tokens and leave at random; the cache stores each token as its key and value."""
    samples_per_prompt = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    prompts = random_prompts([2] * len(samples_per_prompt), torch.Generator().manual_seed(0))
    histories = [[number] for number, count in enumerate(samples_per_prompt) for _ in range(count)]
    cache = BranchCache(prompts, max_samples=len(histories))
    row_of_sample = torch.tensor([history[0] for history in histories])
    for step in range(data.draw(st.integers(1, 7))):
        stay = data.draw(
            st.lists(st.sampled_from([True, True, True, False]), min_size=len(histories), max_size=len(histories))
        )
        if not any(stay):
            break
        histories = [history for history, stays in zip(histories, stay, strict=True) if stays]
        row_of_sample = row_of_sample[torch.tensor(stay)]
        tokens = data.draw(st.lists(st.integers(0, 2), min_size=len(histories), max_size=len(histories)))
        for history, token in zip(histories, tokens, strict=True):
            history.append(token)

        row_tokens, row_of_sample = cache.branch(row_of_sample, torch.tensor(tokens))

        assert len(row_tokens) == len({tuple(history) for history in histories})
        numbers = prompt_numbers(cache)
        assert [numbers[row] for row in row_of_sample] == [history[0] for history in histories]
        assert cache.position_ids[row_of_sample, 0].tolist() == [10 * history[0] + step for history in histories]
        states = row_tokens[:, None, None, None].expand(-1, KV_HEADS, 1, SIZE).float()
        for held in cache.update(states, -states, 0):
            drawn = held[row_of_sample, 1, :, 2].abs().int().tolist()
            assert drawn == [history[1:] for history in histories]
        table = torch.randn(len(row_tokens), KV_HEADS, QUERIES, 2)
        assert torch.equal(cache.to_rows(cache.to_slots(table)), table)


def test_a_prompt_without_samples_leaves_and_the_others_keep_theirs() -> None:
    cache = BranchCache(random_prompts([3, 5, 2, 4], torch.Generator().manual_seed(0)), max_samples=4)
    cache.branch(torch.tensor([0, 2, 3]), torch.tensor([1, 1, 1]))
    assert prompt_numbers(cache) == [0, 2, 3]
    assert cache.prompts.lengths.tolist() == [3, 2, 4]
    assert cache.prompts.layers[0][0].shape[2] == 4  # columns that pad all that are left went too


def test_what_was_drawn_outlives_the_growth_of_the_buffers() -> None:
    cache = BranchCache(random_prompts([1, 1], torch.Generator().manual_seed(0)), max_samples=2)
    rows = torch.tensor([0, 1])
    for step in range(2 * FIRST_CAPACITY + 1):
        _, rows = cache.branch(rows, torch.tensor([0, 1]))
        keys, _ = cache.update(*(torch.full((2, 1, 1, 1), float(step)),) * 2, 0)
    assert keys[:, 0, :, 0].tolist() == [[float(step) for step in range(2 * FIRST_CAPACITY + 1)]] * 2


@pytest.mark.parametrize("lengths", [[5, 5, 5], [2, 5, 3]], ids=["alike", "padded"])
@pytest.mark.parametrize("samples", [[0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2], [0, 1, 2]], ids=["full", "ragged", "single"])
@pytest.mark.parametrize("window", [None, 6, 4, 2], ids=lambda window: f"window {window}")
@pytest.mark.parametrize("softcap", [None, 1.5], ids=["", "capped"])
def test_branch_attention_is_attention_to_the_prompt_and_the_drawn_tokens(
    lengths: list[int], samples: list[int], window: int | None, softcap: float | None
) -> None:
    generator = torch.Generator().manual_seed(1)
    prompts = random_prompts(lengths, generator, num_layers=2)
    cache = BranchCache(prompts, max_samples=len(samples), windows=[None, window])
    row_of_sample = torch.tensor(samples)
    for step in range(3):
        tokens = torch.arange(len(samples))  # all differ, so that every sample is a row
        _, row_of_sample = cache.branch(row_of_sample, tokens)
        drawn = [torch.randn(len(samples), KV_HEADS, 1, SIZE, generator=generator) for _ in range(2)]
        for layer in range(2):
            keys, values = cache.update(*drawn, layer)
        query = torch.randn(len(samples), KV_HEADS * QUERIES, 1, SIZE, generator=generator)
        module = SimpleNamespace(layer_idx=1)
        output, _ = branch_attention(module, query, keys, values, None, branches=cache, scaling=0.7, softcap=softcap)

        for row, number in enumerate(prompt_numbers(cache)):
            held = [states[number, :, : lengths[number]] for states in prompts.layers[1]]
            all_keys = torch.cat([held[0], keys[row]], dim=1).repeat_interleave(QUERIES, 0).double()
            all_values = torch.cat([held[1], values[row]], dim=1).repeat_interleave(QUERIES, 0).double()
            last = slice(-window if window else None, None)  # the tokens of the window, the own one among them
            scores = query[row].double() @ all_keys[:, last].transpose(1, 2) * 0.7
            weights = (scores if softcap is None else softcap * (scores / softcap).tanh()).softmax(-1)
            expected = (weights @ all_values[:, last])[:, 0]
            torch.testing.assert_close(output[row, 0].double(), expected, atol=1e-6, rtol=1e-5)
        assert keys.shape[2] == step + 1


def test_the_rows_of_a_full_table_are_not_copied() -> None:
    cache = BranchCache(random_prompts([2, 2], torch.Generator().manual_seed(0)), max_samples=4)
    cache.branch(torch.tensor([0, 0, 1, 1]), torch.tensor([3, 4, 3, 4]))
    assert cache.row_of_slot is None and cache.padding is None


def test_joining_prompts_pads_them_to_the_longest_and_keeps_their_order() -> None:
    generator = torch.Generator().manual_seed(2)
    short, long = random_prompts([2, 1], generator), random_prompts([4], generator)
    expected = torch.zeros(3, KV_HEADS, 4, SIZE)
    expected[:2, :, :2], expected[2:] = short.layers[0][1], long.layers[0][1]
    joined = Prompts.join([short, long])
    assert joined.lengths.tolist() == [2, 1, 4]
    assert torch.equal(joined.layers[0][1], expected)


def test_attention_with_sinks_is_refused() -> None:
    cache = BranchCache(random_prompts([2], torch.Generator().manual_seed(0)), max_samples=1)
    cache.branch(torch.tensor([0]), torch.tensor([0]))
    states = torch.zeros(1, KV_HEADS, 1, SIZE)
    query = torch.zeros(1, KV_HEADS * QUERIES, 1, SIZE)
    with pytest.raises(TriptychError, match="server"):
        branch_attention(
            SimpleNamespace(layer_idx=0), query, states, states, None, branches=cache, s_aux=torch.zeros(6)
        )


def test_the_attention_of_a_decoder_is_restored_after_an_error() -> None:
    decoder = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
    with pytest.raises(KeyError), attending_to_branches(decoder):
        assert decoder.config._attn_implementation == "triptych_branches"
        raise KeyError
    assert decoder.config._attn_implementation == "sdpa"
