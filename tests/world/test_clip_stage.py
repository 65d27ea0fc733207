"""Writing folders of clips."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.world.clip_scenes import CONFIG
from triptych.cli import main
from triptych.data.check import check
from triptych.data.rows import read_groups
from triptych.data.video import load_video
from triptych.errors import TriptychError
from triptych.recipe import RecipeStage, run_stage
from triptych.world.clip_config import ClipCounts
from triptych.world.clip_samples import build_clip_sample, clip_sections
from triptych.world.clip_stage import Config, run, write_clips

pytest.importorskip("av")

COUNTS = ClipCounts(
    pretrain_stills=1,
    pretrain_clips=1,
    pretrain_texts=0,
    train_clips=3,
    train_questions_per_clip=1,
    train_comparisons=1,
    prompt_clips=2,
    test_clips=2,
    test_actions=1,
)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_bytes_come_out_however_many_workers(tmp_path: Path) -> None:
    alone = write_clips(tmp_path / "a", CONFIG, seed=3, counts=COUNTS)
    shared = write_clips(tmp_path / "b", CONFIG, seed=3, counts=COUNTS, num_workers=2)
    assert alone == shared
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def test_the_folder_is_an_ordinary_data_folder(tmp_path: Path) -> None:
    manifest = run(Config(out=str(tmp_path), counts=COUNTS, num_workers=1))
    assert manifest == json.loads((tmp_path / "world.json").read_text())
    assert sorted(path.stem for path in tmp_path.glob("*.jsonl")) == sorted(manifest["rows"])
    videos = set()
    for name, number in manifest["rows"].items():
        assert check(tmp_path / f"{name}.jsonl").ok
        groups = read_groups(tmp_path / f"{name}.jsonl", root=tmp_path)
        assert len(groups) == number
        videos.update(video for group in groups for video in group.videos)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.mp4")} == videos


def test_a_video_holds_the_frames_of_its_sample(tmp_path: Path) -> None:
    write_clips(tmp_path, CONFIG, seed=0, counts=COUNTS)
    for section in (
        section for section in clip_sections(COUNTS) if section.num_samples and section.name != "pretrain_stills"
    ):
        [(path, frames)] = build_clip_sample(section, 0, CONFIG, COUNTS, seed=0).clips
        shown = np.stack([np.asarray(frame) for frame in load_video(path, tmp_path).frames])
        assert shown.shape == frames.shape
        assert 10 * np.log10(255**2 / np.square(shown.astype(float) - frames).mean()) > 30


def test_a_folder_made_from_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    counts = replace(
        COUNTS, pretrain_stills=0, pretrain_clips=0, train_clips=1, prompt_clips=0, test_clips=0, test_actions=0
    )
    write_clips(tmp_path, CONFIG, seed=0, counts=counts)
    before = _files(tmp_path)
    with pytest.raises(TriptychError, match=r"\(config\.context_share\)"):
        write_clips(tmp_path, replace(CONFIG, context_share=0.1), seed=0, counts=counts)
    assert write_clips(tmp_path, CONFIG, seed=0, counts=counts)["rows"]["train_captions"] == 1
    assert _files(tmp_path) == before


def test_a_command_and_a_recipe_write_them(tmp_path: Path) -> None:
    counts = {
        "pretrain_stills": 0,
        "pretrain_clips": 0,
        "pretrain_texts": 0,
        "train_clips": 1,
        "train_comparisons": 0,
        "prompt_clips": 0,
        "test_clips": 0,
        "test_actions": 0,
    }
    words = [word for name, number in counts.items() for word in (f"--counts.{name}", str(number))]
    assert main(["world", "clips", str(tmp_path / "a"), "--num_workers", "1", *words]) == 0
    run_stage(RecipeStage(name="clips", verb="clips", config={"counts": counts, "num_workers": 1}), tmp_path, 0)
    one, two = _files(tmp_path / "a"), _files(tmp_path / "clips")
    assert {"done.json"} == set(two) - set(one) and all(two[name] == one[name] for name in one)


def test_writing_needs_no_model_library() -> None:
    code = (
        "import sys, triptych.world.clip_stage, triptych.world.clip_oracle;"
        "print({'torch', 'transformers', 'av'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
