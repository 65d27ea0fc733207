"""The packed trie against plain forwards: one training pass over preference groups, the same model, rows and dtype.

    python benchmarks/packing.py --pairs-per-question 4 --answer-tokens 60

The plain side does what trainers do: every completion with its own copy of prompt and picture, padded to the longest.
Prints one JSON line last: `ours` and `plain` in groups per second, their `ratio`, and `max_abs_logp_difference`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from triptych.engine.encode import EncodedMedia
from triptych.engine.families import family_of
from triptych.engine.scoring import score
from triptych.engine.trie import TokenPath, pack
from triptych.models.loading import build_mm1
from triptych.models.mm1.tokenizer import train_tokenizer

MODEL = {
    "vision_config": {
        "model_type": "siglip_vision_model",
        "image_size": 224,
        "patch_size": 16,
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    "connector_type": "average",
    "num_image_tokens": 196,
}


def make_groups(num_groups: int, completions: int, answer_tokens: int, shared: float, image_token: int) -> list:
    """Return `num_groups` lists of token paths; the completions of a group share the first part of their tokens."""
    draw = torch.Generator().manual_seed(0)
    groups = []
    for number in range(num_groups):
        pixels = torch.rand(1, 3, 224, 224, generator=draw)
        media = (EncodedMedia(str(number), {"pixel_values": pixels}, MODEL["num_image_tokens"]),)
        prompt = [image_token] * MODEL["num_image_tokens"] + torch.randint(20, 250, (25,), generator=draw).tolist()
        first = torch.randint(20, 250, (int(shared * answer_tokens),), generator=draw).tolist()
        paths = []
        for _ in range(completions):
            rest = torch.randint(20, 250, (answer_tokens - len(first),), generator=draw).tolist()
            ids = prompt + first + rest
            targets = [False] * len(prompt) + [True] * answer_tokens
            paths.append(TokenPath(ids, targets, torch.arange(len(ids)).unsqueeze(0), media, image_token))
        groups.append(paths)
    return groups


def packed_pass(model: torch.nn.Module, groups: list) -> torch.Tensor:
    """Score and differentiate all groups in one packed batch; log-probabilities of the completions (C,)."""
    batch = pack(groups, row_tokens=1024)
    logps = score(model, family_of(model.config), batch).logps
    (-logps.mean()).backward()
    return logps.detach()


def plain_pass(model: torch.nn.Module, groups: list) -> torch.Tensor:
    """The same with one padded sequence per completion."""
    paths = [path for group in groups for path in group]
    input_ids = torch.tensor([path.input_ids for path in paths])
    targets = torch.tensor([path.targets for path in paths])
    pixels = torch.cat([path.media[0].inputs["pixel_values"] for path in paths])
    logits = model(input_ids=input_ids, pixel_values=pixels).logits[:, :-1].float()
    per_token = logits.log_softmax(-1).gather(-1, input_ids[:, 1:, None]).squeeze(-1)
    logps = (per_token * targets[:, 1:]).sum(-1)
    (-logps.mean()).backward()
    return logps.detach()


def seconds_of(function: Callable[[], torch.Tensor]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Run both sides in turn and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs-per-question", type=int, default=4)
    parser.add_argument("--answer-tokens", type=int, default=60)
    parser.add_argument("--shared-half", action="store_true", help="completions share their first half (DropoutNTP)")
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    tokenizer = train_tokenizer(["a picture of a cat"], 300)
    model, _ = build_mm1(MODEL, tokenizer)
    shared = 0.5 if args.shared_half else 0.0
    groups = make_groups(
        args.groups, 2 * args.pairs_per_question, args.answer_tokens, shared, model.config.image_token_id
    )
    difference = (packed_pass(model, groups) - plain_pass(model, groups)).abs().max().item()
    times = [
        (seconds_of(lambda: packed_pass(model, groups)), seconds_of(lambda: plain_pass(model, groups)))
        for _ in range(args.runs)
    ]
    ours, plain = (args.groups / statistics.median(column) for column in zip(*times, strict=True))
    figures = {"ours": ours, "plain": plain, "ratio": ours / plain, "max_abs_logp_difference": difference}
    print(json.dumps({name: round(value, 6) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
