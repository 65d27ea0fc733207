"""Tasks in which frames count, measured as a stage with a tiny random CLIP; what answers says what a test wants."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_scorer import CAPTIONS, tiny_clip, write_corners
from triptych.config import load_config
from triptych.data.rows import read_groups, write_groups
from triptych.errors import DataError, TriptychError
from triptych.evaluation.text_video import TextVideoScorer
from triptych.generation.protocol import Sample
from triptych.group import Group, text_message
from triptych.stages import evaluate, task_models
from triptych.stages.evaluate_config import EvaluateConfig, Task


class Parrot:
    """Says the caption of the row, shouting; counts how often it is asked."""

    name, independent, codec = "parrot", True, None

    def __init__(self):
        self.asked = 0

    def generate(self, requests, params, *, root):
        for request in requests:
            self.asked += 1
            yield [Sample(f"{request.group.completions[0].text} !", 3, False, request.seed)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    rows = [
        replace(group, answer=CAPTIONS[n % 3])
        for n, group in enumerate(read_groups(write_corners(root, "t", 1, seed=0)))
    ]
    write_groups(root / "rows.jsonl", rows[:6])
    return root


@pytest.fixture
def parrot(monkeypatch):
    parrot = Parrot()
    monkeypatch.setattr(task_models, "make_generator", lambda *_, **__: parrot)
    return parrot


def measure(tmp_path, **task):
    """Measure one task; return its results and stored rows."""
    (tmp_path / "model").mkdir(parents=True, exist_ok=True)
    config = EvaluateConfig(
        model=str(tmp_path / "model"), out=str(tmp_path / "out"), tasks=[Task(**task)], block_size=4
    )
    result = evaluate.run(config)
    return result, [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]


def scored(folder, root):
    """Return the rows, a scorer, and the features of the videos."""
    groups, scorer = read_groups(root / "rows.jsonl"), TextVideoScorer.named(str(folder))
    return groups, scorer, np.array([scorer.video(group, root) for group in groups])


def test_retrieval_by_frames_ranks_videos_without_a_word_of_the_model(tmp_path, folder, root, parrot):
    data, similarity = str(root / "rows.jsonl"), f"clip:{folder}"
    result, rows = measure(tmp_path, name="frames", kind="retrieval", by="frames", data=data, similarity=similarity)
    groups, scorer, videos = scored(folder, root)
    assert parrot.asked == 0 and len(rows) == 6
    hits = []
    for number, (group, row) in enumerate(zip(groups, rows, strict=True)):
        assert "features" not in row and "prediction" not in row and row["videos"] == group.videos
        similarities = scorer.compare_videos([group.completions[0].text, group.answer], videos)
        better = (similarities > similarities[:, [number]] + 1e-6).sum(axis=1)
        assert row["better"] == better.tolist()
        hits += (better == 0).tolist()
    assert result["r1_frames"]["value"] == pytest.approx(np.mean(hits))
    assert set(result) == {"r1_frames", "r5_frames", "r10_frames", "median_rank_frames"}


def test_actions_by_frames_name_the_class_nearest_to_the_video(tmp_path, folder, root, parrot):
    data, similarity = str(root / "rows.jsonl"), f"clip:{folder}"
    result, rows = measure(tmp_path, name="actions", kind="actions", by="frames", data=data, similarity=similarity)
    groups, scorer, videos = scored(folder, root)
    classes = sorted(CAPTIONS[:3])
    best = [classes[index] for index in scorer.compare_videos(classes, videos).argmax(axis=0)]
    assert [row["prediction"] for row in rows] == best and parrot.asked == 0
    right = [name == group.answer for name, group in zip(best, groups, strict=True)]
    assert result["actions"]["value"] == np.mean(right) and result["top5_actions"]["value"] == 1.0
    assert set(result) == {"actions", "top5_actions"}


def test_descriptions_are_scored_by_how_well_they_fit_the_frames(tmp_path, folder, root, parrot):
    data, similarity = str(root / "rows.jsonl"), f"clip:{folder}"
    result, rows = measure(tmp_path, name="retrieval", kind="retrieval", data=data, similarity=similarity)
    _, scorer, videos = scored(folder, root)
    assert parrot.asked == 6
    expected = [scorer.clip_score(row["prediction"], video) for row, video in zip(rows, videos, strict=True)]
    assert [row["clip_score"] for row in rows] == pytest.approx(expected)
    assert result["clip_score_retrieval"]["value"] == pytest.approx(np.mean(expected))
    assert "r1_retrieval" in result
    described, _ = measure(
        tmp_path / "again", name="describe_x", kind="description", data=data, similarity=similarity,
        scorer="tests.stages.test_frame_passes:nothing_wrong",
    )  # fmt: skip
    assert described["clip_score_x"]["value"] == pytest.approx(np.mean(expected))


def nothing_wrong(text, group):
    """A scorer of descriptions."""
    return {"hallucinated": False, "num_claims": 1, "num_wrong": 0, "coverage": 1.0, "claims": []}


def test_rows_of_text_alone_are_compared_without_a_score_of_frames(tmp_path, folder, parrot):
    groups = [Group(str(n), [text_message("user", "?")], answer=text) for n, text in enumerate(CAPTIONS[:3])]
    parrot.generate = lambda requests, params, *, root: ([Sample(r.group.answer, 3, False, r.seed)] for r in requests)
    write_groups(tmp_path / "rows.jsonl", groups)
    known = {"data": str(tmp_path / "rows.jsonl"), "similarity": f"clip:{folder}", "kind": "retrieval"}
    result, _ = measure(tmp_path, name="retrieval", **known)
    assert result["r1_retrieval"]["value"] == 1.0 and "clip_score_retrieval" not in result
    with pytest.raises(DataError, match=r"no_media.*row 0"):
        measure(tmp_path / "b", name="retrieval", by="frames", **known)


def test_one_model_serves_all_tasks_that_name_it(tmp_path, folder, root, parrot, monkeypatch):
    loads = []
    from triptych.evaluation import text_video

    load = text_video.load_scorer
    monkeypatch.setattr(text_video, "load_scorer", lambda name: loads.append(name) or load(name))
    known = {"data": str(root / "rows.jsonl"), "similarity": f"clip:{folder}", "kind": "retrieval"}
    tasks = [Task(name="a", **known), Task(name="b", by="frames", **known)]
    (tmp_path / "model").mkdir()
    config = EvaluateConfig(model=str(tmp_path / "model"), out=str(tmp_path / "out"), tasks=tasks)
    result = evaluate.run(config)
    assert loads == [str(folder)] and "clip_score_a" in result and "clip_score_b" not in result


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"kind": "retrieval", "by": "frames"}, "set similarity: clip:MODEL"),
        ({"kind": "video_qa", "by": "frames", "similarity": "clip:x"}, "by: frames is for retrieval, actions"),
        ({"kind": "retrieval", "by": "likelihood"}, "by: likelihood is for actions"),
        ({"kind": "description", "scorer": "a:b", "similarity": "c:d"}, "name a clip:MODEL"),
    ],
)
def test_comparisons_that_cannot_be_made_are_refused(task, message):
    with pytest.raises(TriptychError, match=message):
        load_config(EvaluateConfig, None, {"model": "m", "out": "o", "tasks": [{"name": "t", "data": "x"} | task]})


def test_a_run_that_was_killed_between_the_passes_does_not_look_at_the_frames_again(
    tmp_path, folder, root, parrot, monkeypatch
):
    known = {"data": str(root / "rows.jsonl"), "similarity": f"clip:{folder}", "kind": "retrieval", "by": "frames"}
    whole, _ = measure(tmp_path / "whole", name="t", **known)
    compare = TextVideoScorer.compare_videos

    def dies(self, texts, videos):
        raise KeyboardInterrupt

    monkeypatch.setattr(TextVideoScorer, "compare_videos", dies)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "killed", name="t", **known)
    monkeypatch.setattr(TextVideoScorer, "compare_videos", compare)
    monkeypatch.setattr(TextVideoScorer, "video", dies)
    assert measure(tmp_path / "killed", name="t", **known)[0] == whole
    assert {path.name for path in Path(tmp_path / "killed" / "out").glob("*.jsonl")} == {"samples.jsonl"}
