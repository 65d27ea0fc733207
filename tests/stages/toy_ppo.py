"""A toy problem for PPO and its relatives: prompts, rewards, short runs, and what these leave behind."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tests.support.drawn import disturb, random_head
from tests.support.tiny_models import write_picture
from triptych.config import load_config
from triptych.data.rows import write_groups
from triptych.group import Group, text_message
from triptych.models.loading import load_model, load_processor, save_model
from triptych.models.reward import RewardModel
from triptych.stages import ppo

NUM_PROMPTS = 4
LIKES_E = f"{__name__}:likes_e"


def likes_e(text: str, group: Group) -> float:
    """The token `e` is what the toy problem is about."""
    return text.count("e")


def by_prompt(text: str, group: Group) -> float:
    """What is earned depends on the prompt alone, so that a critic can know all of it."""
    return 4.0 if "Red" in group.prompt[0]["content"][-1]["text"] else -4.0


def broken(text: str, group: Group) -> float:
    """A reward that is no number for one of the prompts."""
    return math.nan if group.id == "g2" else 1.0


def write_prompts(root: Path) -> Path:
    """Write prompts about pictures, others about nothing, and some about a video among some without, below a root."""
    for number in range(NUM_PROMPTS):
        write_picture(root / f"{number}.png", (16, 16), seed=number)
    pictures = [
        Group(f"g{n}", [text_message("user", None, f"Question {n}?")], [f"{n}.png"]) for n in range(NUM_PROMPTS)
    ]
    write_groups(root / "pictures.jsonl", pictures)
    texts = [Group(f"t{n}", [text_message("user", f"{'Red' if n % 2 else 'Blue'} {n}?")]) for n in range(NUM_PROMPTS)]
    write_groups(root / "texts.jsonl", texts)
    (root / "clip").mkdir()
    for number in range(3):
        write_picture(root / "clip" / f"{number}.png", (20, 16), seed=10 + number)
    parts = [{"type": "video"}, {"type": "text", "text": "What moves?"}]
    clips = [Group(f"v{n}", [{"role": "user", "content": parts}], videos=["clip"]) for n in range(2)]
    write_groups(root / "videos.jsonl", [*clips, *texts[:2]])
    return root


def write_judge(model: Path, folder: Path) -> Path:
    """Write a reward model on the body of another, of other weights than it has."""
    judge = RewardModel.from_base(load_model(model))
    disturb(judge, seed=3)
    save_model(random_head(judge, 1), load_processor(model), folder)
    return folder


def train(out: Path, start: Path, root: Path, data: str = "pictures", **settings: Any) -> dict[str, Any]:
    """Run the stage on the toy problem."""
    config = {
        "model": str(start),
        "reward_model": LIKES_E,
        "data": str(root / f"{data}.jsonl"),
        "out": str(out),
        "prompts_per_step": NUM_PROMPTS,
        "per_device_train_batch_size": NUM_PROMPTS,
        "gradient_accumulation_steps": 1,
        "max_new_tokens": 6,
        "num_samples": 4,
        "learning_rate": 5e-3,
        "lr_scheduler": "constant",
        "row_tokens": 256,
        "save_steps": 0,
    }
    return ppo.run(load_config(ppo.Config, None, config | settings))


def samples(out: Path) -> list[dict[str, Any]]:
    """Return the rows of `samples.jsonl`."""
    return [json.loads(line) for line in (out / ppo.SAMPLES).read_text().splitlines()]
