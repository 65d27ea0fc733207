import json
import re

import pytest

from tests.report.report_run import append
from tests.report.test_build import Page
from tests.report.video_run import HOSTILE, write_video_run
from triptych.report.build import build_report


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    folder = write_video_run(tmp_path_factory.mktemp("report") / "video run")
    return folder, build_report(folder).read_text(encoding="utf-8")


@pytest.fixture
def page(complete):
    return Page(complete[1])


def test_the_story_of_feedback_rewards_and_training_is_told_in_order(complete, page):
    sections = re.findall(r'<h2 id="([a-z]+)"', complete[1])
    assert sections == [
        *("built", "results", "data", "training", "pairs"),
        *("feedback", "rewards", "policy", "samples", "details"),
    ]
    assert re.findall(r'<a href="#([a-z]+)"', complete[1]) == sections
    for words in (
        "reward: 50 % right on pairs held out",
        "ppo: 3 steps, score 0.30 → 0.90",
        "Correctness by the oracle (3.12 to 4.38), accuracy in questions (25.0 % to 75.0 %) and answer length",
        "Questions about videos",
        "Not run yet: no stage has logged anything.",  # the plots of rewards have sections of their own
        "Context of clip 0.",
        "chosen first: A, 60 % sure; rejected first: B, 80 % sure",
        "prefers the rejected ✗ against the judge",
        "prefers the chosen ✓ with the judge",
        "sees no difference",
        "17 % of what is asked is told, of 2 claims none wrong",
        "Clip not shown: ",
        "Answers that end",
        "Calibration error",
        "oracle, of 5: correctness 2.5",
    ):
        assert words in page.words, words


def test_tags_ids_and_headings_are_in_order(page):
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    ids = [attributes["id"] for _, attributes in page.attributes if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {item["href"][1:] for _, item in page.attributes if item.get("href", "").startswith("#")}
    assert targets <= set(ids)


def test_the_page_loads_nothing_and_reads_without_pictures(complete, page):
    assert "script" not in page.tags and "img" not in page.tags
    assert not re.search(r"@import|url\((?!#)|https?://", complete[1])
    drawings = [attributes for tag, attributes in page.attributes if tag == "svg"]
    assert all(item.get("aria-label") or item.get("aria-hidden") for item in drawings)
    strips = [attributes for _, attributes in page.attributes if attributes.get("class") == "strip"]
    assert strips and all("frames, 1.0 s to" in item["aria-label"] for item in strips)
    assert page.tags.count("table") == page.tags.count("caption")
    assert all("scope" in attributes for tag, attributes in page.attributes if tag == "th")


def test_what_a_model_wrote_is_shown_and_never_run(complete, page):
    assert HOSTILE in page.words
    assert "<script" not in complete[1]


def test_the_clips_of_a_page_are_embedded_once(complete, page):
    frames = [item["id"] for tag, item in page.attributes if tag == "symbol" and item.get("class") == "frames"]
    assert len(frames) == 4  # the clips, in every section the same six frames of each


def test_text_from_any_file_is_escaped(tmp_path):
    folder = write_video_run(tmp_path / "run")
    said = '"><script>x</script>'
    path = folder / "feedback" / "pairs.jsonl"
    row = json.loads(path.read_text().splitlines()[0]) | {"id": said, "videos": [said]}
    row["pairs"][0]["judge"] |= {"context": said, "orders": [{"letter": said, "text": said}]}
    row["completions"][0]["text"] = said
    append(path, json.dumps(row) + "\n")
    sample = {"id": said, "task": said, "prompt": said, "answer": said, "videos": [said], "prediction": said}
    sample |= {"true": {said: 1.0}, "prompt_paraphrase": said, "prediction_paraphrase": said}
    for model in ("sft", "ppo"):
        append(folder / f"evaluate_{model}" / "samples.jsonl", json.dumps(sample) + "\n")
    (folder / "ppo" / "config.yaml").write_text(json.dumps({"reward_model": said}))
    (folder / "reward" / "config.yaml").write_text(json.dumps({"data": [said]}))
    (folder / "feedback" / "config.yaml").write_text(json.dumps({"labeller": said, "judge": {"by": said}}))
    text = build_report(folder).read_text(encoding="utf-8")
    assert "<script" not in text
    assert Page(text).words.count(said) > 10


def test_stages_that_are_not_done_are_shown_as_far_as_they_came(tmp_path):
    folder = write_video_run(tmp_path / "run", oracle=False)
    for path in folder.glob("*/*"):
        if path.name in ("config.yaml", "done.json", "held_out.jsonl"):
            path.unlink()
    append(folder / "ppo" / "metrics.jsonl", '{"step": 4, "objective')
    append(folder / "feedback" / "pairs.jsonl", '{"id": "x"')
    page = Page(build_report(folder).read_text(encoding="utf-8"))
    assert "Feedback from a judge" in page.words and "Training on rewards" in page.words
    assert "What could not be read" not in page.words
    assert "oracle" not in page.words.lower().replace("ppo_oracle", "")
