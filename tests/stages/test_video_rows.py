"""The stages on rows with videos, with an MM1."""

import json
import math
from dataclasses import replace

import pytest
import torch

from tests.support.guards import run_stage, video_row, write_media, write_rows
from tests.support.plain_forwards import plain_logps
from triptych.config import load_config
from triptych.data.rows import read_groups, write_groups
from triptych.data.video_file import VideoFile
from triptych.engine.encode import Encoder
from triptych.group import Completion, Group, Pair
from triptych.models.loading import load_model, load_processor
from triptych.models.mm1.modeling import MM1Model
from triptych.stages import mpo, pairs, reward, sft

ANSWERS = ("A red star moves.", "Two squares.")
RESULTS = ("model/model.safetensors", "pairs.jsonl", "samples.jsonl")
"""What a stage makes, below its run directory."""
LAYOUTS = (("video",), ("image", "video"), ("video", "video"), ())


class Tiny:
    """What plain forwards need: the model as it was saved."""

    family = "mm1"

    def __init__(self, folder, root):
        self.model, self.processor, self.root = load_model(folder), load_processor(folder), root
        self.encoder = Encoder(self.processor, self.model.config)


def row(number, kinds):
    content = [*({"type": kind} for kind in kinds), {"type": "text", "text": "What moves?"}]
    videos = ["clip", "other"][: kinds.count("video")]
    images = ["a.png"] * kinds.count("image")
    return Group(
        f"g{number}",
        [{"role": "user", "content": content}],
        images,
        videos,
        completions=[Completion(text) for text in ANSWERS],
        pairs=[Pair(0, 1, source="ai_feedback")],
    )


@pytest.fixture(scope="module")
def rows(picture_root):
    groups = [row(number, kinds) for number, kinds in enumerate(LAYOUTS)]
    write_groups(picture_root / "videos.jsonl", groups)
    return groups


@pytest.fixture(scope="module")
def train(tiny_folder, picture_root, tmp_path_factory):
    """Return a function that runs a stage for three steps of all rows and returns its result and its metrics."""

    def run(stage, **settings):
        out = tmp_path_factory.mktemp("run") / "run"
        config = {"model": str(tiny_folder("mm1")), "out": str(out), "max_steps": 3, "per_device_train_batch_size": 4}
        config |= {"learning_rate": 1e-3, "row_tokens": 128, "logging_steps": 1}
        result = stage.run(load_config(stage.Config, None, config | settings))
        return out, result, [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]

    return run


@pytest.fixture(scope="module")
def logps(tiny_folder, picture_root, rows):
    """Log-probabilities of the completions of all rows, from forwards of their own."""
    tiny = Tiny(tiny_folder("mm1"), picture_root)
    with torch.no_grad():
        return tiny, plain_logps(tiny, rows).view(-1, 2)


def test_sft_trains_on_videos_from_the_loss_of_plain_forwards(train, picture_root, logps):
    tiny, expected = logps
    out, _, metrics = train(sft, sources=[{"path": str(picture_root / "videos.jsonl")}])
    lengths = [len(tiny.encoder.completion(text)) for text in ANSWERS]
    assert metrics[0]["loss"] == pytest.approx(float(-expected.sum()) / (len(LAYOUTS) * sum(lengths)), rel=1e-5)
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    after = dict(load_model(out / "model").named_parameters())
    for name, weight in tiny.model.named_parameters():
        if "connector.readout" in name or "vision_tower.encoder" in name:
            assert not torch.equal(weight, after[name]), name


def test_mpo_trains_on_videos_from_the_reference_of_plain_forwards(train, picture_root, logps):
    _, _, metrics = train(mpo, data=str(picture_root / "videos.jsonl"), loss_type=["sigmoid"], loss_weights=[1.0])
    assert metrics[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)  # policy and reference are the same model
    assert metrics[0]["logps/chosen"] == pytest.approx(float(logps[1][:, 0].mean()), rel=1e-5)
    assert metrics[-1]["rewards/margins"] > 0


