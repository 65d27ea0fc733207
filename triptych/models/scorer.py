"""Models that put texts and pictures into one space: CLIP (arXiv:2103.00020), and others that transformers loads alike.

A video is the mean of its frames, CLIP4Clip's variant without parameters (arXiv:2104.08860): no order, but any CLIP
can do it. What is built here is an ordinary `CLIPModel` with an ordinary processor.

Letters: N texts, F pictures, V videos, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torch.nn.functional import normalize
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from triptych.errors import TriptychError
from triptych.models.lean import keep_less
from triptych.models.loading import load_model, load_processor, refuse_unknown_keys
from triptych.models.onednn import use_fast_products

_OLD_END_ID = 2
"""A CLIP whose end token has this id takes the features at the highest id instead, as old checkpoints need it."""


def build_scorer(
    config: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, *, seed: int = 0
) -> tuple[CLIPModel, CLIPProcessor]:
    """Build a CLIP with random weights, which are a function of the configuration and the seed alone.

    Args:
        config: fields of `CLIPConfig`, with `text_config` and `vision_config`; what follows from the tokenizer is
            filled in. Pictures are resized straight to the square of `image_size`.
        tokenizer: changed so that every text ends with its end token.
        seed: for the weights; the state of torch's own generator is left as it was.

    Raises:
        TriptychError: an unknown key, a vocabulary smaller than the tokenizer's, parts that do not fit together, or a
            tokenizer that CLIP cannot use.
    """
    refuse_unknown_keys(config, CLIPConfig, "the model configuration")
    text, vision = (dict(config.get(name) or {}) for name in ("text_config", "vision_config"))
    refuse_unknown_keys(text, CLIPTextConfig, "text_config")
    refuse_unknown_keys(vision, CLIPVisionConfig, "vision_config")
    _close_texts(tokenizer)
    if text.setdefault("vocab_size", len(tokenizer)) < len(tokenizer):
        raise TriptychError(f"vocab_size is {text['vocab_size']}, but the tokenizer has {len(tokenizer)} tokens.")
    text |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text |= {"bos_token_id": tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id}
    width = config.get("projection_dim", CLIPConfig().projection_dim)
    text["projection_dim"] = vision["projection_dim"] = width  # for those who load one tower alone
    try:
        clip_config = CLIPConfig(**{**config, "projection_dim": width, "text_config": text, "vision_config": vision})
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            model = CLIPModel(clip_config).to("cuda" if torch.cuda.is_available() else "cpu")
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = str(error).strip().rpartition("\n")[2].strip()
        raise TriptychError(f"The model cannot be built: {reason}") from error
    use_fast_products(model)
    keep_less(model)
    side = clip_config.vision_config.image_size
    image_processor = CLIPImageProcessorPil(size={"height": side, "width": side}, do_center_crop=False)
    return model, CLIPProcessor(image_processor, tokenizer)


def load_scorer(path: str | Path) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load a model like CLIP, and its processor, from a folder or from the Hugging Face hub.

    Raises:
        TriptychError: it is not there or incomplete, or it does not embed both texts and pictures.
    """
    model = load_model(path, auto_class=AutoModel)
    if not (hasattr(model, "get_text_features") and hasattr(model, "get_image_features")):
        raise TriptychError(
            f"{path} is a {type(model).__name__}, which does not put texts and pictures into one space. Name a CLIP, "
            "such as openai/clip-vit-base-patch32, or train one with `triptych scorer`."
        )
    return model, load_processor(path)


def tokenise(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> dict[str, Tensor]:
    """Return the inputs of the text tower, (N, T) each; texts are cut at what the model takes, 77 tokens for CLIP."""
    most = model.config.text_config.max_position_embeddings
    # SigLIP has learned from texts padded to full length, and looks at the padding.
    siglip = model.config.model_type.startswith("siglip")
    padding = "max_length" if siglip else True
    inputs = tokenizer(list(texts), padding=padding, truncation=True, max_length=most, return_tensors="pt")
    names = ("input_ids",) if siglip else ("input_ids", "attention_mask")
    return {name: inputs[name] for name in names}


def num_cut(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    """Return how many texts are longer than what the model takes."""
    most = model.config.text_config.max_position_embeddings
    return sum(len(ids) > most for ids in tokenizer(list(texts), verbose=False)["input_ids"])


def text_features(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return features of texts, (N, D) in float32, of length 1."""
    return normalize(model.get_text_features(**_placed(inputs, model)).pooler_output.float(), dim=-1)


def picture_features(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return features of pictures, (F, D) in float32, of length 1."""
    return normalize(model.get_image_features(**_placed(inputs, model)).pooler_output.float(), dim=-1)


def mean_frames(pictures: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the mean of each video's frames, (V, D), no longer of length 1.

    Its product with the features of a text is the mean of the frames' similarities to it.

    Args:
        pictures: (F, D) of length 1, video after video.
        counts: (V,) frames of each video.
    """
    return torch.stack([part.mean(dim=0) for part in pictures.split(list(counts))])


def _close_texts(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have every text end with the end token, where CLIP's text tower is read, and padded behind it."""
    backend, end = getattr(tokenizer, "backend_tokenizer", None), tokenizer.eos_token_id
    if backend is None or end is None:
        raise TriptychError("CLIP needs a tokenizer of the library `tokenizers` with an end token; choose another one.")
    if end == _OLD_END_ID:
        raise TriptychError(
            f"The end token of this tokenizer has the id {_OLD_END_ID}, by which transformers knows CLIPs of old, and "
            "it takes their text features elsewhere. Leave `tokenizer` out, so that one is trained on the captions."
        )
    if tokenizer("a")["input_ids"][-1] != end:
        token = tokenizer.eos_token
        backend.post_processor = TemplateProcessing(single=f"$A {token}", special_tokens=[(token, end)])
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = tokenizer.truncation_side = "right"


def _placed(inputs: Mapping[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in inputs.items()}
