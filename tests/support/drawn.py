"""Answers drawn from tiny models, and what forwards of each by itself say of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from triptych.engine.encode import Encoder
from triptych.engine.rollouts import Drawn, usable_answer
from triptych.generation.local import LocalGenerator
from triptych.generation.protocol import Request, SamplingParams
from triptych.group import Group, text_message
from triptych.models.reward import RewardModel

PROMPTS = [
    Group("a", [text_message("user", None, "How many circles are there?")], ["a.png"]),
    Group("b", [text_message("user", None, "Describe the picture.")], ["a.png"]),
    Group("none", [text_message("user", "Count to five.")]),
]


def draw(model: Any, encoder: Encoder, root: Path, *, num_samples: int = 3, max_new_tokens: int = 9) -> list[Drawn]:
    """Draw answers to `PROMPTS`, and add one that is two tokens of another, cut off there."""
    requests = [Request(group, num_samples, seed=3) for group in PROMPTS]
    samples = LocalGenerator(model, encoder).generate(
        requests, SamplingParams(max_new_tokens=max_new_tokens), root=root
    )
    drawn = []
    for group, answers in zip(PROMPTS, samples, strict=True):
        usable = [usable_answer(encoder, s.token_ids, s.text, ended=not s.truncated) for s in answers]
        usable.append((usable[0][0][:2], encoder.decode(usable[0][0][:2]), False))
        token_ids, texts, ended = (list(column) for column in zip(*usable, strict=True))
        drawn.append(Drawn(group.id, group, root, token_ids, texts, ended))
    return drawn


def alone(processor: Any, item: Drawn, answers: list[list[int]]) -> Iterator[tuple[dict[str, torch.Tensor], int]]:
    """What the family's own processor makes of the prompt, with each answer's tokens after it, and its length."""
    text = processor.apply_chat_template(item.group.prompt, add_generation_prompt=True, tokenize=False)
    pictures = [[Image.open(item.root / name).convert("RGB") for name in item.group.images]]
    media = {"images": pictures} if item.group.images else {}
    for ids in answers:
        inputs = dict(processor(text=[text], return_tensors="pt", **copy.deepcopy(media)))
        start = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        yield inputs, start


def alone_logps(model: Any, processor: Any, drawn: list[Drawn], temperature: float = 1.0) -> list[torch.Tensor]:
    """Log-probabilities of the drawn tokens of each answer."""
    rows = []
    for inputs, start in (pair for item in drawn for pair in alone(processor, item, item.token_ids)):
        logps = (model(**inputs).logits[0, start - 1 : -1].float() / temperature).log_softmax(-1)
        rows.append(logps.gather(1, inputs["input_ids"][0, start:, None])[:, 0])
    return rows


def alone_values(critic: RewardModel, processor: Any, drawn: list[Drawn]) -> list[torch.Tensor]:
    """The head on the state before each drawn token."""
    rows = []
    for inputs, start in (pair for item in drawn for pair in alone(processor, item, item.token_ids)):
        states = critic.model(**inputs).last_hidden_state[0, start - 1 : -1]
        rows.append(states @ critic.score.weight[0] + critic.score.bias)
    return rows


def alone_rewards(judge: RewardModel, encoder: Encoder, drawn: list[Drawn]) -> torch.Tensor:
    """The reward at the end of each answer, tokenised from its text."""
    rewards = []
    for item in drawn:
        texts = [encoder.completion(t, end_of_turn=e) for t, e in zip(item.texts, item.ended, strict=True)]
        rewards += [judge(**inputs).logits[0] for inputs, _ in alone(encoder.processor, item, texts)]
    return torch.cat(rewards)


def random_head(model: RewardModel, seed: int) -> RewardModel:
    """Give a model a head that tells states apart."""
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.score.weight, std=0.125)
    torch.nn.init.normal_(model.score.bias)
    return model


def disturb(model: torch.nn.Module, seed: int = 0) -> None:
    """Move everything that is trained, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
