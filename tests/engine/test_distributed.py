"""Two ranks on this machine against one process."""

import contextlib
import io
import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

import triptych.cli as cli
import triptych.data.check as data_check
import triptych.engine.checkpoint as checkpoint_module
import triptych.stages.mpo as mpo
import triptych.stages.sft as sft
from tests.support.ranks import RankDied, run_ranks
from tests.support.runs import curve
from triptych.engine import distributed
from triptych.engine.checkpoint import latest_checkpoint
from triptych.engine.loop import TrainingLoop
from triptych.errors import TriptychError
from triptych.models.loading import load_model
from triptych.stages.configs import MpoConfig, Source
from triptych.stages.sft_config import SftConfig

NUM_ROWS = 5
SETTINGS = {
    "learning_rate": 1e-3,
    "eps": 1e-3,  # else an element whose gradient is all rounding would move by the learning rate
    "max_steps": 4,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 3,
    "row_tokens": 256,
    "logging_steps": 1,
    "save_steps": 2,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory, picture_root):
    """Rows with one pair each; every other one is text alone, so that ranks differ in whether they see a picture."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    words = ["three", "circles", "and two squares", "of a green", "hexagon"]
    lines = []
    for number in range(NUM_ROWS):
        parts = [{"type": "text", "text": f"Describe picture {number}."}]
        images = ["abcd"[number % 4] + ".png"] if number % 2 else []
        lines.append(
            {
                "id": str(number),
                "prompt": [{"role": "user", "content": [{"type": "image"}] * len(images) + parts}],
                "images": images,
                "completions": [{"text": " ".join(words[: number + 1])}, {"text": " ".join([*words[number:], "no"])}],
                "pairs": [{"chosen": 0, "rejected": 1}],
            }
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def run_sft(tiny_folder, rows, picture_root):
    def run(out, family="mm1", **settings):
        source = Source(path=str(rows), root=str(picture_root))
        return sft.run(
            SftConfig(model=str(tiny_folder(family)), sources=[source], out=str(out), **(SETTINGS | settings))
        )

    return run


@pytest.fixture
def run_mpo(tiny_folder, rows, picture_root, tmp_path):
    def run(out, family="llava", **settings):
        data = {"data": str(rows), "root": str(picture_root), "reference_cache": str(tmp_path / "reference")}
        return mpo.run(MpoConfig(model=str(tiny_folder(family)), out=str(out), **data, **(SETTINGS | settings)))

    return run


def assert_same_run(folder, expected, tolerance=1e-5):
    """Compare curves and final weights."""
    rows, expected_rows = curve(folder), curve(expected)
    assert [row.keys() for row in rows] == [row.keys() for row in expected_rows]
    for row, other in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(other, rel=tolerance, abs=tolerance)
    weights, others = (load_file(item / "model" / "model.safetensors") for item in (folder, expected))
    assert weights.keys() == others.keys()
    for name in weights:
        torch.testing.assert_close(weights[name], others[name], rtol=0, atol=tolerance)


def test_in_one_process_every_function_is_the_identity():
    values = torch.arange(6.0, requires_grad=True).reshape(3, 2)
    assert (distributed.world_size(), distributed.rank(), distributed.is_main()) == (1, 0, True)
    assert not distributed.init_from_environment()
    distributed.barrier()
    assert torch.equal(distributed.gather_vector(values), values)
    assert not distributed.gather_vector(values).requires_grad
    assert distributed.own_rows(values, 3) is values
    assert distributed.all_reduce_sum(2.5) == 2.5
    assert distributed.share_of_rank([1, 2, 3]) == [1, 2, 3]
    assert distributed.on_main(lambda: 7) == 7
    assert distributed.any_rank(True) and not distributed.any_rank(False)


def collectives():
    rank = distributed.rank()
    mine = torch.arange(2.0 * rank).reshape(rank, 2) + 10 * rank  # rank 0 has no row, rank 1 one, rank 2 two
    gathered = distributed.gather_vector(mine)

    def fail():
        raise TriptychError(f"refused by rank {rank} of {distributed.world_size()}")

    with pytest.raises(TriptychError) as refused:
        distributed.on_main(fail)
    distributed.barrier()
    return {
        "gathered": gathered.tolist(),
        "own": torch.equal(distributed.own_rows(gathered, len(mine)), mine),
        "sum": distributed.all_reduce_sum(float(rank)),
        "tensor": distributed.all_reduce_sum(torch.tensor([1, rank])).tolist(),
        "any": (distributed.any_rank(rank == 2), distributed.any_rank(False)),
        "main": distributed.on_main(lambda: (rank, distributed.world_size())),
        "refused": str(refused.value),
        "shares": [distributed.share_of_rank(range(n)) for n in (0, 2, 3, 7)],
    }


def test_three_ranks_agree_on_what_they_gather_add_up_and_are_told():
    results = run_ranks(collectives, num_ranks=3)
    for rank, result in enumerate(results):
        shares = result.pop("shares")
        assert (
            shares
            == [
                [[], [0], [0], [0, 1, 2]],
                [[], [1], [1], [3, 4]],
                [[], [], [2], [5, 6]],
            ][rank]
        )
        assert result == {
            "gathered": [[10, 11], [20, 21], [22, 23]],
            "own": True,
            "sum": 3.0,
            "tensor": [3, 3],
            "any": (True, False),
            "main": (0, 1),
            "refused": "refused by rank 0 of 1",
        }


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_checkpointing": True, "weight_decay": 0.1},
        # Muon computes in bfloat16, where a rounding of the gradient can become a step of 1/256
        {"family": "internvl", "optimizer": "muon", "muon_learning_rate": 1e-4, "freeze": ["vision_tower"]},
    ],
    ids=["tied embeddings, recomputed activations", "muon, frozen tower"],
)
def test_two_ranks_fine_tune_to_the_losses_and_weights_of_one_process(tmp_path, run_sft, settings):
    run_sft(tmp_path / "one", **settings)
    results = run_ranks(lambda: run_sft(tmp_path / "two", **settings))
    assert results[0] == results[1]
    assert_same_run(tmp_path / "two", tmp_path / "one")
    load_model(tmp_path / "two" / "model")


@pytest.mark.parametrize(
    "settings",
    [
        # five pairs in steps of four: the last step has one pair for two ranks
        {"max_steps": 0, "gradient_accumulation_steps": 4},
        {"lora_r": 2, "reference": "live", "max_steps": 2},
    ],
    ids=["a last step of one pair", "adapters, live reference"],
)
def test_two_ranks_optimise_preferences_to_the_losses_delta_and_weights_of_one_process(tmp_path, run_mpo, settings):
    run_mpo(tmp_path / "one", **settings)
    results = run_ranks(lambda: run_mpo(tmp_path / "two", **settings))
    assert results[0] == results[1]
    assert_same_run(tmp_path / "two", tmp_path / "one")


def test_two_ranks_compute_the_references_that_one_process_computes(tmp_path, run_mpo):
    """Of the two runs each computes its own; the first test above shares them."""
    settings = {"max_steps": 1, "loss_type": ["sigmoid"], "loss_weights": [1.0]}
    run_mpo(tmp_path / "one", **settings)
    [cache] = (tmp_path / "reference").glob("*.jsonl")
    alone = references(cache)
    cache.unlink()
    run_ranks(lambda: run_mpo(tmp_path / "two", **settings))
    assert references(cache) == pytest.approx(alone, abs=1e-4)


def references(cache):
    blocks = [json.loads(line) for line in cache.read_text().splitlines()[1:]]
    keys = [key for block in blocks for key in block["keys"]]
    assert len(keys) == len(set(keys)) == 2 * NUM_ROWS
    return {key: value for block in blocks for key, value in zip(block["keys"], block["logps"], strict=True)}


def test_bfloat16_over_two_ranks_stays_near_float32(tmp_path, run_sft):
    run_sft(tmp_path / "one", max_steps=2)
    run_ranks(lambda: run_sft(tmp_path / "two", max_steps=2, bf16=True))
    for row, expected in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=0.02)
    weights = load_file(tmp_path / "two" / "model" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_one_rank_speaks_and_what_does_not_train_runs_once(tmp_path, rows, tiny_folder, picture_root, monkeypatch):
    config = {"model": str(tiny_folder("mm1")), "sources": [{"path": str(rows), "root": str(picture_root)}]}
    (tmp_path / "sft.yaml").write_text(json.dumps(config | {"max_steps": 1, "row_tokens": 256}))
    checks = tmp_path / "checks"
    check = data_check.check

    def check_and_count(*args, **kwargs):
        with checks.open("a") as file:
            file.write("x")
        return check(*args, **kwargs)

    monkeypatch.setattr(data_check, "check", check_and_count)

    def main(*words):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            return cli.main(words), output.getvalue()

    codes, outputs = zip(
        *run_ranks(main, "sft", "--config", str(tmp_path / "sft.yaml"), "--out", str(tmp_path / "out")), strict=True
    )
    assert codes == (0, 0)
    assert json.loads(outputs[0])["steps"] == 1 and not outputs[1]
    codes, outputs = zip(*run_ranks(main, "data", "check", str(rows), "--root", str(picture_root)), strict=True)
    assert codes == (0, 0) and outputs[0] and not outputs[1]
    assert checks.read_text() == "x"


class Stopped(Exception):
    """Stands for a kill: nothing of the stage runs after it."""


@pytest.fixture
def stop_after(monkeypatch):
    """Let the runs from now on end after an update, or no more with 0."""
    update = TrainingLoop.update

    def set_step(step):
        def update_and_stop(self, **metrics):
            update(self, **metrics)
            if self.step == step:
                raise Stopped

        monkeypatch.setattr(TrainingLoop, "update", update_and_stop)

    return set_step


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_with_another_number_of_ranks(tmp_path, run_sft, stop_after, before, after):
    def run(num_ranks, out):
        return run_ranks(lambda: run_sft(out), num_ranks=num_ranks) if num_ranks > 1 else run_sft(out)

    run(1, tmp_path / "whole")
    stop_after(3)
    with pytest.raises((RankDied, Stopped)):
        run(before, tmp_path / "cut")
    assert latest_checkpoint(tmp_path / "cut").name == "checkpoint-2"
    assert not list((tmp_path / "cut" / "checkpoint-2").glob("*.distcp")), "pickled"
    stop_after(0)
    run(after, tmp_path / "cut")
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_a_rank_killed_while_saving_leaves_no_half_written_checkpoint(tmp_path, run_sft, monkeypatch):
    write = checkpoint_module._write_tensors

    def write_or_die(folder, model, state):
        if folder.name == ".checkpoint-4.tmp" and distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        write(folder, model, state)

    monkeypatch.setattr(checkpoint_module, "_write_tensors", write_or_die)
    settings = {"max_steps": 6}
    with pytest.raises(RankDied):
        run_ranks(lambda: run_sft(tmp_path / "killed", **settings))
    assert [path.name for path in (tmp_path / "killed").glob("checkpoint-*")] == ["checkpoint-2"]
    monkeypatch.setattr(checkpoint_module, "_write_tensors", write)
    run_ranks(lambda: run_sft(tmp_path / "killed", **settings))
    run_sft(tmp_path / "six", **settings)
    assert_same_run(tmp_path / "killed", tmp_path / "six")
    assert not list((tmp_path / "killed").glob(".checkpoint-*"))
