"""A complete run directory made up for tests: small, the same every time, and unkind where real ones may be."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path

import yaml
from PIL import Image, ImageDraw

COLOURS = {"red": (235, 60, 50), "green": (50, 190, 80), "blue": (75, 130, 255), "yellow": (245, 220, 60)}
SHAPES = ("circle", "square", "triangle")
PLACES = ("at the top left", "at the top right", "at the bottom left", "at the bottom right")
HOSTILE = "<script>alert('x')</script> & \"quoted\""
"""What a completion may hold; the page must show it as text."""
METRICS = {
    "sft": (0.749, 0.643, 0.031, 0.270, 0.725, 0.793, 1.42),
    "sft_on_chosen": (0.749, 0.713, 0.018, 0.208, 0.433, 0.869, 1.57),
    "dpo": (0.688, 0.702, 0.042, 0.437, 0.803, 0.523, 0.88),
    "mpo": (0.737, 0.738, 0.012, 0.196, 0.405, 0.871, 1.61),
}
NAMES = ("direct", "cot", "unparsed", "hallucination", "hallucination_sampled", "coverage", "cider")
SECONDS = {
    "world": 9.2,
    "pretrain": 54.0,
    "sft": 131.5,
    "evaluate_sft": 24.1,
    "pairs_correctness": 61.7,
    "pairs_dropout": 13.3,
    "mpo": 78.9,
    "sft_on_chosen": 41.0,
    "dpo": 73.2,
    "evaluate_mpo": 23.8,
    "evaluate_sft_on_chosen": 23.5,
    "evaluate_dpo": 24.4,
}


def write_run(folder: Path, *, curves: bool = True) -> Path:
    """Write the run and return its folder. Without `curves`, which take longest to draw, no stage has a log."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    verbs = {"world": "world", "pairs": "pairs", "evaluate": "evaluate", "sft": "sft", "pretrain": "pretrain"}
    stages = [{"name": name, "verb": verbs.get(name.split("_")[0], "mpo")} for name in [*SECONDS, "report"]]
    _text(folder / "recipe.yaml", yaml.safe_dump({"name": "quickstart", "seed": 0, "stages": stages}, sort_keys=False))
    scenes = [_scene(rng) for _ in range(24)]
    _world(folder / "world", scenes, rng)
    for name, seconds in SECONDS.items():
        if name != "world":
            _finish(folder, name, seconds, _result(name))
    if curves:
        _logs(folder, rng)
    for start in range(2):
        _text(folder / "sft" / "tensorboard" / f"events.out.tfevents.{start}", "")
    _model(folder / "sft" / "model", rows=9000, columns=128)
    _correctness_pairs(folder / "pairs_correctness", scenes, rng)
    _dropout_pairs(folder / "pairs_dropout", scenes)
    for model in METRICS:
        _samples(folder / f"evaluate_{model}", scenes, model, random.Random(model))
    _json(
        folder / "summary.json",
        {
            "seconds": sum(SECONDS.values()) + 4,
            "stages": SECONDS,
            "metrics": {model: _metrics(model) for model in METRICS},
        },
    )
    return folder


def _logs(folder: Path, rng: random.Random) -> None:
    for name, steps in (("pretrain", 250), ("sft", 600), ("sft_on_chosen", 280)):
        _language_log(folder / name, steps, rng)
    for name in ("mpo", "dpo"):
        _preference_log(folder / name, 280, rng, with_mpo=name == "mpo")


def write_study(folder: Path) -> None:
    """Add the study over three seeds."""
    metrics = {
        model: {
            name: {"value": value, "ci": [value - 0.02, value + 0.02], "per_seed": [value - 0.01, value, value + 0.01]}
            for name, value in zip(NAMES, values, strict=True)
        }
        for model, values in METRICS.items()
    }
    differences = {"cot, mpo - sft": {"value": 0.095, "ci": [0.071, 0.119]}}
    target = {"name": "cot, mpo - sft", "value": 0.095, "ci": [0.071, 0.119], "target": 0.05, "met": True}
    missed = {"name": "pairs per second against TRL", "value": 3.1, "ci": [2.9, 3.3], "target": 4, "met": False}
    study = {"seeds": 3, "metrics": metrics, "differences": differences, "targets": [target, missed]}
    _json(folder / "study.json", study)


