"""Reference log-probabilities: what they are keyed by, that they are computed once, and what is refused."""

import fcntl
import json
import multiprocessing
import threading
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
SETTINGS = {"row_tokens": 512, "block": 2}


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

    def count(model, encoder, wanted, *args, **kwargs):
        calls.append({name: indices for name, (_, _, indices) in wanted.items()})
        return original(model, encoder, wanted, *args, **kwargs)

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
    shuffled = [rows[n] for n in (3, 0, 4, 1, 2)]
    again = fill_reference(ReferenceCache(tmp_path, "m"), Unusable(), tiny.encoder, shuffled, row_tokens=512)
    assert again == values


def test_a_job_killed_at_any_byte_ends_with_the_bytes_of_one_that_was_not(tiny_of, tmp_path, monkeypatch):
    tiny, rows = tiny_of("mm1"), pair_rows(tiny_of("mm1").root)
    whole = ReferenceCache(tmp_path / "whole", "m")
    values = fill_reference(whole, tiny.model, tiny.encoder, rows, **SETTINGS)
    content = whole.path.read_bytes()
    header, *blocks = content.splitlines(keepends=True)
    assert len(blocks) == 3, "five groups, two at a time"
    after_first = len(header) + len(blocks[0])
    calls = counting(monkeypatch)
    killed = tmp_path / "killed" / whole.path.name
    killed.parent.mkdir()
    for cut in (3, len(header), after_first - 1, after_first, after_first + 1, len(content) - 1, len(content)):
        calls.clear()
        killed.write_bytes(content[:cut])
        resumed = fill_reference(ReferenceCache(killed.parent, "m"), tiny.model, tiny.encoder, rows, **SETTINGS)
        assert resumed == values
        assert killed.read_bytes() == content
        complete = content[:cut].count(b"\n") - 1
        assert len(calls) == (3 if complete < 0 else 3 - complete)


def test_added_rows_are_all_that_a_later_run_computes(tiny_of, tmp_path, monkeypatch):
    tiny, rows = tiny_of("mm1"), pair_rows(tiny_of("mm1").root)
    before = fill_reference(ReferenceCache(tmp_path, "m"), tiny.model, tiny.encoder, rows[1:4], **SETTINGS)
    group = rows[2].group
    longer = replace(group, completions=[*group.completions, Completion("Many.")])
    added = [*rows[:2], replace(rows[2], group=longer), PairRow(longer, Pair(2, 1), rows[2].root, "0:g2"), *rows[3:]]
    calls = counting(monkeypatch)
    after = fill_reference(ReferenceCache(tmp_path, "m"), tiny.model, tiny.encoder, added, **SETTINGS)
    assert calls == [{"0:g0": [0, 1], "0:g2": [2]}, {"0:g4": [0, 1]}]
    assert {place: after[place] for place in before} == before


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


def test_every_model_and_precision_has_its_own_file(tmp_path):
    caches = [
        ReferenceCache(tmp_path, "owner/name"),
        ReferenceCache(tmp_path, "other"),
        ReferenceCache(tmp_path, "other", bf16=True),
        ReferenceCache(tmp_path, "other", load_in_4bit=True),
    ]
    assert len({cache.path for cache in caches}) == 4
    assert {cache.path.parent for cache in caches} == {tmp_path}


HEADER = '{"reference_model": "m"}'
GOOD = '{"keys": ["a", "b"], "logps": [-1.5, -100.0]}'


