"""Videos without torchvision, against what the families' picture processors make of the same frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import is_torchvision_available

from triptych.errors import TriptychError
from triptych.models.frame_videos import Qwen2Frames, Qwen3Frames, SmolVLMFrames, SquareFrames, VideoProcessorStub
from triptych.models.loading import load_processor
from triptych.models.processors_without_video import number_in_words

pytestmark = pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed: nothing to replace")
QWEN = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
BUDGET = QWEN | {
    "size": {"shortest_edge": 64, "longest_edge": 4096},
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.5] * 3,
}
"""As many pixels as the frames here have, so that nothing is resized."""


def frames(number: int, size: tuple[int, int] = (24, 16)) -> list[Image.Image]:
    colours = np.random.default_rng(0).integers(0, 256, (number, 4, 4, 3), dtype=np.uint8)
    return [Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC) for picture in colours]


@pytest.mark.parametrize("layout", [Qwen2Frames, Qwen3Frames])
def test_a_pair_of_equal_frames_is_the_picture(layout: type[Qwen2Frames]) -> None:
    first, second = frames(2)
    pictures = Qwen2VLImageProcessorPil(**BUDGET)([first, second], return_tensors="pt")
    video = layout(BUDGET)([[first, first, second, second]])
    assert video["video_grid_thw"].tolist() == [[2, *pictures["image_grid_thw"][0, 1:].tolist()]]
    torch.testing.assert_close(video["pixel_values_videos"], pictures["pixel_values"])


@pytest.mark.parametrize("layout", [Qwen2Frames, Qwen3Frames])
def test_a_patch_spans_two_frames_and_the_last_is_repeated(layout: type[Qwen2Frames]) -> None:
    first, second, third = frames(3)
    pictures = Qwen2VLImageProcessorPil(**BUDGET)([first, second, third], return_tensors="pt")["pixel_values"]
    one, two, three = pictures.view(3, -1, 3, 2, 16)[:, :, :, 0].unbind()  # each holds its picture twice
    expected = torch.cat([torch.stack([one, two], 2), torch.stack([three, three], 2)]).flatten(1)
    torch.testing.assert_close(layout(BUDGET)([[first, second, third]])["pixel_values_videos"], expected)


def test_videos_follow_each_other_whatever_their_sizes() -> None:
    processor = Qwen2Frames(BUDGET)
    long, wide = frames(4, (16, 16)), frames(2, (32, 8))
    together = processor([long, wide])
    assert together["video_grid_thw"].tolist() == [[2, 4, 4], [1, 2, 8]]
    alone = [processor([video])["pixel_values_videos"] for video in (long, wide)]
    assert torch.equal(together["pixel_values_videos"], torch.cat(alone))


def test_the_budget_of_qwen2_is_per_frame_and_that_of_qwen3_for_all() -> None:
    settings = QWEN | {"size": {"shortest_edge": 16 * 16, "longest_edge": 32 * 32}}
    # 40 x 40 pixels, sides in multiples of 8: 1024 pixels are 32 x 32
    assert [Qwen2Frames(settings).resized(number, 40, 40) for number in (2, 4, 16)] == [(32, 32)] * 3
    # 512, 256 and 64 pixels for each frame: 22.6, 16 and 8 a side
    assert [Qwen3Frames(settings).resized(number, 40, 40) for number in (2, 4, 16)] == [(16, 16), (16, 16), (8, 8)]
    # at least 256 pixels in all, 64 for each of 4 frames; both sides at least 8
    assert Qwen3Frames(settings).resized(4, 8, 8) == (8, 8)
    assert Qwen3Frames(settings).resized(2, 8, 8) == (16, 16)  # 128 for each of 2 is 11.3 a side, rounded up
    assert Qwen3Frames(settings).resized(2, 4, 16) == (8, 32)
    # older checkpoints name the edges otherwise
    assert Qwen2Frames(QWEN | {"min_pixels": 256, "max_pixels": 256}).resized(2, 40, 40) == (16, 16)


@pytest.mark.parametrize(("family", "alone"), [("internvl", {"crop_to_patches": False}), ("llava_onevision", {})])
def test_a_frame_of_one_size_is_the_whole_picture_without_tiles(
    family: str, alone: dict[str, Any], tiny_folder: Callable[[str], Path]
) -> None:
    processor = load_processor(tiny_folder(family))
    video = processor.video_processor([frames(3), frames(3)])["pixel_values_videos"]
    pictures = processor.image_processor(frames(3), return_tensors="pt", **alone)["pixel_values"]
    expected = pictures if family == "internvl" else pictures[:, 0]  # the base tile comes first
    assert video.shape == (2, 3, 3, 16, 16)
    torch.testing.assert_close(video[1], expected)


@pytest.mark.parametrize("size", [(30, 20), (20, 31)])
def test_a_frame_of_smolvlm_is_a_picture_that_is_not_split(
    size: tuple[int, int], tiny_folder: Callable[[str], Path]
) -> None:
    processor = load_processor(tiny_folder("smolvlm"))
    video = processor.video_processor([frames(3, size)])
    pictures = processor.image_processor([frames(3, size)], do_image_splitting=False, return_tensors="pt")
    torch.testing.assert_close(video["pixel_values"], pictures["pixel_values"])
    assert torch.equal(video["pixel_attention_mask"], pictures["pixel_attention_mask"])


def test_settings_of_the_checkpoint_count_and_are_kept() -> None:
    config = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "size": {"height": 4, "width": 8}, "other": 1}
    processor = SquareFrames(config)
    white = Image.new("RGB", (2, 2), "white")
    assert torch.equal(processor([[white]])["pixel_values_videos"], torch.ones(1, 1, 3, 4, 8))
    assert processor.to_dict() is config
    sampling = {"video_size": {"longest_edge": 20}, "max_frames": 4}
    assert SmolVLMFrames({"video_sampling": sampling})._longest == 20


@pytest.mark.parametrize(
    ("processor", "videos", "sentence"),
    [
        (VideoProcessorStub({}), [frames(1)], "torchvision"),
        (SquareFrames({"do_normalize": False}), [frames(1)], "do_normalize"),
        (SquareFrames({}), [frames(1), frames(2)], "one number of frames"),
        (Qwen2Frames(QWEN | {"cap_pixels_per_frame": True}), [frames(2)], "cap_pixels_per_frame"),
        (Qwen3Frames(QWEN), [frames(1)], "at least 2 frames"),
        (Qwen3Frames(QWEN), [frames(2, (4000, 8))], "too narrow"),
    ],
)
def test_what_cannot_be_done_is_said(processor: Any, videos: list[Any], sentence: str) -> None:
    with pytest.raises(TriptychError, match=sentence):
        processor(videos)


def test_numbers_in_words_are_english() -> None:
    words = {0: "zero", 8: "eight", 20: "twenty", 64: "sixty-four", 100: "one hundred", 116: "one hundred and sixteen"}
    assert {number: number_in_words(number) for number in words} == words
    with pytest.raises(TriptychError, match="1000 frames"):
        number_in_words(1000)
