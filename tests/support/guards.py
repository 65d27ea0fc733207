"""Stages run from end to end on a tiny MM1 and a video, and what a stopped run must leave behind."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.clips import video_bytes
from triptych.config import load_config
from triptych.data.rows import write_groups
from triptych.errors import DataError
from triptych.group import Completion, Group, Pair
from triptych.stages import evaluate, pairs, ppo, reward, sft

av = pytest.importorskip("av")

STAGES = ("sft", "pairs", "reward", "ppo", "evaluate")
_H264 = {"codec": "libx264", "options": {"preset": "ultrafast", "g": "12", "bf": "0"}}
_VIDEO = video_bytes(list(range(60)), muxer={"moov_size": "4096"}, **_H264)
"""Its index is at the start, so that it can be cut short."""


def mp4(*, sound: bool) -> bytes:
    """Return an MP4 without a frame: with sound alone, or with nothing in its video stream."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": "empty_moov"}) as output:
        if sound:
            stream = output.add_stream("aac", rate=8000)
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            tone.sample_rate = 8000
            output.mux(stream.encode(tone))
        else:
            stream = output.add_stream("mpeg4", rate=10)
            stream.width = stream.height = 32
            output.start_encoding()
        output.mux(stream.encode(None))
    return file.getvalue()


FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a file that is not there": ("lost.mp4", {}, "media_missing"),
    "a file of no bytes": ("zero.mp4", {}, "media_empty"),
    "an MP4 without frames": ("empty.mp4", {}, "video_empty"),
    "an MP4 cut short": ("short.mp4", {}, "video_truncated"),
    "an MP4 whose index is cut off": ("index.mp4", {}, "video_unreadable"),
    "a web page": ("page.mp4", {}, "video_unreadable"),
    "sound alone": ("sound.mp4", {}, "video_empty"),
    "a folder without frames": ("folder", {}, "video_empty"),
    "a range behind the end": ("good.mp4", {"start": 9.0}, "video_range"),
}
"""By what it is: the video of a row, its policy, and the kind of the fault."""


def write_media(root: Path) -> None:
    """Write one good video and the faulty ones of `FAULTS`."""
    (root / "folder").mkdir()
    files = {"good.mp4": _VIDEO, "zero.mp4": b"", "empty.mp4": mp4(sound=False), "sound.mp4": mp4(sound=True)}
    files |= {"short.mp4": _VIDEO[: len(_VIDEO) * 3 // 4], "page.mp4": b"<html>Not found</html>"}
    files["index.mp4"] = (whole := video_bytes(list(range(60)), **_H264))[: len(whole) // 2]  # its index is at the end
    for name, content in files.items():
        (root / name).write_bytes(content)


def video_row(name: str, video: str = "good.mp4", policy: dict[str, Any] | None = None) -> Group:
    """Return a row that every stage takes: a question about a video, its answer, two completions and a pair."""
    content = [{"type": "video"}, {"type": "text", "text": "What moves?"}]
    texts = ("A red star moves.", "Two squares.")
    return Group(
        name,
        [{"role": "user", "content": content}],
        videos=[video],
        answer="star",
        completions=[Completion(text, source="sampled") for text in texts],
        pairs=[Pair(0, 1, source="ai_feedback")],
        meta={"video": policy} if policy else {},
    )


def always_one(text: str, group: Group) -> float:
    """A reward."""
    return 1.0 + len(text)


def run_stage(stage: str, model: Path, data: Path, out: Path, **settings: Any) -> dict[str, Any]:
    """Run a stage of a few steps on rows with videos."""
    training = {"max_steps": 1, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "row_tokens": 256}
    task = {"name": "qa", "kind": "video_qa", "data": str(data), "judged": False, "max_new_tokens": 2}
    known = {
        "sft": (sft, {"sources": [{"path": str(data)}], **training, "max_steps": 0}),  # every row is drawn
        "pairs": (pairs, {"method": "ai_feedback", "data": str(data), "max_new_tokens": 2}),
        "reward": (reward, {"data": str(data), "eval_share": 0.0, "learning_rate": 1e-2, **training}),
        "ppo": (ppo, {"data": str(data), "reward_model": f"{__name__}:always_one", "max_new_tokens": 2, **training}),
        "evaluate": (evaluate, {"tasks": [task]}),
    }
    module, config = known[stage]
    if stage == "pairs":
        config["judge"] = {"by": "likelihood", "context_tokens": 2}
    if stage == "ppo":
        config["prompts_per_step"] = 2
    config |= {"model": str(model), "out": str(out)} | settings
    return module.run(load_config(module.Config, None, config))


def refused(stage: str, model: Path, data: Path, out: Path, **settings: Any) -> DataError:
    """Run a stage that must refuse its rows, and return the error; nothing may look finished."""
    with pytest.raises(DataError) as caught:
        run_stage(stage, model, data, out, **settings)
    assert not (out / "done.json").exists() and not (out / "model").exists()
    return caught.value


def write_rows(path: Path, groups: list[Group]) -> Path:
    """Write rows and return their file."""
    write_groups(path, groups)
    return path
