"""A picture for ranks that have none, so that all ranks take the same way through a sharded vision tower.

The layers of a sharded tower are put together by all ranks at once. Were one rank to leave the tower out, because the
rows of its micro-batch are text alone, the others would wait for it for ever. So before each pass through the tower
the ranks tell each other whether they have one to make; where some have and some have not, the others send a blank
picture through, whose features reach the result multiplied by zero.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from triptych.engine.distributed import any_rank
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of, encode_images
from triptych.group import Group

_SIDE = 64
"""Pixels of the blank picture's side; the image processor makes of it what it makes of small pictures."""


class StandIn:
    """Watches the body of a sharded model and sends the blank picture through where it is needed.

    A pass is a call of `get_image_features` or `get_video_features`. Passes are counted from one forward over tokens to
    the next: a rank that comes to the tokens has made all of its own, and joins in those that others still make.

    Args:
        model: a sharded model.
        encoder: makes the blank picture as the family wants it.

    Attributes:
        active: False while every rank holds the whole model, and goes through it without the others.
    """

    def __init__(self, model: nn.Module, encoder: Encoder) -> None:
        self._model, self._encoder, self.active = model, encoder, True
        self._inside, self._zero = False, None
        backbone = backbone_of(model)
        for name in ("get_image_features", "get_video_features"):
            if hasattr(backbone, name):
                setattr(backbone, name, self._announced(getattr(backbone, name)))
        backbone.register_forward_pre_hook(self._before_tokens)
        backbone.get_input_embeddings().register_forward_hook(self._after_embedding)

    def _announced(self, encode: Any) -> Any:
        """Return a method that tells the other ranks of the pass it is about to make."""

        def announce_and_encode(*args: Any, **kwargs: Any) -> Any:
            if self._inside or not self.active:  # inside of another pass, or of the blank one
                return encode(*args, **kwargs)
            any_rank(True)
            self._inside = True
            try:
                return encode(*args, **kwargs)
            finally:
                self._inside = False

        return announce_and_encode

    def _before_tokens(self, backbone: nn.Module, args: Any) -> None:
        zeros = []
        while self.active and any_rank(False):
            zeros.append(self._blank_features() * 0)
        self._zero = sum(zeros) if zeros else None  # of all passes: the backward, too, goes through each

    def _after_embedding(self, embedding: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Add the zero where features would come in: the backward then goes through frozen layers too, as elsewhere."""
        zero, self._zero = self._zero, None
        return output if zero is None else output + zero.to(output.dtype)

    def _blank_features(self) -> Tensor:
        """Send the blank picture through tower and connector, and return the sum of its features."""
        file = io.BytesIO()
        Image.new("RGB", (_SIDE, _SIDE)).save(file, "PNG")
        prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "blank"}]}]
        group = Group(id="blank", prompt=prompt, images=[file.getvalue()])
        [picture] = self._encoder.prompt(group, Path()).media
        self._inside = True
        try:
            [features] = encode_images(self._model, self._encoder.family, [picture.inputs], [picture.num_tokens])
        finally:
            self._inside = False
        return features.tokens.sum() + sum(layer.sum() for layer in features.deepstack)
