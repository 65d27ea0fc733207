"""How probable given answers are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.generation.conftest import GROUPS
from triptych.engine.encode import Encoder
from triptych.generation import local
from triptych.generation.local import LocalGenerator
from triptych.group import Completion

ANSWERS = ["A red star.", "A red star moves.", "Nothing"]


def test_an_answer_is_as_probable_as_its_tokens_and_the_end_of_turn_one_by_one(
    mm1: tuple[Any, Encoder], picture_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SCORED_TOGETHER", 2)
    model, encoder = mm1
    groups = [replace(group, completions=[Completion(text) for text in ANSWERS]) for group in GROUPS]
    found = list(LocalGenerator(model, encoder).answer_logps(groups, root=picture_root))
    assert len(found) == len(groups)
    for group, logps in zip(groups, found, strict=True):
        prompt = encoder.processor.apply_chat_template(group.prompt, add_generation_prompt=True)
        images = [Image.open(picture_root / name).convert("RGB") for name in group.images]
        for text, (logp, num_tokens) in zip(ANSWERS, logps, strict=True):
            tensors = encoder.processor(text=prompt, images=images or None, return_tensors="pt")
            answer = encoder.completion(text)
            ids = torch.cat([tensors["input_ids"], torch.tensor([answer])], 1)
            inputs = {**tensors, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
            with torch.no_grad():
                steps = model.eval()(**inputs).logits[0].log_softmax(-1)[-len(answer) - 1 : -1]
            expected = steps[torch.arange(len(answer)), answer].sum().item()
            assert logp == pytest.approx(expected, abs=1e-4)
            assert num_tokens == len(answer)
