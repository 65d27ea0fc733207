"""Reinforcement learning that has gone wrong: it stops, says at which step, why and what to try, and loses nothing."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch

from tests.support.guards import refused, run_stage, video_row, write_media, write_rows
from triptych.cli import REFUSED, main
from triptych.data.rows import write_groups
from triptych.errors import TriptychError
from triptych.group import Group, text_message
from triptych.models.loading import load_model, load_processor, save_model
from triptych.models.reward import RewardModel

RETURNED = {"a text": "1.0", "nothing": None, "no number": math.nan, "infinity": math.inf, "a list": [1.0]}


def returns_a_text(text, group):
    return RETURNED["a text"]


def returns_nothing(text, group):
    return RETURNED["nothing"]


def returns_no_number(text, group):
    return RETURNED["no number"]


def returns_infinity(text, group):
    return RETURNED["infinity"]


def returns_a_list(text, group):
    return RETURNED["a list"]


def fails(text, group):
    return {"a red star": 1.0}[text]


def likes_e(text, group):
    return float(text.count("e"))


@pytest.fixture
def root(tmp_path):
    write_media(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [video_row("g1"), video_row("g2")])
    texts = [Group(f"t{n}", [text_message("user", f"{'Red' if n % 2 else 'Blue'} {n}?")]) for n in range(4)]
    write_groups(tmp_path / "texts.jsonl", texts)
    return tmp_path


def stopped(root, model, data, **settings):
    """Run PPO until it stops with an error, and return the error; nothing may look finished."""
    with pytest.raises(TriptychError) as caught:
        run_stage("ppo", model, data, root / "run", **settings)
    assert not (root / "run" / "done.json").exists() and not (root / "run" / "model").exists()
    return str(caught.value)


@pytest.mark.parametrize("what", RETURNED)
def test_a_reward_that_is_no_number_is_shown_with_its_row(what, root, tiny_folder):
    name = f"returns_{what.replace(' ', '_')}"
    told = stopped(root, tiny_folder("mm1"), root / "rows.jsonl", reward_model=f"{__name__}:{name}")
    assert f":{name} gives {RETURNED[what]!r} for an answer to row g" in told and "finite number" in told


def test_a_reward_function_that_fails_is_named_with_its_row_and_line(root, tiny_folder, capsys):
    told = stopped(root, tiny_folder("mm1"), root / "rows.jsonl", reward_model=f"{__name__}:fails")
    line = fails.__code__.co_firstlineno + 1
    assert ":fails' failed on row g" in told and "KeyError" in told and f"{Path(__file__).name}, line {line}" in told
    words = ["ppo", "--config", str(root / "run" / "config.yaml")]
    assert main(words) == REFUSED
    assert "triptych: The reward function" in capsys.readouterr().err


def write_judge(model, folder, *, broken):
    judge = RewardModel.from_base(load_model(model))
    with torch.no_grad():
        for parameter in judge.score.parameters():
            parameter.fill_(math.nan if broken else 0.1)
    save_model(judge, load_processor(model), folder)


def test_a_reward_model_of_broken_weights_stops_the_run_and_another_in_its_place_goes_on(root, tiny_folder):
    model, judge = tiny_folder("mm1"), root / "judge"
    write_judge(model, judge, broken=True)
    told = stopped(root, model, root / "rows.jsonl", reward_model=str(judge))
    assert told.startswith("Stopped at step 1: 2 of 2 completions have a score that is NaN or infinite.")
    assert "Look at the reward model alone" in told
    left = {path.name for path in (root / "run").iterdir()}
    assert "samples.jsonl" not in left and not any(name.startswith("checkpoint") for name in left)
    write_judge(model, judge, broken=False)
    assert run_stage("ppo", model, root / "rows.jsonl", root / "run", reward_model=str(judge))["steps"] == 1


def test_a_start_model_of_broken_weights_stops_every_training(root, tiny_folder):
    broken = load_model(tiny_folder("mm1"))
    with torch.no_grad():
        broken.model.language_model.layers[0].mlp.down_proj.weight[0, 0] = math.nan
    save_model(broken, load_processor(tiny_folder("mm1")), root / "broken")
    for stage, told in {
        "sft": "loss is nan at step 1",
        "reward": "are no numbers",
        "ppo": "logits",
        "pairs": "logits",
        "evaluate": "logits",
    }.items():
        with pytest.raises(TriptychError, match=told):
            run_stage(stage, root / "broken", root / "rows.jsonl", root / stage)
        assert not (root / stage / "done.json").exists()


RUNAWAYS = {
    "values": (
        {"value_limit": 50.0, "module_learning_rates": {"critic": 1e4}, "cliprange_value": None, "learning_rate": 5e-3},
        r"values are beyond \+-50\.0\. .*lower the learning rate, vf_coef or reward_scale",
        "value_limit",
    ),
    "divergence": (
        {"kl_limit": 8.0, "kl_coef": 0.0, "learning_rate": 0.05},
        r"nats per completion away from the reference, more than 8\.0\. .*raise kl_coef",
        "kl_limit",
    ),
}


@pytest.mark.parametrize("what", RUNAWAYS)
def test_a_run_that_runs_away_stops_and_its_checkpoints_go_on(what, root, tiny_folder):
    """The limit, the step and what to try are told; the same command comes to the same point from the checkpoint."""
    settings, message, limit = RUNAWAYS[what]
    common = {"reward_model": f"{__name__}:likes_e", "max_steps": 9, "save_steps": 1, "prompts_per_step": 4}
    common |= {"per_device_train_batch_size": 4, "num_samples": 4, "max_new_tokens": 6, "lr_scheduler": "constant"}
    model, data, out = tiny_folder("mm1"), root / "texts.jsonl", root / "run"
    told = stopped(root, model, data, **common, **settings)
    assert told == stopped(root, model, data, **common, **settings)
    found = re.match(rf"Stopped at step (\d+): .*{message}.*", told)
    assert found and "the same command goes on from the last one" in told
    step = int(found[1])
    assert step > 1
    checkpoints = sorted(int(path.name.partition("-")[2]) for path in out.glob("checkpoint-*"))
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert checkpoints[-1] == rows[-1]["step"] == step - 1
    assert all(math.isfinite(value) for row in rows for value in row.values())
    with pytest.raises(TriptychError, match=r"holds a run with other settings \(learning_rate was .* another --out"):
        run_stage("ppo", model, data, out, **common, **(settings | {"learning_rate": 1e-4}))
    result = run_stage("ppo", model, data, out, **common, **(settings | {limit: None}))
    assert result["steps"] == 9 and (out / "done.json").exists()
    curve = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert curve[: len(rows)] == rows and [row["step"] for row in curve] == list(range(1, 10))


def test_prompts_without_any_row_are_refused(root, tiny_folder):
    (root / "none.jsonl").write_text("")
    assert refused("ppo", tiny_folder("mm1"), root / "none.jsonl", root / "run").kind in ("no_prompts", "empty_file")
