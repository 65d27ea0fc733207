"""Supervised fine-tuning as a curriculum: two parts against two runs, and kills in and between parts."""

import json

import pytest
import torch
from safetensors.torch import load_file

import triptych.stages.sft as sft
from tests.stages.growing_rows import BATCH, NUM_ROWS, write_source
from tests.support.ranks import run_ranks
from tests.support.runs import curve
from triptych.engine.loop import TrainingLoop
from triptych.models.loading import load_model
from triptych.stages.sft_config import CurriculumPart, SftConfig

SETTINGS = {
    "learning_rate": 1e-2,
    "eps": 1e-3,  # else an element whose gradient is all rounding would move by the learning rate
    "per_device_train_batch_size": BATCH,
    "row_tokens": 256,
    "logging_steps": 1,
    "save_steps": 2,
}
FREEZE = ["model.language_model"]
EASY, HARD = {"name": "easy", "share": 0.5}, {"name": "hard", "learning_rate": 5e-3}
ADAPTERS = [EASY | {"lora_r": 2}, HARD | {"lora_r": 4}]


@pytest.fixture(scope="module")
def source(tmp_path_factory, picture_root):
    """Return a function that writes rows by their numbers and returns the source."""
    folder = tmp_path_factory.mktemp("rows")
    return lambda numbers, name="rows", **settings: write_source(folder, picture_root, numbers, name, **settings)


@pytest.fixture(scope="module")
def train(tiny_folder, source):
    """Return a function that runs the stage into a folder and returns the folder."""

    def run(out, parts=(), model=None, **settings):
        settings = {"sources": [source([3, 6, 0, 5, 1, 7, 4, 2])]} | SETTINGS | settings
        parts = [CurriculumPart(**part) for part in parts]
        sft.run(SftConfig(model=str(model or tiny_folder("mm1")), out=str(out), curriculum=parts, **settings))
        return out

    return run


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same_run(folder, expected):
    assert curve(folder) == curve(expected)
    assert_equal(weights(folder / "model"), weights(expected / "model"))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert not [name for name in found if not torch.equal(found[name], expected[name])]


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """Uninterrupted runs: the second part goes on with the same weights, other frozen modules, or other adapters."""
    folder = tmp_path_factory.mktemp("whole")
    variants = {"same": [EASY, HARD], "freeze": [EASY, HARD | {"freeze": FREEZE}], "adapters": ADAPTERS}
    return {name: (train(folder / name, parts), parts) for name, parts in variants.items()}


def test_a_curriculum_of_one_part_is_a_run_without_one(train, tmp_path):
    plain = train(tmp_path / "plain")
    one = train(tmp_path / "one", [{"name": "all"}])
    assert len(curve(plain)) == NUM_ROWS // BATCH
    assert curve(one, "part") == curve(plain)
    assert {row["part"] for row in curve(one)} == {"all"} and "part" not in curve(plain)[0]
    assert_equal(weights(one / "model"), weights(plain / "model"))


@pytest.mark.parametrize("name", ["same", "freeze", "adapters"])
def test_a_curriculum_is_one_run_after_the_other(name, train, source, tmp_path):
    """Two runs of the stage are the oracle: a step takes all rows of a part, so their order is one of addition only."""
    rows = {"easy": source(range(4), name="easy"), "hard": source(range(4, 8), name="hard")}
    own = {"same": ({}, {}), "freeze": ({}, {"freeze": FREEZE}), "adapters": ({"lora_r": 2}, {"lora_r": 4})}[name]
    settings = [{"max_steps": 3, "warmup_ratio": 0.5} | own[0], {"max_steps": 2, "learning_rate": 5e-3} | own[1]]
    common = {"per_device_train_batch_size": 4, "sources": []}
    parts = [{"name": part, "sources": [rows[part]]} | changes for part, changes in zip(rows, settings, strict=True)]
    both = train(tmp_path / "both", parts, **common)
    first = train(tmp_path / "first", **(common | {"sources": [rows["easy"]]} | settings[0]))
    second = train(tmp_path / "second", model=first / "model", **(common | {"sources": [rows["hard"]]} | settings[1]))
    curves = [[row[key] for row in curve(first) + curve(second)] for key in ("loss", "learning_rate", "grad_norm")]
    for key, expected in zip(("loss", "learning_rate", "grad_norm"), curves, strict=True):
        assert [row[key] for row in curve(both)] == pytest.approx(expected, rel=2e-5)
    assert [row["part"] for row in curve(both)] == ["easy"] * 3 + ["hard"] * 2
    for handed, folder in [(both / "model", second / "model")] + [(both / "parts/easy", first / "model")] * (
        name != "same"
    ):
        found, expected = weights(handed), weights(folder)
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=0, atol=2e-6)
    assert (both / "parts").exists() == (name != "same")


