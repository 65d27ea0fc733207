"""A run of alignment from AI feedback made up for tests: clips are folders of frames, one of which is missing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import yaml
from PIL import Image

from tests.world.clip_scenes import by_hand

NUM_CLIPS = 4
SCENE = by_hand().to_dict()
RIGHT, WRONG = "A red star stops.", "A green star stops."
"""Of the twelve facts of the clip the first tells two, the second one, with one of its two claims wrong."""
UNRELATED, SILENT = "Nice weather.", "Fine sounds."
"""Neither claims anything of the clip, so that the oracle sees no difference."""
HOSTILE = "<script>alert('x')</script>"
STEPS = 3


def write_video_run(folder: Path, *, oracle: bool = True) -> Path:
    """Write the run and return its folder; without `oracle` rows keep no scene, as those of a user's own videos."""
    meta = {"scene": SCENE} if oracle else {}
    verbs = {"feedback": "pairs", "reward": "reward", "ppo": "ppo", "ppo_oracle": "ppo"}
    verbs = {"clips": "clips"} | verbs | {"evaluate_sft": "evaluate", "evaluate_ppo": "evaluate"}
    stages = [{"name": name, "verb": verb} for name, verb in verbs.items()]
    _text(folder / "recipe.yaml", yaml.safe_dump({"name": "video", "stages": stages}))
    _clips(folder / "clips", meta)
    _feedback(folder, meta)
    _reward(folder)
    _ppo(folder, "ppo", str(folder / "reward" / "model"), gain=0.3)
    _ppo(folder, "ppo_oracle", "triptych.world.clip_oracle:quality", gain=0.5)
    for model, right in (("sft", 1), ("ppo", 3)):
        _evaluate(folder, model, right, oracle=oracle)
    return folder


def row(number: int, kind: str, text: str, meta: dict, **fields: object) -> dict:
    """Return a row about a clip, of which six of the frames are taken."""
    prompt = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": text}]}]
    policy = {"video": {"num_frames": 6, "start": 1.0}}
    return {"id": f"{kind}-{number}", "prompt": prompt, "videos": [f"videos/{number}"], "meta": meta | policy} | fields


