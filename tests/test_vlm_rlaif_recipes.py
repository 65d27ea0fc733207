"""The recipes of VLM-RLAIF for real models: their settings, and their chains in small.

Tiny models with random weights lie where the recipes look for the real ones, and rows in the released layouts, tiny
videos and annotations of the benchmarks where they look for these. Nothing but sizes and lengths is changed.
"""

from __future__ import annotations

import json
import zlib
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.tiny_models import write_picture
from triptych.config import load_config
from triptych.data.convert import convert
from triptych.data.rows import read_groups
from triptych.recipe import Recipe, run_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
MODELS = {
    "qwen2_5-vl": {"models/Qwen2.5-VL-7B-Instruct": "qwen2_5_vl", "models/Qwen2.5-VL-32B-Instruct": "qwen2_5_vl"},
    "llava-onevision": {"models/llava-onevision-qwen2-7b-ov-hf": "llava_onevision"},
}
NUM_FRAMES = 4
SMALL = {"max_steps": 1, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "row_tokens": 512}
SHORT = {"max_new_tokens": 4, "batch_sequences": 8}

# What the paper and its code say (arXiv:2402.03746; yonseivnl/vlm-rlaif at 610cac7), by stage.
PAPER: dict[str, dict[str, Any]] = {
    "sft": {"lora_r": 32, "lora_alpha": 32},
    "feedback": {"method": "ai_feedback", "num_samples": 2},
    "reward": {
        "lora_r": 64, "lora_alpha": 16, "lora_dropout": 0.0, "learning_rate": 2e-5, "lr_scheduler": "constant",
        "warmup_ratio": 0.03, "weight_decay": 0.0, "max_grad_norm": 0.3, "center_rewards_coefficient": 1e-3,
        "centring": "absolute", "num_train_epochs": 1, "items_per_step": 16, "eval_steps": 400, "load_in_4bit": False,
    },
    "policy_init": {
        "lora_r": 64, "lora_alpha": 16, "lora_dropout": 0.0, "learning_rate": 1e-4, "lr_scheduler": "cosine",
        "warmup_ratio": 0.03, "weight_decay": 0.0, "max_grad_norm": 1.0, "num_train_epochs": 1, "items_per_step": 128,
    },
    "ppo": {
        "load_in_4bit": True, "lora_r": 64, "lora_alpha": 16, "critic_lora_r": 64, "critic_base": "reward",
        "learning_rate": 3e-5, "lr_scheduler": "cosine", "weight_decay": 0.0, "max_grad_norm": 1.0, "kl_coef": 0.1,
        "kl_target": None, "kl_estimator": "k1_clamped", "prompts_per_step": 256, "num_samples": 1,
        "items_per_step": 128, "num_ppo_epochs": 2, "num_train_epochs": 1, "temperature": 1.0, "gamma": 1.0, "lam": 1.0,
        "cliprange": 0.2, "cliprange_value": 0.2, "vf_coef": 0.1, "max_new_tokens": 896, "missing_eos_penalty": 8,
        "length_penalty": 10, "reward_scale": 10, "whiten_rewards": False, "whiten_advantages": True, "save_steps": 10,
        "entropy_coef": 0.0, "batch_sequences": 16, "bf16": True, "algorithm": "ppo",
    },
}  # fmt: skip


def config_of(name: str, stage: str) -> Any:
    recipe = load_config(Recipe, RECIPES / f"vlm-rlaif-{name}.yaml")
    [found] = [item for item in recipe.stages if item.name == stage]
    module = __import__(f"triptych.stages.{found.verb}", fromlist=["Config"])
    return load_config(module.Config, None, {"out": "run", "seed": recipe.seed, **found.config})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stage", PAPER)
def test_settings_are_those_of_the_paper(name, stage):
    config = config_of(name, stage)
    assert {field: getattr(config, field) for field in PAPER[stage]} == PAPER[stage]
    assert config.seed == 42


