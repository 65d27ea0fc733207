"""Tasks about videos, measured as a stage; what answers is a model that says what a test wants."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from triptych.config import load_config
from triptych.data.rows import write_groups
from triptych.errors import DataError, TriptychError
from triptych.evaluation.intervals import share
from triptych.generation.protocol import Sample
from triptych.group import Completion, Group
from triptych.stages import evaluate, task_models
from triptych.stages.evaluate_config import EvaluateConfig, Task
from triptych.world.clip_config import ClipConfig
from triptych.world.clip_describe import narrate
from triptych.world.clip_scene import sample_clip


class Answering:
    """Answers by a function of the text asked, and keeps what it was asked."""

    independent = True
    codec = None

    def __init__(self, name, reply):
        self.name, self.reply, self.asked = name, reply, []

    def generate(self, requests, params, *, root):
        for request in requests:
            text = request.group.prompt[-1]["content"][-1]["text"]
            self.asked.append((request.group.videos, text))
            yield [Sample(self.reply(text), 3, False, request.seed)]


@pytest.fixture
def models(monkeypatch):
    """Return a dictionary of the models there are, by the name of their folder."""
    known = {}
    monkeypatch.setattr(task_models, "make_generator", lambda model, *_, **__: known[Path(model).name])
    monkeypatch.setattr(evaluate, "check_media", list)  # these models look at nothing, and the files are not there
    return known


def clip(name, text, answer=None, captions=(), **meta):
    prompt = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": text}]}]
    completions = [Completion(caption) for caption in captions]
    return Group(name, prompt, videos=[f"{name[0]}.mp4"], answer=answer, completions=completions, meta=meta)


def measure(tmp_path, groups, *, judge="", **task):
    """Measure one task with `model`; return its results and stored rows."""
    data = tmp_path / "rows.jsonl"
    write_groups(data, groups)
    return run(tmp_path, Task(data=str(data), **task), judge)


def run(tmp_path, task, judge=""):
    folders = {name: tmp_path / name for name in ("model", judge) if name}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    names = {"model": str(folders["model"]), "judge": str(folders.get(judge, ""))}
    out = tmp_path / "out"
    result = evaluate.run(EvaluateConfig(out=str(out), tasks=[task], block_size=2, **names))
    return result, [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


def test_a_judge_scores_answers_that_it_is_shown_without_the_video(tmp_path, models):
    groups = [clip("a1", "What?", "A star."), clip("b1", "Who?", "Ann."), clip("b2", "Why?", "So.")]
    models["model"] = model = Answering("model", lambda text: f"said of {text}")
    scores = {"correctness": "Score: 4.5", "detail": "2 out of 5", "context": "no idea"}
    criteria = {"agrees with the reference in its facts": "correctness", "complete": "detail", "theme": "context"}
    models["judge"] = judge = Answering(
        "judge", lambda text: next(scores[aspect] for words, aspect in criteria.items() if words in text)
    )
    result, rows = measure(tmp_path, groups, judge="judge", name="generic", kind="generative")
    assert [videos for videos, _ in model.asked] == [["a.mp4"], ["b.mp4"], ["b.mp4"]]
    assert len(judge.asked) == 9 and all(not videos for videos, _ in judge.asked)
    assert "Question: Who?\nReference answer: Ann.\nAnswer to grade: said of Who?" in judge.asked[3][1]
    assert rows[0]["scores"] == {"correctness": 4.5, "detail": 2.0, "context": None}
    assert rows[0]["replies"]["detail"] == "2 out of 5" and rows[0]["videos"] == ["a.mp4"]
    assert result["correctness"]["value"] == 4.5 and result["detail"]["value"] == 2.0
    assert result["unread_context"] == share(3, 3) and "context" not in result and "generative" not in result


def test_consistency_asks_both_wordings_and_the_five_aspects_have_a_mean(tmp_path, models):
    groups = [clip("a1", "Who?", "Ann.", paraphrase="What person?"), clip("b1", "Why?", "So.", paraphrase="How come?")]
    models["model"] = model = Answering("model", lambda text: "4" if "grade" in text else f"of {text}")
    aspects = ["correctness", "detail", "context", "temporal", "consistency"]
    result, rows = measure(tmp_path, groups, name="generative", kind="generative", aspects=aspects)
    assert [text for videos, text in model.asked if videos] == ["Who?", "What person?", "Why?", "How come?"]
    assert rows[1]["prediction_paraphrase"] == "of How come?"
    shown = [text for _, text in model.asked if "Question 2: How come?" in text]
    assert len(shown) == 1 and "Answer to grade 2: of How come?" in shown[0]
    assert result["generative"] == {"value": 4.0, "ci": [4.0, 4.0]}


def test_a_row_without_a_second_wording_is_named_before_any_work(tmp_path, models):
    models["model"] = model = Answering("model", str)
    with pytest.raises(DataError, match=r"missing_paraphrase.*rows.jsonl, row a1"):
        measure(tmp_path, [clip("a1", "Who?", "Ann.")], name="c", kind="generative", aspects=["consistency"])
    assert not model.asked


def test_the_oracle_of_the_world_stands_beside_the_judge(tmp_path, models):
    scenes = [sample_clip(ClipConfig(), "test", np.random.default_rng(n)) for n in range(3)]
    truths = [narrate(scene) for scene in scenes]
    groups = [clip(f"{name}1", f"Describe {n}.", truths[n], scene=scenes[n].to_dict()) for n, name in enumerate("abc")]
    said = dict(zip(("Describe 0.", "Describe 1.", "Describe 2."), (truths[0], "", truths[2]), strict=True))
    models["model"] = Answering("model", said.get)
    models["judge"] = Answering("judge", lambda text: "1" if "grade: \n" in text else "4")
    result, rows = measure(
        tmp_path, groups, judge="judge", name="test", kind="generative", aspects=["detail"],
        scorer="triptych.world.clip_oracle:score_clip",
    )  # fmt: skip
    assert [row["true"]["detail"] for row in rows] == [5.0, 0.0, 5.0]
    assert result["true_detail_test"]["value"] == pytest.approx(10 / 3)
    assert result["judge_error_detail_test"]["value"] == 1.0
    assert result["judge_bias_detail_test"]["value"] == pytest.approx(-1 / 3)
    assert result["judge_correlation_detail_test"]["value"] == pytest.approx(1.0)


def test_without_a_judge_the_oracle_scores_alone_and_nobody_is_asked(tmp_path, models):
    models["model"] = model = Answering("model", lambda text: "x")
    known = {"name": "generic", "kind": "generative", "judged": False}
    with pytest.raises(TriptychError, match="neither a judge nor a `scorer`"):
        measure(tmp_path, [clip("a1", "q", "r")], **known)
    shutil.rmtree(tmp_path / "out")
    result, _ = measure(tmp_path, [clip("a1", "q", "r")], scorer="tests.stages.test_video_kinds:half", **known)
    told = {"true_correctness", "true_detail", "true_context", "length_generic"}
    assert set(result) == told and len(model.asked) == 1


def test_the_second_wording_counts_for_consistency_alone(tmp_path, models):
    models["model"] = Answering("model", lambda text: "right" if text == "Who?" else "wrong")
    groups = [clip("a1", "Who?", "Ann.", paraphrase="What person?")]
    known = {"name": "generic", "kind": "generative", "judged": False, "aspects": ["detail", "consistency"]}
    result, _ = measure(tmp_path, groups, scorer="tests.stages.test_video_kinds:is_right", **known)
    assert (result["true_detail"]["value"], result["true_consistency"]["value"]) == (5.0, 0.0)


def is_right(text, group):
    """A scorer that knows both aspects."""
    return dict.fromkeys(("detail", "consistency"), 5.0 * (text == "right"))


def half(text, group):
    """A scorer."""
    return {"num_claims": 2, "num_wrong": 1, "coverage": 0.5}


def test_question_answering_is_matched_by_judge_and_rules(tmp_path, models):
    groups = [clip("a1", "What?", "cat"), clip("a2", "How many?", "2"), clip("b1", "Why?", "dog")]
    said = {"What?": "A cat.", "How many?": "There are two.", "Why?": "Hm."}
    models["model"] = Answering("model", said.get)
    replies = {"cat": "{'pred': 'yes', 'score': 4.8}", "2": "No, 1.", "dog": "I cannot say."}
    models["judge"] = Answering("judge", lambda text: next(v for k, v in replies.items() if f"answer: {k}\n" in text))
    result, rows = measure(tmp_path, groups, judge="judge", name="msvd", kind="video_qa")
    assert [row["verdict"] for row in rows] == ["correct", "wrong", "unread"]
    assert [row["score"] for row in rows] == [4.8, 1.0, None]
    assert result["msvd"]["value"] == 0.5 and result["score_msvd"]["value"] == pytest.approx(2.9)
    assert result["unread_msvd"] == share(1, 3)
    assert result["exact_msvd"]["value"] == pytest.approx(1 / 3)
    assert result["contained_msvd"]["value"] == pytest.approx(2 / 3)
    assert result["judge_agreement_msvd"]["value"] == 1.0


def test_replies_that_a_killed_run_has_stored_are_not_asked_for_again(tmp_path, models):
    groups = [clip(f"{name}1", f"{name}?", f"{name}.") for name in "abcd"]

    class Killed(Exception):
        pass

    def dies(text):
        if "d?" in text:
            raise Killed
        return "yes, 5"

    models["model"] = model = Answering("model", lambda text: text.upper())
    models["judge"] = judge = Answering("judge", dies)
    known = {"judge": "judge", "name": "qa", "kind": "video_qa"}
    with pytest.raises(Killed):
        measure(tmp_path, groups, **known)
    assert len(model.asked) == len(judge.asked) == 4
    judge.asked, judge.reply = [], lambda text: "yes, 5"
    resumed, rows = measure(tmp_path, groups, **known)
    assert len(model.asked) == 4 and len(judge.asked) == 1  # the reply that never came
    assert (resumed["qa"]["value"], len(rows)) == (1.0, 4)
    assert {path.name for path in (tmp_path / "out").glob("*.jsonl")} == {"samples.jsonl"}


def test_captions_find_their_videos(tmp_path, models):
    captions = {"a": "A red star enters.", "b": "A blue circle leaves.", "c": "Nothing moves."}
    groups = [clip(f"{name}1", f"{name}: sum up.", captions=[text, text]) for name, text in captions.items()]
    models["model"] = Answering("model", lambda text: "Something." if text[0] == "c" else captions[text[0]])
    result, rows = measure(tmp_path, groups, name="retrieval", kind="retrieval")
    assert [row["better"] for row in rows] == [[0, 0], [0, 0], [0, 0]]
    assert rows[2]["tied"] == [3, 3]  # no word in common with any caption
    assert result["r1_retrieval"]["value"] == pytest.approx((2 + 2 + 2 / 3) / 6)
    assert result["r5_retrieval"]["value"] == 1.0 and result["median_rank_retrieval"]["value"] == 1.0


def test_actions_are_named_in_words(tmp_path, models):
    groups = [clip("a1", "1", "moving left"), clip("b1", "2", "moving right"), clip("c1", "3", "turning red")]
    models["model"] = Answering("model", {"1": "It is moving left.", "2": "It turns red.", "3": "turning red"}.get)
    result, rows = measure(tmp_path, groups, name="actions", kind="actions", limit=2)
    assert [row["verdict"] for row in rows] == ["correct", "wrong"]
    assert result["actions"]["value"] == 0.5 and result["top5_actions"]["value"] == 1.0
    assert "turning red" in rows[0]["top"]  # a class that lies beyond the limit


def test_a_benchmark_is_read_in_its_own_layout(tmp_path, models):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "v_x.mp4").write_bytes(b"x")
    path = tmp_path / "generic_qa.json"
    path.write_text(json.dumps([{"video_name": "v_x", "Q": "What?", "A": "A cat."}]))
    models["model"] = model = Answering("model", lambda text: "3")
    root = str(tmp_path / "videos")
    task = Task(name="generic", kind="generative", data=str(path), layout="video_chatgpt", root=root)
    result, _ = run(tmp_path, task)
    assert model.asked[0] == (["v_x.mp4"], "What?") and result["detail"]["value"] == 3.0


@pytest.mark.parametrize(
    ("tasks", "settings", "message"),
    [
        ([{"aspects": []}], {}, "names none"),
        ([{"aspects": ["detail", "detail"]}], {}, "one twice"),
        ([{"question": "What?"}], {}, "with `layout`"),
        ([{"name": "generic", "kind": "generative"}, {"name": "temporal", "kind": "generative"}], {}, "same aspect"),
        ([{"kind": "actions", "by": "likelihood"}], {"backend": {"kind": "server"}}, "likelihood needs"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tasks, settings, message):
    whole = [{"name": "t", "data": "x"} | task for task in tasks]
    with pytest.raises(TriptychError, match=message):
        load_config(EvaluateConfig, None, {"model": "m", "out": "o", "tasks": whole} | settings)
