"""Tiny random models of every supported family, as folders like those a user has: nothing is downloaded.

`make_tiny("qwen2_vl", folder)` writes configuration, weights, tokenizer, image processor and chat template. The real
processor of the family does the rest, so placeholders, tiles and separators are those of the family. Weights are drawn
with a large deviation: attention is far from uniform, and a wrong mask or position shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedTokenizerFast

from triptych.models.loading import build_mm1
from triptych.models.mm1.tokenizer import train_tokenizer

SENTENCES = (
    "How many circles are there? Count the red ones first, then the blue ones.",
    "There are three circles and two squares. Final Answer: 5",
    "Is the triangle left of the star? Describe the picture.",
    "A picture of a green square above a yellow hexagon.",
    "You are a helpful assistant. system user assistant USER: ASSISTANT: User: Assistant:",
)
NUM_MERGES = 60
INITIALIZER_RANGE = 0.2


@dataclass(frozen=True)
class Recipe:
    """What makes a family: the pieces of its folder.

    Attributes:
        tokens: special tokens by the name the family's processor looks them up.
        plain_tokens: further special tokens.
        template: chat template (Jinja).
        config: builds the configuration from the tokenizer.
        image_processor: class name without its backend, and settings.
        processor: class name and settings of the processor itself.
        adds_bos: the tokenizer puts its first token in front of a text, as Llama's does.
    """

    tokens: dict[str, str]
    template: str
    config: Callable[[PreTrainedTokenizerFast], PreTrainedConfig]
    image_processor: tuple[str, dict[str, Any]]
    processor: tuple[str, dict[str, Any]]
    plain_tokens: list[str] = field(default_factory=list)
    adds_bos: bool = False


def make_tiny(family: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny random model of `family` (one of `FAMILIES`) into `folder` and return the folder."""
    if family in MM1_SETTINGS:
        return _make_mm1(MM1_SETTINGS[family], folder, seed)
    recipe = RECIPES[family]
    tokenizer = make_tokenizer(recipe)
    config = recipe.config(tokenizer)
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(recipe.template)
    image_class, image_settings = recipe.image_processor
    image_settings = {"image_processor_type": image_class} | image_settings
    (folder / "preprocessor_config.json").write_text(json.dumps(image_settings, indent=2))
    processor_class, settings = recipe.processor
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": processor_class} | settings, indent=2))
    return folder


def write_picture(path: Path, size: tuple[int, int], *, seed: int) -> None:
    """Write a picture of coarse random colours, (width, height) pixels."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(path)


def make_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on a few sentences and give it the family's special tokens."""
    special = ["<s>", *recipe.tokens.values(), *recipe.plain_tokens]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + NUM_MERGES + len(special),
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    if recipe.adds_bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    names = {name: token for name, token in recipe.tokens.items() if name not in ("eos_token", "pad_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token=recipe.tokens["eos_token"],
        pad_token=recipe.tokens["eos_token"],
        extra_special_tokens=names,
        clean_up_tokenization_spaces=False,
    )


def _make_mm1(settings: dict[str, Any], folder: Path, seed: int) -> Path:
    tokenizer = train_tokenizer([*SENTENCES, *SENTENCES], 340)
    text = _text_settings(tokenizer, tied=True, num_kv_heads=2) | {"model_type": "llama"}
    config = {
        "vision_config": _vision_settings(24, 8) | {"model_type": "clip_vision_model", "initializer_factor": 4.0},
        "text_config": {name: value for name, value in text.items() if not name.endswith("_token_id")},
        "connector_type": settings["connector_type"],
        "num_image_tokens": 4,
        "connector_hidden_size": 32,
        "connector_depth": 1,
        "connector_num_heads": 2,
        "tie_word_embeddings": True,
    }
    per_side = settings.get("sub_images_per_side", 1)
    model, processor = build_mm1(config, tokenizer, seed=seed, sub_images_per_side=per_side)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _chat_template(image: str) -> str:
    """ChatML, as Qwen and InternVL have it; parts in the order given."""
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


LLAVA_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'] | upper }}: {% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }} {% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""The answer of LLaVA is closed by no token of the template, so the end-of-text token has to do it."""

SMOLVLM_TEMPLATE = (
    "<|im_start|>"
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def _text_settings(tokenizer: PreTrainedTokenizerFast, *, tied: bool, num_kv_heads: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": num_kv_heads,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "tie_word_embeddings": tied,
        "initializer_range": INITIALIZER_RANGE,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _vision_settings(image_size: int, patch_size: int) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": image_size,
        "patch_size": patch_size,
        "initializer_range": INITIALIZER_RANGE,
    }


def _llava_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    text = _text_settings(tokenizer, tied=False, num_kv_heads=2)
    return transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**_vision_settings(24, 8), initializer_factor=4.0),
        text_config=transformers.LlamaConfig(**text),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=9,
    )


def _llava_onevision_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    text = _text_settings(tokenizer, tied=True, num_kv_heads=2)
    return transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**_vision_settings(16, 8), vision_use_head=False),
        text_config=transformers.Qwen2Config(**text),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=PINPOINTS,
    )


PINPOINTS = [[16, 16], [16, 32], [32, 16], [32, 32]]


def _internvl_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    text = _text_settings(tokenizer, tied=False, num_kv_heads=1)
    return transformers.InternVLConfig(
        vision_config=transformers.InternVLVisionConfig(**_vision_settings(16, 4)),
        text_config=transformers.Qwen2Config(**text),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )


def _qwen_config(
    family: str, vision: dict[str, Any], *, tied: bool, **rope: Any
) -> Callable[[PreTrainedTokenizerFast], PreTrainedConfig]:
    def build(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
        text = _text_settings(tokenizer, tied=tied, num_kv_heads=2)
        if family != "Qwen3VL":
            del text["head_dim"]
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]} | rope
        shared = {
            "depth": 2,
            "num_heads": 2,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": INITIALIZER_RANGE,
        }
        ids = {
            "image_token_id": "<|image_pad|>",
            "video_token_id": "<|video_pad|>",
            "vision_start_token_id": "<|vision_start|>",
            "vision_end_token_id": "<|vision_end|>",
        }
        return getattr(transformers, f"{family}Config")(
            vision_config=shared | vision,
            text_config=text,
            tie_word_embeddings=tied,
            **{name: tokenizer.convert_tokens_to_ids(token) for name, token in ids.items()},
        )

    return build


def _smolvlm_config(family: str) -> Callable[[PreTrainedTokenizerFast], PreTrainedConfig]:
    def build(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
        text = transformers.LlamaConfig(**_text_settings(tokenizer, tied=False, num_kv_heads=2))
        return getattr(transformers, f"{family}Config")(
            vision_config=_vision_settings(16, 4),
            text_config=text,
            scale_factor=2,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=False,
        )

    return build


TILE = {"height": 16, "width": 16}
LLAVA_IMAGES = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
CHATML_TOKENS = {"eos_token": "<|im_end|>", "turn_token": "<|im_start|>"}
INTERNVL_TOKENS = CHATML_TOKENS | {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
QWEN_TOKENS = CHATML_TOKENS | {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
QWEN_VISION = {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}
QWEN_TEMPLATE = _chat_template("<|vision_start|><|image_pad|><|vision_end|>")
QWEN_IMAGES = {
    "patch_size": 4,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 16 * 16, "longest_edge": 32 * 32},
}
SMOLVLM_TOKENS = {
    "eos_token": "<end_of_utterance>",
    "turn_token": "<|im_start|>",
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
}
SMOLVLM_IMAGES = {
    "size": {"longest_edge": 32},
    "max_image_size": {"longest_edge": 16},
    "do_image_splitting": True,
    "do_resize": True,
}
TILE_TOKENS = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]

MM1_SETTINGS: dict[str, dict[str, Any]] = {
    "mm1": {"connector_type": "c_abstractor"},
    "mm1_sub_images": {"connector_type": "attention", "sub_images_per_side": 2},
}

RECIPES: dict[str, Recipe] = {
    "llava": Recipe(
        tokens={"eos_token": "</s>", "image_token": "<image>"},
        template=LLAVA_TEMPLATE,
        config=_llava_config,
        image_processor=("CLIPImageProcessor", LLAVA_IMAGES),
        processor=(
            "LlavaProcessor",
            {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        ),
        adds_bos=True,
    ),
    "llava_onevision": Recipe(
        tokens=CHATML_TOKENS | {"image_token": "<image>", "video_token": "<video>"},
        template=_chat_template("<image>\n"),
        config=_llava_onevision_config,
        image_processor=("LlavaOnevisionImageProcessor", {"size": TILE, "image_grid_pinpoints": PINPOINTS}),
        processor=("LlavaOnevisionProcessor", {"num_image_tokens": 4, "vision_feature_select_strategy": "full"}),
    ),
    "internvl": Recipe(
        tokens=INTERNVL_TOKENS,
        template=_chat_template("<IMG_CONTEXT>\n"),
        config=_internvl_config,
        image_processor=("GotOcr2ImageProcessor", {"size": TILE, "max_patches": 3}),
        processor=("InternVLProcessor", {"image_seq_length": 4}),
    ),
    "qwen2_vl": Recipe(
        tokens=QWEN_TOKENS,
        template=QWEN_TEMPLATE,
        config=_qwen_config("Qwen2VL", {"embed_dim": 32, "hidden_size": 64}, tied=False),
        image_processor=("Qwen2VLImageProcessor", QWEN_IMAGES),
        processor=("Qwen2VLProcessor", {}),
    ),
    "qwen2_5_vl": Recipe(
        tokens=QWEN_TOKENS,
        template=QWEN_TEMPLATE,
        config=_qwen_config(
            "Qwen2_5_VL",
            QWEN_VISION | {"window_size": 16, "fullatt_block_indexes": [1]},
            tied=False,
        ),
        image_processor=("Qwen2VLImageProcessor", QWEN_IMAGES),
        processor=("Qwen2_5_VLProcessor", {}),
    ),
    "qwen3_vl": Recipe(
        tokens=QWEN_TOKENS,
        template=QWEN_TEMPLATE,
        config=_qwen_config(
            "Qwen3VL",
            QWEN_VISION | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
            tied=True,
            mrope_interleaved=True,
        ),
        image_processor=("Qwen2VLImageProcessor", QWEN_IMAGES),
        processor=("Qwen3VLProcessor", {}),
    ),
    "smolvlm": Recipe(
        tokens=SMOLVLM_TOKENS,
        plain_tokens=TILE_TOKENS,
        template=SMOLVLM_TEMPLATE,
        config=_smolvlm_config("SmolVLM"),
        image_processor=("SmolVLMImageProcessor", SMOLVLM_IMAGES),
        processor=("SmolVLMProcessor", {"image_seq_len": 4}),
    ),
    "idefics3": Recipe(
        tokens=SMOLVLM_TOKENS,
        plain_tokens=TILE_TOKENS,
        template=SMOLVLM_TEMPLATE,
        config=_smolvlm_config("Idefics3"),
        image_processor=("Idefics3ImageProcessor", SMOLVLM_IMAGES),
        processor=("Idefics3Processor", {"image_seq_len": 4}),
    ),
}

FAMILIES = (*RECIPES, *MM1_SETTINGS)