@pytest.mark.parametrize("name", MODELS)
def test_the_curriculum_has_two_parts_of_an_epoch_and_the_judge_clips_of_20_frames(name):
    parts = config_of(name, "sft").curriculum
    assert [(part.sources[0].path[-11:], part.num_train_epochs) for part in parts] == [
        ("short.jsonl", 1),
        ("_long.jsonl", 1),
    ]
    judge = config_of(name, "feedback").judge
    assert (judge.by, judge.context, judge.context_frames) == ("text", True, 20)


@pytest.mark.parametrize("name", MODELS)
def test_both_models_are_measured_alike_and_on_all_benchmarks(name):
    before, after = (config_of(name, f"evaluate_{model}") for model in ("sft", "ppo"))
    assert before.tasks == after.tasks and {task.layout for task in after.tasks} == {
        "video_chatgpt", "msvd_qa", "msrvtt_qa", "activitynet_qa", "msvd", "msrvtt", "ucf101", "hmdb51",
    }  # fmt: skip
    assert {aspect for task in after.tasks if task.kind == "generative" for aspect in task.aspects} == {
        "correctness", "detail", "context", "temporal", "consistency",
    }  # fmt: skip
    assert {(task.temperature, task.max_new_tokens) for task in after.tasks} == {(0.2, 512)}


def write_video(folder: Path) -> list[str]:
    """Write the frames of a video, and return their names."""
    folder.mkdir(parents=True)
    names = [f"{number:02}.png" for number in range(NUM_FRAMES)]
    for number, name in enumerate(names):
        write_picture(folder / name, (32, 24), seed=zlib.crc32(f"{folder}/{number}".encode()))
    return names


def write_released(root: Path) -> None:
    """Write rows in the layouts of the released files, and convert them as the recipes say."""
    rows = []
    for number in range(6):
        folder = f"anet_vidchatgpt_50frames/v_{number}"
        names = write_video(root / "frames" / folder)
        turns = [
            {"from": "human", "value": f"<image>\nHow many circles are there in {number}?"},
            {"from": "gpt", "value": f"There are {number} circles."},
        ]
        rows.append({"conversations": turns, "images": [f"{folder}/{name}" for name in names]})
    for name in ("SFT_short", "SFT_long", "PPO_init", "RL_data"):
        key = "uid" if name == "RL_data" else "id"
        numbered = [{key: number if key == "uid" else f"{number}", **row} for number, row in enumerate(rows)]
        (root / f"{name}.json").write_text(json.dumps(numbered))
        convert(root / f"{name}.json", root / f"{name}.jsonl", source_format="vlm-rlaif", root=root / "frames")


def write_benchmarks(root: Path) -> None:
    """Write annotations of every benchmark as they are published, about two videos each."""
    names = {
        "video_chatgpt/Test_Videos": ["v_a", "v_b"],
        "msvd/videos": ["vid1", "vid2"],
        "msrvtt/videos": ["video1", "video2"],
        "activitynet/videos": ["v_a", "v_b"],
        "ucf101/videos": ["Run/v_Run_g01_c01", "Swim/v_Swim_g01_c01"],
        "hmdb51/videos": ["brush_hair/a", "clap/b"],
    }
    for folder, videos in names.items():
        for video in videos:
            write_video(root / folder / video)

    def write(path: str, content: Any) -> None:
        (root / path).write_text(content if isinstance(content, str) else json.dumps(content))

    generic = [{"video_name": name, "Q": "What happens?", "A": "A circle moves."} for name in ("v_a", "v_b")]
    write("video_chatgpt/generic_qa.json", generic)
    write("video_chatgpt/temporal_qa.json", generic)
    twice = [{"video_name": "v_a", "Q1": "What happens?", "Q2": "What is to be seen?", "A": "A circle moves."}]
    write("video_chatgpt/consistency_qa.json", twice)
    for folder in ("msvd", "msrvtt"):
        write(f"{folder}/test_qa.json", [{"id": 1, "video_id": 1, "question": "what moves?", "answer": "circle"}])
    write("activitynet/test_q.json", [{"question_id": "q1", "video_name": "a", "question": "does it move"}])
    write("activitynet/test_a.json", [{"question_id": "q1", "answer": "yes", "type": 3}])
    write("msvd/AllVideoDescriptions.txt", "vid1 a circle moves\nvid2 a star moves\n")
    write("msrvtt/MSRVTT_JSFUSION_test.csv", "key,vid_key,video_id,sentence\nr0,m1,video1,a dog\nr1,m2,video2,a cat\n")
    write("ucf101/testlist01.txt", "Run/v_Run_g01_c01.avi\nSwim/v_Swim_g01_c01.avi\n")
    write("hmdb51/brush_hair_test_split1.txt", "a.avi 2\n")
    write("hmdb51/clap_test_split1.txt", "b.avi 2\n")


