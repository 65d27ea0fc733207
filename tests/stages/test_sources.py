"""The mixture of rows a training stage draws from."""

import pytest

from triptych.data.rows import write_groups
from triptych.engine.encode import EncodedPrompt
from triptych.errors import DataError, TriptychError
from triptych.group import Completion, Group, text_message
from triptych.stages.configs import Source
from triptych.stages.sources import Mixture, read_mixture


def rows(prefix, pictures):
    """One row per entry; an entry is the picture's name or empty."""
    return [
        Group(
            f"{prefix}{n}",
            [text_message("user", *([None] if name else []), "What?")],
            [name] if name else [],
            completions=[Completion("That.")],
        )
        for n, name in enumerate(pictures)
    ]


def write(folder, file_name, groups, **settings):
    path = folder / f"{file_name}.jsonl"
    write_groups(path, groups)
    return Source(path=str(path), **settings)


def ids(mixture, num_steps, items_per_step):
    return [[item.group.id for item in mixture.step(step, items_per_step)] for step in range(num_steps)]


def test_every_row_comes_once_in_a_pass(tmp_path):
    mixture = read_mixture([write(tmp_path, "a", rows("a", [""] * 6))], 12, seed=0)
    steps = ids(mixture, 4, 3)
    assert sorted(steps[0] + steps[1]) == sorted(steps[2] + steps[3]) == [f"a{n}" for n in range(6)]


def test_rows_about_one_picture_are_drawn_together_in_their_order(tmp_path):
    pictures = ["x.png", "x.png", "y.png", "", "", "z.png", "z.png", "z.png"]
    [order] = ids(read_mixture([write(tmp_path, "a", rows("a", pictures))], 8, seed=1), 1, 8)
    for unit in (["a0", "a1"], ["a5", "a6", "a7"]):
        first = order.index(unit[0])
        assert order[first : first + len(unit)] == unit


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(tmp_path):
    sources = [write(tmp_path, "a", rows("a", [""] * 20)), write(tmp_path, "b", rows("b", [""] * 20))]
    first, again, other = (ids(read_mixture(sources, 20, seed), 2, 10) for seed in (0, 0, 1))
    assert first == again != other


def test_weights_count_rows_also_where_units_are_large(tmp_path):
    # Equal weights; b's rows come four at a time, and so must be drawn a quarter as often.
    a = write(tmp_path, "a", rows("a", [""] * 40))
    b = write(tmp_path, "b", rows("b", [f"{n // 4}.png" for n in range(40)]), name="pictures")
    shares = read_mixture([a, b], 4000, seed=0).frequencies(399, 10)
    assert set(shares) == {"frequency/a", "frequency/pictures"}
    assert shares["frequency/a"] == pytest.approx(0.5, abs=0.05)


def test_frequencies_are_those_of_the_rows_drawn_so_far(tmp_path):
    sources = [write(tmp_path, "a", rows("a", [""] * 5)), write(tmp_path, "b", rows("b", [""] * 5))]
    mixture = read_mixture(sources, 12, seed=0)
    drawn = [name for step in ids(mixture, 2, 4) for name in step]
    assert mixture.frequencies(1, 4)["frequency/a"] == sum(name.startswith("a") for name in drawn) / 8


def test_rows_are_encoded_once_per_data_root_and_come_back_in_order(tmp_path):
    sources = []
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        sources.append(write(tmp_path / name, name, rows(name, [""] * 8), root="" if number else "elsewhere"))
    items = read_mixture(sources, 8, seed=0).step(0, 8)
    assert {str(item.root) for item in items} == {"elsewhere", str(tmp_path / "b")}
    calls = []

    def encode(groups, root):
        calls.append(str(root))
        return [EncodedPrompt([int(group.id[1:]), ord(group.id[0])]) for group in groups]

    encoded = Mixture.encode(items, encode)
    assert [chr(prompt.input_ids[1]) + str(prompt.input_ids[0]) for prompt in encoded] == [i.group.id for i in items]
    assert sorted(calls) == sorted({str(item.root) for item in items})


def test_a_folder_of_shards_is_the_root_of_its_pictures(tmp_path):
    write(tmp_path, "part-1", rows("a", ["x.png"]))
    write(tmp_path, "part-2", rows("b", ["y.png"]))
    mixture = read_mixture([Source(path=str(tmp_path))], 2, seed=0)
    assert {(item.group.id, item.root) for item in mixture.step(0, 2)} == {("a0", tmp_path), ("b0", tmp_path)}


def test_bad_sources_are_refused(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="empty"):
        read_mixture([Source(path=str(tmp_path / "empty.jsonl"))], 4, seed=0)
    source = write(tmp_path, "a", rows("a", [""]))
    with pytest.raises(TriptychError, match="called a"):
        read_mixture([source, source], 4, seed=0)
