"""What a stage reads."""

from pathlib import Path

import pytest

from triptych.engine.inputs import data_root, input_fingerprints
from triptych.errors import TriptychError


def fingerprint(path):
    [value] = input_fingerprints([str(path)]).values()
    return value


def test_a_file_is_known_by_its_content_and_not_by_its_time(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("one\n")
    first = fingerprint(path)
    path.write_text("one\n")
    assert fingerprint(path) == first
    path.write_text("two\n")
    assert fingerprint(path) != first


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "chat_template.jinja", "merges.txt"])
def test_a_changed_file_of_a_model_is_another_model(tmp_path, name):
    (tmp_path / name).write_bytes(b"one")
    first = fingerprint(tmp_path)
    (tmp_path / name).write_bytes(b"two")
    assert fingerprint(tmp_path) != first


def test_what_lies_beside_a_model_does_not_count(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    first = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("A model.")
    assert fingerprint(tmp_path) == first


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_changed_rows_in_a_data_folder_are_noticed(tmp_path, suffix):
    shard = tmp_path / f"shard{suffix}"
    shard.write_bytes(b"one")
    first = fingerprint(tmp_path)
    shard.write_bytes(b"two")
    assert fingerprint(tmp_path) != first


def test_two_folders_with_the_same_content_are_one(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_a_hub_name_stands_for_itself_and_a_missing_path_is_refused(tmp_path):
    assert fingerprint("some-owner/some-model") == "some-owner/some-model"
    for path in (tmp_path / "missing", "./missing/model", "missing.jsonl"):
        with pytest.raises(TriptychError, match="does not exist"):
            fingerprint(path)


def test_media_lie_beside_the_file_or_inside_the_folder_of_the_rows_unless_said_otherwise(tmp_path):
    (tmp_path / "rows.jsonl").touch()
    assert data_root(str(tmp_path / "rows.jsonl")) == tmp_path
    assert data_root(str(tmp_path)) == tmp_path
    assert data_root(str(tmp_path), "elsewhere") == Path("elsewhere")
