"""Sharded models on two ranks against the same models in one piece."""

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.optim import Muon

from tests.engine.packed_rows import gradients, logps, text_and_picture_rows
from tests.support.ranks import run_ranks
from tests.support.tiny_models import VIDEO
from triptych.engine.distributed import is_main, loading_device
from triptych.engine.encode import Encoder
from triptych.engine.optim import ShardedMuon, clip_gradients
from triptych.engine.sharding import call_sharded, call_whole, cut_like, is_sharded, shard, unshard_on_main, whole
from triptych.group import Completion, Group, text_message
from triptych.models.lean import lean_layers
from triptych.models.loading import load_model, load_processor
from triptych.models.reward import RewardModel, RewardModelConfig


def load(folder):
    model = load_model(folder, device=loading_device())
    return model, Encoder(load_processor(folder), model.config)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("family", ["mm1", "qwen3_vl"])  # tied embeddings; features that enter several layers
def test_gradients_over_two_ranks_add_up_to_those_of_one_process(tiny_folder, picture_root, family, recompute):
    """Rank 0 gets rows of text alone and rank 1 one with a picture."""

    def work():
        model, encoder = load(tiny_folder(family))
        if recompute:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if loading_device():
            shard(model, encoder)
        return gradients(model.train(), encoder, text_and_picture_rows(), picture_root)

    expected = work()
    for found in run_ranks(work):
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5 * max(1, gradient.abs().max()))


@pytest.mark.parametrize("family", VIDEO)
def test_videos_are_trained_on_over_two_ranks(tiny_folder, picture_root, family):
    """Rank 0 gets text and a picture, rank 1 a video."""
    video = Group("v", [text_message("user", "Then?")], videos=["clip"], completions=[Completion("two")])
    video.prompt[0]["content"].insert(0, {"type": "video"})
    rows = [*text_and_picture_rows()[1:], video]

    def work():
        model, encoder = load(tiny_folder(family))
        if loading_device():
            shard(model, encoder)
        return gradients(model.train(), encoder, rows, picture_root)

    expected = work()
    for found in run_ranks(work):
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5 * max(1, gradient.abs().max()))


def test_every_rank_gets_the_weights_and_buffers_that_rank_0_read_and_rank_0_gets_the_model_back(tiny_folder):
    folder = tiny_folder("qwen2_5_vl")
    expected = load_model(folder)

    def work():
        model, encoder = load(folder)
        assert any(parameter.is_meta for parameter in model.parameters()) != is_main()
        shard(model, encoder)
        assert is_sharded(model) and lean_layers(model) == lean_layers(expected) != []
        for (name, parameter), other in zip(model.named_parameters(), expected.parameters(), strict=True):
            assert isinstance(parameter, DTensor) and len(parameter.to_local()) <= -(-len(parameter) // 2), name
            assert torch.equal(whole(parameter), other), name
        for (name, buffer), other in zip(model.named_buffers(), expected.buffers(), strict=True):
            assert torch.equal(buffer, other), name  # those that no checkpoint holds, too
        unshard_on_main(model)
        assert not is_sharded(model)
        if is_main():
            assert type(model) is type(expected)
            assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))

    run_ranks(work)


def test_a_forward_without_gradients_leaves_every_parameter_in_slices(tiny_folder, picture_root):
    def work():
        model, encoder = load(tiny_folder("mm1"))
        shard(model, encoder)
        with torch.no_grad():
            head = model.get_output_embeddings()
            shape = call_sharded(model, lambda: head.weight.shape if not isinstance(head.weight, DTensor) else None)
        assert shape == head.weight.shape
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())

    run_ranks(work)


