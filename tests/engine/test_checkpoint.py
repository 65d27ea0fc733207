import subprocess
import sys

import pytest
import torch
from torch import nn

from tests.engine.toy_training import SAVE_STEPS, ToyModel, train
from triptych.data.files import read_jsonl
from triptych.engine.checkpoint import CheckpointError, latest_checkpoint, load_checkpoint, save_checkpoint


def metrics(folder):
    return [row for _, row in read_jsonl(folder / "metrics.jsonl")]


KILL_RUNS = """
import os, sys
from tests.engine.toy_training import train
for optimizer in ("adamw", "muon"):
    if not (child := os.fork()):
        train(f"{sys.argv[1]}/{optimizer}", kill_at=10, optimizer=optimizer)
    assert os.waitpid(child, 0)[1] == 9
"""


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory):
    """One run per optimizer, killed by SIGKILL after step 10."""
    folder = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, "-c", KILL_RUNS, str(folder)], check=True)
    return folder


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_killed_between_checkpoints_ends_bit_for_bit_like_an_uninterrupted_one(tmp_path, killed_runs, optimizer):
    killed = killed_runs / optimizer
    assert metrics(killed)[-1]["step"] == 10
    assert latest_checkpoint(killed).name == "checkpoint-8"
    resumed, whole = train(killed, optimizer=optimizer), train(tmp_path, optimizer=optimizer)
    expected, state = whole.state_dict(), resumed.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert metrics(killed) == metrics(tmp_path)
    assert [row["step"] for row in metrics(tmp_path)] == list(range(1, 21))


def test_training_moves_every_parameter_so_that_equality_after_resuming_means_something(tmp_path):
    torch.manual_seed(0)
    start = dict(ToyModel().named_parameters())
    end = dict(train(tmp_path).named_parameters())
    assert all(not torch.equal(start[name], end[name]) for name in start)


def test_only_the_last_checkpoints_are_kept_and_no_temporary_folder_is_left(tmp_path):
    train(tmp_path)
    kept = {path.name for path in tmp_path.iterdir() if "checkpoint" in path.name}
    assert kept == {f"checkpoint-{20 - SAVE_STEPS}", "checkpoint-20"}


def test_a_half_written_checkpoint_is_not_seen_and_is_removed_by_the_next_one(tmp_path):
    model = nn.Linear(2, 2)
    save_checkpoint(tmp_path, 9, model, [])
    half = tmp_path / ".checkpoint-10.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"torn")
    (tmp_path / "checkpoint-best").mkdir()
    assert latest_checkpoint(tmp_path).name == "checkpoint-9"
    save_checkpoint(tmp_path, 10, model, [])
    assert latest_checkpoint(tmp_path).name == "checkpoint-10"
    assert not half.exists()


def test_the_latest_checkpoint_goes_by_number_and_not_by_spelling(tmp_path):
    for step in (9, 100, 20):
        save_checkpoint(tmp_path, step, nn.Linear(1, 1), [], keep=3)
    assert latest_checkpoint(tmp_path).name == "checkpoint-100"
    assert latest_checkpoint(tmp_path / "nowhere") is None


def test_saving_a_step_again_replaces_it(tmp_path):
    model = nn.Linear(1, 1)
    save_checkpoint(tmp_path, 1, model, [], {"try": 1})
    path = save_checkpoint(tmp_path, 1, model, [], {"try": 2})
    assert load_checkpoint(path, model, []).extra == {"try": 2}


def test_extra_state_comes_back_with_its_types_and_exact_floats(tmp_path):
    extra = {
        "mpo": {"delta": 0.1 + 0.2, "count": 3, "name": "x", "none": None, "flag": True},
        "pair": (1, [2.5, {"tensor": torch.arange(3, dtype=torch.int16)}]),
        "view": torch.arange(12.0).view(3, 4).T[1:],
        "inf": float("inf"),
    }
    path = save_checkpoint(tmp_path, 1, nn.Linear(1, 1), [], extra)
    loaded = load_checkpoint(path, nn.Linear(1, 1), []).extra
    assert loaded["mpo"] == extra["mpo"]
    assert loaded["inf"] == float("inf")
    assert isinstance(loaded["pair"], tuple)
    assert torch.equal(loaded["pair"][1][1]["tensor"], extra["pair"][1][1]["tensor"])
    assert loaded["pair"][1][1]["tensor"].dtype == torch.int16
    assert torch.equal(loaded["view"], extra["view"])


