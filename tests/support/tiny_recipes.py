"""What makes each tiny model: tokens, chat template, configuration, image processor and processor of its family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from tests.support.tiny_configs import (
    PINPOINTS,
    gemma3_config,
    internvl_config,
    llava_config,
    llava_next_config,
    llava_onevision_config,
    llava_window_config,
    mllama_config,
    paligemma_config,
    qwen3_5_config,
    qwen_config,
    smolvlm_config,
)


@dataclass(frozen=True)
class Recipe:
    """What makes a family: the pieces of its folder.

    Attributes:
        tokens: special tokens by the name the family's processor looks them up.
        plain_tokens: further special tokens.
        template: chat template (Jinja), where the family has one.
        config: builds the configuration from the tokenizer.
        image_processor: class name without its backend, and settings.
        processor: class name and settings of the processor itself.
        adds_bos: the tokenizer puts its first token in front of a text, as Llama's does.
        packed: paths of this model can share a forward.
    """

    tokens: dict[str, str]
    template: str | None
    config: Callable[[PreTrainedTokenizerFast], PreTrainedConfig]
    image_processor: tuple[str, dict[str, Any]]
    processor: tuple[str, dict[str, Any]]
    plain_tokens: list[str] = field(default_factory=list)
    adds_bos: bool = False
    packed: bool = True


def _chat_template(image: str, video: str) -> str:
    """ChatML, as Qwen and InternVL have it; parts in the order given."""
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% elif part['type'] == 'video' %}" + video + "{% else %}"
        "{{ part['text'] }}{% endif %}"
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

GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else 'user' }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

MLLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|header|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header|>assistant\n{% endif %}"
)

SMOLVLM_TEMPLATE = (
    "<|im_start|>"
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


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
QWEN_TEMPLATE = _chat_template(
    "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"
)
QWEN_IMAGES = {
    "patch_size": 4,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 16 * 16, "longest_edge": 32 * 32},
}
GEMMA3_TOKENS = {
    "eos_token": "<end_of_turn>",
    "turn_token": "<start_of_turn>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}
PALIGEMMA_IMAGES = {"size": {"height": 24, "width": 24}, "image_seq_length": 9}
SMOLVLM_TOKENS = {
    "eos_token": "<end_of_utterance>",
    "turn_token": "<|im_start|>",
    "image_token": "<image>",
    "video_token": "<video>",
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

RECIPES: dict[str, Recipe] = {
    "llava": Recipe(
        tokens={"eos_token": "</s>", "image_token": "<image>"},
        template=LLAVA_TEMPLATE,
        config=llava_config,
        image_processor=("CLIPImageProcessor", LLAVA_IMAGES),
        processor=(
            "LlavaProcessor",
            {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        ),
        adds_bos=True,
    ),
    "llava_window": Recipe(
        tokens={"eos_token": "</s>", "image_token": "<image>"},
        template=LLAVA_TEMPLATE,
        config=llava_window_config,
        image_processor=("CLIPImageProcessor", LLAVA_IMAGES),
        processor=(
            "LlavaProcessor",
            {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        ),
        adds_bos=True,
    ),
    "llava_next": Recipe(
        tokens={"eos_token": "</s>", "image_token": "<image>"},
        template=LLAVA_TEMPLATE,
        config=llava_next_config,
        image_processor=(
            "LlavaNextImageProcessor",
            {"size": {"shortest_edge": 16}, "crop_size": TILE, "image_grid_pinpoints": PINPOINTS},
        ),
        processor=(
            "LlavaNextProcessor",
            {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        ),
        adds_bos=True,
    ),
    "gemma3": Recipe(
        tokens=GEMMA3_TOKENS,
        template=GEMMA_TEMPLATE,
        config=gemma3_config,
        image_processor=("Gemma3ImageProcessor", {"size": {"height": 24, "width": 24}}),
        processor=("Gemma3Processor", {"image_seq_length": 9}),
    ),
    "paligemma": Recipe(
        tokens={"eos_token": "<eos>", "image_token": "<image>"},
        template=None,
        config=paligemma_config("GemmaConfig"),
        image_processor=("SiglipImageProcessor", PALIGEMMA_IMAGES),
        processor=("PaliGemmaProcessor", {}),
    ),
    "paligemma2": Recipe(
        tokens={"eos_token": "<eos>", "image_token": "<image>"},
        template=None,
        config=paligemma_config("Gemma2Config", query_pre_attn_scalar=16, sliding_window=4096),
        image_processor=("SiglipImageProcessor", PALIGEMMA_IMAGES),
        processor=("PaliGemmaProcessor", {}),
    ),
    "llava_onevision": Recipe(
        tokens=CHATML_TOKENS | {"image_token": "<image>", "video_token": "<video>"},
        template=_chat_template("<image>\n", "<video>\n"),
        config=llava_onevision_config,
        image_processor=("LlavaOnevisionImageProcessor", {"size": TILE, "image_grid_pinpoints": PINPOINTS}),
        processor=("LlavaOnevisionProcessor", {"num_image_tokens": 4, "vision_feature_select_strategy": "full"}),
    ),
    "internvl": Recipe(
        tokens=INTERNVL_TOKENS,
        template=_chat_template("<IMG_CONTEXT>\n", "<video>\n"),
        config=internvl_config,
        image_processor=("GotOcr2ImageProcessor", {"size": TILE, "max_patches": 3}),
        processor=("InternVLProcessor", {"image_seq_length": 4}),
    ),
    "qwen2_vl": Recipe(
        tokens=QWEN_TOKENS,
        template=QWEN_TEMPLATE,
        config=qwen_config("Qwen2VL", {"embed_dim": 32, "hidden_size": 64}, tied=False),
        image_processor=("Qwen2VLImageProcessor", QWEN_IMAGES),
        processor=("Qwen2VLProcessor", {}),
    ),
    "qwen2_5_vl": Recipe(
        tokens=QWEN_TOKENS,
        template=QWEN_TEMPLATE,
        config=qwen_config(
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
        config=qwen_config(
            "Qwen3VL",
            QWEN_VISION | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
            tied=True,
            mrope_interleaved=True,
        ),
        image_processor=("Qwen2VLImageProcessor", QWEN_IMAGES),
        processor=("Qwen3VLProcessor", {}),
    ),
    "qwen3_5": Recipe(
        tokens=QWEN_TOKENS,
        template=QWEN_TEMPLATE,
        config=qwen3_5_config,
        image_processor=("Qwen2VLImageProcessor", QWEN_IMAGES),
        processor=("Qwen3VLProcessor", {}),
        packed=False,
    ),
    "mllama": Recipe(
        tokens={"eos_token": "<|eot|>", "image_token": "<|image|>", "header_token": "<|header|>"},
        template=MLLAMA_TEMPLATE,
        config=mllama_config,
        image_processor=("MllamaImageProcessor", {"size": TILE, "max_image_tiles": 4}),
        processor=("MllamaProcessor", {}),
        packed=False,
    ),
    "smolvlm": Recipe(
        tokens=SMOLVLM_TOKENS,
        plain_tokens=TILE_TOKENS,
        template=SMOLVLM_TEMPLATE,
        config=smolvlm_config("SmolVLM"),
        image_processor=("SmolVLMImageProcessor", SMOLVLM_IMAGES),
        processor=("SmolVLMProcessor", {"image_seq_len": 4}),
    ),
    "idefics3": Recipe(
        tokens=SMOLVLM_TOKENS,
        plain_tokens=TILE_TOKENS,
        template=SMOLVLM_TEMPLATE,
        config=smolvlm_config("Idefics3"),
        image_processor=("Idefics3ImageProcessor", SMOLVLM_IMAGES),
        processor=("Idefics3Processor", {"image_seq_len": 4}),
    ),
}
