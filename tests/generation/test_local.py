"""The local sampler, against `model.generate` and against drawing one token at a time without cache or batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.generation.alone import drawn_alone, generated
from tests.generation.conftest import GROUPS
from tests.support.tiny_models import FAMILIES, PLAIN, VIDEO
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of
from triptych.errors import DataError, TriptychError
from triptych.generation import local
from triptych.generation.branches import FIRST_CAPACITY
from triptych.generation.draw import stream_seeds
from triptych.generation.local import LocalGenerator
from triptych.generation.protocol import Request, Sample, SamplingParams
from triptych.group import Group, text_message

GREEDY = SamplingParams(temperature=0, max_new_tokens=12)
SAMPLED = SamplingParams(max_new_tokens=12)
NEVER = 10**6
"""A token id beyond every vocabulary."""
Loaded = Callable[[str], tuple[Any, Encoder]]


def ask(
    model: Any, encoder: Encoder, requests: list[Request], params: SamplingParams, root: Path, **settings: Any
) -> list[list[Sample]]:
    return list(LocalGenerator(model, encoder, **settings).generate(requests, params, root=root))


def show_ids(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let texts be the token ids, which decoding would hide behind replacement characters."""
    monkeypatch.setattr(encoder, "decode", lambda ids: "".join(f"{token} " for token in ids))


def ids_of(sample: Sample) -> list[int]:
    return [int(token) for token in sample.text.split()]