def pair_row(number: int, meta: dict, chosen: str, rejected: str, *, confidence: float | None = 0.8) -> dict:
    """Return a row whose second answer the judge prefers, so that the chosen one stood second at first."""
    orders = [{"letter": "B", "confidence": confidence}, {"letter": "A", "confidence": 0.6}]
    if confidence is None:
        orders = [{"letter": letter, "text": f"{letter} is better."} for letter in "BA"]
    judge = {"model": "sft", "orders": orders, "context": f"Context of clip {number}."}
    margin = None if confidence is None else (confidence + 0.6) / 2
    pair = {"chosen": 1, "rejected": 0, "source": "ai_feedback", "margin": margin, "judge": judge}
    counts = {"judge_first": 1, "judge_second": 1, "ai_feedback": 1, "prompt_tokens": 9}
    answers = [{"text": rejected, "source": "sampled"}, {"text": chosen, "source": "sampled"}]
    found = row(number, "prompt", "What happens?", meta | {"pairing": counts})
    return found | {
        "completions": answers,
        "pairs": [{name: value for name, value in pair.items() if value is not None}],
    }


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write a JSONL file."""
    _text(path, "".join(json.dumps(item) + "\n" for item in rows))


def finish(folder: Path, name: str, result: dict, config: dict) -> None:
    """Write configuration and result of a stage."""
    _text(folder / name / "config.yaml", yaml.safe_dump(config))
    _text(folder / name / "done.json", json.dumps({"seconds": 3.0, "result": result}))


def _clips(folder: Path, meta: dict) -> None:
    for number in range(NUM_CLIPS):
        for frame in range(10):
            path = folder / "videos" / str(number) / f"{frame}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 16), (20 * frame, 60 * number, 90)).save(path)
    questions = [row(n, "question", "How many stars?", meta, answer="1") for n in range(NUM_CLIPS)]
    write_rows(folder / "test_questions.jsonl", questions)
    generic = [row(n, "generic", "What happens in the video?", meta, answer=RIGHT) for n in range(NUM_CLIPS)]
    write_rows(folder / "test_generic.jsonl", generic)
    _text(folder / "world.json", json.dumps({"rows": {"test_questions": NUM_CLIPS, "test_generic": NUM_CLIPS}}))


def _feedback(folder: Path, meta: dict) -> None:
    """Write a pair that the oracle agrees with, one it does not, one without difference and a clip that is missing."""
    texts = [(RIGHT, WRONG), (WRONG, RIGHT), (UNRELATED, SILENT), (RIGHT, f"{HOSTILE} {UNRELATED}")]
    rows = [pair_row(number, meta, *texts[number]) for number in range(4)]
    rows[3]["videos"] = ["videos/none"]
    counts = {"judge_first": 2, "order_dependent": 1}
    rows.append(row(0, "changed", "What happens?", meta | {"pairing": counts}))
    rows.append(row(1, "unparsed", "What happens?", meta | {"pairing": {"judge_unparsed": 2, "unparsed": 1}}))
    write_rows(folder / "feedback" / "pairs.jsonl", rows)
    config = {"method": "ai_feedback", "data": str(folder / "clips" / "train_prompts.jsonl"), "root": ""}
    config["judge"] = {"by": "likelihood", "context": True, "function": ""}
    finish(folder, "feedback", {"pairs": 4, "pairing": {"ai_feedback": 4}}, config)


def _reward(folder: Path) -> None:
    """Hold out the first two pairs: the rewards are right about one of them, and about the other by the oracle."""
    held = [
        {"id": f"prompt-{number}", "chosen": 1, "rejected": 0, "source": "ai_feedback", "rewards": rewards}
        for number, rewards in enumerate([{"chosen": 0.5, "rejected": -0.5}, {"chosen": -0.25, "rejected": 0.75}])
    ]
    write_rows(folder / "reward" / "held_out.jsonl", held)
    log = [
        {"step": step, "loss": 0.69 - step / 10, "rewards/accuracies": 0.5 + step / 10, "reward/bradley_terry": 0.6}
        | {"rewards/chosen": step / 10, "rewards/rejected": -step / 10}
        for step in range(STEPS)
    ]
    log[-1] |= {"eval_loss": 0.6, "eval_rewards/accuracies": 0.5}
    write_rows(folder / "reward" / "metrics.jsonl", log)
    bins = [{"count": 0}, {"count": 1, "predicted": 0.27, "observed": 1.0}]
    bins += [{"count": 0}, {"count": 2, "predicted": 0.73, "observed": 0.5}]
    result = {"pairs": 2, "held_out_pairs": 2, "accuracy": {"value": 0.5, "ci": [0.1, 0.9]}, "ece": 0.23}
    result |= {"longer": {"value": 0.0, "ci": [0.0, 0.6]}, "calibration": bins}
    finish(
        folder, "reward", result, {"data": [str(folder / "feedback" / "pairs.jsonl")], "root": str(folder / "clips")}
    )


def _ppo(folder: Path, name: str, rewarder: str, gain: float) -> None:
    log = [
        {
            "step": step,
            "objective/scores": gain * step,
            "objective/rlhf_reward": gain * step - 0.1,
            "objective/kl": step / 2,
            "objective/kl_coef": 0.1,
            "completions/mean_length": 20.0 + step,
            "completions/clipped_ratio": 0.25,
            "ppo/clipfrac": 0.1,
            "seconds/sampling": 2.0,
            "seconds/updates": 1.0,
        }
        | ({"value/explained_variance": math.tanh(step)} if name == "ppo" else {})
        for step in range(1, STEPS + 1)
    ]
    write_rows(folder / name / "metrics.jsonl", log)
    finish(folder, name, {"answers": 96, "last_kl": STEPS / 2}, {"reward_model": rewarder})


def _evaluate(folder: Path, model: str, num_right: int, *, oracle: bool) -> None:
    """Answer each task; `num_right` of the answers are right."""
    rows = []
    for number in range(NUM_CLIPS):
        right = number < num_right
        known = {"videos": [f"videos/{number}"], "images": [], "num_tokens": 4 + right}
        told = {"id": f"question-{number}", "task": "qa", "prompt": "<video>How many stars?", "answer": "1"}
        verdict = {"exact": right, "contained": right, "verdict": "correct" if right else "wrong"}
        rows.append(told | known | verdict | {"prediction": "1" if right else "2"})
        told = {"id": f"generic-{number}", "task": "generic", "prompt": "<video>What happens?", "answer": RIGHT}
        score = {"correctness": 5.0 if right else 2.5}
        field = {"true": score} if oracle else {"scores": score}
        rows.append(told | known | field | {"prediction": RIGHT if right else WRONG})
    write_rows(folder / f"evaluate_{model}" / "samples.jsonl", rows)
    share = num_right / NUM_CLIPS
    mean = {"value": 5 * share + 2.5 * (1 - share), "ci": [2.0, 5.0]}
    result = {"exact_qa": {"value": share, "ci": [0.0, 1.0]}, "true_correctness" if oracle else "correctness": mean}
    result["length_qa"] = {"value": 4 + share, "ci": [4.0, 5.0]}
    data = {"qa": "test_questions", "generic": "test_generic"}
    tasks = [{"name": task, "data": str(folder / "clips" / f"{file}.jsonl")} for task, file in data.items()]
    finish(folder, f"evaluate_{model}", result, {"model": str(folder / model / "model"), "tasks": tasks})


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
