"""Masks of packed tries with windows and two-way spans, against the paths one by one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from triptych.engine.families.masks import attention_masks, decoder_windows, layer_windows
from triptych.engine.segments import TokenPath
from triptych.engine.trie import pack

FULL, SLIDING = "full_attention", "sliding_attention"


def config(**settings: object) -> SimpleNamespace:
    return SimpleNamespace(num_hidden_layers=2, **settings)


def test_windows_of_a_decoder_are_those_of_its_layers() -> None:
    assert decoder_windows(config()) is None
    assert decoder_windows(config(sliding_window=None)) is None
    assert decoder_windows(config(layer_types=[FULL, FULL], sliding_window=9)) is None
    assert decoder_windows(config(sliding_window=9)) == {None: 9}, "as in Mistral"
    assert decoder_windows(config(layer_types=[SLIDING, FULL], sliding_window=9)) == {FULL: None, SLIDING: 9}
    assert layer_windows(config()) == []
    assert layer_windows(config(sliding_window=9)) == [9, 9]
    assert layer_windows(config(layer_types=[SLIDING, FULL], sliding_window=9)) == [9, None]


def test_a_mask_shows_who_sees_whom() -> None:
    # One prompt of a, a span b b, and c; below it d and, instead of it, e f.
    paths = [_path("abbcd", 5), _path("abbcef", 6)]
    batch = pack([paths], 100)
    assert batch.input_ids[0].tolist() == [ord(letter) for letter in "abbcdef"]
    assert batch.block_end[0].tolist() == [0, 3, 3, 0, 0, 0, 0]
    masks = attention_masks(batch.subtree_end, batch.block_end, {FULL: None, SLIDING: 3}, torch.float32)
    assert _rows(masks[FULL]) == [
        "x......",  # a
        "xxx....",  # b sees the other b, which comes later
        "xxx....",
        "xxxx...",  # c
        "xxxxx..",  # d
        "xxxx.x.",  # e does not see d
        "xxxx.xx",
    ]
    assert _rows(masks[SLIDING]) == [
        "x......",
        "xxx....",
        "xxx....",
        ".xxx...",
        "..xxx..",
        "..xx.x.",  # the window is measured on the own path: d does not count
        "...x.xx",
    ]
    assert set(masks[FULL].unique().tolist()) == {0.0, torch.finfo(torch.float32).min}


def test_decoders_of_one_type_of_layer_take_one_mask() -> None:
    batch = pack([[_path("abc", 3)]], 100)
    mask = attention_masks(batch.subtree_end, torch.zeros_like(batch.block_end), {None: 2}, torch.bfloat16)
    assert _rows(mask) == ["x..", "xx.", ".xx"]
    assert mask.dtype == torch.bfloat16


@pytest.mark.parametrize("second", ["abXcd", "abbcX"])
def test_a_span_is_shared_as_a_whole_or_not_at_all(second: str) -> None:
    def tokens_computed(span: tuple[int, int]) -> int:
        return pack([[_path("abbcd", 5, span), _path(second, 5, span)]], 100).num_tokens

    shared = next(n for n in range(5) if "abbcd"[n] != second[n])
    for start in range(4):
        for end in range(start + 1, 5):
            before = start if start <= shared < end else shared
            assert tokens_computed((start, end)) == 10 - before


def test_spans_keep_their_place_behind_other_tries() -> None:
    batch = pack([[_path("abbcd", 5)], [_path("xbby", 4)]], 100)
    assert batch.block_end.tolist() in ([[0, 3, 3, 0, 0, 0, 7 + 1, 7 + 1, 0]], [[0, 3, 3, 0, 0, 7, 7, 0, 0]])


def _path(text: str, length: int, span: tuple[int, int] = (1, 3)) -> TokenPath:
    assert len(text) == length
    return TokenPath(
        [ord(letter) for letter in text], [False] + [True] * (length - 1), torch.arange(length)[None], two_way=(span,)
    )


def _rows(mask: torch.Tensor) -> list[str]:
    return ["".join("x" if value == 0 else "." for value in row) for row in mask[0, 0]]