def in_small(stage: dict[str, Any]) -> dict[str, Any]:
    """Return a stage with other sizes and lengths; an evaluation is judged by the model that is measured."""
    config = dict(stage.get("config", {}))
    if stage["verb"] == "sft" and "curriculum" in config:
        parts = [{**part, "max_steps": 1} for part in config["curriculum"]]
        config["curriculum"] = [{key: part[key] for key in part if key != "num_train_epochs"} for part in parts]
        config |= {**SMALL, "max_steps": 0}
    elif stage["verb"] in ("sft", "reward"):
        config |= SMALL
    elif stage["verb"] == "ppo":
        config |= {**SMALL, **SHORT, "prompts_per_step": 2}
    elif stage["verb"] == "pairs":
        config |= SHORT | {"judge": {**config["judge"], "context_tokens": 4, "max_new_tokens": 4}}
    elif stage["verb"] == "evaluate":
        tasks = [{**task, "max_new_tokens": 4, "similarity": ""} for task in config["tasks"]]
        config = {key: config[key] for key in config if not key.startswith("judge")}
        config |= {"tasks": tasks, "judge_max_new_tokens": 4, "batch_sequences": 8}
    return {**stage, "config": config}


@pytest.mark.parametrize("name", MODELS)
def test_the_chain_runs_on_rows_in_the_released_layouts(name, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The words of tiny models mean nothing: each first answer is called the better one, in both orders.
    letters = cycle("AB")
    monkeypatch.setattr("triptych.feedback.judge.read_verdict", lambda text: next(letters))
    Path("models").mkdir()
    for place, family in MODELS[name].items():
        Path(place).symlink_to(tiny_folder(family))
    write_released(Path("data/vlm-rlaif"))
    write_benchmarks(Path("data/benchmarks"))
    recipe = yaml.safe_load((RECIPES / f"vlm-rlaif-{name}.yaml").read_text())
    recipe["stages"] = [in_small(stage) for stage in recipe["stages"]]
    Path("small.yaml").write_text(yaml.safe_dump(recipe))
    run = run_recipe("small.yaml", "run")

    done = {stage["name"]: json.loads((run / stage["name"] / "done.json").read_text())["result"]
            for stage in recipe["stages"] if stage["verb"] != "report"}  # fmt: skip
    lines = (run / "sft/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["part"] for line in lines] == ["easy", "hard"]
    pairs = read_groups(run / "feedback/pairs.jsonl")
    assert done["feedback"]["pairs"] == sum(len(group.pairs) for group in pairs) > 1
    drawn = [item.source for group in pairs for item in group.completions if item.source != "gold"]
    assert set(drawn) == {"sampled"} and len(drawn) == 2 * len(pairs), "the answers of the data set are not compared"
    assert done["feedback"]["pairing"]["narrative_prompt_tokens"] > 0
    assert done["reward"]["pairs"] + done["reward"]["held_out_pairs"] == done["feedback"]["pairs"]
    assert done["ppo"]["answers"] == 2 and (run / "ppo/critic.safetensors").exists()
    first = json.loads((run / "ppo/metrics.jsonl").read_text().splitlines()[0])
    assert first["objective/kl"] == pytest.approx(0, abs=0.1)  # 4 bits and bfloat16
    assert (
        done["evaluate_sft"].keys() == done["evaluate_ppo"].keys() >= {"exact_msvd_qa", "r1_msrvtt", "ucf101", "hmdb51"}
    )
    assert (run / "report.html").exists()