def test_a_reward_model_learns_a_preference_about_videos(train, picture_root, rows):
    _, _, metrics = train(reward, data=str(picture_root / "videos.jsonl"), eval_share=0.0, max_steps=8)
    assert metrics[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert metrics[-1]["rewards/margins"] > 0 and metrics[-1]["rewards/accuracies"] == 1


def test_pairs_are_made_about_videos(tiny_folder, picture_root, rows, tmp_path):
    write_groups(tmp_path / "prompts.jsonl", [replace(row, pairs=[]) for row in rows if row.videos])
    config = {"model": str(tiny_folder("mm1")), "data": str(tmp_path / "prompts.jsonl"), "root": str(picture_root)}
    config |= {"max_new_tokens": 8, "judge": {"by": "likelihood", "context_tokens": 6}}

    def make(method):
        out = tmp_path / method
        result = pairs.run(load_config(pairs.Config, None, config | {"method": method, "out": str(out)}))
        return result, list(read_groups(out / "pairs.jsonl"))

    result, made = make("dropout_ntp")
    assert result["prompts"] == len(made) == 3 and all(group.pairs for group in made)
    assert [(group.images, group.videos) for group in made] == [(row.images, row.videos) for row in rows[:3]]
    result, _ = make("ai_feedback")
    judged = result["pairing"].get("order_dependent", 0) + result["pairs"]
    assert judged == 3 and result["pairing"]["narrative_generated_tokens"] > 0


@pytest.mark.parametrize("stage", ["sft", "pairs", "reward", "ppo", "evaluate"])
def test_a_frame_cache_decodes_files_once_for_all_runs_and_changes_nothing(stage, tiny_folder, tmp_path, monkeypatch):
    write_media(tmp_path)
    data = write_rows(tmp_path / "rows.jsonl", [video_row("g1"), video_row("g2")])
    decoded, frames = [], VideoFile.frames
    monkeypatch.setattr(VideoFile, "frames", lambda self, chosen: decoded.append(len(chosen)) or frames(self, chosen))
    cache, found = str(tmp_path / "frames"), {}
    for run, settings in {"plain": {}, "first": {"frame_cache": cache}, "again": {"frame_cache": cache}}.items():
        decoded.clear()
        run_stage(stage, tiny_folder("mm1"), data, tmp_path / run, **settings)
        output = next(path for path in RESULTS if (tmp_path / run / path).exists())
        found[run] = (tmp_path / run / output).read_bytes()
        assert bool(decoded) == (run != "again")
    assert found["plain"] == found["first"] == found["again"]
    config = (tmp_path / "again" / "config.yaml").read_text()
    assert f"frame_cache: {cache}" in config
    again = run_stage(stage, tiny_folder("mm1"), data, tmp_path / "plain", frame_cache=cache)  # the same run
    assert again == json.loads((tmp_path / "plain" / "done.json").read_text())["result"]


def test_a_tower_that_stands_still_sees_each_video_once_in_all_steps(train, picture_root, rows, logps, monkeypatch):
    tiny, expected = logps
    seen, encode = [], MM1Model._encode
    monkeypatch.setattr(MM1Model, "_encode", lambda self, views: seen.append(len(views)) or encode(self, views))
    freeze = ["model.vision_tower", "model.connector"]
    sources = [{"path": str(picture_root / "videos.jsonl")}]
    _, _, metrics = train(sft, sources=sources, freeze=freeze)
    lengths = [len(tiny.encoder.completion(text)) for text in ANSWERS]
    assert sorted(seen) == [1, 3, 4]  # a picture and the frames of two videos, in three steps
    assert metrics[0]["loss"] == pytest.approx(float(-expected.sum()) / (len(LAYOUTS) * sum(lengths)), rel=1e-5)
    assert metrics[-1]["loss"] < metrics[0]["loss"]
