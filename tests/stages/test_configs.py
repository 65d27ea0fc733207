"""Configurations of the stages: the papers' defaults, and what is refused before anything is loaded."""

import pytest

from triptych.config import load_config
from triptych.errors import TriptychError
from triptych.stages.configs import EvaluateConfig, MpoConfig, PairsConfig, PretrainConfig, SftConfig

MPO = {"model": "m", "data": "pairs.jsonl", "out": "o"}
PAIRS = {"method": "correctness", "model": "m", "data": "rows.jsonl", "out": "o"}
SFT = {"model": "m", "out": "o", "sources": [{"path": "rows.jsonl"}]}
PRETRAIN = {"out": "o", "sources": [{"path": "rows.jsonl"}]}
EVALUATE = {"model": "m", "out": "o"}
TASK = {"name": "direct", "data": "rows.jsonl"}


def test_mpo_defaults_are_those_of_the_paper():
    # arXiv:2411.10442, sections 4.1 and 7
    config = load_config(MpoConfig, None, MPO)
    assert dict(zip(config.loss_type, config.loss_weights, strict=True)) == {"sigmoid": 0.8, "bco_pair": 0.2, "sft": 1}
    assert (config.beta, config.learning_rate, config.weight_decay, config.warmup_ratio) == (0.1, 5e-6, 0.05, 0.05)
    assert (config.betas, config.lr_scheduler, config.num_train_epochs) == ((0.9, 0.999), "cosine", 1)
    pairs = load_config(PairsConfig, None, PAIRS)
    assert (pairs.num_samples, pairs.temperature, pairs.max_pairs, pairs.keep_ratio) == (32, 1.0, 15, 0.5)


def test_one_data_file_is_a_list_of_one():
    assert load_config(MpoConfig, None, MPO).data == ["pairs.jsonl"]
    assert load_config(MpoConfig, None, MPO | {"data": ["a.jsonl", "b.jsonl"]}).data == ["a.jsonl", "b.jsonl"]


def test_items_of_a_step_are_those_of_its_micro_batches():
    config = load_config(SftConfig, None, SFT | {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4})
    assert config.items_per_step == 12


def test_data_stands_for_one_more_task():
    tasks = load_config(EvaluateConfig, None, EVALUATE | {"tasks": [TASK], "data": "more.jsonl"}).all_tasks
    assert [(task.name, task.data, task.kind) for task in tasks] == [
        ("direct", "rows.jsonl", "accuracy"),
        ("accuracy", "more.jsonl", "accuracy"),
    ]


@pytest.mark.parametrize(
    ("config_class", "values", "message"),
    [
        (MpoConfig, MPO | {"loss_type": [], "loss_weights": []}, "loss_type is empty"),
        (MpoConfig, MPO | {"loss_type": ["kto"], "loss_weights": [1.0]}, "kto"),
        (MpoConfig, MPO | {"loss_weights": [1.0]}, "3 term"),
        (MpoConfig, MPO | {"beta": -0.1}, "beta is -0.1"),
        (SftConfig, SFT | {"gradient_accumulation_steps": 0}, "gradient_accumulation_steps is 0"),
        (SftConfig, SFT | {"max_steps": -1}, "max_steps is -1"),
        (SftConfig, SFT | {"num_train_epochs": 0.0}, "num_train_epochs is 0"),
        (PretrainConfig, PRETRAIN | {"model": {"text_config": {}}, "init": "m"}, "give one of them"),
        (PairsConfig, PAIRS | {"block_size": 0}, "block_size is 0"),
        (PairsConfig, PAIRS | {"num_samples": 0}, "num_samples is 0"),
        (EvaluateConfig, EVALUATE, "nothing to measure"),
        (EvaluateConfig, EVALUATE | {"tasks": [TASK, TASK]}, "same name"),
        (EvaluateConfig, EVALUATE | {"tasks": [TASK | {"limit": -5}]}, "limit is -5"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(config_class, values, message):
    with pytest.raises(TriptychError, match=message):
        load_config(config_class, None, values)


def test_no_epochs_are_needed_where_steps_are_given():
    assert load_config(SftConfig, None, SFT | {"max_steps": 3, "num_train_epochs": 0.0}).max_steps == 3
