"""What is compared: models, prompts and settings, the same on both sides, and what an iteration reports.

The policy is the LLaVA of `benchmarks.sampling`, 48.6 million random parameters; the reward model is another one under
a random head. Every token of the vocabulary is a word of its own, so that an answer's text has the tokens that were
drawn, and tokens that are no words have a probability of about e^-38: no answer ends before its last token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from benchmarks import sampling
from benchmarks.sampling import VOCAB_SIZE, WORDS, build_model, build_processor, make_groups
from triptych.data.rows import write_groups
from triptych.engine.rollouts import Drawn
from triptych.models.loading import load_model, load_processor
from triptych.models.mm1.tokenizer import CHAT_TEMPLATE, END_TOKEN, PAD_TOKEN, SPECIAL_TOKENS
from triptych.models.reward import RewardModel
from triptych.stages.ppo_config import PpoConfig

LEARNING_RATE = 1e-6
ALIKE = 4.0
"""First entry of every token's embedding: large beside the others, so that the last state of every token has it."""
SHUNNED = -5.0
"""First entry of the rows of the head for tokens that are not to be drawn."""


@dataclass(frozen=True)
class Case:
    """What an iteration is.

    Attributes:
        prompts: answered in an iteration, each about a picture of its own.
        samples: answers to each prompt.
        prompt_tokens: of each prompt, those of its picture included.
        answer_tokens: of each answer.
        epochs: passes over the answers.
        updates: of each pass.
        critic_lora_r: rank of the adapters of the critic, on the body of the reward model; 0 trains its head alone.
        frozen_tower: the vision tower and the projector are not trained.
        iterations: in all; the first is not timed.
        tiny: the tiny LLaVA of the tests in place of the one of 48.6 million parameters.
    """

    prompts: int = 4
    samples: int = 8
    prompt_tokens: int = 600
    answer_tokens: int = 64
    epochs: int = 2
    updates: int = 2
    critic_lora_r: int = 64
    frozen_tower: bool = False
    iterations: int = 3
    tiny: bool = False

    @property
    def answers(self) -> int:
        """Answers of an iteration."""
        return self.prompts * self.samples


@dataclass(frozen=True)
class Iteration:
    """What one side says of an iteration.

    Attributes:
        seconds: that it took.
        parts: seconds by part; they add up to it.
        drawn: the answers it has learnt from.
        figures: by name, what both sides must agree on.
    """

    seconds: float
    parts: dict[str, float]
    drawn: list[Drawn]
    figures: dict[str, list[float]]


def write_case(case: Case, work: Path) -> None:
    """Write policy, reward model, pictures and prompts into a folder."""
    if case.tiny:
        from tests.support.tiny_models import make_tiny

        make_tiny("llava", work / "policy")
        processor, other = load_processor(work / "policy"), load_model(make_tiny("llava", work / "other", seed=1))
    else:
        processor = build_processor(word_tokenizer())
        policy, other = build_model(torch.float32), build_model(torch.float32, seed=1)
        shun_special_tokens(policy)
        policy.save_pretrained(work / "policy")
        processor.save_pretrained(work / "policy")
    reward_model = RewardModel.from_base(other)
    draw_trained(reward_model.score, std=reward_model.score.in_features**-0.5)  # rewards of the size of 1
    reward_model.save_pretrained(work / "reward")
    processor.save_pretrained(work / "reward")
    (work / "data").mkdir()
    asked = sampling.Case((case.prompt_tokens,) * (case.prompts * case.iterations), case.samples, case.answer_tokens)
    write_groups(work / "data/rows.jsonl", make_groups(asked, work / "data"))


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are words, but for the special ones."""
    special = [*SPECIAL_TOKENS, "<|unknown|>"]
    words = special + WORDS
    words += [f"word{number}" for number in range(len(words), VOCAB_SIZE)]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, special[-1]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        eos_token=END_TOKEN,
        unk_token=special[-1],
        extra_special_tokens=[token for token in special if token not in (PAD_TOKEN, END_TOKEN)],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


@torch.no_grad()
def shun_special_tokens(model: LlavaForConditionalGeneration) -> None:
    """Make special tokens improbable, whatever came before."""
    model.get_input_embeddings().weight[:, 0] = ALIKE
    head = model.get_output_embeddings().weight
    head[:, 0] = 0
    head[: len(SPECIAL_TOKENS) + 1, 0] = SHUNNED


@torch.no_grad()
def draw_trained(model: torch.nn.Module, *, std: float = 0.02) -> None:
    """Draw every trained parameter of a model anew, the same on all sides."""
    generator = torch.Generator().manual_seed(2)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator))


def settings(case: Case, work: Path) -> PpoConfig:
    """Return the configuration of the stage; the plain side goes by the same."""
    return PpoConfig(
        out=str(work / "ours"),
        model=str(work / "policy"),
        reward_model=str(work / "reward"),
        data=[str(work / "data/rows.jsonl")],
        prompts_per_step=case.prompts,
        num_samples=case.samples,
        max_new_tokens=case.answer_tokens,
        num_ppo_epochs=case.epochs,
        per_device_train_batch_size=-(-case.prompts // case.updates),
        gradient_accumulation_steps=1,
        critic_lora_r=case.critic_lora_r,
        freeze=["vision_tower", "multi_modal_projector"] if case.frozen_tower else [],
        learning_rate=LEARNING_RATE,
        lr_scheduler="constant",
        warmup_ratio=0.0,
        save_steps=0,
        max_steps=case.iterations,
    )
