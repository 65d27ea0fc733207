import json
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from triptych import cli
from triptych.errors import DataError

HEAVY = ("torch", "transformers", "datasets", "matplotlib", "numpy", "peft", "trl", "sklearn", "tensorboard")


def loaded_after(*words):
    """Return the modules a fresh process has loaded after running the command."""
    code = "import sys; from triptych.cli import main; main(sys.argv[1:]); print('|', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.rpartition("|")[2].split()}


def test_the_overview_loads_nothing_heavy():
    loaded = loaded_after("--help")
    assert not loaded & {*HEAVY, "jsonargparse", "yaml", "rich"}


def test_the_help_of_a_stage_loads_nothing_heavy():
    assert not loaded_after("sft", "--help") & set(HEAVY)


def test_the_overview_teaches_every_verb_by_an_example(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    for name, verb in cli.VERBS.items():
        assert f"\n  {name} " in shown
        assert verb.example in shown
        assert verb.example.startswith(f"triptych {name}")


@pytest.mark.parametrize("name", list(cli._STAGES))
def test_the_help_of_a_stage_has_its_example_and_the_defaults_of_its_fields(name, capsys):
    assert cli.main([*name.split(), "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"example: {cli.VERBS[name].example}" in shown
    assert "--seed SEED" in shown
    assert "default: 0)" in shown


@pytest.mark.parametrize("name", ["run", "quickstart", "report", "view", "data check", "data convert", "data export"])
def test_the_help_of_every_other_verb_has_its_example(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert cli.VERBS[name].example in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def toy_stage(tmp_path, monkeypatch):
    """The verb `sft` as a stage that returns what it was given."""
    source = """
        from dataclasses import dataclass

        @dataclass
        class Config:
            out: str
            seed: int = 0

        def run(config):
            if config.seed == 13:
                raise KeyboardInterrupt
            return {"seed": config.seed}
    """
    (tmp_path / "toy_stage_module.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli._STAGES, "sft", ("toy_stage_module:Config", "toy_stage_module:run"))
    return tmp_path


def test_a_stage_takes_a_file_and_overrides_and_prints_config_and_result(toy_stage, capsys):
    (toy_stage / "sft.yaml").write_text("out: somewhere\nseed: 1\n")
    assert cli.main(["sft", "--config", str(toy_stage / "sft.yaml"), "--seed", "2"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"seed": 2}
    assert "out: somewhere\nseed: 2\n" in captured.err


def test_a_finished_run_is_announced(toy_stage, capsys):
    (toy_stage / "done.json").write_text("{}")
    assert cli.main(["sft", "--out", str(toy_stage)]) == 0
    assert "holds a finished run; to run it again, delete that folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evalute"], "Unknown verb 'evalute'. Did you mean `triptych evaluate`?"),
        (["data", "chek", "x"], "Unknown verb 'data chek'. Did you mean `triptych data check`?"),
        (["sft", "--sed", "1", "--out", "x"], "Unknown key `sed`. Did you mean `seed`?"),
        (["sft"], "No value for `out`."),
        (["sft", "--config", "nowhere.yaml"], "Cannot read the configuration nowhere.yaml"),
        (["run", "nowhere"], "'nowhere' is neither a file nor one of the recipes"),
    ],
)
def test_a_mistake_is_one_sentence_without_a_traceback_and_exit_code_2(toy_stage, capsys, words, message):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("triptych: ")
    assert message in error
    assert "Traceback" not in error


def test_stopping_says_how_to_go_on(toy_stage, capsys):
    assert cli.main(["sft", "--out", "a folder", "--seed", "13"]) == 130
    assert "goes on from here:\n  triptych sft --out 'a folder' --seed 13\n" in capsys.readouterr().err


def test_a_recipe_is_run_with_its_settings(tmp_path, monkeypatch, capsys):
    calls = []
    fake = SimpleNamespace(run_recipe=lambda *arguments: calls.append(arguments) or arguments[1])
    monkeypatch.setitem(sys.modules, "triptych.recipe", fake)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\n")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "report.html").write_text("")
    assert cli.main(["run", str(recipe), "--out", str(tmp_path / "r"), "--seed", "1"]) == 0
    assert capsys.readouterr().out == f"Finished: {tmp_path / 'r' / 'report.html'}\n"
    assert cli.main(["run", str(recipe)]) == 0
    assert calls[0] == (recipe, tmp_path / "r", ["--seed", "1"])
    assert [str(calls[1][1]), calls[1][2]] == ["runs/mine", []]
    assert capsys.readouterr().out == "Finished: runs/mine\n"


@pytest.mark.parametrize(
    ("words", "name"),
    [([], "quickstart"), (["--panel", "image"], "quickstart"), (["--panel", "video"], "quickstart-video")],
)
def test_the_quickstart_is_the_recipe_of_its_panel_that_comes_along(words, name, monkeypatch):
    calls = []
    fake = SimpleNamespace(run_recipe=lambda *arguments: calls.append(arguments) or arguments[1])
    monkeypatch.setitem(sys.modules, "triptych.recipe", fake)
    assert cli.main(["quickstart", *words, "--seed", "1"]) == 0
    assert calls[0][0].name == f"{name}.yaml" and calls[0][0].is_file()
    assert (str(calls[0][1]), calls[0][2]) == (f"runs/{name}", ["--seed", "1"])


def test_a_panel_that_there_is_not_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["quickstart", "--panel", "sound"])
    assert stop.value.code == 2
    assert "'image', 'video'" in capsys.readouterr().err


def test_a_recipe_has_to_be_named_first(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "--seed", "1", "mine.yaml"])
    assert stop.value.code == 2
    assert "name a recipe" in capsys.readouterr().err


