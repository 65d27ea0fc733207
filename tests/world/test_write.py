import json
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from triptych.errors import TriptychError
from triptych.group import Group
from triptych.world.config import WorldConfig, WorldCounts
from triptych.world.write import write_world

CONFIG = WorldConfig()
COUNTS = WorldCounts(
    pretrain_captions=130,  # more than one chunk
    pretrain_synthetic=3,
    pretrain_interleaved=3,
    pretrain_text=3,
    sft_questions=5,
    sft_rationales=2,
    sft_descriptions=2,
    prompt_questions=3,
    prompt_descriptions=2,
    test_questions=3,
    test_descriptions=2,
)
FEW = replace(COUNTS, pretrain_captions=2)


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_bytes_come_out_however_many_workers(tmp_path):
    alone = write_world(tmp_path / "a", CONFIG, seed=3, counts=COUNTS)
    shared = write_world(tmp_path / "b", CONFIG, seed=3, counts=COUNTS, num_workers=2)
    assert alone == shared
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def test_the_folder_is_an_ordinary_data_folder(tmp_path):
    manifest = write_world(tmp_path, CONFIG, seed=0, counts=FEW)
    assert manifest == json.loads((tmp_path / "world.json").read_text())
    assert sorted(path.stem for path in tmp_path.glob("*.jsonl")) == sorted(manifest["rows"])
    images = set()
    for name, number in manifest["rows"].items():
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert len(rows) == number
        for row in rows:
            images.update(Group.from_row(row).images)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")} == images
    for image in images:
        with Image.open(tmp_path / image) as picture:
            picture.load()
            assert (picture.size, picture.mode) == ((48, 48), "RGB")
    assert not list(tmp_path.glob("*unfinished*")) and not list(tmp_path.glob(".*"))


def test_progress_reaches_the_total(tmp_path):
    calls = []
    write_world(tmp_path, CONFIG, seed=0, counts=FEW, progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    # 2 + 3 + 3 + 3 documents, 2 SFT pictures, 2 prompt pictures, 2 + 2 + 2 for the rest
    assert calls[-1] == (21, 21)


def test_a_finished_folder_is_left_alone(tmp_path):
    first = write_world(tmp_path, CONFIG, seed=0, counts=FEW)
    (tmp_path / "sft_direct.jsonl").write_text("mine\n")
    assert write_world(tmp_path, CONFIG, seed=0, counts=FEW) == first
    assert (tmp_path / "sft_direct.jsonl").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"config": replace(CONFIG, digit_share=0.4)}, "config.digit_share"),
        ({"counts": replace(FEW, pretrain_text=4)}, "counts.pretrain_text"),
    ],
)
def test_a_folder_made_from_other_settings_is_refused_by_name(tmp_path, change, named):
    settings = {"config": CONFIG, "seed": 0, "counts": FEW}
    write_world(tmp_path, **settings)
    before = _files(tmp_path)
    with pytest.raises(TriptychError, match=rf"\({named}\)"):
        write_world(tmp_path, **{**settings, **change})
    assert _files(tmp_path) == before


def test_a_folder_of_someone_else_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.png").write_bytes(b"precious")
    with pytest.raises(TriptychError, match="not a world's folder"):
        write_world(tmp_path, CONFIG, seed=0, counts=FEW)
    assert _files(tmp_path) == {"images/holiday.png": b"precious"}


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "config.yaml").write_text("mine")
    write_world(tmp_path, CONFIG, seed=0, counts=FEW)
    assert (tmp_path / "config.yaml").read_text() == "mine"


class _StopError(Exception):
    pass


def _interrupt(done, total):
    if done > 3:
        raise _StopError


@pytest.mark.parametrize("seed_before", [0, 1])
def test_an_interrupted_run_ends_like_one_that_was_not(tmp_path, seed_before):
    with pytest.raises(_StopError):
        write_world(
            tmp_path / "a", CONFIG, seed=seed_before, counts=replace(FEW, pretrain_captions=5), progress=_interrupt
        )
    assert not (tmp_path / "a" / "world.json").exists() and list((tmp_path / "a").rglob("*.png"))
    write_world(tmp_path / "a", CONFIG, seed=0, counts=FEW)
    write_world(tmp_path / "b", CONFIG, seed=0, counts=FEW)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def test_a_torn_file_of_an_interrupted_run_with_the_same_settings_is_mended(tmp_path):
    with pytest.raises(_StopError):
        write_world(tmp_path / "a", CONFIG, seed=0, counts=FEW, progress=_interrupt)
    picture = next((tmp_path / "a").rglob("*.png"))
    picture.write_bytes(picture.read_bytes()[:50])
    write_world(tmp_path / "a", CONFIG, seed=0, counts=FEW)
    write_world(tmp_path / "b", CONFIG, seed=0, counts=FEW)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def test_an_unreadable_manifest_is_named(tmp_path):
    write_world(tmp_path, CONFIG, seed=0, counts=FEW)
    (tmp_path / "world.json").write_text("{")
    with pytest.raises(TriptychError, match=r"world\.json is not readable"):
        write_world(tmp_path, CONFIG, seed=0, counts=FEW)


def test_writing_needs_no_model_library():
    code = (
        "import sys, triptych.world.write, triptych.world.oracle; print({'torch', 'transformers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
