"""Configurations of tiny models, one function per family: the smallest that still has every part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

INITIALIZER_RANGE = 0.2


def text_settings(tokenizer: PreTrainedTokenizerFast, *, tied: bool, num_kv_heads: int) -> dict[str, Any]:
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


def vision_settings(image_size: int, patch_size: int) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": image_size,
        "patch_size": patch_size,
        "initializer_range": INITIALIZER_RANGE,
    }


def llava_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    text = text_settings(tokenizer, tied=False, num_kv_heads=2)
    return transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**vision_settings(24, 8), initializer_factor=4.0),
        text_config=transformers.LlamaConfig(**text),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=9,
    )


def llava_onevision_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    text = text_settings(tokenizer, tied=True, num_kv_heads=2)
    return transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**vision_settings(16, 8), vision_use_head=False),
        text_config=transformers.Qwen2Config(**text),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=PINPOINTS,
    )


PINPOINTS = [[16, 16], [16, 32], [32, 16], [32, 32]]


def llava_next_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """The patches of 4 make 2 x 2 features per tile; the decoder is Mistral, as in llava-v1.6-mistral."""
    text = text_settings(tokenizer, tied=False, num_kv_heads=2)
    return transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**vision_settings(16, 8), initializer_factor=4.0),
        text_config=transformers.MistralConfig(**text, sliding_window=None),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=4,
    )


def llava_window_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """A decoder all of whose layers look back 11 tokens."""
    text = text_settings(tokenizer, tied=False, num_kv_heads=2)
    config = llava_config(tokenizer)
    config.text_config = transformers.MistralConfig(**text, sliding_window=11)
    return config


def gemma3_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """Pictures of 9 tokens, and a window shorter than that."""
    text = text_settings(tokenizer, tied=True, num_kv_heads=2)
    return transformers.Gemma3Config(
        vision_config=transformers.SiglipVisionConfig(**vision_settings(24, 4), vision_use_head=False),
        text_config=transformers.Gemma3TextConfig(
            **text,
            query_pre_attn_scalar=16,
            sliding_window=7,
            layer_types=["sliding_attention", "full_attention"],
        ),
        mm_tokens_per_image=9,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
    )


def paligemma_config(text_class: str, **settings: Any) -> Callable[[PreTrainedTokenizerFast], PreTrainedConfig]:
    def build(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
        text = text_settings(tokenizer, tied=True, num_kv_heads=2) | settings
        return transformers.PaliGemmaConfig(
            vision_config=transformers.SiglipVisionConfig(**vision_settings(24, 8), vision_use_head=False),
            text_config=getattr(transformers, text_class)(**text),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            vocab_size=text["vocab_size"],
            projection_dim=text["hidden_size"],
            hidden_size=text["hidden_size"],
        )

    return build


def internvl_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    text = text_settings(tokenizer, tied=False, num_kv_heads=1)
    return transformers.InternVLConfig(
        vision_config=transformers.InternVLVisionConfig(**vision_settings(16, 4)),
        text_config=transformers.Qwen2Config(**text),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )


def qwen_config(
    family: str, vision: dict[str, Any], *, tied: bool, **rope: Any
) -> Callable[[PreTrainedTokenizerFast], PreTrainedConfig]:
    def build(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
        text = text_settings(tokenizer, tied=tied, num_kv_heads=2)
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


def smolvlm_config(family: str) -> Callable[[PreTrainedTokenizerFast], PreTrainedConfig]:
    def build(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
        text = transformers.LlamaConfig(**text_settings(tokenizer, tied=False, num_kv_heads=2))
        return getattr(transformers, f"{family}Config")(
            vision_config=vision_settings(16, 4),
            text_config=text,
            scale_factor=2,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=False,
        )

    return build


def mllama_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """Pictures enter by cross-attention in the second layer."""
    text = text_settings(tokenizer, tied=False, num_kv_heads=2)
    del text["head_dim"]
    vision = vision_settings(16, 8)
    heads = vision.pop("num_attention_heads")
    return transformers.MllamaConfig(
        vision_config={
            **vision,
            "attention_heads": heads,
            "num_global_layers": 1,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 2 * vision["hidden_size"],
        },
        text_config=transformers.MllamaTextConfig(**text, cross_attention_layers=[1]),
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )


def qwen3_5_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """A layer of linear attention, which carries a state, and one of attention."""
    text = text_settings(tokenizer, tied=False, num_kv_heads=2)
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
        "partial_rotary_factor": 0.5,
    }
    linear = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
    ids = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return transformers.Qwen3_5Config(
        vision_config={
            "depth": 2,
            "num_heads": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "out_hidden_size": 64,
            "patch_size": 4,
            "num_position_embeddings": 64,
            "initializer_range": INITIALIZER_RANGE,
        },
        text_config=transformers.Qwen3_5TextConfig(
            **text, **linear, linear_num_value_heads=4, layer_types=["linear_attention", "full_attention"]
        ),
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in ids.items()},
    )
