"""One step beside TRL 1.16's own trainers: the same model, rows and batch give the same loss and gradients."""

import pytest
import torch
from datasets import Dataset
from PIL import Image
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from tests.stages.one_step import largest_difference, pair_rows, students_of
from triptych.engine.encode import Encoder
from triptych.models.loading import load_model, load_processor
from triptych.objectives.names import LOSSES

ARGUMENTS = {
    "report_to": [],
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "max_length": None,
    "remove_unused_columns": False,
    "per_device_train_batch_size": 4,
}
DPO_LOSSES = [name for name, kind in LOSSES.items() if "trl" in kind.peers and name not in ("kto", "simpo")]
MIXES = [(["sigmoid", "bco_pair", "sft"], [0.8, 0.2, 1.0]), (["ipo", "aot", "hinge"], [1.0, 2.0, 0.5])]


@pytest.fixture(scope="module")
def students(tiny_folder):
    folder = tiny_folder("llava")
    model, processor = load_model(folder), load_processor(folder)
    return students_of(model, Encoder(processor, model.config))


@pytest.fixture(scope="module")
def rows(picture_root):
    return pair_rows(picture_root)[:4]


@pytest.fixture(scope="module")
def text_rows(picture_root):
    return pair_rows(picture_root, ("",))[:4]


def columns(students, rows):
    """The rows as TRL takes them, with the prompt and the end of the answer spelled out."""
    encoder = students.encoder
    for row in rows:
        prompt = "<s>" + encoder.processor.apply_chat_template(
            row.group.prompt, tokenize=False, add_generation_prompt=True
        )
        chosen, rejected = (completion.text + "</s>" for completion in row.group.completions)
        images = [Image.open(row.root / name).convert("RGB") for name in row.group.images]
        yield {"images": images, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def judged(examples):
    """The same for KTO: first what is desirable, then what is not, as TRL unpairs preferences."""
    for side, label in (("chosen", True), ("rejected", False)):
        for example in examples:
            yield {
                "images": example["images"],
                "prompt": example["prompt"],
                "completion": example[side],
                "label": label,
            }


def differentiate(trainer, model, batch):
    model.zero_grad()
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
    }
    return loss.item(), gradients


@pytest.fixture(scope="module")
def dpo(students, rows, tmp_path_factory):
    examples = list(columns(students, rows))
    trainer = DPOTrainer(
        students.policy,
        students.reference,
        DPOConfig(str(tmp_path_factory.mktemp("dpo")), **ARGUMENTS),
        train_dataset=Dataset.from_list(examples),
        processing_class=students.encoder.processor,
    )
    return trainer, trainer.data_collator(examples)


@pytest.mark.parametrize(
    ("names", "weights"), [([name], [1.0]) for name in DPO_LOSSES] + MIXES, ids=lambda value: "+".join(map(str, value))
)
def test_a_step_is_that_of_the_dpo_trainer(students, rows, dpo, names, weights):
    trainer, batch = dpo
    smoothing = 0.1 if any("label_smoothing" in LOSSES[name].parameters for name in names) else 0.0
    trainer.loss_types, trainer.loss_weights, trainer.label_smoothing = names, weights, smoothing
    loss, gradients = differentiate(trainer, trainer.model, dict(batch))
    ours = students.step(rows, loss_type=names, loss_weights=weights, convention="trl", label_smoothing=smoothing)
    assert ours.loss == pytest.approx(loss, abs=1e-5, rel=1e-5)
    assert largest_difference(ours.gradients, gradients) < (1e-4 if "discopop" in names else 2e-5)
    theirs = {
        name: trainer._metrics["eval"][name][-1] for name in ours.metrics if name.startswith(("rewards/", "logps/"))
    }
    assert {name: ours.metrics[name] for name in theirs} == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_a_step_is_that_of_the_kto_trainer(students, rows, tmp_path):
    examples = list(judged(list(columns(students, rows))))
    trainer = KTOTrainer(
        students.policy,
        students.reference,
        KTOConfig(str(tmp_path), **ARGUMENTS | {"per_device_train_batch_size": 8}),
        train_dataset=Dataset.from_list(examples),
        processing_class=students.encoder.processor,
    )
    trainer.desirable_weight, trainer.undesirable_weight = 1.5, 0.5
    loss, gradients = differentiate(trainer, trainer.model, dict(trainer.data_collator(examples)))
    ours = students.step(rows, loss_type=["kto"], convention="trl", desirable_weight=1.5, undesirable_weight=0.5)
    assert ours.loss == pytest.approx(loss, abs=1e-5)
    assert largest_difference(ours.gradients, gradients) < 2e-5
    assert ours.metrics["kl"] == pytest.approx(trainer._metrics["eval"]["kl"][-1], abs=2e-5)
    assert ours.metrics["kl"] > 0.1


def text_batch(trainer_class, config_class, students, rows, folder, **settings):
    """One of TRL's experimental trainers, which know text alone, with its batch of all rows in order."""
    examples = [
        {name: example[name] for name in ("prompt", "chosen", "rejected")} for example in columns(students, rows)
    ]
    trainer = trainer_class(
        students.policy,
        config_class(str(folder), **ARGUMENTS | settings),
        train_dataset=Dataset.from_list(examples),
        processing_class=students.encoder.tokenizer,
    )
    return trainer, trainer.data_collator(list(trainer.train_dataset))


def test_simpo_is_that_of_the_cpo_trainer(students, text_rows, tmp_path):
    settings = {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 0.7}
    trainer, batch = text_batch(CPOTrainer, CPOConfig, students, text_rows, tmp_path, **settings)
    loss, gradients = differentiate(trainer, students.policy, batch)
    ours = students.step(text_rows, loss_type=["simpo"], beta=2.0, simpo_gamma=0.7, convention="trl")
    assert ours.loss == pytest.approx(loss, abs=1e-5)
    assert largest_difference(ours.gradients, gradients) < 2e-5


def test_the_odds_ratio_of_orpo_is_that_of_the_orpo_trainer(students, text_rows, tmp_path):
    """TRL's imitation term counts the prompt's tokens too, the paper's only the answer's; that term is ours."""
    trainer, batch = text_batch(ORPOTrainer, ORPOConfig, students, text_rows, tmp_path, beta=0.3)
    students.policy.zero_grad()
    chosen, rejected, *_ = trainer.concatenated_forward(students.policy, batch)
    loss = -chosen.mean() - trainer.odds_ratio_loss(chosen, rejected)[0].mean()
    loss.backward()
    gradients = {
        n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in students.policy.named_parameters()
    }
    ours = students.step(text_rows, loss_type=["orpo"], beta=0.3)
    assert ours.loss == pytest.approx(loss.item(), abs=1e-5)
    assert largest_difference(ours.gradients, gradients) < 2e-5
