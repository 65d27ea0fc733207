"""Features of a frozen vision tower: the same as computed in place, once, and nothing but them."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.tiny_models import FAMILIES
from triptych.engine import features as features_module
from triptych.engine.families import backbone_of
from triptych.engine.features import FeatureSource, tower_fingerprint, tower_parameters
from triptych.engine.paths import completion_paths
from triptych.engine.scoring import score
from triptych.engine.trie import pack
from triptych.errors import DataError, TriptychError
from triptych.group import Completion, Group, text_message

ANSWERS = [Completion("There are three circles."), Completion("There are two.")]
ALONE = Group("alone", [text_message("user", None, "How many?")], ["a.png"], completions=ANSWERS)
BOTH = Group("both", [text_message("user", None, "or", None, "?")], ["b.png", "c.png"], completions=ANSWERS)
AGAIN = Group("again", [text_message("user", None, "Which?")], ["a.png"], completions=ANSWERS)
NONE = Group("none", [text_message("user", "Count.")], completions=ANSWERS)


@pytest.fixture
def frozen(tiny_of):
    """Return a function that gives a tiny model of a family whose tower and connector are frozen, and a batch."""

    def load(family, groups=(ALONE, BOTH, AGAIN, NONE)):
        tiny = tiny_of(family)
        model = copy.deepcopy(tiny.model)
        for parameter in tower_parameters(model).values():
            parameter.requires_grad_(False)
        prompts = tiny.encoder.prompts(list(groups), tiny.root)
        rows = [
            completion_paths(tiny.encoder, backbone_of(model), prompt, group.completions)
            for prompt, group in zip(prompts, groups, strict=True)
        ]
        return model, tiny.encoder.family, pack(rows, 1024)

    return load


def count_calls(monkeypatch):
    calls, original = [], features_module.encode_images

    def count(model, family, media, counts, *args, **kwargs):
        calls.append(len(media))
        return original(model, family, media, counts, *args, **kwargs)

    monkeypatch.setattr(features_module, "encode_images", count)
    return calls


def values_and_gradients(model, family, batch, features=None):
    model.zero_grad()
    scores = score(model, family, batch, features)
    (scores.logps * torch.linspace(-1, 1, batch.num_paths)).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return scores.logps.detach(), gradients


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_features_give_the_values_and_gradients_of_computed_ones(family, frozen, tmp_path):
    model, family, batch = frozen(family)
    expected, expected_gradients = values_and_gradients(model, family, batch)
    sources = FeatureSource(model, family), FeatureSource(model, family, folder=tmp_path)
    sources[1].features(batch.media)
    from_disk = FeatureSource(model, family, folder=tmp_path)
    for source in (*sources, from_disk):
        found, gradients = values_and_gradients(model, family, batch, source.features(batch.media))
        torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-5)
        assert gradients.keys() == expected_gradients.keys() and gradients
        for name, gradient in expected_gradients.items():
            scale = gradient.abs().max().clamp(min=1.0)
            torch.testing.assert_close(gradients[name] / scale, gradient / scale, rtol=0, atol=1e-5, msg=name)


def test_each_picture_is_encoded_once_in_memory_and_once_for_all_runs_on_disk(frozen, tmp_path, monkeypatch):
    model, family, batch = frozen("qwen3_vl")
    calls = count_calls(monkeypatch)
    source = FeatureSource(model, family, folder=tmp_path)
    first = source.features(batch.media)
    assert calls == [1, 1, 1], "three distinct pictures"
    assert source.features(batch.media[::-1]) == first[::-1]
    later = FeatureSource(model, family, folder=tmp_path).features(batch.media)
    assert calls == [1, 1, 1]
    for before, after in zip(first, later, strict=True):
        assert torch.equal(before.tokens, after.tokens)
        assert before.deepstack and all(map(torch.equal, before.deepstack, after.deepstack))


def test_what_is_in_a_cache_changes_no_bit_of_the_features(frozen):
    model, family, batch = frozen("llava")
    together = FeatureSource(model, family).features(batch.media)
    for item, expected in zip(batch.media, together, strict=True):
        [alone] = FeatureSource(model, family).features([item])
        assert torch.equal(alone.tokens, expected.tokens)


def test_memory_keeps_the_pictures_used_last_and_no_more_than_it_may(frozen, monkeypatch):
    model, family, batch = frozen("llava")
    size = 9 * 64 * 4  # tokens, width, bytes
    calls = count_calls(monkeypatch)
    source = FeatureSource(model, family, memory_bytes=2 * size)
    a, b, c = batch.media
    assert len(source.features([a, b, c])) == 3
    source.features([b])
    assert len(calls) == 3
    source.features([a])  # takes the place of c, which was used before b
    source.features([b])
    assert len(calls) == 4
    source.features([c])
    assert len(calls) == 5
    assert len(FeatureSource(model, family, memory_bytes=0).features([a, b, a])) == 3


def test_a_full_folder_is_used_and_not_added_to(frozen, tmp_path):
    model, family, batch = frozen("llava")
    size = 9 * 64 * 4
    source = FeatureSource(model, family, folder=tmp_path, disk_bytes=2 * size)
    with pytest.warns(UserWarning, match="is full"):
        source.features(batch.media)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    assert not list(tmp_path.rglob("*.tmp*"))
    with pytest.warns(UserWarning, match="is full"):
        FeatureSource(model, family, folder=tmp_path, disk_bytes=2 * size).features(batch.media)


def test_another_tower_another_precision_or_other_pixels_have_other_files(frozen, tmp_path):
    model, family, batch = frozen("llava", (ALONE,))
    before = tower_fingerprint(model)
    FeatureSource(model, family, folder=tmp_path).features(batch.media)
    with torch.autocast("cpu", torch.bfloat16):
        FeatureSource(model, family, folder=tmp_path).features(batch.media)
    with torch.no_grad():
        next(iter(model.get_decoder().parameters())).add_(1)
        assert tower_fingerprint(model) == before
        model.model.multi_modal_projector.linear_1.bias[0] += 1e-3
    assert tower_fingerprint(model) != before
    FeatureSource(model, family, folder=tmp_path).features(batch.media)
    brighter = copy.deepcopy(batch.media)
    brighter[0].inputs["pixel_values"][..., 0] += 0.01
    FeatureSource(model, family, folder=tmp_path).features(brighter)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4
    assert len(list(tmp_path.iterdir())) == 3


def test_the_tower_computes_without_dropout_and_is_left_in_its_mode(frozen):
    model, family, batch = frozen("llava", (ALONE,))
    expected = FeatureSource(model, family).features(batch.media)[0].tokens
    model.model.vision_tower.encoder.layers[0].self_attn.dropout = 0.5
    model.train()
    found = FeatureSource(model, family).features(batch.media)[0].tokens
    assert torch.equal(found, expected)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("trained", ["vision_tower", "multi_modal_projector"])
def test_a_tower_or_connector_that_is_trained_is_refused_by_name(frozen, trained):
    model, family, _ = frozen("llava", (ALONE,))
    next(model.model.get_submodule(trained).parameters()).requires_grad_(True)
    with pytest.raises(TriptychError, match=rf"while {trained} is trained.*freeze"):
        FeatureSource(model, family)


def test_a_family_that_is_not_packed_is_refused(frozen):
    model, family, _ = frozen("llava", (ALONE,))
    family = copy.copy(family)
    family.packed = False
    with pytest.raises(TriptychError, match=r"type 'llava' runs its vision tower.*Leave `feature_cache` out"):
        FeatureSource(model, family)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-8])


def rewrite(change):
    def damage(path):
        save_file({"tokens": change(load_file(path)["tokens"])}, path)

    return damage


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (truncate, "cannot be read"),
        (rewrite(lambda tokens: tokens[:-1].clone()), "hold 8 tokens, not 9"),
        (rewrite(lambda tokens: tokens * torch.nan), "are not finite"),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(frozen, tmp_path, damage, problem):
    model, family, batch = frozen("llava", (ALONE,))
    FeatureSource(model, family, folder=tmp_path).features(batch.media)
    [path] = tmp_path.rglob("*.safetensors")
    damage(path)
    with pytest.raises(DataError, match=f"{problem}.*Delete this file") as caught:
        FeatureSource(model, family, folder=tmp_path).features(batch.media)
    assert (caught.value.kind, caught.value.file) == ("feature_cache", path)