@pytest.mark.parametrize("family", [*FAMILIES, *PLAIN])
def test_greedy_text_equals_generate_token_for_token(
    family: str, loaded: Loaded, picture_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoder = loaded(family)
    requests = [Request(group) for group in GROUPS]
    expected = [generated(model, encoder, request, 12, picture_root) for request in requests]
    show_ids(encoder, monkeypatch)
    answers = ask(model, encoder, requests, GREEDY, picture_root)
    for (sample,), ids in zip(answers, expected, strict=True):
        stopped = ids[-1] in encoder.stop_ids
        assert ids_of(sample) == (ids[:-1] if stopped else ids)
        assert (sample.num_tokens, sample.truncated) == (len(ids), not stopped)


@pytest.mark.parametrize("family", [*VIDEO, "qwen3_5"])
def test_greedy_text_about_a_video_equals_generate(
    family: str, loaded: Loaded, picture_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoder = loaded(family)
    parts = [{"type": "video"}, {"type": "text", "text": "or"}, {"type": "image"}, {"type": "text", "text": "?"}]
    both = Group("both", [{"role": "user", "content": parts}], ["b.png"], ["clip"])
    alone = Group("alone", [{"role": "user", "content": parts[:2]}], videos=["other"])
    groups = [both, GROUPS[0], alone] if encoder.family.mixes_videos_with_images else [GROUPS[0], alone]
    expected = [generated(model, encoder, Request(group), 12, picture_root) for group in groups]
    show_ids(encoder, monkeypatch)
    answers = ask(model, encoder, [Request(group) for group in groups], GREEDY, picture_root)
    for (sample,), ids in zip(answers, expected, strict=True):
        assert ids_of(sample) == [token for token in ids if token not in encoder.stop_ids]


@pytest.mark.parametrize("temperature", [0.2, 1.0])  # samples of the random model part late, or at once
@pytest.mark.parametrize("family", ["mm1", "mllama"])
def test_every_sample_is_the_one_drawn_alone_without_cache_or_batch(
    family: str, temperature: float, loaded: Loaded, picture_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoder = loaded(family)
    encoder.stop_ids |= set(range(100, 116))  # so that samples end, at different steps
    params = SamplingParams(temperature=temperature, max_new_tokens=10)
    requests = [Request(group, num_samples=count, seed=3) for group, count in zip(GROUPS, (5, 1, 3, 2, 4), strict=True)]
    expected = [
        [drawn_alone(model, encoder, request, number, params, picture_root) for number in range(request.num_samples)]
        for request in requests
    ]
    show_ids(encoder, monkeypatch)
    answers = ask(model, encoder, requests, params, picture_root)
    lengths = {len(ids) for drawn in expected for ids in drawn}
    assert len(lengths) > 3, "the test should see samples end at different steps"
    for request, samples, drawn in zip(requests, answers, expected, strict=True):
        assert [sample.seed for sample in samples] == stream_seeds(request)
        for sample, ids in zip(samples, drawn, strict=True):
            stopped = ids[-1] in encoder.stop_ids
            assert ids_of(sample) == (ids[:-1] if stopped else ids)
            assert (sample.num_tokens, sample.truncated) == (len(ids), not stopped)


class Calls:
    """Counts what a model computes: pictures encoded, prompts prefilled, and rows of each decoding step."""

    def __init__(self, model: Any) -> None:
        self.pictures, self.prompts, self.decoded = 0, 0, []
        backbone = backbone_of(model)
        backbone.vision_tower.register_forward_pre_hook(self._vision)
        backbone.get_decoder().register_forward_pre_hook(self._decoder, with_kwargs=True)

    def _vision(self, module: Any, arguments: tuple[Any, ...]) -> None:
        self.pictures += len(arguments[0])

    def _decoder(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if "branches" in named:
            self.decoded.append(len(named["input_ids"]))
        else:
            self.prompts += len(named["inputs_embeds"])


@pytest.mark.parametrize("family", ["mm1", "llava"])
def test_samples_share_one_prefill_and_pictures_are_encoded_once(
    family: str, loaded: Loaded, picture_root: Path
) -> None:
    model, encoder = loaded(family)
    calls = Calls(model)
    requests = [Request(group, num_samples=3) for group in GROUPS]
    ask(model, encoder, requests, SAMPLED, picture_root, batch_sequences=6)  # two prompts to a batch
    assert calls.prompts == 5
    assert calls.pictures == 3  # a.png, b.png and d.png, although two batches hold d.png or b.png
    assert max(calls.decoded) <= 6


@pytest.mark.parametrize("num_samples", [1, 32])
def test_the_cache_holds_the_prompt_once_for_all_its_samples(
    num_samples: int, mm1: tuple[Any, Encoder], picture_root: Path
) -> None:
    model, encoder = mm1
    encoder.stop_ids = set()
    caches = []
    backbone_of(model).get_decoder().register_forward_pre_hook(
        lambda _, __, named: caches.append(named.get("branches")), with_kwargs=True
    )
    request = Request(GROUPS[0], num_samples)
    ask(model, encoder, [request], SAMPLED, picture_root)
    layers = [*caches[-1].prompts.layers, *((layer.keys, layer.values) for layer in caches[-1].layers)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for pair in layers for tensor in pair}
    config = model.config.get_text_config()
    head_size = config.hidden_size // config.num_attention_heads
    bytes_per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head_size * 4
    num_prompt_tokens = len(encoder.prompt(GROUPS[0], picture_root).input_ids)
    expected = bytes_per_token * (num_prompt_tokens + num_samples * FIRST_CAPACITY)
    assert sum(storage.nbytes() for storage in storages.values()) == expected


def test_a_prompt_asked_twice_is_prefilled_once(mm1: tuple[Any, Encoder], picture_root: Path) -> None:
    model, encoder = mm1
    calls = Calls(model)
    requests = [Request(GROUPS[0], 2, seed=0), Request(GROUPS[1]), Request(GROUPS[0], 2, seed=1)]
    answers = ask(model, encoder, requests, SAMPLED, picture_root)
    assert calls.prompts == 2
    assert [len(samples) for samples in answers] == [2, 1, 2]
    assert {sample.seed for sample in answers[0]}.isdisjoint(sample.seed for sample in answers[2])


def test_samples_that_are_alike_are_decoded_once(mm1: tuple[Any, Encoder], picture_root: Path) -> None:
    model, encoder = mm1
    encoder.stop_ids = {NEVER}
    calls = Calls(model)
    (samples,) = ask(model, encoder, [Request(GROUPS[0], num_samples=5)], GREEDY, picture_root)
    assert calls.decoded == [1] * 11  # the first token needs no step of its own
    assert len({sample.text for sample in samples}) == 1


def test_finished_samples_leave_the_batch(mm1: tuple[Any, Encoder], picture_root: Path) -> None:
    model, encoder = mm1
    encoder.stop_ids = set(range(0, 300, 4))  # a quarter of the vocabulary
    calls = Calls(model)
    requests = [Request(group, num_samples=8) for group in GROUPS]
    answers = ask(model, encoder, requests, SAMPLED, picture_root)
    going_on = [sum(sample.num_tokens > step for samples in answers for sample in samples) for step in range(1, 12)]
    assert len(calls.decoded) == sum(number > 0 for number in going_on)
    assert all(rows <= number for rows, number in zip(calls.decoded, going_on, strict=False))


def test_the_same_requests_give_the_same_samples_and_another_seed_others(
    mm1: tuple[Any, Encoder], picture_root: Path
) -> None:
    requests = [Request(group, num_samples=2, seed=5) for group in GROUPS]
    first = ask(*mm1, requests, SAMPLED, picture_root)
    torch.manual_seed(99)  # the global generator plays no part
    assert ask(*mm1, requests, SAMPLED, picture_root) == first
    others = ask(*mm1, [Request(group, num_samples=2, seed=6) for group in GROUPS], SAMPLED, picture_root)
    texts = [{sample.text for samples in answers for sample in samples} for answers in (first, others)]
    assert texts[0].isdisjoint(texts[1])


@pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_order_of_requests_and_the_size_of_batches_do_not_change_the_answers(
    params: SamplingParams, mm1: tuple[Any, Encoder], picture_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [Request(group, num_samples=count) for group, count in zip(GROUPS, (3, 1, 5, 2, 2), strict=True)]
    expected = ask(*mm1, requests, params, picture_root)
    assert ask(*mm1, requests[::-1], params, picture_root)[::-1] == expected
    # five samples are decoded two by two; windows hold eight samples or one picture; prompts are prefilled one by one
    assert ask(*mm1, requests, params, picture_root, batch_sequences=2) == expected
    monkeypatch.setattr(local, "WINDOW_BYTES", 1)
    monkeypatch.setattr(local, "PREFILL_TOKENS", 1)
    assert ask(*mm1, requests, params, picture_root) == expected


def test_prompts_prefilled_in_parts_are_joined(
    loaded: Loaded, picture_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [Request(group, num_samples=2) for group in GROUPS]
    expected = ask(*loaded("qwen2_5_vl"), requests, SAMPLED, picture_root)
    monkeypatch.setattr(local, "PREFILL_TOKENS", 1)
    assert ask(*loaded("qwen2_5_vl"), requests, SAMPLED, picture_root) == expected


@pytest.mark.parametrize("family", ["mm1", "qwen2_5_vl"])
def test_a_prefix_is_continued_as_if_it_belonged_to_the_prompt(family: str, loaded: Loaded, picture_root: Path) -> None:
    model, encoder = loaded(family)
    request = Request(GROUPS[1], prefix="There are three")
    ids = generated(model, encoder, request, 12, picture_root)
    ((sample,),) = ask(model, encoder, [request], GREEDY, picture_root)
    new = [token for token in ids if token not in encoder.stop_ids]
    prefix_ids = encoder.completion(request.prefix, end_of_turn=False)
    assert "There are three" + sample.text == encoder.decode(prefix_ids + new)
    assert sample.num_tokens == len(ids)


def test_a_continuation_keeps_the_space_that_a_tokenizer_takes_from_the_start_of_a_text(
    mm1: tuple[Any, Encoder], picture_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SentencePiece decodes: each token has a space before it, but not the first of a text."""
    model, encoder = mm1
    encoder.stop_ids = {NEVER}
    monkeypatch.setattr(encoder, "decode", lambda ids: "".join(f" {token}" for token in ids)[1:])
    requests = [Request(GROUPS[0], prefix="It is"), Request(GROUPS[0])]
    (continued,), (whole,) = ask(model, encoder, requests, GREEDY, picture_root)
    assert continued.text.startswith(" ") and len(continued.text.split()) == 12
    assert not whole.text.startswith(" ")


def test_without_media_the_pictures_are_left_out(mm1: tuple[Any, Encoder], picture_root: Path) -> None:
    model, encoder = mm1
    calls = Calls(model)
    blind = Group("short", [text_message("user", "How many?")])
    requests = [Request(GROUPS[0], without_media=True), Request(blind)]
    (left_out,), (absent,) = ask(model, encoder, requests, GREEDY, picture_root)
    assert calls.pictures == 0
    assert left_out.text == absent.text
    assert left_out.seed != absent.seed


def test_a_sample_ends_at_a_stop_token_or_at_the_limit(
    mm1: tuple[Any, Encoder], picture_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoder = mm1
    encoder.stop_ids = {NEVER}
    request = Request(GROUPS[0])
    free = generated(model, encoder, request, 12, picture_root)
    show_ids(encoder, monkeypatch)
    token = next(token for token in free if free.index(token) > 2)  # its first place is not among the first three
    place = free.index(token)
    for stop_ids, num_new, expected in [
        ({token}, 12, (free[:place], place + 1, False)),
        ({token, NEVER}, place + 1, (free[:place], place + 1, False)),  # the limit and the stop token fall together
        ({token}, place, (free[:place], place, True)),
        ({free[0]}, 12, ([], 1, False)),
        ({NEVER}, 1, (free[:1], 1, True)),
    ]:
        encoder.stop_ids = stop_ids
        params = SamplingParams(temperature=0, max_new_tokens=num_new)
        ((sample,),) = ask(model, encoder, [request], params, picture_root)
        assert (ids_of(sample), sample.num_tokens, sample.truncated) == expected


def test_top_k_of_one_is_greedy_and_a_small_top_p_too(mm1: tuple[Any, Encoder], picture_root: Path) -> None:
    requests = [Request(group) for group in GROUPS]
    greedy = ask(*mm1, requests, GREEDY, picture_root)
    assert ask(*mm1, requests, SamplingParams(top_k=1, max_new_tokens=12), picture_root) == greedy
    assert ask(*mm1, requests, SamplingParams(top_p=1e-6, max_new_tokens=12), picture_root) == greedy


def test_a_prompt_beyond_the_context_is_named_and_what_came_before_is_answered(
    mm1: tuple[Any, Encoder], picture_root: Path
) -> None:
    model, encoder = mm1
    generator = LocalGenerator(model, encoder, batch_sequences=1)
    generator.context_tokens = 60
    wide = Group("wide", [text_message("user", "circles " * 60)])
    requests = [Request(GROUPS[4])] * local.WINDOW_BATCHES + [Request(wide)]
    answers = generator.generate(requests, GREEDY, root=picture_root)
    assert len([next(answers) for _ in range(local.WINDOW_BATCHES)]) == local.WINDOW_BATCHES
    with pytest.raises(DataError, match=r"row wide.*max_new_tokens") as error:
        next(answers)
    assert error.value.kind == "context_exceeded"


def test_the_context_ends_where_the_shortest_limit_of_the_decoder_does(
    mm1: tuple[Any, Encoder], picture_root: Path
) -> None:
    model, encoder = mm1
    text_config = model.config.get_text_config()
    num_tokens = len(encoder.prompt(GROUPS[0], picture_root).input_ids) + GREEDY.max_new_tokens
    for name in ("max_position_embeddings", "attention_chunk_size"):
        setattr(text_config, name, num_tokens)
        assert ask(model, encoder, [Request(GROUPS[0])], GREEDY, picture_root)
        setattr(text_config, name, num_tokens - 1)
        with pytest.raises(DataError, match="context"):
            ask(model, encoder, [Request(GROUPS[0])], GREEDY, picture_root)
        setattr(text_config, name, 10_000)


def test_modes_gradients_and_attention_are_as_before_between_answers(
    mm1: tuple[Any, Encoder], picture_root: Path
) -> None:
    model, encoder = mm1
    model.train()
    model.model.vision_tower.eval()
    modes = [module.training for module in model.modules()]
    seen: list[tuple[bool, bool]] = []
    model.model.register_forward_pre_hook(lambda *_: seen.append((model.training, torch.is_grad_enabled())))
    for _ in LocalGenerator(model, encoder).generate([Request(GROUPS[0])] * 2, GREEDY, root=picture_root):
        assert [module.training for module in model.modules()] == modes
        assert torch.is_grad_enabled()
        assert model.model.language_model.config._attn_implementation == "sdpa"
    assert seen == [(False, False)]


def test_the_model_keeps_its_dtype(mm1: tuple[Any, Encoder], picture_root: Path) -> None:
    model, encoder = mm1
    model.to(torch.bfloat16)
    dtypes = set()
    model.lm_head.register_forward_hook(lambda module, arguments, output: dtypes.add(output.dtype))
    ((sample,),) = ask(model, encoder, [Request(GROUPS[0])], GREEDY, picture_root)
    assert dtypes == {torch.bfloat16}
    assert sample.num_tokens > 0


def test_weights_that_diverged_are_named(mm1: tuple[Any, Encoder], picture_root: Path) -> None:
    model, encoder = mm1
    with torch.no_grad():
        model.model.language_model.norm.weight.fill_(math.nan)
    with pytest.raises(TriptychError, match="diverged"):
        ask(model, encoder, [Request(GROUPS[0])], SAMPLED, picture_root)


def test_a_language_model_with_an_attention_of_its_own_is_refused(mm1: tuple[Any, Encoder]) -> None:
    model, encoder = mm1
    decoder = SimpleNamespace(_supports_attention_backend=False)
    backbone = SimpleNamespace(get_decoder=lambda: decoder)
    with pytest.raises(TriptychError, match=r"SimpleNamespace.*server"):
        LocalGenerator(SimpleNamespace(model=backbone, config=model.config), encoder)


def test_a_batch_needs_room_for_a_sample(mm1: tuple[Any, Encoder]) -> None:
    with pytest.raises(TriptychError, match="at least 1"):
        LocalGenerator(*mm1, batch_sequences=0)


def test_an_adapter_is_used(mm1: tuple[Any, Encoder], picture_root: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model, encoder = mm1
    request = Request(GROUPS[0])
    ((before,),) = ask(model, encoder, [request], GREEDY, picture_root)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    ((after,),) = ask(adapted, encoder, [request], GREEDY, picture_root)
    ids = generated(adapted, encoder, request, 12, picture_root)
    assert after.num_tokens == len(ids) and after.text == encoder.decode(ids)
    assert after.text != before.text
