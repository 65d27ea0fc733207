"""Processor of MM1: text and pictures in, model inputs out."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_transforms import to_pil_image
from transformers.image_utils import ImageInput, make_flat_list_of_images

from triptych.errors import TriptychError
from triptych.models.mm1.tokenizer import IMAGE_TOKEN


class MM1Processor(ProcessorMixin):
    """Resizes and normalises pictures, and expands each `<image>` in a text to the tokens of one picture.

    Args:
        image_processor: any Hugging Face image processor that returns `pixel_values` of one square size.
        tokenizer: a tokenizer that knows `<image>` as one token.
        num_image_tokens: tokens per view, as in the configuration of the model.
        sub_images_per_side: n > 1 cuts each picture into n x n sub-images, which are encoded one by one, row by row,
            followed by the whole picture at the size of one of them (sub-image decomposition, arXiv:2403.09611,
            section 4; 2 there). Such a picture takes (n * n + 1) * `num_image_tokens` tokens. The whole picture
            comes last: causal attention then lets it look at the parts (found slightly better by MM1.5).
        chat_template: by default that of the tokenizer.

    Raises:
        TriptychError: the tokenizer has no `<image>` token.
    """

    def __init__(
        self,
        image_processor: BaseImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        num_image_tokens: int = 144,
        sub_images_per_side: int = 1,
        chat_template: str | None = None,
    ) -> None:
        self.num_image_tokens = num_image_tokens
        self.sub_images_per_side = sub_images_per_side
        super().__init__(image_processor, tokenizer, chat_template=chat_template or tokenizer.chat_template)
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.get_vocab().get(IMAGE_TOKEN)
        if self.image_token_id is None:
            raise TriptychError(
                f"The tokenizer has no token {IMAGE_TOKEN!r}. Add it with "
                f"tokenizer.add_special_tokens({{'extra_special_tokens': ['{IMAGE_TOKEN}']}}) "
                "and resize the embeddings of the model."
            )

    @property
    def num_views(self) -> int:
        """Views into which each picture is decomposed; 1 without sub-images."""
        return 1 if self.sub_images_per_side == 1 else self.sub_images_per_side**2 + 1

    @property
    def tokens_per_image(self) -> int:
        """Image tokens that one `<image>` in a text becomes."""
        return self.num_views * self.num_image_tokens

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """Return the placeholders of one picture; every picture has the same number."""
        return self.image_token * self.tokens_per_image

    def _process_images(self, images: ImageInput, **kwargs: Any) -> tuple[Any, list[str]]:
        images = make_flat_list_of_images(images)
        placeholders = [self.image_token * self.tokens_per_image] * len(images)
        if self.num_views == 1:
            return self.image_processor(images, **kwargs), placeholders
        settings = (self.sub_images_per_side, self._view_size(), getattr(self.image_processor, "resample", None))
        views = [view for image in images for view in split_image(to_pil_image(image), *settings)]
        processed = self.image_processor(views, **kwargs)
        # (N * K, 3, S, S) -> (N, K, 3, S, S); a list of arrays when no tensor type was asked for
        pixel_values = processed["pixel_values"]
        if isinstance(pixel_values, list):
            pixel_values = np.stack(pixel_values)
        processed["pixel_values"] = pixel_values.reshape(len(images), self.num_views, *pixel_values.shape[1:])
        return processed, placeholders

    def _view_size(self) -> int:
        cropped = getattr(self.image_processor, "do_center_crop", False)
        size = self.image_processor.crop_size if cropped else self.image_processor.size
        if not size.height or size.height != size.width:
            raise TriptychError(f"Sub-images need an image processor with one square size; this one has {size}.")
        return size.height


def split_image(image: Image.Image, per_side: int, view_size: int, resample: int | None = None) -> list[Image.Image]:
    """Cut a picture into `per_side` x `per_side` parts of `view_size` pixels, row by row, and append the whole.

    The picture is first resized to the square the parts make up. The whole is returned as it came.
    """
    image = image.convert("RGB")
    enlarged = image.resize((per_side * view_size, per_side * view_size), resample)
    starts = range(0, per_side * view_size, view_size)
    parts = [enlarged.crop((left, top, left + view_size, top + view_size)) for top in starts for left in starts]
    return [*parts, image]
