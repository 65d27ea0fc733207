"""Videos of MM1 in packed batches: pooled, counted, encoded once, the same as in the model's own forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.support.plain_forwards import ABSOLUTE, RELATIVE, assert_same_gradients, plain_logps, with_gradients
from triptych.data.video import load_video
from triptych.engine.families import backbone_of, family_of
from triptych.engine.features import FeatureSource
from triptych.engine.paths import completion_paths, document_path
from triptych.engine.scoring import score
from triptych.engine.trie import PackedBatch, pack
from triptych.group import Completion, Group
from triptych.models.mm1 import MM1Config

FEW = {"video": [{"num_frames": 2}, {}]}
"""Two frames, the first and the last, of the first video; all of the second."""


def group(name: str, *parts: str, answers: tuple[str, ...] = ("Three stars.", "Two."), **fields: Any) -> Group:
    """A question; `clip` and `other` are videos of 3 and 4 frames, names of files are pictures."""
    videos = [part for part in parts if part in ("clip", "other")]
    images = [part for part in parts if part.endswith(".png")]
    kinds = {part: "video" for part in videos} | {part: "image" for part in images}
    content = [{"type": kinds[part]} if part in kinds else {"type": "text", "text": part} for part in parts]
    completions = [Completion(text) for text in answers]
    return Group(name, [{"role": "user", "content": content}], images, videos, completions=completions, **fields)


GROUPS = [
    group("a", "clip", "How many?"),
    group("b", "a.png", "or", "other", "or", "clip", "or", "b.png", answers=("The star.", "The square.", "None.")),
    group("c", "clip", "Describe the star.", answers=("A red star.", "A red", "A star.")),
    group("d", "Count to five.", answers=("1 2",)),
    group("e", "other", "other", "Which?", answers=("Both.",)),
    group("f", "a.png", "Red?", answers=("Yes.",)),
]


@pytest.fixture
def tiny(tiny_of: Callable[[str], Any]) -> Any:
    return tiny_of("mm1")


def batch_of(tiny: Any, groups: list[Group]) -> PackedBatch:
    prompts = tiny.encoder.prompts(groups, tiny.root)
    paths = [
        completion_paths(tiny.encoder, backbone_of(tiny.model), prompt, item.completions)
        for prompt, item in zip(prompts, groups, strict=True)
    ]
    return pack(paths, 100)


def frames_encoded(tiny: Any, compute: Callable[[], Any]) -> list[int]:
    """Return how many pictures or frames each call of the vision tower was given."""
    calls: list[int] = []
    handle = backbone_of(tiny.model).vision_tower.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    compute()
    handle.remove()
    return calls


def test_videos_and_pictures_in_one_batch_are_scored_as_in_forwards_of_their_own(tiny: Any) -> None:
    batch = batch_of(tiny, GROUPS)
    assert len(batch.input_ids) > 1 and batch.num_tokens < batch.num_plain_tokens
    logps, gradients = with_gradients(tiny.model, lambda: score(tiny.model, tiny.encoder.family, batch).logps)
    wanted, wanted_gradients = with_gradients(tiny.model, lambda: plain_logps(tiny, GROUPS))
    torch.testing.assert_close(logps, wanted, rtol=RELATIVE, atol=ABSOLUTE)
    assert_same_gradients(gradients, wanted_gradients)


def test_each_distinct_video_goes_through_the_tower_once_whatever_its_number_of_frames(tiny: Any) -> None:
    batch = batch_of(tiny, GROUPS)
    family = tiny.encoder.family
    with torch.no_grad():
        calls = frames_encoded(tiny, lambda: score(tiny.model, family, batch))
        assert sorted(calls) == [2, 3 + 4], "two pictures, two videos"
        features = FeatureSource(tiny.model.requires_grad_(False), family)
        try:
            expected, found = score(tiny.model, family, batch).logps, []
            known = features.features(batch.media)
            calls = frames_encoded(tiny, lambda: found.append(score(tiny.model, family, batch, known).logps))
            again = frames_encoded(tiny, lambda: features.features(batch.media))
        finally:
            tiny.model.requires_grad_(True)
    assert calls == again == []
    torch.testing.assert_close(found[0], expected, rtol=RELATIVE, atol=ABSOLUTE)


def test_the_policy_of_a_row_decides_its_frames_and_so_its_tokens(tiny: Any) -> None:
    two_of_three = group("few", "clip", "other", "Which?", meta=FEW)
    encoded = tiny.encoder.prompt(two_of_three, tiny.root)
    assert [item.num_tokens for item in encoded.media] == [2 + 4, 4 + 4]
    frames = load_video("clip", tiny.root).frames
    expected = tiny.processor(text="<video>", videos=[[frames[0], frames[2]]], return_tensors="pt")
    assert torch.equal(encoded.media[0].inputs["pixel_values_videos"], expected["pixel_values_videos"])
    batch = batch_of(tiny, [two_of_three, GROUPS[0]])
    assert len(batch.media) == 3, "the same file with other frames is another video"
    assert batch.input_ids.eq(tiny.encoder.family.video_token_id).sum() == (2 + 4) + (4 + 4) + (3 + 4)


def test_the_tokens_of_videos_in_a_document_are_no_targets(tiny: Any) -> None:
    parts = [{"type": "text", "text": "Look: "}, {"type": "video"}, {"type": "text", "text": " a star."}]
    document = Group("d", [{"role": "document", "content": parts}], videos=["clip"])
    path = document_path(tiny.encoder, backbone_of(tiny.model), tiny.encoder.document(document, tiny.root))
    video = tiny.encoder.family.video_token_id
    assert [token == video for token in path.input_ids[1:]] == [not wanted for wanted in path.targets[1:]]
    assert path.input_ids.count(video) == 3 + 4


def test_a_model_without_a_video_token_takes_no_videos() -> None:
    assert not family_of(MM1Config()).takes_videos
    family = family_of(MM1Config(video_token_id=9, num_image_tokens=576))
    frames = {"pixel_values_videos": torch.empty(50, 3, 2, 2), "num_video_frames": torch.tensor([50])}
    assert family.takes_videos and family.split_videos(frames, [])[0][0] == 626
