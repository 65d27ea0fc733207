import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.pictures import encode, plain
from tests.data.strategies import groups
from triptych.data.rows import iter_groups, list_shards, read_groups, scan_rows, write_groups
from triptych.errors import DataError
from triptych.group import Completion, Group, Pair, text_message

HELLO = Group("a", [text_message("user", "Hi")])


def unique(items):
    return list({group.id: group for group in items}.values())


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@settings(max_examples=40, deadline=None)
@given(items=st.lists(groups(), min_size=1, max_size=3).map(unique))
def test_what_was_written_is_read_back_exactly(tmp_path_factory, suffix, items):
    path = tmp_path_factory.mktemp("rows") / f"a.{suffix}"
    write_groups(path, items)
    assert read_groups(path) == items
    assert list(iter_groups(path)) == items


def test_parquet_is_a_table_that_datasets_reads(tmp_path):
    from datasets import load_dataset

    group = Group("a", [text_message("user", None, "Hi")], images=[b"png"], meta={"b": [1, None]})
    write_groups(tmp_path / "a.parquet", [group])
    table = load_dataset("parquet", data_files=str(tmp_path / "a.parquet"), cache_dir=str(tmp_path), split="train")
    assert table[0]["images"] == [{"bytes": b"png", "path": None}]
    assert json.loads(table[0]["meta"]) == {"b": [1, None]}


def test_parquet_made_from_jsonl_by_datasets_is_read(tmp_path):
    from datasets import Dataset

    group = Group(
        "a",
        [text_message("user", None, "Hi")],
        images=["a.png"],
        completions=[Completion("x"), Completion("y", reward=1.0)],
        pairs=[Pair(1, 0, judge={"scores": [1, 2]})],
        meta={"b": 1},
    )
    Dataset.from_list([group.to_row()]).to_parquet(tmp_path / "a.parquet")
    assert read_groups(tmp_path / "a.parquet") == [group]


def test_a_folder_of_shards_is_read_in_the_order_of_names(tmp_path):
    for name in ("b.jsonl", "c.parquet", "a.jsonl"):
        write_groups(tmp_path / name, [Group(name, [])])
    for name in ("notes.txt", ".hidden.jsonl", "quarantine.jsonl"):
        (tmp_path / name).write_text("no row")
    assert [group.id for group in read_groups(tmp_path)] == ["a.jsonl", "b.jsonl", "c.parquet"]


def test_a_second_row_of_one_id_is_refused_across_shards(tmp_path):
    write_groups(tmp_path / "a.jsonl", [HELLO])
    write_groups(tmp_path / "b.jsonl", [Group("b", []), HELLO])
    with pytest.raises(DataError, match=r"a\.jsonl:1") as caught:
        read_groups(tmp_path)
    assert (caught.value.kind, caught.value.file, caught.value.row) == ("duplicate_id", tmp_path / "b.jsonl", 2)


def test_a_faulty_row_is_named_by_line_and_id(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(HELLO.to_row()) + "\n" + json.dumps({"id": "q7", "prompt": [], "images": ["x"]}) + "\n")
    with pytest.raises(DataError) as caught:
        read_groups(path)
    assert str(caught.value).startswith(f"[image_count_mismatch] file {path}, row 2 (id q7): ")


def test_media_are_looked_for_where_a_root_is_given(tmp_path):
    group = Group("a", [text_message("user", None, "Hi")], images=["a.png"])
    write_groups(tmp_path / "a.jsonl", [group])
    assert read_groups(tmp_path / "a.jsonl") == [group]
    with pytest.raises(DataError) as caught:
        read_groups(tmp_path / "a.jsonl", tmp_path)
    assert (caught.value.kind, caught.value.row) == ("media_missing", "1 (id a)")
    (tmp_path / "a.png").write_bytes(encode(plain()))
    assert read_groups(tmp_path / "a.jsonl", tmp_path) == [group]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.csv", b"id,prompt\n", "unsupported_suffix"),
        ("a.json", b"[]", "unsupported_suffix"),
        ("a.jsonl.gz", b"\x1f\x8b", "unsupported_suffix"),
        ("a", b"", "unsupported_suffix"),
        ("a.jsonl", b"", "empty_file"),
        ("a.jsonl", b"\n \n", "empty_file"),
        ("a.parquet", b"PAR1", "parquet_unreadable"),
        ("a.jsonl", b'{"id": "a", "prompt": []}\n{"id": "b", "pro', "torn_last_line"),
        ("a.jsonl", '{"id": "a"}\n'.encode("utf-16"), "encoding_utf16"),
    ],
)
def test_files_that_hold_no_rows_are_refused_with_a_remedy(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_groups(tmp_path / name)
    assert caught.value.kind == kind
    assert caught.value.file == tmp_path / name
    assert caught.value.remedy


def test_missing_files_and_empty_folders_are_refused(tmp_path):
    for path, kind in ((tmp_path, "no_shards"), (tmp_path / "none.jsonl", "file_missing")):
        with pytest.raises(DataError) as caught:
            list_shards(path)
        assert caught.value.kind == kind


def test_a_csv_remedy_shows_the_way_to_jsonl(tmp_path):
    (tmp_path / "a.csv").write_text("id\n")
    with pytest.raises(DataError, match="to_json"):
        read_groups(tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    "group",
    [
        Group("bad", [], meta={"x": float("nan")}),
        Group("bad", [text_message("user", "\ud800")]),
        Group("bad", [], meta={"x": object()}),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, suffix, group):
    path = tmp_path / f"a.{suffix}"
    write_groups(path, [HELLO])
    with pytest.raises(DataError) as caught:
        write_groups(path, [Group("b", []), group])
    assert (caught.value.kind, caught.value.row) == ("unwritable_value", "bad")
    assert read_groups(path) == [HELLO]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_seed_beyond_64_bits_is_refused_by_parquet_with_its_row(tmp_path):
    items = [HELLO, Group("big", [], completions=[Completion("x", seed=2**70)])]
    with pytest.raises(DataError) as caught:
        write_groups(tmp_path / "a.parquet", items)
    assert (caught.value.kind, caught.value.row) == ("unwritable_value", "big")
    write_groups(tmp_path / "a.jsonl", items)
    assert read_groups(tmp_path / "a.jsonl") == items


def test_a_group_that_contradicts_itself_is_not_written(tmp_path):
    with pytest.raises(DataError, match="image_count_mismatch"):
        write_groups(tmp_path / "a.jsonl", [Group("a", [text_message("user", None)])])


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_reading_and_writing_a_stream_hold_a_bounded_number_of_rows(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"

    def stream(count):
        return (Group(str(n), [text_message("user", str(n) * 2000)]) for n in range(count))

    write_groups(path, stream(256))
    peaks = []
    for count in (256, 2048):
        tracemalloc.start()
        write_groups(path, stream(count))
        assert sum(1 for _ in iter_groups(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 3 * peaks[0]  # eight times the rows


def test_a_scan_goes_on_after_a_faulty_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a"}\n{"id":\n[1]\n')
    rows = list(scan_rows(path))
    assert [(row.number, row.error.kind if row.error else None) for row in rows] == [
        (1, None),
        (2, "malformed_json"),
        (3, None),
    ]
    assert rows[1].text == '{"id":\n'
