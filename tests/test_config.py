from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.config import config_dict, config_parser, load_config, read_yaml, save_config, words_to_overrides
from triptych.errors import TriptychError


@dataclass
class Optimizer:
    """How to step."""

    name: Literal["adamw", "muon"] = "adamw"
    """Which one."""
    learning_rate: float = 1e-3
    """Peak of the schedule."""
    betas: tuple[float, float] = (0.9, 0.999)
    multipliers: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be positive")


@dataclass
class Source:
    path: str
    weight: float = 1.0


@dataclass
class Config:
    """A stage."""

    model: str = "m"
    seed: int = 0
    verbose: bool = False
    root: Path | None = None
    max_steps: int | None = None
    names: list[str] = field(default_factory=list)
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(learning_rate=0.5))
    sources: list[Source] = field(default_factory=list)
    named: dict[str, Source] = field(default_factory=dict)
    extra: Source | None = None
    free: dict[str, Any] = field(default_factory=dict)


def write(folder, text):
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_defaults_file_and_overrides_in_order_of_strength(tmp_path):
    path = write(tmp_path, "seed: 1\nmodel: file\noptimizer:\n  name: muon\n")
    config = load_config(Config, path, ["--seed", "2", "--optimizer.betas=[0.8, 0.9]"])
    assert (config.seed, config.model, config.verbose) == (2, "file", False)
    assert config.optimizer == Optimizer("muon", 0.5, (0.8, 0.9)), "the rest of the nested default stays"
    assert load_config(Config) == Config()
    assert load_config(Config, write(tmp_path, "")) == Config()


@pytest.mark.parametrize("text", ["1e-5", "1.0e-5", "0.00001", "1E-5"])
def test_numbers_with_an_exponent_are_floats_wherever_they_stand(tmp_path, text):
    path = write(tmp_path, f"optimizer: {{learning_rate: {text}}}\nfree: {{a: {text}}}\n")
    config = load_config(Config, path)
    assert config.optimizer.learning_rate == config.free["a"] == 1e-5
    assert load_config(Config, None, ["--optimizer.learning_rate", text]).optimizer.learning_rate == 1e-5
    assert load_config(Config, None, {"optimizer.learning_rate": float(text)}).optimizer.learning_rate == 1e-5


def test_words_are_read_by_the_type_of_their_field():
    words = ["--model", "7", "--seed", "7", "--verbose", "true", "--max_steps", "null", "--root", "a/b"]
    words += ["--names", "[x, y]", "--sources", "[{path: p, weight: 2}]", "--free.layers", "4", "--free.tag", "'4'"]
    config = load_config(Config, None, words)
    assert (config.model, config.seed, config.verbose, config.max_steps) == ("7", 7, True, None)
    assert config.root == Path("a/b")
    assert config.names == ["x", "y"]
    assert config.sources == [Source("p", 2.0)]
    assert config.free == {"layers": 4, "tag": "4"}


def test_one_word_is_a_list_of_one_and_dashes_are_underscores():
    assert load_config(Config, None, ["--names", "x", "--max-steps", "3"]) == Config(names=["x"], max_steps=3)


def test_nested_lists_dicts_and_optional_dataclasses_are_built(tmp_path):
    text = "sources: [{path: a}, {path: b, weight: 3}]\nnamed: {x: {path: c}}\nextra: {path: d}\n"
    config = load_config(Config, write(tmp_path, text))
    assert config.sources == [Source("a"), Source("b", 3.0)]
    assert config.named == {"x": Source("c")}
    assert config.extra == Source("d")


def test_dotted_keys_work_in_files_and_mappings_alike(tmp_path):
    path = write(tmp_path, "optimizer.learning_rate: 0.25\n")
    config = load_config(Config, path, {"optimizer": {"name": "muon"}, "optimizer.multipliers.vision": 0.1})
    assert config.optimizer == Optimizer("muon", 0.25, multipliers={"vision": 0.1})


def test_strings_from_a_file_stay_strings_in_untyped_values(tmp_path):
    text = """free: {path: "{run}/model", braces: "{run}", version: "1e-5", none: "null", deep: {list: ["[1]"]}}\n"""
    free = load_config(Config, write(tmp_path, text)).free
    assert free == {
        "path": "{run}/model",
        "braces": "{run}",
        "version": "1e-5",
        "none": "null",
        "deep": {"list": ["[1]"]},
    }


