"""An iteration of PPO: the `ppo` stage against the same maths the plain way, and against TRL's GRPO.

    python -m benchmarks.ppo --peer plain
    python -m benchmarks.ppo --peer trl-grpo

An iteration draws 8 answers of 64 tokens to each of 4 prompts of 600 tokens (576 of them a picture), has policy,
reference, reward model and critic read them, and trains policy and critic on them. All weights of the policy are
trained; the critic is the reward model's body under adapters and a head of its own, as in VLM-RLAIF.

`plain`: the peer does the same with transformers alone: `generate`, one forward of padded rows per role, a row for each
answer; two passes over the answers in two updates each. It learns from the answers that ours drew, and draws as many
itself, so that all numbers can be compared: `max_abs_difference`. `trl-grpo`: GRPOTrainer with one update for all
answers, without critic, reward model and reference; ours has all three, and one update too.

Each side lives in a process of its own, and they run in turn. Prints seconds by part (vision: tower and projector,
forward and backward, in any role), then one JSON line: `ours` and `peer` are answers per second, over the median of all
iterations but the first.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict

import torch

from benchmarks.ppo.case import Case
from benchmarks.ppo.sides import rounded, run_both, table

BATCH_SIZES = {"plain": (4, 8), "trl-grpo": (4, 8)}
"""Answers in a forward of a peer."""
TOLERANCE = 1e-4
"""Most that a number may differ between ours and the plain way."""


def main() -> None:
    """Compare and print the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=list(BATCH_SIZES), default="plain")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--answer-tokens", type=int, default=64)
    parser.add_argument("--critic-lora-r", type=int, default=64, help="0: the critic is a head alone")
    parser.add_argument("--frozen-tower", action="store_true", help="plain: vision tower and projector are not trained")
    parser.add_argument("--iterations", type=int, default=3, help="of which the first is not timed")
    parser.add_argument("--peer-batch-sizes", type=int, nargs="+", help="answers in a forward; the fastest counts")
    parser.add_argument("--tiny", action="store_true", help="the tiny model of the tests, for a try")
    args = parser.parse_args()
    if args.iterations < 2:
        parser.error("--iterations must be at least 2: the first is not timed")
    if args.frozen_tower and args.peer != "plain":
        parser.error("--frozen-tower is for the plain peer")
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    passes = {"epochs": 2, "updates": 2} if args.peer == "plain" else {"epochs": 1, "updates": 1}
    case = Case(
        prompts=args.prompts,
        answer_tokens=args.answer_tokens,
        critic_lora_r=args.critic_lora_r,
        frozen_tower=args.frozen_tower,
        iterations=args.iterations,
        tiny=args.tiny,
        **passes,
    )
    sizes = args.peer_batch_sizes or BATCH_SIZES[args.peer]
    if uneven := [size for size in sizes if case.answers % size]:
        parser.error(f"--peer-batch-sizes must divide the {case.answers} answers of an iteration, {uneven} do not")
    # The plain side finds out by itself; TRL's peak memory depends on it, so each size has a run of its own.
    runs = [run_both(case, args.peer, some) for some in ([sizes] if args.peer == "plain" else [[n] for n in sizes])]
    figures = min(runs, key=lambda run: run["peer_seconds"])
    figures["peer_by_way"] = {run["peer_way"]: run["peer"] for run in runs}
    print(table(figures))
    print(json.dumps(rounded(figures) | {"threads": torch.get_num_threads(), "case": asdict(case)}), flush=True)
    if far := {name: value for name, value in figures["max_abs_difference"].items() if not value <= TOLERANCE}:
        raise SystemExit(f"Both sides should agree within {TOLERANCE}: {far}")


if __name__ == "__main__":
    main()
