"""Reference log-probabilities: what they are keyed by, and that they are computed once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from triptych.engine import reference
from triptych.engine.families import backbone_of
from triptych.engine.pairs import PairRow
from triptych.engine.paths import completion_paths
from triptych.engine.reference import ReferenceCache, completion_key, fill_reference
from triptych.engine.scoring import score
from triptych.engine.trie import pack
from triptych.errors import DataError, TriptychError
from triptych.group import Completion, Group, Pair, text_message

ASK = [text_message("user", None, "How many?")]


def pair_rows(root, num_groups=5):
    """One pair per group; the rejected completion is the same text everywhere, as are the pictures of every third."""
    rows = []
    for n in range(num_groups):
        completions = [Completion(f"There are {n}."), Completion("None.")]
        prompt = [text_message("user", None, f"Question {n}?")]
        group = Group(f"g{n}", prompt, [("a.png", "b.png", "c.png")[n % 3]], completions=completions)
        rows.append(PairRow(group, Pair(0, 1), root, f"0:g{n}"))
    return rows


class Unusable(torch.nn.Linear):
    """A model with a device and a mode, which fails when it is asked for anything else."""

    def __init__(self):
        super().__init__(1, 1)


def counting(monkeypatch):
    calls, original = [], reference.score_completions

    def count(model, encoder, wanted, row_tokens):
        calls.append({name: indices for name, (_, _, indices) in wanted.items()})
        return original(model, encoder, wanted, row_tokens)

    monkeypatch.setattr(reference, "score_completions", count)
    return calls


def test_values_are_those_of_the_model_by_itself_and_are_read_back_to_the_last_digit(tiny_of, tmp_path):
    tiny = tiny_of("mm1")
    rows = pair_rows(tiny.root)
    values = fill_reference(ReferenceCache(tmp_path, "m"), tiny.model, tiny.encoder, rows, row_tokens=512)
    assert values.keys() == {(row.name, index) for row in rows for index in (0, 1)}
    for row in rows:
        prompt = tiny.encoder.prompt(row.group, tiny.root)
        for index, completion in enumerate(row.group.completions):
            [path] = completion_paths(tiny.encoder, backbone_of(tiny.model), prompt, [completion])
            with torch.no_grad():
                alone = score(tiny.model, tiny.encoder.family, pack([[path]], 512)).logps.item()
            assert values[row.name, index] == pytest.approx(alone, rel=2e-6, abs=1e-5)
    again = fill_reference(ReferenceCache(tmp_path, "m"), Unusable(), tiny.encoder, rows, row_tokens=512)
    assert again == values


def test_a_job_killed_between_blocks_computes_only_what_is_missing_and_ends_with_the_same_values(
    tiny_of, tmp_path, monkeypatch
):
    tiny, rows = tiny_of("mm1"), pair_rows(tiny_of("mm1").root)
    settings = {"row_tokens": 512, "block": 2}
    whole = fill_reference(ReferenceCache(tmp_path / "whole", "m"), tiny.model, tiny.encoder, rows, **settings)
    killed = ReferenceCache(tmp_path / "killed", "m")
    fill_reference(killed, tiny.model, tiny.encoder, rows[:2], **settings)
    with killed.path.open("ab") as file:
        file.write(b'{"key": "torn')
    calls = counting(monkeypatch)
    resumed = fill_reference(ReferenceCache(tmp_path / "killed", "m"), tiny.model, tiny.encoder, rows, **settings)
    assert calls == [{"0:g2": [0, 1], "0:g3": [0, 1]}, {"0:g4": [0, 1]}]
    assert resumed == whole
    assert len([json.loads(line) for line in killed.path.read_text().splitlines()]) == 10


def test_the_model_is_left_in_the_mode_it_was_in(tiny_of, tmp_path):
    tiny = tiny_of("mm1")
    for mode in (True, False):
        tiny.model.train(mode)
        fill_reference(
            ReferenceCache(tmp_path / str(mode), "m"), tiny.model, tiny.encoder, pair_rows(tiny.root, 1), row_tokens=512
        )
        assert tiny.model.training is mode


def test_the_key_is_of_prompt_pixels_and_completion_and_of_nothing_else(tmp_path):
    for name, colour in (("red.png", "red"), ("blue.png", "blue"), ("red2.png", "red")):
        Image.new("RGB", (4, 4), colour).save(tmp_path / name)
    group, completion = Group("a", ASK, ["red.png"]), Completion("Five.")
    key = completion_key(group, completion, tmp_path)
    elsewhere = replace(group, id="b", images=["red2.png"], answer="5")
    assert completion_key(elsewhere, replace(completion, seed=3, source="sampled"), tmp_path) == key
    others = [
        (replace(group, images=["blue.png"]), completion),
        (replace(group, prompt=[text_message("user", None, "How many? ")]), completion),
        (group, Completion("Six.")),
        (group, replace(completion, truncated=True)),
    ]
    keys = {completion_key(*other, tmp_path) for other in others}
    assert len(keys | {key}) == 5


@pytest.mark.parametrize("value", ["NaN", "0.5", "null", '"-1.0"', "-Infinity"])
def test_a_stored_value_that_cannot_be_names_file_and_line(tmp_path, value):
    path = tmp_path / "reference-m.jsonl"
    path.write_text('{"key": "a", "logps": -1.5}\n{"key": "b", "logps": ' + value + "}\n")
    with pytest.raises(DataError) as caught:
        ReferenceCache(tmp_path, "m")
    assert (caught.value.kind, Path(caught.value.file), caught.value.row) == ("reference_cache", path, 2)


def test_a_model_that_gives_no_numbers_is_blamed_itself_and_nothing_is_stored(tmp_path):
    cache = ReferenceCache(tmp_path, "m")
    with pytest.raises(TriptychError, match="model gives"):
        cache.add([("a", -1.0), ("b", float("nan"))])
    assert not cache.path.exists()
