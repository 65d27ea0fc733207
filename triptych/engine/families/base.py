"""What a family knows, and the family most alike to all: LLaVA.

A family knows which token stands for image features, how many of them each picture takes, how the vision tensors of one
picture are taken from and put back into a batch, which position ids the tokens of a prompt have (M-RoPE), and which
tokens attend to which.

Letters: N pictures, T tokens, P image tokens of one picture, D hidden size, B rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers.video_utils import VideoMetadata

from triptych.data.video import VideoShape
from triptych.engine.families.masks import attention_masks, decoder_windows

Tensors = dict[str, torch.Tensor]
Span = tuple[int, int]


@dataclass(frozen=True)
class ImageFeatures:
    """Features of one picture or video.

    Attributes:
        tokens: (P, D), spliced into the token stream.
        deepstack: per injected layer (P, D), added inside the decoder (Qwen3-VL); empty elsewhere.
    """

    tokens: torch.Tensor
    deepstack: tuple[torch.Tensor, ...] = ()

    def detach(self) -> ImageFeatures:
        """Return the same features cut off from the graph."""
        return ImageFeatures(self.tokens.detach(), tuple(layer.detach() for layer in self.deepstack))


class Family:
    """Models with a fixed number of tokens per picture and one tensor of pixels per picture: LLaVA.

    Attributes:
        packed: paths can share their beginnings in one forward. Where not, each path has a forward of its own.
        causal: every layer of the decoder attends to everything before and to nothing after, so that the plain mask of
            the trie serves; where not, `attention_mask` has the masks.
        logit_softcap: c where the model maps its logits x to c * tanh(x / c) after its head.
        takes_videos: prompts may hold videos.
        video_token_id: the placeholder of videos, where they have features of their own.
        frames_are_images: a video is a row of pictures with image tokens.
        mixes_videos_with_images: a prompt may hold both.
        mixes_video_lengths: the videos of a prompt may differ in their numbers of frames.
    """

    model_types: ClassVar[tuple[str, ...]] = ("llava",)
    packed: ClassVar[bool] = True
    fixed_tokens_per_image: ClassVar[bool] = True
    takes_videos: bool = False
    frames_are_images: ClassVar[bool] = False
    mixes_videos_with_images: ClassVar[bool] = True
    mixes_video_lengths: ClassVar[bool] = True
    video_token_id: int | None = None
    logit_softcap: float | None = None

    def __init__(self, config: Any) -> None:
        self.config = config
        self.image_token_id: int = config.image_token_id
        self.windows = decoder_windows(config.get_text_config())
        self.causal = self.windows is None

    def prompt_text(self, processor: Any, messages: list[dict[str, Any]]) -> str:
        """Return the text of a prompt up to and including the assistant's header, placeholders not expanded."""
        return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def image_placeholder(self, processor: Any) -> str:
        """Return what stands for one picture in the text given to the processor."""
        return processor.image_token

    def video_placeholder(self, processor: Any) -> str:
        """Return what stands for one video in the text given to the processor."""
        return processor.video_token

    def tokens_per_image(self, input_ids: list[int], inputs: Tensors, num_images: int, processor: Any) -> list[int]:
        """Return how many image tokens each picture of a prompt takes, in order."""
        total = input_ids.count(self.image_token_id)
        return [total // num_images] * num_images

    def video_text(self, processor: Any, shape: VideoShape) -> str:
        """Return what the processor writes in the place of a video, known from its shape alone.

        Raises:
            ValueError: the processor does not take such a video.
        """
        return processor.replace_video_token(self._video_outline(processor, shape), 0)

    def _video_outline(self, processor: Any, shape: VideoShape) -> dict[str, Any]:
        """Return what `replace_video_token` reads of a processed video; of the pixels, how many frames there are."""
        frames = torch.empty(1, shape.num_frames, 0)
        return {
            "pixel_values_videos": frames,
            "pixel_values": frames,
            "num_video_frames": [shape.num_frames],
            "video_metadata": [VideoMetadata(**shape.metadata())],
        }

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """Cut the processor's vision tensors into pictures: a tag that the content key needs, and the tensors."""
        return [("", {"pixel_values": inputs["pixel_values"][n : n + 1]}) for n in range(len(counts))]

    def split_videos(self, inputs: Tensors, input_ids: list[int]) -> list[tuple[int, Tensors]]:
        """Cut the processor's vision tensors into videos: how many video tokens each takes, and the tensors."""
        raise NotImplementedError

    def call_key(self, inputs: Tensors) -> Hashable:
        """Return what must be equal for two pictures, or two videos, to go through the encoder in one call."""
        return None

    def merge_rank(self, inputs: Tensors) -> int:
        """Return where a picture stands in `merge_media`, which is called with pictures in ascending order."""
        return 0

    def merge_media(self, media: Sequence[Tensors]) -> Tensors:
        """Join the tensors of several pictures, or of several videos, into arguments of the model."""
        return {key: torch.cat([item[key] for item in media]) for key in media[0]}

    def cut_video(self, inputs: Tensors, num_tokens: int, max_values: int) -> list[tuple[int, Tensors]]:
        """Cut a video, or what else is large, into parts that are encoded apart; tokens and tensors of each.

        Args:
            inputs: vision tensors of a video or picture.
            num_tokens: of it.
            max_values: most pixel values of a part, where frames are that small.
        """
        return [(num_tokens, inputs)]

    def join_video(self, parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """Make the features of a video from those of the parts of `cut_video`."""
        [whole] = parts
        return whole

    def position_ids(self, backbone: Any, input_ids: list[int], media: Sequence[Tensors]) -> torch.Tensor:
        """Return the positions of a prompt's tokens, (A, T) with A = 1, or 3 for M-RoPE."""
        return torch.arange(len(input_ids)).unsqueeze(0)

    def two_way(self, input_ids: list[int]) -> tuple[Span, ...]:
        """Return the spans (start, end) of a prompt whose tokens attend to each other in both directions."""
        return ()

    def check_document(self) -> None:
        """Raise `TriptychError` where the family cannot be trained on every text token of a document."""

    def attention_mask(
        self, subtree_end: torch.Tensor, block_end: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return additive masks (B, 1, T, T), one, or one for each type of layer; see `masks.attention_masks`."""
        return attention_masks(subtree_end, block_end, self.windows or {None: None}, dtype)


def runs(ids: list[int], token: int) -> list[Span]:
    """Return (start, end) of each run of `token`."""
    found, start = [], None
    for index, value in enumerate([*ids, None]):
        if value == token and start is None:
            start = index
        elif value != token and start is not None:
            found.append((start, index))
            start = None
    return found
