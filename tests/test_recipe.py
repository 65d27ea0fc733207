"""Recipes: the whole chain in small, and its summary."""

import json
from pathlib import Path

import pytest

from tests.support.smoke import RECIPE, recipe
from triptych.config import load_config
from triptych.errors import TriptychError
from triptych.recipe import Recipe, run_recipe

QUICKSTART = RECIPE.with_name("quickstart.yaml")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return run_recipe(RECIPE, tmp_path_factory.mktemp("whole") / "run")


def test_the_whole_chain_runs_and_sums_up(whole_run):
    summary = json.loads((whole_run / "summary.json").read_text())
    assert list(summary["metrics"]) == ["sft", "mpo", "sft_on_chosen", "dpo"]
    assert list(summary["stages"]) == [stage.name for stage in recipe().stages]
    assert summary["seconds"] == pytest.approx(sum(summary["stages"].values()), abs=1)
    wanted = {"direct", "cot", "unparsed", "hallucination", "hallucination_sampled", "coverage"}
    for results in summary["metrics"].values():
        assert wanted <= results.keys()
        assert all(set(results[name]) == {"value", "ci"} for name in wanted)
    assert (whole_run / "report.html").stat().st_size > 10_000


def test_a_finished_recipe_given_again_changes_no_figure(whole_run):
    before = json.loads((whole_run / "summary.json").read_text())["metrics"]
    run_recipe(RECIPE, whole_run)
    assert json.loads((whole_run / "summary.json").read_text())["metrics"] == before


def test_every_shipped_recipe_loads():
    for path in Path(RECIPE).parent.glob("*.yaml"):
        assert load_config(Recipe, path).source, path


def test_the_smoke_recipe_has_the_stages_of_the_quickstart():
    quickstart = load_config(Recipe, QUICKSTART)
    assert [(s.name, s.verb) for s in recipe().stages] == [(s.name, s.verb) for s in quickstart.stages]


def test_an_unknown_verb_is_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\nstages: [{name: a, verb: fly}]\n")
    with pytest.raises(TriptychError, match="fly"):
        run_recipe(path, tmp_path / "run")


def test_two_stages_of_one_name_are_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\nstages: [{name: a, verb: report}, {name: a, verb: report}]\n")
    with pytest.raises(TriptychError, match="called a"):
        run_recipe(path, tmp_path / "run")
