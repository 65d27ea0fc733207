import json
import math

import pytest

from triptych.report.reading import read_run
from triptych.report.video_items import difference_by_video, video_scores


def _scores(tmp_path, model, rows, metrics):
    folder = tmp_path / f"evaluate_{model}"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 0")
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = read_run(tmp_path)
    return video_scores(run, run.stages[folder.name], metrics)


def _qa(*outcomes, video="v{}"):
    return [
        {"task": "qa", "id": str(n), "videos": [video.format(n)], "exact": right} for n, right in enumerate(outcomes)
    ]


def test_a_difference_is_paired_by_question(tmp_path):
    new = _scores(tmp_path, "ppo", _qa(True, True, False, True), {"exact_qa"})
    old = _scores(tmp_path, "sft", _qa(False, True, False, True), {"exact_qa"})
    gap = difference_by_video(new, old, "exact_qa", (0.75, 0.5))
    assert gap.value == 0.25
    assert 0 <= gap.low <= 0.25 <= gap.high <= 1  # no question got worse, which two intervals apart would not know


@pytest.mark.parametrize(("video", "half"), [("v{}", 1.96 * math.sqrt(0.25 / 80)), ("one", 0.0)])
def test_answers_about_one_video_hang_together(tmp_path, video, half):
    new = _scores(tmp_path, "ppo", _qa(*[True, False] * 40, video=video), {"exact_qa"})
    old = _scores(tmp_path, "sft", _qa(*[False] * 80, video=video), {"exact_qa"})
    gap = difference_by_video(new, old, "exact_qa", (0.5, 0.0))
    # Of a single video there is no other to be drawn in its place.
    assert (gap.high - gap.low) / 2 == pytest.approx(half, rel=0.1)


def test_the_mean_of_the_five_aspects_is_paired_too(tmp_path):
    def rows(first, other):
        scores = {"correctness": first, "detail": other, "context": other}
        rows = [{"task": "generic", "id": "1", "videos": ["v"], "true": scores}]
        for task, aspect in (("temporal", "temporal"), ("consistency", "consistency")):
            rows.append({"task": task, "id": "1", "videos": ["v"], "true": {aspect: other}})
        return rows

    names = {f"true_{name}" for name in ("correctness", "detail", "context", "temporal", "consistency", "generative")}
    new = _scores(tmp_path, "ppo", rows(5.0, 3.0), names)
    old = _scores(tmp_path, "sft", rows(1.0, 2.0), names)
    gap = difference_by_video(new, old, "true_generative", (3.4, 1.8))
    assert gap.value == pytest.approx((4 + 1 + 1 + 1 + 1) / 5)
    assert difference_by_video(new, {}, "true_generative", (3.4, 1.8)) is None


def test_ranks_count_as_the_probability_of_a_hit(tmp_path):
    rows = [
        {"task": "find", "id": "1", "videos": ["v"], "better": [0, 3], "tied": [2, 1]},
        {"task": "acts", "id": "1", "videos": ["v"], "better": 4, "tied": 2},
    ]
    metrics = {"r1_find", "r5_find", "acts", "top5_acts"}
    found = _scores(tmp_path, "sft", rows, metrics)
    values = {metric: [value for value, _ in items.values()] for metric, items in found.items()}
    assert values == {"r1_find": [0.5, 0.0], "r5_find": [1.0, 1.0], "acts": [0.0], "top5_acts": [0.5]}


def test_lengths_verdicts_and_distances_are_paired_like_scores(tmp_path):
    rows = [
        {"task": "qa", "id": "1", "videos": ["v"], "num_tokens": 7, "log_ratio": -0.5, "clip_score": 0.25},
        {"task": "judge", "id": "1", "videos": ["v"], "outcome": "tie", "agreement": 0.5},
        {"task": "judge", "id": "2", "videos": ["v"], "outcome": "second", "agreement": 1.0},
    ]
    names = {"length_qa": [7.0], "kl_qa": [-0.5], "clip_score_qa": [0.25]}
    names |= {"agreement_judge": [0.5, 1.0], "decided_judge": [0.0, 1.0], "agreement_decided_judge": [1.0]}
    found = _scores(tmp_path, "sft", rows, set(names))
    assert {metric: [value for value, _ in items.values()] for metric, items in found.items()} == names


@pytest.mark.parametrize("values", [(0.75, 0.4), (1.0, 0.5)])
def test_without_the_answers_behind_a_value_there_is_no_paired_difference(tmp_path, values):
    new = _scores(tmp_path, "ppo", _qa(True, True, False, True), {"exact_qa"})
    old = _scores(tmp_path, "sft", _qa(False, True, False, True), {"exact_qa"})
    assert difference_by_video(new, old, "exact_qa", values) is None
    other = {"exact_qa": dict(list(old["exact_qa"].items())[:2])}
    assert difference_by_video(new, other, "exact_qa", (0.75, 0.5)) is None
