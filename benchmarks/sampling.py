"""Samples of image prompts: the local sampler against `generate` of transformers, on the same model and prompts.

    python -m benchmarks.sampling --peer transformers

Two cases: 32 samples of one prompt of 620 tokens, and 8 samples each of 16 prompts with pictures and lengths of their
own. Both sides start from chat messages and picture files and end with texts; no sample ends before its last token.
The peer answers the 16 prompts as one padded batch or one by one, whichever is faster. Each side lives in a process of
its own, and they run in turn. Prints one JSON line last: `ours` and `peer` (drawn tokens per second, medians), their
`ratio` and peak memory for the first case, and the same under `many_prompts` for the second.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from benchmarks.side_process import process_serving
from triptych.engine.encode import Encoder
from triptych.generation.local import LocalGenerator
from triptych.generation.protocol import Request, SamplingParams
from triptych.group import Group, text_message
from triptych.models.mm1.tokenizer import train_tokenizer

IMAGE_SIZE, PATCH_SIZE, VOCAB_SIZE = 336, 14, 8000
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2
PICTURE_SIZE = (448, 336)
WORDS = ["how", "many", "red", "circles", "stand", "left", "of", "the", "blue", "star", "and", "why", "is", "it", "so"]
TEMPLATE_TOKENS = 2
"""Role tokens around a question."""
MODEL_SEED = 0
NUM_LAYERS = 8
"""Of the vision tower, and of the language model."""


@dataclass(frozen=True)
class Case:
    """What is asked.

    Attributes:
        lengths: tokens of each prompt, those of its picture included.
        num_samples: per prompt.
        num_tokens: per sample.
    """

    lengths: tuple[int, ...]
    num_samples: int
    num_tokens: int

    @property
    def total_tokens(self) -> int:
        """Number of tokens drawn."""
        return len(self.lengths) * self.num_samples * self.num_tokens


@dataclass(frozen=True)
class Measured:
    """What one side reports.

    Attributes:
        seconds: of each run.
        peak_gb: largest resident memory of its process, 10^9 bytes.
        way: how the side answered several prompts.
    """

    seconds: list[float]
    peak_gb: float
    way: str


def build_model(dtype: torch.dtype, *, seed: int = MODEL_SEED) -> LlavaForConditionalGeneration:
    """Return a LLaVA of 48.6 million random parameters: CLIP 8 x 384 at 336 pixels, Llama 8 x 512."""
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=6,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    text = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=8,
        max_position_embeddings=2048,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=build_processor().image_token_id,
        image_seq_length=IMAGE_TOKENS,
    )
    model = LlavaForConditionalGeneration(config).to(dtype).eval()
    model.generation_config.eos_token_id = None  # every sample runs to its last token
    return model


def build_processor(tokenizer: PreTrainedTokenizerFast | None = None) -> LlavaProcessor:
    """Return a processor; each of `WORDS` is one token to its tokenizer, where that is not given."""
    if tokenizer is None:
        tokenizer = train_tokenizer([" ".join(["", *WORDS])] * 2, vocab_size=400)
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
        ),
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def make_groups(case: Case, root: Path) -> list[Group]:
    """Write a picture of coarse noise per prompt into `root`, and ask questions that give the prompts their lengths."""
    groups = []
    for number, length in enumerate(case.lengths):
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(PICTURE_SIZE).save(root / f"{number}.png")
        num_words = length - IMAGE_TOKENS - TEMPLATE_TOKENS
        question = "".join(f" {WORDS[index % len(WORDS)]}" for index in range(num_words))
        groups.append(Group(str(number), [text_message("user", None, question)], [f"{number}.png"]))
    return groups


def ours(case: Case, groups: list[Group], root: Path, dtype: torch.dtype) -> dict[str, Callable[[], list[str]]]:
    """The local sampler, as a stage uses it."""
    model, processor = build_model(dtype), build_processor()
    params = SamplingParams(max_new_tokens=case.num_tokens)
    requests = [Request(group, case.num_samples) for group in groups]

    def answer() -> list[str]:
        encoder = Encoder(processor, model.config)  # a new one: it remembers pictures
        encoder.stop_ids = set()
        answers = list(LocalGenerator(model, encoder).generate(requests, params, root=root))
        assert all(sample.num_tokens == case.num_tokens for samples in answers for sample in samples)
        return [sample.text for samples in answers for sample in samples]

    return {"together": answer}


def peer(case: Case, groups: list[Group], root: Path, dtype: torch.dtype) -> dict[str, Callable[[], list[str]]]:
    """`generate` with `num_return_sequences`, for all prompts at once and one by one."""
    model, processor = build_model(dtype), build_processor()

    @torch.no_grad()
    def answer(batch: list[Group]) -> list[str]:
        texts = [processor.apply_chat_template(group.prompt, add_generation_prompt=True) for group in batch]
        images = [Image.open(root / group.images[0]).convert("RGB") for group in batch]
        inputs = processor(text=texts, images=images, padding=True, return_tensors="pt").to(dtype)
        output = model.generate(
            **inputs,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=case.num_samples,
            max_new_tokens=case.num_tokens,
            pad_token_id=processor.tokenizer.pad_token_id,
        )
        drawn = output[:, inputs["input_ids"].shape[1] :]
        assert drawn.shape == (len(batch) * case.num_samples, case.num_tokens)
        return processor.batch_decode(drawn, skip_special_tokens=True)

    ways = {"together": lambda: answer(groups)}
    if len(groups) > 1:
        ways["one by one"] = lambda: [text for group in groups for text in answer([group])]
    return ways


SIDES = {"ours": ours, "transformers": peer}


def serve(side: str, case: Case, dtype: str, root: Path, pipe: Connection) -> None:
    """Answer the case once per message; send the seconds each way took. Of several ways, later runs take the fastest.

    A message that is not True ends it, with a `Measured`.
    """
    groups = make_groups(case, root)
    ways = SIDES[side](case, groups, root, getattr(torch, dtype))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    pipe.send("ready")
    while pipe.recv():
        for name, answer in ways.items():
            start = time.perf_counter()
            answer()
            seconds[name].append(time.perf_counter() - start)
        fastest = min(ways, key=lambda name: seconds[name][0])
        ways = {fastest: ways[fastest]}
        pipe.send(seconds[fastest][-1])
    way = next(iter(ways))
    unit = 1 if sys.platform == "darwin" else 1024
    pipe.send(Measured(seconds[way], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, way))


@contextmanager
def process_of(side: str, case: Case, dtype: str) -> Iterator[Connection]:
    """Start a process that serves one side, and wait until its model stands."""
    with tempfile.TemporaryDirectory() as root, process_serving(serve, side, case, dtype, Path(root)) as pipe:
        yield pipe


def compare(case: Case, peer_name: str, dtype: str, runs: int) -> dict[str, Any]:
    """Run both sides in turn and return the medians."""
    with process_of("ours", case, dtype) as own, process_of(peer_name, case, dtype) as other:
        for number in range(runs):
            for side, pipe in (("ours", own), (peer_name, other)):
                pipe.send(True)
                print(f"{side}, run {number + 1} of {runs}: {pipe.recv():.1f} s", flush=True)
        own.send(False)
        other.send(False)
        mine, theirs = own.recv(), other.recv()
    rates = [case.total_tokens / statistics.median(side.seconds) for side in (mine, theirs)]
    return {
        "ours": round(rates[0], 1),
        "peer": round(rates[1], 1),
        "ratio": round(rates[0] / rates[1], 3),
        "ours_peak_gb": round(mine.peak_gb, 2),
        "peer_peak_gb": round(theirs.peak_gb, 2),
        "tokens": case.total_tokens,
        "peer_way": theirs.way,
    }


def main() -> None:
    """Compare both cases and print the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=["transformers"], default="transformers")
    parser.add_argument("--tokens", type=int, default=64, help="tokens per sample")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    one = Case((620,), 32, args.tokens)
    many = Case(tuple(range(596, 596 + 16 * 4, 4)), 8, args.tokens)
    figures = compare(one, args.peer, args.dtype, args.runs)
    figures["many_prompts"] = compare(many, args.peer, args.dtype, args.runs)
    print(json.dumps(figures | {"threads": torch.get_num_threads(), "dtype": args.dtype, "runs": args.runs}))


if __name__ == "__main__":
    main()
