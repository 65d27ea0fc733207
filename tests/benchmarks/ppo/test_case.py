"""The models and prompts of the comparison: what is drawn is read again as it was, and no answer ends early."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import sampling
from benchmarks.ppo import case as case_module
from benchmarks.ppo.case import Case, draw_trained, settings, shun_special_tokens, word_tokenizer, write_case
from benchmarks.sampling import VOCAB_SIZE, build_model, build_processor
from triptych.data.rows import iter_groups
from triptych.engine.encode import Encoder
from triptych.models.loading import load_processor
from triptych.models.mm1.tokenizer import SPECIAL_TOKENS
from triptych.models.reward_loading import load_reward_model

NUM_SPECIAL = len(SPECIAL_TOKENS) + 1


def test_every_word_is_a_token_and_a_text_has_the_tokens_it_was_made_from() -> None:
    tokenizer = word_tokenizer()
    assert len(tokenizer) == VOCAB_SIZE
    ids = torch.randperm(VOCAB_SIZE - NUM_SPECIAL, generator=torch.Generator().manual_seed(0)) + NUM_SPECIAL
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids.tolist()


def test_special_tokens_are_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "NUM_LAYERS", 2)
    model = build_model(torch.float32)
    assert model.config.image_token_id == build_processor(word_tokenizer()).image_token_id
    ids = torch.arange(0, VOCAB_SIZE, 16)[None]
    ids = ids[ids != model.config.image_token_id][None]
    before = model(input_ids=ids).logits.softmax(-1)
    shun_special_tokens(model)
    after = model(input_ids=ids).logits.softmax(-1)
    assert before[..., :NUM_SPECIAL].sum(-1).min() > 5e-4
    assert after[..., :NUM_SPECIAL].sum(-1).max() < 1e-9
    assert after[..., NUM_SPECIAL:].min() > 1e-6, "the others are as before"


def test_a_case_is_written_with_prompts_of_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "NUM_LAYERS", 1)
    case = Case(prompts=2, iterations=2, prompt_tokens=590)
    write_case(case, tmp_path)
    groups = list(iter_groups(tmp_path / "data/rows.jsonl"))
    processor, judge = load_processor(tmp_path / "policy"), load_reward_model(tmp_path / "reward")
    encoder = Encoder(processor, judge.config.base_config)
    assert [len(prompt.input_ids) for prompt in encoder.prompts(groups, tmp_path / "data")] == [590] * 4
    assert judge.score.weight.norm().item() == pytest.approx(1, abs=0.15), "so that rewards differ"


def test_all_sides_draw_the_same_critic() -> None:
    models = [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)]
    for model in models:
        torch.nn.init.ones_(model.bias).requires_grad_(False)
        draw_trained(model)
    assert torch.equal(models[0].weight, models[1].weight) and models[0].weight.std() < 0.1
    assert torch.equal(models[0].bias, torch.ones(2)), "it is not trained"


def test_the_settings_are_those_of_the_case(tmp_path: Path) -> None:
    config = settings(Case(prompts=5, updates=2, frozen_tower=True), tmp_path)
    assert config.items_per_step == 3, "two updates for five prompts"
    assert config.freeze == ["vision_tower", "multi_modal_projector"]
    assert (config.num_samples, config.max_new_tokens, config.learning_rate) == (8, 64, case_module.LEARNING_RATE)
