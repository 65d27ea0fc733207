"""Write a tiny LLaVA with random weights, as a folder like those of the Hugging Face hub. Nothing is downloaded.

    python examples/tiny_model.py tiny

Its answers are noise: it is for trying commands and data in seconds, before a real model is loaded.
"""

import argparse

import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from triptych.models.mm1.tokenizer import train_tokenizer

IMAGE_PIXELS, PATCH_PIXELS = 56, 14
TEXTS = [
    "What is this? A temple by a lake. A flower in a garden.",
    "How many people are there? Count them one by one.",
    "Think step by step. Final Answer: yes. Final Answer: no.",
]


def write_model(folder: str) -> None:
    """Write configuration, weights, tokenizer, image processor and chat template to `folder`."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=300)  # knows <image>; bytes stand for what it has not seen
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**size, image_size=IMAGE_PIXELS, patch_size=PATCH_PIXELS),
        text_config=LlamaConfig(
            **size,
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(IMAGE_PIXELS // PATCH_PIXELS) ** 2,
    )
    processor = LlavaProcessor(
        CLIPImageProcessorPil(
            size={"shortest_edge": IMAGE_PIXELS}, crop_size={"height": IMAGE_PIXELS, "width": IMAGE_PIXELS}
        ),
        tokenizer,
        patch_size=PATCH_PIXELS,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the class token of CLIP, which LLaVA drops again
        chat_template=tokenizer.chat_template,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a tiny random LLaVA.")
    parser.add_argument("folder", help="where to write it")
    write_model(parser.parse_args().folder)