def test_a_part_trains_only_what_it_does_not_freeze(whole, tiny_folder):
    folder = whole["freeze"][0]
    start, easy, end = (weights(path) for path in (tiny_folder("mm1"), folder / "parts/easy", folder / "model"))
    frozen = {name for name in end if name.startswith(FREEZE[0])}
    moved = [{name for name in end if not torch.equal(a[name], b[name])} for a, b in ((start, easy), (easy, end))]
    assert frozen & moved[0] and moved[1] and not frozen & moved[1]
    load_model(folder / "parts/easy")  # an ordinary model folder


def test_every_line_names_its_part_and_the_result_tells_of_all(whole, capsys, train, tmp_path):
    folder = whole["same"][0]
    assert [(row["step"], row["part"]) for row in curve(folder)] == [(1, "easy"), (2, "easy"), (3, "hard"), (4, "hard")]
    result = json.loads((folder / "done.json").read_text())["result"]
    assert result["steps"] == 4
    assert [(part["name"], part["steps"], part["rows"]) for part in result["parts"]] == [("easy", 2, 4), ("hard", 2, 4)]
    assert result["parts"][0]["answer_tokens"] < result["parts"][1]["answer_tokens"]
    train(tmp_path / "printed", [EASY | {"max_steps": 1}, HARD | {"max_steps": 1}])
    title, header, easy, hard = capsys.readouterr().err.splitlines()[:4]
    assert title.startswith("Curriculum by answer_tokens, easy_first")
    assert header.split() == ["part", "rows", "steps", "answer", "tokens", "difficulty"]
    assert (easy.split()[:3], hard.split()[:3]) == (["easy", "4", "1"], ["hard", "4", "1"])


def test_the_schedule_starts_anew_with_each_part(train, tmp_path):
    rates = {"lr_scheduler": "linear", "warmup_ratio": 0.0}
    parts = [EASY | {"max_steps": 4}, HARD | {"max_steps": 2, "warmup_ratio": 0.5}]
    folder = train(tmp_path / "run", parts, **rates)
    # Linearly from 1e-2 over four steps; then one step of warm-up, and the fall from 5e-3 over the one that is left.
    expected = [1e-2, 0.75e-2, 0.5e-2, 0.25e-2, 5e-3, 5e-3]
    assert [row["learning_rate"] for row in curve(folder)] == pytest.approx(expected, rel=1e-12)


class Killed(Exception):
    """Stands for SIGKILL: nothing of the stage runs after it."""


def kill_in_step(number):
    """Stop after update `number`, checkpoint and all."""

    def patch(patched):
        update = TrainingLoop.update

        def update_and_die(self, **metrics):
            update(self, **metrics)
            if self.step == number:
                raise Killed

        patched.setattr(TrainingLoop, "update", update_and_die)

    return patch


def kill_while_handing_over(patched):
    """Stop when the model is written, but not yet in its place."""

    def write_and_die(self, processor, folder):
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
        raise Killed

    patched.setattr(TrainingLoop, "write_model", write_and_die)


def kill_after_handing_over(patched):
    """Stop right after the model is in its place."""
    hand_over = sft._hand_over

    def hand_over_and_die(*args):
        hand_over(*args)
        raise Killed

    patched.setattr(sft, "_hand_over", hand_over_and_die)


@pytest.mark.parametrize(
    ("name", "kill", "save_steps"),
    [
        *(("same", kill_in_step(number), 2) for number in (1, 2, 3, 4)),
        *(("same", kill_in_step(number), 3) for number in (2, 3)),
        *(("freeze", kill_in_step(number), 2) for number in (1, 2, 3)),
        ("freeze", kill_in_step(3), 3),
        ("freeze", kill_while_handing_over, 2),
        ("freeze", kill_after_handing_over, 3),
        ("adapters", kill_in_step(2), 2),
        ("adapters", kill_after_handing_over, 2),
    ],
)
def test_a_curriculum_killed_anywhere_ends_with_the_same_curve_and_weights(
    whole, train, name, kill, save_steps, tmp_path, monkeypatch
):
    expected, parts = whole[name]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill(patched)
        train(tmp_path / "killed", parts, save_steps=save_steps)
    assert_same_run(train(tmp_path / "killed", parts, save_steps=save_steps), expected)


def test_several_ranks_hand_over_too(whole, train, tmp_path):
    expected, parts = whole["freeze"]
    run_ranks(train, tmp_path / "ranks", parts)
    for row, other in zip(curve(tmp_path / "ranks", "part"), curve(expected, "part"), strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-5)
    found, others = weights(tmp_path / "ranks/model"), weights(expected / "model")
    for name in others:
        torch.testing.assert_close(found[name], others[name], rtol=0, atol=3e-5)  # steps move weights by up to 1e-2