def append(path: Path, text: str) -> None:
    """Append raw text, such as half a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _scene(rng: random.Random) -> list[tuple[str, str, str]]:
    return [(rng.choice(list(COLOURS)), rng.choice(SHAPES), place) for place in rng.sample(PLACES, rng.randint(2, 4))]


def _describe(scene: list[tuple[str, str, str]]) -> str:
    return ", ".join(f"a {colour} {shape} {place}" for colour, shape, place in scene).capitalize() + "."


def _world(folder: Path, scenes: list, rng: random.Random) -> None:
    for number, scene in enumerate(scenes):
        _draw(folder / "images" / f"{number:03}.png", scene, rng)
    captions = [_row(f"caption-{n}", "document", n, scene, _describe(scene)) for n, scene in enumerate(scenes)]
    questions = [
        _row(f"direct-{n}", "user", n, scene, "How many red objects are there?")
        | {"answer": str(_reds(scene)), "completions": [{"text": str(_reds(scene)), "source": "world"}]}
        for n, scene in enumerate(scenes)
    ]
    text_only = [
        {"id": f"text-{n}", "prompt": [{"role": "document", "content": f"{n} plus {n + 1} is {2 * n + 1}."}]}
        for n in range(9)
    ]
    part = {"type": "image"}
    interleaved = [
        {
            "id": f"interleaved-{n}",
            "prompt": [
                {
                    "role": "document",
                    "content": [part, _said("This is a blick."), part, _said("Here is another blick.")],
                }
            ],
            "images": [f"images/{n:03}.png", f"images/{n + 1:03}.png"],
        }
        for n in range(8)
    ]
    files = {
        "pretrain_captions": captions,
        "pretrain_interleaved": interleaved,
        "pretrain_text": text_only,
        "sft_direct": questions,
    }
    for name, rows in files.items():
        _jsonl(folder / f"{name}.jsonl", rows)
    _json(folder / "world.json", {"seed": 0, "rows": {name: len(rows) for name, rows in files.items()}})


def _said(text: str) -> dict:
    return {"type": "text", "text": text}


def _reds(scene: list[tuple[str, str, str]]) -> int:
    return sum(colour == "red" for colour, _, _ in scene)


def _row(identifier: str, role: str, number: int, scene: list, text: str) -> dict:
    content = [{"type": "image"}, {"type": "text", "text": text}]
    return {
        "id": identifier,
        "prompt": [{"role": role, "content": content}],
        "images": [f"images/{number:03}.png"],
        "meta": {"objects": len(scene)},
    }


def _draw(path: Path, scene: list, rng: random.Random) -> None:
    image = Image.new("RGB", (48, 48), (24, 24, 28))
    draw = ImageDraw.Draw(image)
    for colour, shape, place in scene:
        x, y = 5 + 24 * (PLACES.index(place) % 2), 5 + 24 * (PLACES.index(place) // 2)
        box, fill = (x, y, x + 14, y + 14), COLOURS[colour]
        if shape == "circle":
            draw.ellipse(box, fill)
        elif shape == "square":
            draw.rectangle(box, fill)
        else:
            draw.polygon([(x, y + 14), (x + 14, y + 14), (x + 7, y)], fill)
    noise = bytes(
        min(255, value + shift % 8) for value, shift in zip(image.tobytes(), rng.randbytes(6912), strict=True)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.frombytes("RGB", image.size, noise).save(path)


def _metrics(model: str) -> dict:
    result = {}
    for name, value in zip(NAMES, METRICS[model], strict=True):
        half = 0.04 if name == "cider" else 1.96 * math.sqrt(value * (1 - value) / 2000)
        result[name] = {"value": value, "ci": [round(value - half, 4), round(value + half, 4)]}
    return result


def _result(name: str) -> dict:
    if name.startswith("evaluate_"):
        return _metrics(name.removeprefix("evaluate_"))
    if name == "pairs_correctness":
        pairing = {"correctness": 24, "duplicate_text": 3, "no_correct_answer": 1, "generated_tokens": 900}
        return {"pairs": 33, "verdicts": {"correct": 24, "wrong": 24, "no_answer": 24}, "pairing": pairing}
    return {"steps": 280}


def _finish(folder: Path, name: str, seconds: float, result: dict) -> None:
    config = {"out": f"runs/quickstart/{name}", "seed": 0}
    if name.startswith("pairs_"):
        config |= {"method": name.removeprefix("pairs_"), "root": str(folder / "world")}
    if name == "pretrain":
        weights = {"captions": 0.45, "interleaved": 0.45, "text": 0.1}
        config["sources"] = [{"path": f"{source}.jsonl", "weight": weight} for source, weight in weights.items()]
    if name.startswith("evaluate_"):
        config |= {"tasks": [{"name": "direct", "data": str(folder / "world" / "sft_direct.jsonl")}], "root": ""}
    _text(folder / name / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    _json(folder / name / "done.json", {"fingerprint": "0123456789abcdef", "seconds": seconds, "result": result})


def _language_log(folder: Path, steps: int, rng: random.Random) -> None:
    rows = []
    for step in range(1, steps + 1):
        loss = 4.4 * math.exp(-step / (steps / 12)) + 0.05 + 0.4 / (1 + step / 20)
        row = _common(step, steps, loss * rng.uniform(0.9, 1.1), rng)
        if folder.name == "pretrain":
            row |= {"frequency/captions": 0.45, "frequency/interleaved": 0.44, "frequency/text": 0.11}
        rows.append(row)
    _jsonl(folder / "metrics.jsonl", rows)


def _preference_log(folder: Path, steps: int, rng: random.Random, *, with_mpo: bool) -> None:
    rows = []
    for step in range(1, steps + 1):
        learned = 1 - math.exp(-step / 90)
        chosen, rejected = 0.9 * learned + rng.gauss(0, 0.15), -1.6 * learned + rng.gauss(0, 0.2)
        terms = {"dpo": 0.69 - 0.4 * learned, "bco": 1.39 - 0.7 * learned, "sft": 0.21 - 0.06 * learned}
        terms = {name: value * rng.uniform(0.92, 1.08) for name, value in terms.items()}
        row = _common(step, steps, 0.8 * terms["dpo"] + 0.2 * terms["bco"] + terms["sft"], rng)
        row |= {"rewards/chosen": chosen, "rewards/rejected": rejected, "rewards/margins": chosen - rejected}
        row["rewards/accuracies"] = min(1.0, 0.5 + 0.38 * learned + rng.gauss(0, 0.05))
        row |= {"logps/chosen": -14 + 9 * chosen, "logps/rejected": -18 + 9 * rejected}
        if with_mpo:
            row |= {f"mpo/{name}": value for name, value in terms.items()} | {"mpo/delta": -0.3 * learned}
        rows.append(row)
    _jsonl(folder / "metrics.jsonl", rows)


def _common(step: int, steps: int, loss: float, rng: random.Random) -> dict:
    rate = 3e-4 * min(1.0, step / (0.05 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
    return {
        "step": step,
        "loss": loss,
        "learning_rate": rate,
        "grad_norm": 0.4 + 2 / (1 + step / 30) + rng.random() * 0.2,
        "tokens_per_second": 21_000 + rng.gauss(0, 700),
        "mfu": 0.31 + rng.gauss(0, 0.01),
    }


def _model(folder: Path, rows: int, columns: int) -> None:
    """Write a safetensors file of zeros: eight bytes of length, a JSON header, the numbers."""
    size = 4 * rows * columns
    header = {"weight": {"dtype": "F32", "shape": [rows, columns], "data_offsets": [0, size]}}
    encoded = json.dumps(header).encode()
    folder.mkdir(parents=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        file.truncate(8 + len(encoded) + size)


def _correctness_pairs(folder: Path, scenes: list, rng: random.Random) -> None:
    rows = []
    for number, scene in enumerate(scenes):
        count = _reds(scene)
        start = "I look for red objects. "
        chosen = start + f"I can see {count} of them in the picture. Final Answer: {count}"
        wrong = start + f"I can see {count + 1} of them in the picture. Final Answer: {count + 1}"
        row = _row(f"question-{number}", "user", number, scene, "How many red objects are there?")
        completions = [
            {"text": chosen, "source": "sampled", "correct": True, "verdict": "correct"},
            {"text": wrong, "source": "sampled", "correct": False, "verdict": "wrong"},
            {"text": HOSTILE, "source": "sampled", "correct": False, "verdict": "no_answer"},
        ]
        pairs = [{"chosen": 0, "rejected": 1, "source": "correctness"}]
        if rng.random() < 0.4:
            pairs.append({"chosen": 0, "rejected": 2, "source": "format"})
        rows.append(row | {"answer": str(count), "completions": completions, "pairs": pairs})
    alone = _row("question-99", "user", 0, scenes[0], "How many red objects are there?")
    rows.append(alone)
    _jsonl(folder / "pairs.jsonl", rows)
    _jsonl(folder / "quarantine.jsonl", [{"id": "question-90", "kind": "no_answer_in_row"}] * 3)


def _dropout_pairs(folder: Path, scenes: list) -> None:
    rows = []
    for number, scene in enumerate(scenes):
        chosen = _describe(scene)
        cut = len(chosen) // 2
        told = chosen[:cut] + " star in the centre and a purple hexagon."
        row = _row(f"describe-{number}", "user", number, scene, "Describe the picture.")
        completions = [
            {"text": chosen, "source": "sampled"},
            {"text": told, "source": "dropout_ntp", "parent": 0, "cut": cut},
        ]
        pair = {"chosen": 0, "rejected": 1, "source": "dropout_ntp", "margin": 1.25}
        rows.append(row | {"completions": completions, "pairs": [pair]})
    _jsonl(folder / "pairs.jsonl", rows)


def _samples(folder: Path, scenes: list, model: str, rng: random.Random) -> None:
    values = dict(zip(NAMES, METRICS[model], strict=True))
    for task in ("direct", "cot"):
        rows = [_answer(model, task, n, scene, rng.random() < values[task]) for n, scene in enumerate(scenes)]
        _jsonl(folder / f"samples-{task}.jsonl", rows)
    for task, metric in (("describe", "hallucination"), ("describe_sampled", "hallucination_sampled")):
        rows = [_description(task, n, scene, rng.random() < values[metric]) for n, scene in enumerate(scenes)]
        _jsonl(folder / f"samples-{task}.jsonl", rows)


def _answer(model: str, task: str, number: int, scene: list, right: bool) -> dict:
    said = _reds(scene) + (not right)
    steps = f"{model} lists the red objects one by one and counts {said}. Final Answer: {said}"
    return {
        "id": f"question-{number}",
        "task": task,
        "prompt": "<image>How many red objects are there?",
        "images": [f"images/{number:03}.png"],
        "answer": str(_reds(scene)),
        "prediction": str(said) if task == "direct" else steps,
        "verdict": "correct" if right else "wrong",
        "score": float(right),
    }


def _description(task: str, number: int, scene: list, hallucinates: bool) -> dict:
    claims = [{"text": f"a {colour} {shape} {place}", "right": True} for colour, shape, place in scene]
    if hallucinates:
        claims.append({"text": "a purple hexagon in the centre", "right": False})
    return {
        "id": f"picture-{number}",
        "task": task,
        "prompt": "<image>Describe the picture.",
        "images": [f"images/{number:03}.png"],
        "answer": None,
        "prediction": ", ".join(claim["text"] for claim in claims).capitalize() + ".",
        "verdict": "hallucinated" if hallucinates else "faithful",
        "score": 1.0,
        "hallucinated": hallucinates,
        "coverage": 1.0,
        "claims": claims,
    }


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _json(path: Path, value: object) -> None:
    _text(path, json.dumps(value))


def _jsonl(path: Path, rows: list[dict]) -> None:
    _text(path, "".join(json.dumps(row) + "\n" for row in rows))