def test_tensors_that_share_memory_come_back_each_by_itself(tmp_path):
    whole = torch.arange(4.0)
    path = save_checkpoint(tmp_path, 1, nn.Linear(1, 1), [], {"whole": whole, "part": whole[1:], "again": whole})
    loaded = load_checkpoint(path, nn.Linear(1, 1), []).extra
    assert loaded["whole"].tolist() == loaded["again"].tolist() == [0, 1, 2, 3]
    assert loaded["part"].tolist() == [1, 2, 3]


def test_extra_state_without_a_plain_form_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"extra\.model is a Linear"):
        save_checkpoint(tmp_path, 1, nn.Linear(1, 1), [], {"model": nn.Linear(1, 1)})
    assert latest_checkpoint(tmp_path) is None


def test_random_numbers_go_on_where_they_were(tmp_path):
    path = save_checkpoint(tmp_path, 1, nn.Linear(1, 1), [])
    expected = torch.rand(4)
    torch.rand(100)
    load_checkpoint(path, nn.Linear(1, 1), [])
    assert torch.equal(torch.rand(4), expected)


def test_only_trainable_parameters_are_saved_and_frozen_ones_stay(tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)

    def adapted():
        base = nn.ModuleDict({"q_proj": nn.Linear(16, 16)})
        return peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"]))

    model = adapted()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.5)
    path = save_checkpoint(tmp_path, 1, model, [])
    assert (path / "model.safetensors").stat().st_size < 16 * 16 * 4, "the base weights are in the checkpoint"
    other = adapted()
    frozen = other.base_model.model["q_proj"].base_layer.weight.clone()
    load_checkpoint(path, other, [])
    lora = {name: value for name, value in model.named_parameters() if "lora" in name}
    assert len(lora) == 2
    assert all(torch.equal(value, lora[name]) for name, value in other.named_parameters() if "lora" in name)
    assert torch.equal(other.base_model.model["q_proj"].base_layer.weight, frozen)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, 1, nn.Linear(1, 1), [], fingerprint="aaaa")
    with pytest.raises(CheckpointError, match="fingerprint aaaa, not bbbb"):
        load_checkpoint(path, nn.Linear(1, 1), [], fingerprint="bbbb")


def test_a_checkpoint_of_another_shape_is_refused_before_anything_changes(tmp_path):
    path = save_checkpoint(tmp_path, 1, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)), [])
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 4))
    before = other[0].weight.clone()
    with pytest.raises(CheckpointError, match=r"1\.bias is \[3\] torch\.float32 in the checkpoint and \[4\]"):
        load_checkpoint(path, other, [])
    assert torch.equal(other[0].weight, before)
    with pytest.raises(CheckpointError, match=r"1\.bias is .* and absent here"):
        load_checkpoint(path, nn.Sequential(nn.Linear(2, 2)), [])


def test_a_checkpoint_of_other_optimizers_is_refused(tmp_path):
    model = nn.Linear(2, 2)
    path = save_checkpoint(tmp_path, 1, model, [torch.optim.AdamW(model.parameters())])
    with pytest.raises(CheckpointError, match="optimizer 0 is \\[2\\] in the checkpoint and \\[1\\] here"):
        load_checkpoint(path, model, [torch.optim.AdamW([model.weight])])
    with pytest.raises(CheckpointError, match="optimizer 0 is \\[2\\] in the checkpoint and absent here"):
        load_checkpoint(path, model, [])


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = save_checkpoint(tmp_path, 1, nn.Linear(1, 1), [])
    (path / "state.safetensors").write_bytes(b"\0" * 4)
    with pytest.raises(CheckpointError, match="checkpoint-1 cannot be read"):
        load_checkpoint(path, nn.Linear(1, 1), [])
