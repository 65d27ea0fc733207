"""Configuration of reward models: the paper's defaults, and what is refused before anything is loaded."""

import pytest

from triptych.config import load_config
from triptych.errors import TriptychError
from triptych.stages.reward_config import RewardConfig

LEAST = {"model": "m", "data": "pairs.jsonl", "out": "o"}


def test_defaults_are_those_of_the_released_code():
    # yonseivnl/vlm-rlaif at 610cac7: batch 16, clip 0.3, constant 2e-5 after 3 % warm-up, one epoch, centring 1e-3
    config = load_config(RewardConfig, None, LEAST)
    assert (config.items_per_step, config.max_grad_norm, config.num_train_epochs) == (16, 0.3, 1.0)
    assert (config.learning_rate, config.lr_scheduler, config.warmup_ratio) == (2e-5, "constant", 0.03)
    assert (config.center_rewards_coefficient, config.weight_decay, config.lora_alpha) == (1e-3, 0.0, 16)


def test_one_file_is_a_list_of_one():
    config = load_config(RewardConfig, None, LEAST | {"eval_data": "a.jsonl"})
    assert (config.data, config.eval_data) == (["pairs.jsonl"], ["a.jsonl"])
    assert load_config(RewardConfig, None, LEAST).eval_data == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_share": 1.0}, "below 1"),
        ({"eval_share": -0.1}, "at least 0"),
        ({"max_pairs": -1}, "must not be negative"),
        ({"eval_steps": 15}, r"multiple of logging_steps \(10\)"),
        ({"eval_steps": -10}, "multiple"),
        ({"eval_steps": 10, "eval_share": 0.0}, "held-out pairs"),
        ({"label_smoothing": 0.5}, "below 0.5"),
        ({"margin_scale": -1.0}, "margin_scale is -1"),
        ({"center_rewards_coefficient": -1.0}, "must not be negative"),
        ({"centring": "cube"}, "centring"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(TriptychError, match=message):
        load_config(RewardConfig, None, LEAST | settings)
