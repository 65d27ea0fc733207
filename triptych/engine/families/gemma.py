"""Gemma 3 and PaliGemma: decoders in which some tokens attend to later ones."""

from __future__ import annotations

from typing import Any

import torch

from triptych.engine.families.base import Family, Span, Tensors, runs
from triptych.engine.families.masks import attention_masks
from triptych.errors import DataError, TriptychError


class Gemma3(Family):
    """Image tokens of one picture attend to each other in both directions; most layers have a sliding window.

    The window holds for image tokens too: nothing sees further back than it.
    """

    model_types = ("gemma3",)
    fixed_tokens_per_image = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.causal = False

    def tokens_per_image(self, input_ids: list[int], inputs: Tensors, num_images: int, processor: Any) -> list[int]:
        """Read the runs of image tokens; with pan-and-scan a picture has several, one per crop.

        Raises:
            DataError: pan-and-scan is on and the prompt has several pictures, so that it cannot be told whose each is.
        """
        counts = [end - start for start, end in runs(input_ids, self.image_token_id)]
        if len(counts) == num_images:
            return counts
        if num_images > 1:
            raise DataError(
                "Pan-and-scan cuts pictures of this prompt, which has several, into crops.",
                remedy="Set `do_pan_and_scan` to false in the configuration of the image processor.",
                kind="pan_and_scan",
            )
        return [sum(counts)]

    def split_media(self, inputs: Tensors, counts: list[int]) -> list[tuple[str, Tensors]]:
        """One picture has all the pixels there are, crops included; each of several has one tensor."""
        return [("", {"pixel_values": part}) for part in inputs["pixel_values"].chunk(len(counts))]

    def two_way(self, input_ids: list[int]) -> tuple[Span, ...]:
        """Each run of image tokens."""
        return tuple(runs(input_ids, self.image_token_id))


class PaliGemma(Family):
    """A prefix language model: all of the prompt attends to all of it; what follows is causal. Not a chat model.

    A prompt is its pictures, the beginning-of-text token, the text and a newline (Beyer et al. 2024, arXiv:2407.07726,
    section 3.2); the processor writes all but the text, where there is a picture.
    """

    model_types = ("paligemma",)
    fixed_tokens_per_image = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        text_config = config.get_text_config()
        self.causal = False
        self.window: int | None = getattr(text_config, "sliding_window", None)
        self.logit_softcap = getattr(text_config, "final_logit_softcapping", None)

    def prompt_text(self, processor: Any, messages: list[dict[str, Any]]) -> str:
        """Return the placeholders and the text of the only message, or what the chat template makes where there is one.

        Raises:
            ValueError: several messages, and no chat template.
        """
        if processor.chat_template:
            text = super().prompt_text(processor, messages)
        else:
            if [message["role"] for message in messages] != ["user"]:
                raise ValueError("this model takes one user message and has no chat template for more")
            parts = messages[0]["content"]
            text = "".join(part["text"] for part in parts if part["type"] == "text")
            text = processor.image_token * sum(part["type"] == "image" for part in parts) + text
        return text if processor.image_token in text else f"{processor.tokenizer.bos_token}{text}\n"

    def two_way(self, input_ids: list[int]) -> tuple[Span, ...]:
        """The whole prompt."""
        return ((0, len(input_ids)),)

    def position_ids(self, backbone: Any, input_ids: list[int], media: Any) -> torch.Tensor:
        """Positions count from 1."""
        return torch.arange(1, len(input_ids) + 1).unsqueeze(0)

    def check_document(self) -> None:
        """A prefix has no targets, and in a document every text token is one."""
        raise TriptychError("PaliGemma reads a prompt in both directions, so it cannot be pre-trained on documents.")

    def attention_mask(
        self, subtree_end: torch.Tensor, block_end: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return the mask (B, 1, T, T) that the model gives to all layers.

        The sliding layers of PaliGemma 2 look back 4,096 tokens. The model takes no masks by type of layer, so paths
        are kept within the window, where all layers see the same.

        Raises:
            TriptychError: a path is longer than the window.
        """
        mask = attention_masks(subtree_end, block_end, {None: None}, dtype)
        longest = int((mask == 0).sum(-1).max())
        if self.window is not None and longest > self.window:
            raise TriptychError(
                f"A path of {longest} tokens is longer than the model's window of {self.window} tokens."
            )
        return mask