def test_the_world_is_written_to_the_folder_named_first(monkeypatch, capsys):
    seen = []

    def write(config, progress):
        progress(2, 4)
        seen.append((config.out, config.seed))
        return {"rows": 4}

    monkeypatch.setattr("triptych.world.stage.run", write)
    assert cli.main(["world", "write", "data/world", "--seed", "3"]) == 0
    assert seen == [("data/world", 3)]
    assert json.loads(capsys.readouterr().out) == {"rows": 4}


@pytest.fixture
def rows(tmp_path):
    """A file of rows of which the second names a picture that is not there."""
    good = {"id": "good", "prompt": [{"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}]}
    bad = {"id": "bad", "prompt": [{"role": "user", "content": [{"type": "image"}]}], "images": ["missing.png"]}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    return path


def test_checking_data_names_the_faults_and_exits_with_1(rows, capsys):
    assert cli.main(["data", "check", str(rows), "--root", str(rows.parent)]) == 1
    shown = capsys.readouterr().out
    assert "missing.png" in shown
    assert "bad" in shown


def test_checking_faultless_data_exits_with_0(rows, capsys):
    rows.write_text(rows.read_text().splitlines()[0] + "\n")
    assert cli.main(["data", "check", str(rows), "--decode-media"]) == 0
    assert "no faults" in capsys.readouterr().out


def test_faulty_rows_can_be_set_aside(rows, tmp_path, capsys):
    assert cli.main(["data", "check", str(rows), "--quarantine", str(tmp_path / "clean")]) == 1
    for name, ids in {"rows.jsonl": ["good"], "quarantine.jsonl": ["bad"]}.items():
        lines = (tmp_path / "clean" / name).read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines] == ids


def test_rows_are_converted(tmp_path, capsys):
    source, target = tmp_path / "trl.jsonl", tmp_path / "rows.jsonl"
    row = {
        "prompt": [{"role": "user", "content": "1 + 1?"}],
        "chosen": [{"role": "assistant", "content": "2"}],
        "rejected": [{"role": "assistant", "content": "3"}],
    }
    source.write_text(json.dumps(row) + "\n")
    assert cli.main(["data", "convert", str(source), str(target), "--from", "trl"]) == 0
    texts = [completion["text"] for completion in json.loads(target.read_text())["completions"]]
    assert sorted(texts) == ["2", "3"]
    assert "1 rows written" in capsys.readouterr().out


def test_a_report_is_written_and_its_path_printed(monkeypatch, capsys):
    fake = SimpleNamespace(build_report=lambda run: run / "report.html")
    monkeypatch.setitem(sys.modules, "triptych.report.build", fake)
    assert cli.main(["report", "runs/mine"]) == 0
    assert capsys.readouterr().out == "runs/mine/report.html\n"


def test_an_error_of_the_data_keeps_file_row_and_remedy(toy_stage, monkeypatch, capsys):
    def fail(config):
        raise DataError("It is torn.", remedy="Mend it.", kind="image_torn", file="rows.jsonl", row=3)

    import toy_stage_module

    monkeypatch.setattr(toy_stage_module, "run", fail)
    assert cli.main(["sft", "--out", "x"]) == 2
    assert "[image_torn] file rows.jsonl, row 3: It is torn. Remedy: Mend it." in capsys.readouterr().err
