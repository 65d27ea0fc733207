"""Studies of one choice."""

import importlib
import json
from pathlib import Path

import pytest

from triptych.config import load_config
from triptych.errors import TriptychError
from triptych.lab import variants
from triptych.lab.variants import (
    VariantStudy,
    VariantTarget,
    load_study,
    study_stages,
    summarise_variants,
    variant_lines,
)
from triptych.recipe import Recipe, RecipeStage

EVALUATE = RecipeStage(
    name="evaluate_sft",
    verb="evaluate",
    config={
        "model": "{base}/sft/model",
        "tasks": [{"name": "direct", "data": "{base}/world/test_direct.jsonl", "max_new_tokens": 4, "limit": 8}],
    },
)


def study(**changes):
    settings = {
        "name": "precision",
        "recipe": "smoke",
        "finding": "none",
        "stages": [EVALUATE],
        "variants": {"single": {"evaluate_sft.dtype": "float32"}, "half": {"evaluate_sft.dtype": "bfloat16"}},
        "metrics": ["sft.direct"],
    }
    return VariantStudy(**(settings | changes))


def test_means_and_paired_differences_are_those_worked_by_hand():
    found = {"single": [{"sft.direct": 0.5}, {"sft.direct": 0.7}], "half": [{"sft.direct": 0.4}, {"sft.direct": 0.5}]}
    result = summarise_variants(study(), found)
    assert result["variants"]["single"]["sft.direct"]["value"] == pytest.approx(0.6)
    difference = result["differences"]["single minus half"]["sft.direct"]
    assert difference["per_seed"] == pytest.approx([0.1, 0.2])
    # half-width of the t interval with one degree of freedom: 12.706 * 0.0707 / sqrt(2)
    assert difference["ci"][1] - difference["value"] == pytest.approx(12.7062 * 0.05, rel=1e-4)
    assert any(line.startswith("single minus half") for line in variant_lines(result))


def test_a_setting_of_no_stage_is_refused():
    with pytest.raises(TriptychError, match=r"sets dtype, mpo\.beta"):
        study(variants={"a": {"dtype": 1, "mpo.beta": 2}, "b": {}})


def test_one_variant_is_refused():
    with pytest.raises(TriptychError, match="two variants"):
        study(variants={"a": {}})


@pytest.mark.parametrize("path", sorted(Path("recipes/studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_studies_that_come_with_us_load_and_their_variants_are_configurations(path):
    known = load_study(path)
    assert known.name == path.stem
    stages = study_stages(known, load_config(Recipe, f"recipes/{known.recipe}.yaml"))
    for settings in known.variants.values():
        for stage in stages:
            module = importlib.import_module(f"triptych.stages.{stage.verb}")
            varied = variants._varied(stage, settings, Path("base/seed-0"))
            load_config(module.Config, None, {"out": "o"} | varied.config)


def test_a_target_holds_a_difference_between_variants():
    targets = [
        VariantTarget(metric="sft.direct", first="single", second="half", reached="high"),
        VariantTarget(name="surely", metric="sft.direct", first="half", second="single", reached="low"),
    ]
    found = {"single": [{"sft.direct": 0.5}, {"sft.direct": 0.7}], "half": [{"sft.direct": 0.4}, {"sft.direct": 0.5}]}
    result = summarise_variants(study(targets=targets), found)
    assert [(told["name"], told["met"]) for told in result["targets"]] == [
        ("sft.direct: single minus half", True),
        ("surely", False),
    ]
    assert result["targets"][0]["value"] == pytest.approx(0.15)
    assert variant_lines(result)[-1].endswith("target 0 surely: missed")


def test_stages_that_run_again_read_what_the_others_left_in_the_recipes_run():
    recipe = Recipe(
        name="r",
        stages=[
            RecipeStage(name="sft", verb="sft", config={"model": "{run}/pretrain/model"}),
            RecipeStage(
                name="mpo", verb="mpo", config={"model": "{run}/sft/model", "data": ["{run}/sft_pairs/p", "{run}/sft"]}
            ),
            RecipeStage(name="evaluate_mpo", verb="evaluate", config={"model": "{run}/mpo/model", "data": "{run}/sft"}),
        ],
    )
    own = RecipeStage(name="more", verb="evaluate", config={"model": "{run}/mpo/model"})
    again, measured, last = study_stages(
        study(again=["mpo", "evaluate_mpo"], stages=[own], variants={"a": {"mpo.beta": 0.1}, "b": {}}), recipe
    )
    assert again.config == {"model": "{base}/sft/model", "data": ["{run}/sft_pairs/p", "{base}/sft"]}
    assert measured.config == {"model": "{run}/mpo/model", "data": "{base}/sft"}
    assert last == own
    with pytest.raises(TriptychError, match=r"no stage dpo; it has sft, mpo"):
        study_stages(study(again=["dpo"], variants={"a": {}, "b": {}}), recipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [], "variants": {"a": {}, "b": {}}}, "run nothing"),
        ({"targets": [VariantTarget(metric="sft.direct", first="single", second="quarter")]}, "names quarter"),
        ({"targets": [VariantTarget(metric="sft.cot", first="single", second="half")]}, r"names sft\.cot"),
    ],
)
def test_a_study_that_cannot_be_held_to_what_it_says_is_refused(changes, message):
    with pytest.raises(TriptychError, match=message):
        study(**changes)


