"""A model measured as a judge, as a stage; what answers and judges says what a test wants."""

import json
from pathlib import Path

import pytest

from tests.support.smoke import run_variant
from triptych.config import load_config
from triptych.data.rows import write_groups
from triptych.errors import TriptychError
from triptych.generation.protocol import Sample
from triptych.group import Completion, Group
from triptych.stages import evaluate, task_models
from triptych.stages.evaluate_config import EvaluateConfig
from triptych.world.clip_oracle import prefer

ORACLE = "tests.stages.test_judge_kind:shorter"


def shorter(first, second, group):
    """An oracle: the shorter answer is better."""
    return None if len(first) == len(second) else int(len(second) < len(first))


class Model:
    """Draws `answers`, tells of videos, and judges by `verdict(first, second, context)`."""

    independent, codec = True, None

    def __init__(self, name="model", answers=("good one", "bad"), verdict=lambda first, second, context: "A"):
        self.name, self.answers, self.verdict = name, answers, verdict
        self.drawn, self.judged, self.told = [], [], []

    def generate(self, requests, params, *, root):
        for request in requests:
            text = request.group.prompt[-1]["content"][-1]["text"]
            if "Answer A: " in text:
                self.judged.append(text)
                parts = [text.split(f"Answer {letter}: ")[1].split("\n")[0] for letter in "AB"]
                context = text.split("Context: ")[1].split("\n")[0] if "Context: " in text else ""
                yield [Sample(self.verdict(*parts, context), 1, False, 0)]
            elif text.startswith("Describe the video"):
                self.told.append(request.group.videos)
                yield [Sample("A star runs.", 4, False, 0)]
            else:
                numbers = range(request.first_sample, request.first_sample + request.num_samples)
                self.drawn.append((request.group.id, params.temperature))
                yield [Sample(self.answers[n], 2, False, n) for n in numbers]


@pytest.fixture
def models(monkeypatch):
    """Return a dictionary of the models there are, by the name of their folder."""
    known = {}
    monkeypatch.setattr(task_models, "make_generator", lambda model, *_, **__: known[Path(model).name])
    monkeypatch.setattr(evaluate, "check_media", list)  # these models look at nothing, and the files are not there
    return known


def clip(name, *answers):
    prompt = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": f"What of {name}?"}]}]
    return Group(name, prompt, videos=[f"{name[0]}.mp4"], completions=[Completion(text) for text in answers])


def measure(folder, groups, *tasks, out="out"):
    """Measure tasks of one file of rows with `model`; return results and stored rows."""
    write_groups(folder / "rows.jsonl", groups)
    for name in ("model", "other"):
        (folder / name).mkdir(exist_ok=True)
    common = {"kind": "judge", "data": str(folder / "rows.jsonl"), "oracle": ORACLE, "temperature": 1.0}
    settings = {"model": str(folder / "model"), "out": str(folder / out), "block_size": 2}
    config = load_config(EvaluateConfig, None, settings | {"tasks": [common | task for task in tasks]})
    result = evaluate.run(config)
    return result, [json.loads(line) for line in (folder / out / "samples.jsonl").read_text().splitlines()]


def by_length(first, second, context):
    return "A" if len(first) < len(second) else "B"


def test_a_judge_is_held_to_the_oracle_in_both_orders(tmp_path, models):
    models["model"] = model = Model(verdict=by_length)
    result, rows = measure(tmp_path, [clip("a1"), clip("b1"), clip("c1")], {"name": "short"})
    assert result["agreement_short"]["value"] == result["decided_short"]["value"] == 1.0
    assert result["first_short"]["value"] == 0.5 and result["num_judged_short"] == 3
    assert [row["answers"] for row in rows] == [["good one", "bad"]] * 3
    said = {"outcome": "second", "oracle": 1, "letters": ["B", "A"], "context": " ".join(["A star runs."] * 3)}
    assert rows[0] | said == rows[0]
    assert len(model.judged) == 6 and "Context: A star runs." in model.judged[0]


def test_a_judge_that_likes_the_first_place_is_a_coin(tmp_path, models):
    models["model"] = Model()
    result, _ = measure(tmp_path, [clip("a1"), clip("b1")], {"name": "first"})
    assert result["agreement_first"]["value"] == 0.5 and result["decided_first"]["value"] == 0.0
    assert result["first_first"]["value"] == 1.0 and "agreement_decided_first" not in result