def test_a_class_path_in_an_untyped_value_is_data_and_never_called(tmp_path):
    target = tmp_path / "created"
    spec = {"class_path": "pathlib.Path.touch", "init_args": {"self": str(target)}}
    popen = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(target)]}}
    assert load_config(Config, None, {"free": {"a": spec, "b": popen}}).free == {"a": spec, "b": popen}
    assert not target.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--sead", "1"], "Unknown key `sead`. Did you mean `seed`?"),
        (["--learning_rate", "1"], "Unknown key `learning_rate`. Did you mean `optimizer.learning_rate`?"),
        ({"optimizer": {"lerning_rate": 1}}, "`optimizer.lerning_rate`. Did you mean `optimizer.learning_rate`?"),
        (
            {"sources": [{"path": "a"}, {"path": "b", "wieght": 2}]},
            "`sources.1.wieght`. Did you mean `sources.weight`?",
        ),
        ({"zzz": 1}, "Unknown key `zzz`. Known keys: extra, free, max_steps"),
        (["--seed", "many"], "`seed` must be int, not 'many'"),
        ({"seed": 1.5}, "`seed` must be int, not 1.5"),
        ({"max_steps": "x"}, "`max_steps` must be int or null, not 'x'"),
        ({"model": 3}, "`model` must be str, not 3"),
        ({"names": 3}, "`names` must be list[str], not 3"),
        ({"optimizer.name": "sgd"}, "`optimizer.name` must be 'adamw' or 'muon', not 'sgd'"),
        ({"optimizer": 3}, "`optimizer` must be a mapping of the keys of Optimizer, not 3"),
        ({"sources": {"path": "a"}}, "`sources` must be list[Source], not {'path': 'a'}"),
        ({"sources": [{"weight": 1}]}, "No value for `sources.0.path`"),
        ({"free": [1]}, "`free` must be dict[str, Any], not [1]"),
        (["--optimizer.learning_rate", "0"], "learning_rate is 0.0; it must be positive"),
        (["--sources", "[{"], "`sources` is not valid YAML: '[{'"),
        (["--seed"], "--seed lacks a value"),
        (["seed", "3"], "Unexpected word 'seed'; options are written as --key value"),
    ],
)
def test_mistakes_are_named_with_what_was_meant(overrides, message):
    with pytest.raises(TriptychError) as error:
        load_config(Config, None, overrides)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [1", "is not valid YAML"),
        ("seed: 1\nseed: 2\n", "seed is given twice"),
        ("- 1\n", "holds a list; a configuration is a mapping"),
        ("!!python/object/apply:os.getcwd []\n", "is not valid YAML"),
        ("model: 2026-02-30\n", "is not valid YAML"),
    ],
)
def test_a_malformed_file_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(TriptychError, match=r"config\.yaml") as error:
        load_config(Config, write(tmp_path, text))
    assert message in str(error.value)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(TriptychError, match=r"Cannot read the configuration .*nowhere\.yaml"):
        load_config(Config, tmp_path / "nowhere.yaml")


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs", "Cc"]))
    | st.sampled_from(["1e-5", "null", "yes", "~", "[1]", "0x1"]),
    number=st.floats(min_value=1e-300, max_value=1e300),
)
def test_what_is_saved_is_read_back_equal(tmp_path_factory, text, number):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    config = Config(
        model=text,
        root=Path("data"),
        names=[text],
        optimizer=Optimizer("muon", number, (0.1, 0.2)),
        sources=[Source(text, number)],
        free={"text": text, "number": number, "list": [1, None, True]},
    )
    save_config(config, path)
    assert load_config(Config, path) == config


def test_the_dictionary_of_a_config_is_json_ready():
    values = config_dict(Config(root=Path("a"), sources=[Source("p")]))
    assert values["root"] == "a"
    assert values["optimizer"]["betas"] == [0.9, 0.999]
    assert values["sources"] == [{"path": "p", "weight": 1.0}]


def test_words_become_overrides():
    assert words_to_overrides(["--a.b", "-1", "--c=d=e"]) == {"a.b": "-1", "c": "d=e"}


def test_plain_yaml_is_read_safely(tmp_path):
    assert read_yaml(write(tmp_path, "a: 1e-3\nb: 1\nc: 1e5x\n")) == {"a": 0.001, "b": 1, "c": "1e5x"}


def test_the_help_has_docstrings_types_and_defaults():
    text = " ".join(config_parser(Config, prog="triptych stage").format_help().split())
    assert "Peak of the schedule. (type: float, default: 0.5)" in text
    assert "--optimizer.name {adamw,muon} Which one." in text