def test_variants_share_the_runs_of_the_recipe_and_differ_in_their_settings(tmp_path, monkeypatch):
    runs = []

    def run_seed(recipe, run, seed, threads):
        runs.append((recipe, run, seed))
        run.mkdir(parents=True, exist_ok=True)
        value = {"value": seed / 10, "ci": [0, 1]}
        (run / "summary.json").write_text(json.dumps({"metrics": {"sft": {"direct": value}}}))

    monkeypatch.setattr(variants, "run_seed", run_seed)
    result = variants.run_variants(study(), "recipes/smoke.yaml", tmp_path / "out", num_seeds=2, jobs=1)
    assert runs[:2] == [("recipes/smoke.yaml", tmp_path / f"out/base/seed-{seed}", seed) for seed in (0, 1)]
    assert sorted(str(run.relative_to(tmp_path)) for _, run, _ in runs[2:]) == [
        "out/half/seed-0", "out/half/seed-1", "out/single/seed-0", "out/single/seed-1",
    ]  # fmt: skip
    recipe = load_config(Recipe, tmp_path / "out/half/seed-1.yaml")
    (stage,) = recipe.stages
    assert (recipe.seed, stage.config["dtype"]) == (1, "bfloat16")
    assert stage.config["model"] == f"{tmp_path}/out/base/seed-1/sft/model"
    assert result["variants"]["half"]["sft.direct"]["per_seed"] == [0.0, 0.1]
    assert json.loads((tmp_path / "out/study.json").read_text()) == result


def test_runs_of_the_recipe_may_lie_elsewhere(tmp_path, monkeypatch):
    runs = []

    def run_seed(recipe, run, seed, threads):
        runs.append(run)
        run.mkdir(parents=True, exist_ok=True)
        (run / "summary.json").write_text('{"metrics": {"sft": {"direct": {"value": 0.5}}}}')

    monkeypatch.setattr(variants, "run_seed", run_seed)
    (tmp_path / "mine/seed-0").mkdir(parents=True)
    (tmp_path / "mine/seed-0/summary.json").write_text("{}")  # a finished run, which is taken as it is
    variants.run_variants(study(), "recipes/smoke.yaml", tmp_path / "out", num_seeds=2, base=tmp_path / "mine")
    assert runs[0] == tmp_path / "mine/seed-1"
    assert len(runs) == 1 + 2 * 2
