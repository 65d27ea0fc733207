"""Packed scoring against the unmodified model's own forward of every completion by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from tests.support.tiny_models import FAMILIES
from triptych.engine import scoring
from triptych.engine.families import backbone_of, encode_images
from triptych.engine.paths import completion_paths, document_path, units_by_media
from triptych.engine.scoring import hidden_states, score
from triptych.engine.trie import PackedBatch, TokenPath, pack
from triptych.group import Completion, Group, text_message

RELATIVE, ABSOLUTE = 2e-6, 1e-5
"""Log-probabilities here are sums of about 200 nats."""
END = {"llava": "</s>", "smolvlm": "<end_of_utterance>", "idefics3": "<end_of_utterance>"}
END |= dict.fromkeys(("mm1", "mm1_sub_images"), "<|end|>")
"""What closes an answer; `<|im_end|>` for the others."""

BRANCHING = [
    Completion("There are three circles and two squares. Final Answer: 5"),
    Completion("There are three circles and one star."),
    Completion("There are three circles", truncated=True),  # the beginning of the two above, and left open
    Completion("There are three circles and two squares. Final Answer: 5"),
    Completion("Five."),
]
A1 = Group("a1", [text_message("user", None, "How many circles are there?")], ["a.png"], completions=BRANCHING)
A2 = Group(
    "a2",
    [text_message("user", None, "Describe the picture.")],
    ["a.png"],
    completions=[Completion("A green square."), Completion("A green star.")],
)
BC = Group(
    "bc",
    [text_message("system", "You are a helpful assistant."), text_message("user", None, "Left of ", None, "?")],
    ["b.png", "c.png"],
    completions=[Completion("The star"), Completion("The square")],
)
NONE = Group("none", [text_message("user", "Count to five.")], completions=[Completion("1 2 3"), Completion("1 2 4")])
C = Group("c", [text_message("user", None, "Is it red?")], ["c.png"], completions=[Completion("Yes")])
GROUPS = [A1, BC, A2, NONE, C]
NUM_PATHS = sum(len(group.completions) for group in GROUPS)
WEIGHTS = torch.linspace(-1.0, 1.5, NUM_PATHS)


def test_every_path_is_scored_as_in_a_forward_of_its_own(tiny: Any) -> None:
    batch = _pack(tiny, GROUPS)
    logps, gradients = _with_gradients(tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch).logps)
    plain_logps, plain_gradients = _with_gradients(tiny.model, lambda: _plain_logps(tiny, GROUPS))
    assert batch.num_tokens < batch.num_plain_tokens
    assert 1 < len(batch.input_ids) < len(GROUPS), "several rows, and several groups in one of them"
    assert batch.image_order != sorted(batch.image_order), "a picture comes again after another"
    torch.testing.assert_close(logps, plain_logps, rtol=RELATIVE, atol=ABSOLUTE)
    _assert_same_gradients(gradients, plain_gradients)


def test_paths_of_rows_with_the_same_pictures_share_them(tiny: Any) -> None:
    rows = _rows(tiny, [A1, A2])
    [unit] = units_by_media(rows)
    batch = pack([unit], 10_000)
    apart = pack(rows, 10_000)
    assert batch.num_tokens < apart.num_tokens and len(batch.image_order) == 1 and len(apart.image_order) == 2
    with torch.no_grad():
        logps = score(tiny.model, tiny.encoder.family, batch).logps
        torch.testing.assert_close(logps, _plain_logps(tiny, [A1, A2]), rtol=RELATIVE, atol=ABSOLUTE)


def test_the_vision_tower_runs_once_and_sees_each_distinct_picture_once(tiny: Any) -> None:
    batch = _pack(tiny, [A1, BC, A2])
    with torch.no_grad():
        packed = _vision_inputs(tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch))
        plain = [
            _vision_inputs(tiny.model, lambda group=group: _plain_logps(tiny, [group], most=1)) for group in (A1, BC)
        ]
    assert len(packed) == 1
    assert packed[0] == sum(number for numbers in plain for number in numbers)


def test_known_features_give_the_same_scores_without_the_vision_tower(tiny: Any) -> None:
    batch = _pack(tiny, GROUPS)
    family = tiny.encoder.family
    with torch.no_grad():
        inputs, counts = [item.inputs for item in batch.media], [item.num_tokens for item in batch.media]
        features = encode_images(tiny.model, family, inputs, counts)
        expected, found = score(tiny.model, family, batch).logps, []
        calls = _vision_inputs(tiny.model, lambda: found.append(score(tiny.model, family, batch, features).logps))
    assert calls == []
    assert torch.equal(found[0], expected)


@pytest.mark.parametrize("family", ["mm1"])
def test_a_head_run_in_chunks_gives_the_same_values_and_gradients(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = _pack(tiny, GROUPS)
    logps, gradients = _with_gradients(tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch).logps)
    vocabulary = tiny.model.get_output_embeddings().weight.shape[0]
    monkeypatch.setattr(scoring, "HEAD_CHUNK_ELEMENTS", 3 * vocabulary)
    calls = []
    handle = tiny.model.get_output_embeddings().register_forward_hook(lambda *args: calls.append(len(args[2])))
    chunked, chunked_gradients = _with_gradients(
        tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch).logps
    )
    handle.remove()
    assert max(calls) == 3 and sum(calls) == 2 * len(batch.target_ids), "forward, and again in the backward pass"
    torch.testing.assert_close(chunked, logps, rtol=RELATIVE, atol=ABSOLUTE)
    _assert_same_gradients(chunked_gradients, gradients)


@pytest.mark.parametrize("family", ["mm1"])
def test_counts_and_per_token_values_add_up_to_those_of_the_paths(tiny: Any) -> None:
    batch = _pack(tiny, GROUPS)
    with torch.no_grad():
        scores = score(tiny.model, tiny.encoder.family, batch)
    lengths = [
        len(tiny.encoder.completion(item.text, end_of_turn=not item.truncated))
        for group in GROUPS
        for item in group.completions
    ]
    assert scores.num_targets.tolist() == lengths
    per_path = scores.per_token_logps[batch.path_targets].split(lengths)
    torch.testing.assert_close(torch.stack([part.sum() for part in per_path]), scores.logps)
    assert scores.logps.max() < 0


@pytest.mark.parametrize("family", ["mm1", "llava"])
def test_changing_a_document_leaves_the_others_in_its_row_bit_identical(tiny: Any) -> None:
    def document(name: str, picture: str, text: str) -> Group:
        content = [{"type": "text", "text": "A picture: "}, {"type": "image"}, {"type": "text", "text": text}]
        return Group(name, [{"role": "document", "content": content}], [picture])

    def states(groups: list[Group]) -> tuple[PackedBatch, torch.Tensor]:
        encoded = tiny.encoder.documents(groups, tiny.root)
        paths = [document_path(tiny.encoder, backbone_of(tiny.model), item) for item in encoded]
        batch = pack([[path] for path in paths], 10_000, share=False)
        with torch.no_grad():
            return batch, hidden_states(tiny.model, tiny.encoder.family, batch)

    first, last = document("1", "a.png", "a red star"), document("3", "c.png", "There are three circles.")
    batch, before = states([first, document("2", "b.png", "two blue"), last])
    changed, after = states([first, document("2", "d.png", "one blue"), last])
    assert batch.input_ids.shape == changed.input_ids.shape == (1, batch.num_tokens)
    same = (batch.input_ids == changed.input_ids)[0]
    start = int(batch.subtree_end[0, 0])
    end = int(batch.subtree_end[0, start])
    assert not same[start:end].all() and same[:start].all() and same[end:].all()
    assert not torch.isclose(before[0, end - 1], after[0, end - 1]).all()
    assert torch.equal(before[0, :start], after[0, :start])
    assert torch.equal(before[0, end:], after[0, end:])


@pytest.mark.parametrize("family", ["mm1"])
def test_documents_laid_out_without_sharing_score_as_with_it(tiny: Any) -> None:
    rows = _rows(tiny, GROUPS)
    with torch.no_grad():
        shared = score(tiny.model, tiny.encoder.family, pack(rows, 10_000)).logps
        batch = pack(rows, 10_000, share=False)
        apart = score(tiny.model, tiny.encoder.family, batch).logps
    assert batch.num_tokens == batch.num_plain_tokens
    torch.testing.assert_close(apart, shared, rtol=RELATIVE, atol=ABSOLUTE)


@pytest.fixture
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tiny(family: str, tiny_of: Callable[[str], Any]) -> Any:
    return tiny_of(family)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marked = any("family" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "tiny" in metafunc.fixturenames and not marked:
        metafunc.parametrize("family", FAMILIES)


def _rows(tiny: Any, groups: list[Group]) -> list[list[TokenPath]]:
    prompts = tiny.encoder.prompts(groups, tiny.root)
    return [
        completion_paths(tiny.encoder, backbone_of(tiny.model), prompt, group.completions)
        for prompt, group in zip(prompts, groups, strict=True)
    ]


def _pack(tiny: Any, groups: list[Group]) -> PackedBatch:
    """Pack into rows that hold the largest group and one more."""
    rows = _rows(tiny, groups)
    sizes = sorted(pack([paths], 10_000).num_tokens for paths in rows)
    return pack(rows, sizes[-1] + sizes[0])


def _plain_logps(tiny: Any, groups: list[Group], most: int | None = None) -> torch.Tensor:
    """Score each completion by the model's forward over what its own processor makes of prompt and completion."""
    logps = []
    for group in groups:
        prompt = tiny.processor.apply_chat_template(group.prompt, add_generation_prompt=True, tokenize=False)
        pictures = [[Image.open(tiny.root / name).convert("RGB") for name in group.images]] if group.images else None
        num_prompt = tiny.processor(text=[prompt], images=pictures, return_tensors="pt")["input_ids"].shape[1]
        for completion in group.completions[:most]:
            text = prompt + completion.text + ("" if completion.truncated else END.get(tiny.family, "<|im_end|>"))
            inputs = tiny.processor(text=[text], images=pictures, return_tensors="pt")
            ids = inputs["input_ids"]
            per_token = tiny.model(**inputs).logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])
            logps.append(per_token[:, num_prompt - 1 :].sum())
    return torch.stack(logps)