def test_tasks_with_and_without_context_judge_the_same_answers_drawn_once(tmp_path, models):
    models["model"] = model = Model(verdict=lambda first, second, context: by_length(first, second, "") * bool(context))
    tasks = {"name": "context"}, {"name": "bare", "judge": {"context": False}}
    result, rows = measure(tmp_path, [clip("a1"), clip("a2"), clip("b1")], *tasks)
    assert [name for name, _ in model.drawn] == [name for name in ("a1", "a2", "b1") for _ in range(2)]
    assert [row["answers"] for row in rows if row["task"] == "bare"] == [["good one", "bad"]] * 3
    assert model.told == [["a.mp4"]] * 3 + [["b.mp4"]] * 3  # each clip once in its block, and not without context
    assert (result["agreement_context"]["value"], result["agreement_bare"]["value"]) == (1.0, 0.5)
    assert result["unparsed_bare"]["value"] == 1.0
    assert {path.name for path in (tmp_path / "out").glob("*.jsonl")} == {"samples.jsonl"}


def test_other_answers_are_not_shared(tmp_path, models):
    models["model"] = model = Model(verdict=by_length)
    tasks = {"name": "one"}, {"name": "warm", "temperature": 1.5}
    measure(tmp_path, [clip("a1")], *tasks)
    assert [temperature for _, temperature in model.drawn] == [1.0, 1.0, 1.5, 1.5]


def test_answers_of_rows_are_compared_two_by_two_and_equal_ones_are_not_judged(tmp_path, models):
    groups = [clip("a1", "one", "three", "four", "fives"), clip("b1", "same", "same"), clip("c1", "ab", "cd")]
    models["model"] = model = Model(verdict=by_length)
    result, rows = measure(tmp_path, groups, {"name": "given", "temperature": 0.0})
    assert not model.drawn and len(model.judged) == 4
    assert [row["id"] for row in rows] == ["a1/0", "a1/1", "b1", "c1"]
    assert [row["answers"] for row in rows] == [["one", "three"], ["four", "fives"], [], ["ab", "cd"]]
    assert (result["num_judged_given"], result["num_equal_given"]) == (2, 2)


def test_answers_may_come_from_another_model(tmp_path, models):
    models["model"] = model = Model(verdict=by_length)
    models["other"] = other = Model("other", answers=("theirs", "no"))
    _, rows = measure(tmp_path, [clip("a1")], {"name": "by", "answers_by": str(tmp_path / "other")})
    assert rows[0]["answers"] == ["theirs", "no"] and not model.drawn and not other.judged


def test_verdicts_that_a_killed_run_has_stored_are_not_asked_for_again(tmp_path, models):
    class Killed(Exception):
        pass

    def dies(first, second, context):
        if len(model.judged) == 7:
            raise Killed
        return by_length(first, second, context)

    models["model"] = model = Model(verdict=dies)
    groups = [clip(name) for name in ("a1", "b1", "c1", "d1")]
    with pytest.raises(Killed):
        measure(tmp_path, groups, {"name": "short"})
    drawn, told = len(model.drawn), len(model.told)
    model.judged = []
    model.verdict = by_length
    result, _ = measure(tmp_path, groups, {"name": "short"})
    assert (len(model.drawn), len(model.told)) == (drawn, told)
    assert len(model.judged) == 2  # the last two of eight; the first to fail was the seventh
    assert result["agreement_short"]["value"] == 1.0


def test_likelihoods_of_letters_come_with_confidences(small_run):
    data = "{run}/world/test_direct.jsonl"
    task = {"name": "judge", "kind": "judge", "data": data, "oracle": ORACLE, "temperature": 1.0, "max_new_tokens": 4}
    task |= {"judge": {"by": "likelihood", "context_tokens": 4}}
    folder = run_variant(small_run, "evaluate_sft", "evaluate-judge", tasks=[task])
    result = json.loads((folder / "done.json").read_text())["result"]
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    judged = [row for row in rows if row["oracle"] is not None]
    assert len(judged) == result["num_judged_judge"] > 0
    sure = [value for row in judged for value in row["confidences"]]
    assert len(sure) == 2 * len(judged) and all(0.5 <= value < 1 for value in sure)
    assert result["confidence_judge"]["value"] == pytest.approx(sum(sure) / len(sure))
    assert result["unparsed_judge"]["value"] == 0.0


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"oracle": ""}, "name the `oracle`"),
        ({"oracle": "no.such:function"}, "cannot be imported"),
        ({"temperature": 0.0}, "above 0"),
        ({"judge": {"min_confidence": 0.2}}, "min_confidence"),
        ({"judge": {"prompt": "Which?"}}, "lacks"),
        ({"judge": {"context_frames": 0}}, "max_frames"),
        ({"kind": "video_qa"}, "for the kind judge"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(tmp_path, models, task, message):
    models["model"] = model = Model()
    with pytest.raises(TriptychError, match=message):
        measure(tmp_path, [clip("a1")], {"name": "judge"} | task)
    assert not model.drawn


def test_the_worlds_oracle_agrees_with_itself(tmp_path, models):
    assert prefer.__module__ == "triptych.world.clip_oracle"  # the path that recipes name
    models["model"] = Model()
    result, _ = measure(tmp_path, [clip("a1")], {"name": "oracle", "judge": {"function": ORACLE}})
    assert result["agreement_oracle"]["value"] == 1.0
