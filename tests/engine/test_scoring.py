"""Packed scoring against the unmodified model's own forward of every completion by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.support.plain_forwards import ABSOLUTE, RELATIVE, assert_same_gradients, plain_logps, with_gradients
from tests.support.tiny_models import FAMILIES, PLAIN, VIDEO
from triptych.engine import scoring
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of, encode_images, registry
from triptych.engine.paths import completion_paths, document_path, units_by_media
from triptych.engine.plain import PlainBatch, plain_states
from triptych.engine.scoring import hidden_states, score
from triptych.engine.trie import PackedBatch, TokenPath, pack
from triptych.errors import DataError
from triptych.group import Completion, Group, text_message

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
BC_ALONE = Group("bc", BC.prompt[1:], BC.images, completions=BC.completions)
"""The same without a system message, which PaliGemma does not know."""
NONE = Group("none", [text_message("user", "Count to five.")], completions=[Completion("1 2 3"), Completion("1 2 4")])
C = Group("c", [text_message("user", None, "Is it red?")], ["c.png"], completions=[Completion("Yes")])


def _parts(*parts: str) -> list[dict[str, Any]]:
    """A prompt of one message; `@image` and `@video` stand for media."""
    media = {"@image": {"type": "image"}, "@video": {"type": "video"}}
    return [{"role": "user", "content": [media.get(part, {"type": "text", "text": part}) for part in parts]}]


CLIP = Group(
    "clip",
    _parts("@video", "What moves? Count."),
    videos=["clip"],
    completions=[Completion("The star moves."), Completion("The square moves.", truncated=True)],
)
CLIP_AGAIN = Group("again", _parts("@video", "How many?"), videos=["clip"], completions=[Completion("3")])
VIDEO_AND_PICTURE = Group(
    "both",
    _parts("@video", "or", "@image", "?"),
    ["c.png"],
    ["other"],
    completions=[Completion("The picture"), Completion("The video")],
)
TWO_VIDEOS = Group(
    "videos", _parts("@video", "or", "@video", "?"), videos=["clip", "clip"], completions=[Completion("Both")]
)
GROUPS = [A1, BC, A2, NONE, C]


def test_every_path_is_scored_as_in_a_forward_of_its_own(tiny: Any) -> None:
    groups = _groups(tiny)
    batch = _pack(tiny, groups)
    logps, gradients = with_gradients(tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch).logps)
    wanted, wanted_gradients = with_gradients(tiny.model, lambda: plain_logps(tiny, groups))
    assert batch.num_tokens < batch.num_plain_tokens
    assert 1 < len(batch.input_ids) < len(GROUPS), "several rows, and several groups in one of them"
    assert batch.image_order != sorted(batch.image_order), "a picture comes again after another"
    torch.testing.assert_close(logps, wanted, rtol=RELATIVE, atol=ABSOLUTE)
    assert_same_gradients(gradients, wanted_gradients)


def test_paths_of_rows_with_the_same_pictures_share_them(tiny: Any) -> None:
    rows = _rows(tiny, [A1, A2])
    [unit] = units_by_media(rows)
    batch = pack([unit], 10_000)
    apart = pack(rows, 10_000)
    if tiny.family.startswith("paligemma"):  # where what a picture becomes depends on the question
        assert batch.num_tokens == apart.num_tokens and batch.image_order == [0, 0]
    else:
        assert batch.num_tokens < apart.num_tokens and len(batch.image_order) == 1 and len(apart.image_order) == 2
    with torch.no_grad():
        logps = score(tiny.model, tiny.encoder.family, batch).logps
        torch.testing.assert_close(logps, plain_logps(tiny, [A1, A2]), rtol=RELATIVE, atol=ABSOLUTE)


def test_the_vision_tower_runs_once_and_sees_each_distinct_picture_once(tiny: Any) -> None:
    [a1, bc, a2, *_] = _groups(tiny)
    batch = _pack(tiny, [a1, bc, a2])
    with torch.no_grad():
        packed = _vision_inputs(tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch))
        plain = [
            _vision_inputs(tiny.model, lambda group=group: plain_logps(tiny, [group], most=1)) for group in (a1, bc)
        ]
    assert len(packed) == 1
    assert packed[0] == sum(number for numbers in plain for number in numbers)


def test_known_features_give_the_same_scores_without_the_vision_tower(tiny: Any) -> None:
    batch = _pack(tiny, _groups(tiny))
    family = tiny.encoder.family
    with torch.no_grad():
        inputs, counts = [item.inputs for item in batch.media], [item.num_tokens for item in batch.media]
        features = encode_images(tiny.model, family, inputs, counts)
        expected, found = score(tiny.model, family, batch).logps, []
        calls = _vision_inputs(tiny.model, lambda: found.append(score(tiny.model, family, batch, features).logps))
    assert calls == []
    assert torch.equal(found[0], expected)


@pytest.mark.parametrize("family", [*VIDEO, "qwen3_5"])
def test_videos_are_scored_as_in_a_forward_of_their_own(tiny: Any) -> None:
    groups = [VIDEO_AND_PICTURE if tiny.family != "smolvlm" else TWO_VIDEOS, CLIP, NONE, C, CLIP_AGAIN]
    batch = _pack(tiny, groups)
    logps, gradients = with_gradients(tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch).logps)
    wanted, wanted_gradients = with_gradients(tiny.model, lambda: plain_logps(tiny, groups))
    torch.testing.assert_close(logps, wanted, rtol=RELATIVE, atol=ABSOLUTE)
    assert_same_gradients(gradients, wanted_gradients)


@pytest.mark.parametrize("family", VIDEO)
def test_rows_about_the_same_video_share_it(tiny: Any) -> None:
    [unit] = units_by_media(_rows(tiny, [CLIP, CLIP_AGAIN]))
    batch = pack([unit], 10_000)
    num_media = len(unit[0].media)
    assert len(batch.media) == len(batch.image_order) == num_media
    assert num_media == (3 if tiny.family in ("internvl", "smolvlm") else 1), (
        "frames are pictures, or none of their own"
    )


@pytest.mark.parametrize("family", PLAIN)
def test_a_model_that_cannot_be_packed_is_scored_path_by_path(tiny: Any) -> None:
    batch = _pack(tiny, GROUPS)
    assert isinstance(batch, PlainBatch) and batch.num_tokens == batch.num_plain_tokens
    logps, gradients = with_gradients(tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch).logps)
    wanted, wanted_gradients = with_gradients(tiny.model, lambda: plain_logps(tiny, GROUPS))
    torch.testing.assert_close(logps, wanted, rtol=RELATIVE, atol=ABSOLUTE)
    assert_same_gradients(gradients, wanted_gradients)


@pytest.mark.parametrize("family", ["llava", "llava_onevision", "qwen3_vl", "gemma3"])
def test_the_plain_path_gives_what_the_trie_gives(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = _pack(tiny, GROUPS)
    scores = score(tiny.model, tiny.encoder.family, packed)
    logps, gradients = with_gradients(tiny.model, lambda: score(tiny.model, tiny.encoder.family, packed).logps)
    monkeypatch.setattr(registry, "_why_not_packed", lambda config: "this is a test")
    plain = replace(tiny, encoder=Encoder(tiny.processor, tiny.model.config))
    batch = _pack(plain, GROUPS)
    plain_scores = score(tiny.model, plain.encoder.family, batch)
    again, again_gradients = with_gradients(tiny.model, lambda: score(tiny.model, plain.encoder.family, batch).logps)
    torch.testing.assert_close(again, logps, rtol=RELATIVE, atol=ABSOLUTE)
    assert_same_gradients(again_gradients, gradients)
    assert torch.equal(plain_scores.num_targets, scores.num_targets)
    shared = scores.per_token_logps[packed.path_targets]
    torch.testing.assert_close(plain_scores.per_token_logps[batch.path_targets], shared, rtol=RELATIVE, atol=ABSOLUTE)
    assert torch.equal(batch.path_of_target, packed.path_of_target)


@pytest.mark.parametrize("family", ["mllama"])
def test_a_plain_path_longer_than_a_row_is_refused(tiny: Any) -> None:
    with pytest.raises(DataError) as error:
        pack(_rows(tiny, [C]), 5)
    assert error.value.kind == "too_long"


@pytest.mark.parametrize("family", ["mm1"])
def test_a_head_run_in_chunks_gives_the_same_values_and_gradients(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = _pack(tiny, GROUPS)
    logps, gradients = with_gradients(tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch).logps)
    vocabulary = tiny.model.get_output_embeddings().weight.shape[0]
    monkeypatch.setattr(scoring, "HEAD_CHUNK_ELEMENTS", 3 * vocabulary)
    calls = []
    handle = tiny.model.get_output_embeddings().register_forward_hook(lambda *args: calls.append(len(args[2])))
    chunked, chunked_gradients = with_gradients(tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch).logps)
    handle.remove()
    assert max(calls) == 3 and sum(calls) == 2 * len(batch.target_ids), "forward, and again in the backward pass"
    torch.testing.assert_close(chunked, logps, rtol=RELATIVE, atol=ABSOLUTE)
    assert_same_gradients(chunked_gradients, gradients)


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


def _groups(tiny: Any) -> list[Group]:
    return [A1, BC_ALONE, A2, NONE, C] if tiny.family.startswith("paligemma") else GROUPS


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


@pytest.mark.parametrize("chunk_rows", [3, 10_000])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("family", ["mm1", "paligemma2", "mllama"])  # paligemma2 caps its logits
def test_temperature_and_entropies_are_those_of_the_distribution_over_all_tokens(
    tiny: Any, temperature: float, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against torch's own categorical distribution, with the gradients of a sum of both."""
    head = tiny.model.get_output_embeddings()
    monkeypatch.setattr(scoring, "HEAD_CHUNK_ELEMENTS", chunk_rows * head.weight.shape[0])
    family, batch = tiny.encoder.family, _pack(tiny, GROUPS[:1])

    def ours() -> torch.Tensor:
        scores = score(tiny.model, family, batch, temperature=temperature, entropies=True)
        return torch.cat([scores.per_token_logps, scores.entropies])

    def theirs() -> torch.Tensor:
        if isinstance(batch, PlainBatch):
            after = [torch.tensor(path.targets[1:]) for path in batch.paths]
            rows = zip(plain_states(tiny.model, batch), after, strict=True)
            states = torch.cat([part[:-1][mask] for part, mask in rows])
            ids = zip(batch.paths, after, strict=True)
            token_ids = torch.cat([torch.tensor(path.input_ids[1:])[mask] for path, mask in ids])
        else:
            states = hidden_states(tiny.model, family, batch).flatten(0, 1)[batch.predecessors]
            token_ids = batch.target_ids
        logits, cap = head(states), family.logit_softcap
        logits = logits if cap is None else cap * torch.tanh(logits / cap)
        distribution = torch.distributions.Categorical(logits=logits / temperature)
        return torch.cat([distribution.log_prob(token_ids), distribution.entropy()])

    values, gradients = with_gradients(tiny.model, ours)
    wanted, wanted_gradients = with_gradients(tiny.model, theirs)
    torch.testing.assert_close(values, wanted, rtol=RELATIVE, atol=ABSOLUTE)
    assert_same_gradients(gradients, wanted_gradients)
