"""What differs between families; equality with the models themselves is in test_scoring."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.tiny_models import FAMILIES
from triptych.engine.families import (
    Family,
    ImageFeatures,
    LlavaOnevision,
    QwenVL,
    as_encoder_output,
    backbone_of,
    encode_images,
    family_of,
)
from triptych.errors import TriptychError
from triptych.group import Group, text_message

# tokens of a.png (30 x 20), b.png (16 x 16) and c.png (20 x 40, width x height), each by itself
TOKENS_ALONE = {
    # 24 x 24 pixels after cropping, patches of 8
    "llava": [9, 9, 9],
    # base tile 4; a: 32 x 32 pixels, 4 x 4 features, 2 rows of them unpadded to... see the processor
    "llava_onevision": None,
    # 4 per tile: two tiles and the thumbnail; one tile; two tiles and the thumbnail
    "internvl": [12, 4, 12],
    # patches of 4, merged 2 x 2: sides rounded to multiples of 8
    "qwen2_vl": [8, 4, 10],
}