def _with_gradients(
    model: torch.nn.Module, compute: Callable[[], torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return log-probabilities and the gradient of their weighted sum for every parameter."""
    model.zero_grad()
    logps = compute()
    (logps * WEIGHTS).sum().backward()
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }
    model.zero_grad()
    return logps.detach(), gradients


def _assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Compare relative to the largest entry of each gradient, or 1: a bias of keys has none but rounding."""
    for part in ("vision|visual", "connector|projector|merger", "embed_tokens", "layers.1.self_attn.k_proj.weight"):
        assert any(found[name].abs().max() > 1 for name in found if re.search(part, name)), f"no gradient in {part}"
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp(min=1.0)
        torch.testing.assert_close(found[name] / scale, gradient / scale, rtol=0, atol=ABSOLUTE, msg=name)


def _vision_inputs(model: torch.nn.Module, compute: Callable[[], Any]) -> list[int]:
    """Return the number of pixel values in each call of the vision tower."""
    backbone = backbone_of(model)
    tower = next(
        getattr(backbone, name) for name in ("vision_tower", "visual", "vision_model") if hasattr(backbone, name)
    )
    calls: list[int] = []

    def count(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        calls.append((args[0] if args else kwargs["pixel_values"]).numel())

    handle = tower.register_forward_pre_hook(count, with_kwargs=True)
    compute()
    handle.remove()
    return calls
