"""Configurations of the stages: the papers' defaults, and what is refused before anything is loaded."""

import pytest

from triptych.config import load_config
from triptych.errors import TriptychError
from triptych.stages.configs import MpoConfig, PretrainConfig
from triptych.stages.evaluate_config import EvaluateConfig
from triptych.stages.pairs_config import PairsConfig
from triptych.stages.sft_config import SftConfig

MPO = {"model": "m", "data": "pairs.jsonl", "out": "o"}
ONE = {"loss_weights": [1.0]}
LIVE = {"reference": "live"}
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


def test_the_mix_takes_weights_and_averages_from_the_convention():
    paper, trl, factory = (
        load_config(MpoConfig, None, MPO | LIVE | {"convention": name}) for name in ("paper", "trl", "llamafactory")
    )
    assert paper.mix["loss_weights"] == factory.mix["loss_weights"] == (0.8, 0.2, 1.0)
    assert [config.mix["sft_per_token"] for config in (paper, trl, factory)] == [False, True, False]
    # LLaMA-Factory's pref_bco_weight of 1 and pref_ftx of 3: DPO and BCO share the weight 1
    uneven = load_config(MpoConfig, None, MPO | {"convention": "llamafactory", "loss_weights": [1.0, 1.0, 3.0]})
    assert uneven.mix["loss_weights"] == (0.5, 0.5, 3.0)
    assert load_config(MpoConfig, None, MPO | {"sft_average": "token"}).mix["sft_per_token"]


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
        (MpoConfig, MPO | {"loss_type": ["dpo"], "loss_weights": [1.0]}, "Unknown loss_type dpo; known are sigmoid"),
        (MpoConfig, MPO | {"loss_type": ["sft", "sft"], "loss_weights": [1.0, 1.0]}, "a term twice"),
        (MpoConfig, MPO | {"label_smoothing": 0.1}, "read by cdpo.* only.* cDPO is loss_type"),
        (MpoConfig, MPO | {"simpo_gamma": 1.0}, "simpo_gamma is read by simpo only"),
        (MpoConfig, MPO | {"lora_r": 4, "lora_dropout": 0.1}, "Set lora_dropout to 0"),
        (MpoConfig, MPO | ONE | {"loss_type": ["robust"]}, "robust needs label_smoothing above 0"),
        (MpoConfig, MPO | ONE | {"loss_type": ["cdpo"], "label_smoothing": 0.5}, "below 0.5"),
        (MpoConfig, MPO | ONE | {"loss_type": ["discopop"], "discopop_tau": 0.0}, "discopop_tau is 0"),
        (MpoConfig, MPO | ONE | {"loss_type": ["ipo"], "sft_average": "token"}, "sft_average is read by sft and orpo"),
        (
            MpoConfig,
            MPO | ONE | {"loss_type": ["orpo"], "convention": "trl"},
            "no orpo in the code that convention trl",
        ),
        (MpoConfig, MPO | {"convention": "llamafactory", "loss_weights": [0.0, 0.0, 1.0]}, "add up to 0"),
        (MpoConfig, MPO | ONE | {"loss_type": ["kto"], "convention": "trl"}, "Set reference: live"),
        (MpoConfig, MPO | {"sync_ref_model": True}, "Set reference: live"),
        (MpoConfig, MPO | LIVE | {"sync_ref_model": True, "lora_r": 4}, "does not go with lora_r"),
        (MpoConfig, MPO | LIVE | ONE | {"sync_ref_model": True, "loss_type": ["sft"]}, "sft does not use"),
        (MpoConfig, MPO | LIVE | {"sync_ref_model": True, "ref_model_sync_steps": 0}, "ref_model_sync_steps must be"),
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