@pytest.mark.parametrize("recompute", [False, True])
def test_each_rank_goes_through_a_whole_model_as_it_likes_and_is_in_slices_again_after_it(
    tiny_folder, picture_root, recompute
):
    """Rank 0 goes through it three times, with pictures and without, rank 1 not at all; then they train together."""

    def work():
        model, encoder = load(tiny_folder("qwen2_5_vl"))
        if recompute:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if loading_device():
            shard(model, encoder)
        model.train()

        def look():
            assert not any(isinstance(parameter, DTensor) for parameter in model.parameters())
            rows = text_and_picture_rows() if is_main() else []
            return [logps(model, encoder, [row], picture_root) for row in rows]

        seen = call_whole(model, look)
        assert not any(row.requires_grad for row in seen)
        if loading_device():
            assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        return seen, gradients(model, encoder, text_and_picture_rows(), picture_root)

    expected, expected_gradients = work()
    results = run_ranks(work)
    for _, found in results:
        for name, gradient in expected_gradients.items():
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5 * max(1, gradient.abs().max()))
    assert results[1][0] == []
    for ours, theirs in zip(results[0][0], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_whole_model_is_in_slices_again_after_an_error(tiny_folder):
    folder = tiny_folder("mm1")

    def work():
        model, encoder = load(folder)
        shard(model, encoder)
        with pytest.raises(ZeroDivisionError):
            call_whole(model, lambda: 1 / 0)
        layer = next(model.get_decoder().layers.children())
        assert all(isinstance(parameter, DTensor) for parameter in layer.parameters())

    run_ranks(work)


def test_heads_on_one_body_lie_in_shards_together_and_each_is_within_reach(tiny_folder, picture_root):
    """A policy and a critic that reads its states; a loss of both, after each of them had its own forward."""

    def work():
        model, encoder = load(tiny_folder("mm1"))
        critic = RewardModel(RewardModelConfig(base_config=model.config), model.model)
        torch.nn.init.ones_(critic.score.weight)
        if loading_device():
            shard(model, encoder, beside=[critic])
            assert is_sharded(critic) and isinstance(critic.score.weight, DTensor)
            assert whole(critic.score.weight).shape == (1, 64)
        states = torch.arange(128.0).view(2, 64) / 64
        values = call_sharded(critic, critic.values, states)
        scored = logps(model, encoder, text_and_picture_rows(), picture_root)
        ((values - torch.tensor([1.0, 2.0])).square().sum() - scored.sum()).backward()
        named = [*model.named_parameters(), *critic.score.named_parameters()]
        return {name: whole(p.grad).clone() for name, p in named if p.grad is not None}

    expected = work()
    assert {"weight", "bias"} < expected.keys()
    for found in run_ranks(work):
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():  # both ranks computed all of it
            torch.testing.assert_close(found[name], 2 * gradient, rtol=1e-5, atol=1e-5 * max(1, gradient.abs().max()))


def test_scalar_heads_are_computed_in_float32_over_a_body_in_bfloat16(tiny_folder, picture_root):
    """1 + 2^-12 is no bfloat16; what is trained of both comes out in float32, added up over the ranks."""
    folder = tiny_folder("mm1")

    def work():
        model, encoder = load(folder)
        with torch.device(next(model.parameters()).device):
            critic = RewardModel(RewardModelConfig(base_config=model.config), model.model)
        torch.nn.init.constant_(critic.score.weight, 1 + 2**-12)
        shard(model, encoder, beside=[critic], bf16=True)
        states = torch.ones(3, 64)
        with torch.no_grad():
            dtypes = call_sharded(
                critic, lambda: (critic.score.weight.dtype, model.get_output_embeddings().weight.dtype)
            )
            assert isinstance(critic.score.weight, DTensor)
        values = call_sharded(critic, critic.values, states)
        scored = logps(model, encoder, text_and_picture_rows(), picture_root)
        (values.sum() + 0 * scored.sum()).backward()
        assert isinstance(critic.score.weight, DTensor)
        return dtypes, values.detach(), whole(critic.score.weight.grad), whole(critic.score.bias.grad)

    for dtypes, values, of_weight, of_bias in run_ranks(work):
        assert dtypes == (torch.float32, torch.bfloat16)
        assert values.tolist() == [64 + 2**-6] * 3
        assert of_weight.tolist() == [[6.0] * 64] and of_bias.tolist() == [6.0]


def test_a_model_in_one_piece_is_called_as_it_is():
    model = nn.Linear(1, 1)
    assert not is_sharded(model)
    assert call_whole(model, lambda a: a, 1) == 1
    assert call_sharded(model, lambda a, b: (a, b), 1, 2) == (1, 2)
    assert whole(model.weight) is model.weight
    assert cut_like(model.bias, model.weight) is model.bias


def matrices():
    """Tall, wide, and one of fewer rows than ranks, each with a gradient per step."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 4), (3, 8), (1, 5)]
    return [torch.randn(shape, generator=generator) for shape in shapes], [
        [torch.randn(shape, generator=generator) for shape in shapes] for _ in range(3)
    ]


def test_muon_on_shards_is_muon_to_the_last_bit():
    def train(cut, optimizer_class):
        start, steps = matrices()
        parameters = [nn.Parameter(cut(value.clone())) for value in start]
        optimizer = optimizer_class(parameters, lr=0.02, weight_decay=0.1, momentum=0.9)
        for values in steps:
            for parameter, value in zip(parameters, values, strict=True):
                parameter.grad = cut(value)
            optimizer.step()
        return [whole(parameter).detach() for parameter in parameters]

    def on_ranks():
        mesh = init_device_mesh("cpu", (2,))
        return train(lambda value: distribute_tensor(value, mesh, [Shard(0)]), ShardedMuon)

    expected = train(lambda value: value, Muon)
    for found in run_ranks(on_ranks):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("max_norm", [0.0, 1.0])
def test_gradients_in_shards_are_clipped_by_their_norm_over_all_ranks(max_norm):
    def clip(cut):
        start, steps = matrices()
        parameters = [nn.Parameter(cut(value)) for value in start]
        for parameter, value in zip(parameters, steps[0], strict=True):
            parameter.grad = cut(value.clone())
        return clip_gradients(parameters, max_norm), [whole(parameter.grad) for parameter in parameters]

    def on_ranks():
        mesh = init_device_mesh("cpu", (2,))
        return clip(lambda value: distribute_tensor(value, mesh, [Shard(0)]))

    norm, expected = clip(lambda value: value)
    assert norm > 2
    for found_norm, found in run_ranks(on_ranks):
        assert found_norm == pytest.approx(norm, rel=1e-6)
        assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(found, expected, strict=True))
