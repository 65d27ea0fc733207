"""Videos that cannot be used, one among good ones: every stage says so before any work, and goes on once mended."""

from __future__ import annotations

import json

import pytest

from tests.support.guards import FAULTS, STAGES, refused, run_stage, video_row, write_media, write_rows
from triptych.cli import FAULTY, REFUSED, main
from triptych.data.rows import read_groups

GOOD = [video_row("good1"), video_row("good2")]
BAD = {kind: video_row("bad", video, policy) for kind, (video, policy, _) in FAULTS.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    write_media(root)
    for kind, row in BAD.items():
        write_rows(root / f"{kind}.jsonl", [GOOD[0], row, GOOD[1]])
    return root


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_faulty_video_among_good_ones_is_named_before_any_work(stage, fault, root, tiny_folder, tmp_path):
    video, policy, kind = FAULTS[fault]
    data = root / f"{fault}.jsonl"
    error = refused(stage, tiny_folder("mm1"), data, tmp_path / "run")
    assert (error.kind, error.row, str(error.file)) == (kind, "bad", str(data))
    named = error.problem.replace(str(root) + "/", "")
    assert video in named or (policy and f"{policy['start']} s" in named)
    assert error.remedy.count(".") >= 2 and "--quarantine" in error.remedy
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left <= {"run.json", "config.yaml", "seconds.json"}


@pytest.mark.parametrize("stage", STAGES)
def test_all_faulty_rows_are_listed_and_the_same_command_goes_on_without_them(stage, root, tiny_folder, tmp_path):
    rows = [video_row(f"bad{number}", row.videos[0], row.meta.get("video")) for number, row in enumerate(BAD.values())]
    data, out = write_rows(tmp_path / "rows.jsonl", [*GOOD, *rows]), tmp_path / "run"
    common = {"root": str(root)} if stage != "sft" else {"sources": [{"path": str(data), "root": str(root)}]}
    error = refused(stage, tiny_folder("mm1"), data, out, **common)
    assert error.row == "bad0"
    assert "Also faulty: bad1 (media_empty), bad2 (video_empty), bad3 (video_truncated)" in error.problem
    assert "and 3 more" in error.problem
    assert main(["data", "check", str(data), "--root", str(root), "--quarantine", str(tmp_path / "good")]) == FAULTY
    (tmp_path / "good" / "rows.jsonl").replace(data)
    result = run_stage(stage, tiny_folder("mm1"), data, out, **common)
    assert json.loads((out / "done.json").read_text())["result"] == result


def test_data_check_counts_every_kind_and_sets_the_rows_aside(root, tmp_path, capsys):
    rows = [video_row(f"bad{number}", row.videos[0], row.meta.get("video")) for number, row in enumerate(BAD.values())]
    data = write_rows(tmp_path / "rows.jsonl", [*GOOD, *rows])
    assert main(["data", "check", str(data), "--root", str(root), "--quarantine", str(tmp_path / "good")]) == FAULTY
    told = capsys.readouterr().out
    assert "9 faults in 9 rows" in told
    for kind, number in {"video_empty": 3, "video_unreadable": 2, "video_truncated": 1, "video_range": 1}.items():
        assert f"  {kind}: {number}\n" in told
    assert [row.id for row in read_groups(tmp_path / "good" / "rows.jsonl")] == ["good1", "good2"]
    aside = [json.loads(line) for line in (tmp_path / "good" / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["id"], row["kinds"]) for row in aside] == [
        (f"bad{number}", [kind]) for number, (_, _, kind) in enumerate(FAULTS.values())
    ]


def test_the_command_line_tells_the_row_the_file_and_the_remedy(root, tiny_folder, tmp_path, capsys):
    data = root / "an MP4 cut short.jsonl"
    words = ["sft", "--model", str(tiny_folder("mm1")), "--sources", json.dumps([{"path": str(data)}])]
    assert main([*words, "--out", str(tmp_path / "run"), "--max_steps", "1"]) == REFUSED
    told = capsys.readouterr().err
    assert f"triptych: [video_truncated] file {data}, row bad: The video 'short.mp4' breaks off" in told
    assert "Remedy: Write or download the file again." in told and "Traceback" not in told


def test_damage_amid_a_video_is_found_by_a_full_check_and_named_by_the_stage_that_meets_it(root, tiny_folder, tmp_path):
    content = bytearray((root / "good.mp4").read_bytes())
    start = content.index(b"mdat") + 4 + (len(content) - content.index(b"mdat")) // 3
    content[start : start + 400] = bytes(400)
    (tmp_path / "worn.mp4").write_bytes(content)
    data = write_rows(tmp_path / "rows.jsonl", [video_row("worn", "worn.mp4")])
    whole = main(["data", "check", str(data), "--decode-media"])
    if whole == 0:
        pytest.skip("this build of FFmpeg conceals the damage")
    error = refused("sft", tiny_folder("mm1"), data, tmp_path / "run")
    assert (error.kind, error.row) == ("video_unreadable", "worn")
