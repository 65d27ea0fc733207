"""Pictures and videos through the tower: all at once, or in passes of bounded size, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.engine.conftest import Tiny
from tests.support.tiny_models import FAMILIES, VIDEO
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of, encode_images, vision
from triptych.engine.families.base import ImageFeatures
from triptych.group import Group, text_message
from triptych.models.loading import load_model, load_processor

PICTURES = ["a.png", "b.png", "c.png"]


def _media(tiny: Any, *, videos: bool) -> list[Any]:
    groups = [Group("pictures", [text_message("user", *[None] * len(PICTURES))], PICTURES)]
    groups.append(Group("alone", [text_message("user", None)], ["d.png"]))
    if videos:
        prompt = [{"role": "user", "content": [{"type": "video"}]}]
        groups += [Group(name, prompt, videos=[name]) for name in ("clip", "other")]  # 3 and 4 frames
    return [item for group in groups for item in tiny.encoder.prompt(group, tiny.root).media]


@contextmanager
def _counted(tiny: Any) -> Iterator[list[int]]:
    """Count the pixel values of each pass."""
    backbone, sizes = backbone_of(tiny.model), []

    def counting(encode: Callable[..., Any]) -> Callable[..., Any]:
        def encode_and_count(*args: Any, **inputs: Any) -> Any:  # with args where a video calls for pictures
            if not args:
                sizes.append(sum(value.numel() for key, value in inputs.items() if key.startswith("pixel_values")))
            return encode(*args, **inputs)

        return encode_and_count

    names = [name for name in ("get_image_features", "get_video_features") if hasattr(backbone, name)]
    for name in names:
        setattr(backbone, name, counting(getattr(backbone, name)))
    yield sizes
    for name in names:
        delattr(backbone, name)


def _encoded(tiny: Any, media: list[Any]) -> tuple[list[ImageFeatures], dict[str, torch.Tensor], list[int]]:
    """Return features, gradients of their sum of squares, and the sizes of passes, those of the backward too."""
    tiny.model.zero_grad()
    with _counted(tiny) as sizes:
        inputs, counts = [item.inputs for item in media], [item.num_tokens for item in media]
        features = encode_images(tiny.model, tiny.encoder.family, inputs, counts)
        sum((tensor**2).sum() for item in features for tensor in (item.tokens, *item.deepstack)).backward()
    grads = {name: p.grad.clone() for name, p in tiny.model.named_parameters() if p.grad is not None}
    return [item.detach() for item in features], grads, list(sizes)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bound", ["one frame", "some"])
def test_several_passes_give_the_features_and_gradients_of_one(
    family: str, bound: str, tiny_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny_of(family)
    media = _media(tiny, videos=family in VIDEO)
    whole, expected, large = _encoded(tiny, media)
    most = 1 if bound == "one frame" else max(large) // 2
    monkeypatch.setattr(vision, "PASS_VALUES", most)
    found, grads, sizes = _encoded(tiny, media)
    assert len(sizes) > len(large) or (bound == "some" and family == "llava_onevision")  # few of each kind there
    for one, other in zip(whole, found, strict=True):
        for first, second in zip((one.tokens, *one.deepstack), (other.tokens, *other.deepstack), strict=True):
            torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-5)
    assert grads.keys() == expected.keys() and len(grads) > 10
    _assert_same(grads, expected)


def _assert_same(grads: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    most = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():  # that of the bias of keys is 0 but for rounding
        atol = 1e-5 * max(float(gradient.abs().max()), 1e-2 * most)
        torch.testing.assert_close(grads[name], gradient, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("family", VIDEO)
def test_no_pass_is_larger_than_a_frame_where_that_is_all_that_fits(
    family: str, tiny_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny_of(family)
    monkeypatch.setattr(vision, "PASS_VALUES", 1)
    media = [item for item in _media(tiny, videos=True) if "pixel_values_videos" in item.inputs]
    if tiny.encoder.family.frames_are_images:
        assert not media
        return
    _, _, sizes = _encoded(tiny, media)
    frames = {"qwen2_vl": 2 + 2, "qwen2_5_vl": 2 + 2, "qwen3_vl": 2 + 2}.get(family, 3 + 4)  # a patch spans two
    assert len(sizes) == frames and len(set(sizes)) == 1


def test_with_gradient_checkpointing_only_one_pass_is_held(
    tiny_folder: Callable[[str], Any], picture_root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load_model(tiny_folder("mm1")), load_processor(tiny_folder("mm1"))
    tiny = Tiny("mm1", model, processor, Encoder(processor, model.config), picture_root)
    media = _media(tiny, videos=True)
    _, expected, _ = _encoded(tiny, media)
    tiny.model.train().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    monkeypatch.setattr(vision, "PASS_VALUES", media[0].inputs["pixel_values"].numel())
    _, grads, sizes = _encoded(tiny, media)
    num_views = 4 + 3 + 4
    assert len(sizes) == 2 * num_views  # each once more in the backward pass
    _assert_same(grads, expected)
    for layer in backbone_of(tiny.model).vision_tower.parameters():
        layer.requires_grad_(False)
    backbone_of(tiny.model).connector.requires_grad_(False)
    with _counted(tiny) as sizes:
        encode_images(tiny.model, tiny.encoder.family, [item.inputs for item in media], [i.num_tokens for i in media])
    assert len(sizes) == num_views  # nothing is trained, so that nothing is made again
