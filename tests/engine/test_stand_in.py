import pytest
import torch

from tests.engine.packed_rows import gradients, row
from tests.support.ranks import run_ranks
from triptych.engine.distributed import loading_device
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of
from triptych.engine.sharding import shard
from triptych.models.loading import load_model, load_processor


@pytest.mark.parametrize(
    ("rows", "passes"),
    [
        ([row("a"), row("b"), row("c", "a.png"), row("d", "b.png")], (2, 2)),
        ([row("a", "a.png", "b.png"), row("b", "c.png"), row("c", "d.png")], (3, 3)),
        ([row("a"), row("b")], (0, 0)),
    ],
    ids=["none and two", "three and one", "none at all"],
)
def test_ranks_make_as_many_passes_through_the_tower_as_the_one_that_needs_most(
    tiny_folder, picture_root, rows, passes
):
    folder = tiny_folder("llava")

    def work():
        model = load_model(folder, device=loading_device())
        encoder = Encoder(load_processor(folder), model.config)
        if loading_device():
            shard(model, encoder)
        calls = []
        backbone_of(model).vision_tower.register_forward_hook(lambda *_: calls.append(1))
        found = gradients(model.train(), encoder, rows, picture_root, one_by_one=True)
        return found, len(calls)

    expected, _ = work()
    results = run_ranks(work)
    assert tuple(number for _, number in results) == passes
    for found, _ in results:
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5 * max(1, gradient.abs().max()))
