"""Settings of an evaluation that are refused before anything is loaded."""

import pytest

from triptych.config import load_config
from triptych.errors import TriptychError
from triptych.stages.evaluate_config import EvaluateConfig

SETTINGS = {"model": "m", "out": "o", "data": "rows.jsonl"}
SERVER = {"backend": {"kind": "server"}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"best_of": 4}, "go together"),
        ({"reward_model": "r"}, "go together"),
        ({"best_of": 0, "reward_model": "r"}, "at least 1"),
        ({"best_of": 4, "reward_model": "r", "best_of_temperature": 0.0}, "greedy answers are all the same"),
        ({"best_of": 4, "reward_model": "r", "reference": "m"}, "best_of is no model"),
        ({"reference": "m"} | SERVER, "backend.kind: local"),
        (
            {"tasks": [{"name": "j", "data": "d", "kind": "judge", "judge": {"by": "likelihood"}}]} | SERVER,
            "likelihood",
        ),
        ({"tasks": [{"name": "j", "data": "d", "oracle": "a:b"}]}, "kind accuracy"),
        ({"tasks": [{"name": "j", "data": "d", "judge": {"context": False}}]}, "kind accuracy"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(TriptychError, match=message):
        load_config(EvaluateConfig, None, SETTINGS | settings)


def test_a_task_has_the_settings_of_a_judge_that_pairs_has():
    task = {"name": "j", "data": "d", "kind": "judge", "judge": {"by": "likelihood", "context_frames": 4}}
    [read] = load_config(EvaluateConfig, None, {"model": "m", "out": "o", "tasks": [task]}).tasks
    assert (read.judge.by, read.judge.context_frames, read.judge.context) == ("likelihood", 4, True)