@pytest.mark.parametrize(
    ("lines", "row", "problem"),
    [
        ([HEADER, '{"keys": ["a"], "logps": [NaN]}'], 2, "is nan"),
        ([HEADER, GOOD, '{"keys": ["c"], "logps": [-Infinity]}'], 3, "is -inf"),
        ([HEADER, '{"keys": ["a"], "logps": [0.5]}'], 2, "is 0.5"),
        ([HEADER, '{"keys": ["a"], "logps": [null]}'], 2, "is None"),
        ([HEADER, '{"keys": ["a"], "logps": ["-1.0"]}'], 2, "is '-1.0'"),
        ([HEADER, '{"keys": ["a", "b"], "logps": [-1.0]}'], 2, "one value for each key"),
        ([HEADER, "[]"], 2, "one value for each key"),
        ([HEADER, '{"keys": ["a"', GOOD], 2, "not JSON"),
        ([HEADER, GOOD, '{"keys": ["b"], "logps": [-100.2]}'], 3, "b has the log-probability -100 and also -100.2"),
        (['{"reference_model": "other"}', GOOD], 1, "of the model other, not of m"),
        ([GOOD], 1, "names no model"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_with_its_line_and_the_remedy(tmp_path, lines, row, problem):
    path = ReferenceCache(tmp_path, "m").path
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=f"{problem}.*Delete this file") as caught:
        ReferenceCache(tmp_path, "m")
    assert (caught.value.kind, Path(caught.value.file), caught.value.row) == ("reference_cache", path, row)


def test_a_cache_renamed_by_hand_is_noticed(tmp_path):
    cache = ReferenceCache(tmp_path, "m")
    cache.add({"a": -1.0})
    cache.path.rename(ReferenceCache(tmp_path, "new").path)
    with pytest.raises(DataError, match="of the model m, not of new"):
        ReferenceCache(tmp_path, "new")


def test_values_that_differ_by_rounding_are_one_value_the_first(tmp_path):
    cache = ReferenceCache(tmp_path, "m")
    cache.path.write_text(f'{HEADER}\n{GOOD}\n{{"keys": ["b"], "logps": [-100.05]}}\n')
    assert ReferenceCache(tmp_path, "m")["b"] == -100.0
    other = ReferenceCache(tmp_path, "m")
    other.add({"b": -100.02, "c": -2.0})
    assert other["b"] == -100.0
    assert json.loads(cache.path.read_text().splitlines()[-1]) == {"keys": ["c"], "logps": [-2.0]}
    with pytest.raises(DataError, match="and also -1000"):
        other.add({"b": -1000.0})


def test_a_run_takes_what_another_one_stored_meanwhile(tmp_path):
    first, second = ReferenceCache(tmp_path, "m"), ReferenceCache(tmp_path, "m")
    first.add({"a": -1.0, "b": -2.0})
    second.add({"b": -2.001, "c": -3.0})
    first.refresh()
    assert [first[key] for key in "abc"] == [second[key] for key in "abc"] == [-1.0, -2.0, -3.0]
    assert len(ReferenceCache(tmp_path, "m")) == 3


def test_a_run_that_stores_waits_for_one_that_is_at_it(tmp_path):
    cache = ReferenceCache(tmp_path, "m")
    cache.add({"a": -1.0})
    with cache.path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = threading.Thread(target=cache.add, args=({"b": -2.0},))
        waiting.start()
        waiting.join(timeout=0.2)
        assert waiting.is_alive() and len(ReferenceCache(tmp_path, "m")) == 1
    waiting.join(timeout=10)
    assert len(ReferenceCache(tmp_path, "m")) == 2


def store_many(folder, worker):
    cache = ReferenceCache(folder, "m")
    for n in range(40):
        cache.add({f"{worker}-{n}-{part}": -float(n) - 1 for part in range(50)} | {f"shared-{n}": -1.0 - worker / 1e3})


def test_runs_that_write_at_the_same_time_lose_and_tear_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=store_many, args=(tmp_path, worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(ReferenceCache(tmp_path, "m")) == 3 * 40 * 50 + 40


def test_a_file_cut_short_under_a_run_is_noticed(tmp_path):
    cache = ReferenceCache(tmp_path, "m")
    cache.add({"a": -1.0})
    cache.path.write_text("")
    with pytest.raises(DataError, match="cut short"):
        cache.add({"b": -1.0})


def test_a_model_that_gives_no_numbers_is_blamed_itself_with_the_row_and_nothing_is_stored(
    tiny_of, tmp_path, monkeypatch
):
    tiny, original = tiny_of("mm1"), reference.score_completions

    def diverged(*args, **kwargs):
        scored = original(*args, **kwargs)
        return replace(scored, logps=scored.logps | {("0:g1", 1): torch.tensor(float("nan"))})

    monkeypatch.setattr(reference, "score_completions", diverged)
    cache = ReferenceCache(tmp_path, "m")
    with pytest.raises(TriptychError, match="model gives completion 1 of row g1 the log-probability nan"):
        fill_reference(cache, tiny.model, tiny.encoder, pair_rows(tiny.root), **SETTINGS)
    assert not cache.path.exists()
