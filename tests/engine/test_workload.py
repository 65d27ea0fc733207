"""FLOPs of packed batches, against PyTorch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.models.tiny_mm1 import CLIP, LLAMA, tiny_mm1
from triptych.engine.encode import EncodedMedia
from triptych.engine.families import family_of
from triptych.engine.scoring import score
from triptych.engine.trie import TokenPath, pack
from triptych.engine.workload import Workload
from triptych.models.adapters import freeze

T, LAYERS, HEADS, HEAD_DIM = 11, LLAMA["num_hidden_layers"], LLAMA["num_attention_heads"], LLAMA["head_dim"]


@pytest.fixture
def model(monkeypatch):
    # PyTorch's counter cannot follow the gradients that lean layers take inside of a backward pass
    monkeypatch.setattr("triptych.models.loading.keep_less", lambda model: None)
    model, _ = tiny_mm1()
    model.set_attn_implementation("eager")  # plain products, of which PyTorch's counter sees every one
    return model


def text_batch():
    ids = list(range(10, 10 + T))
    return pack([[TokenPath(ids, [False] + [True] * (T - 1), torch.arange(T).unsqueeze(0))]], 64)


def picture_batch():
    """A row of two pictures, of which one comes twice."""
    pictures = [EncodedMedia(name, {"pixel_values": torch.rand(1, 3, 16, 16)}, 4) for name in "ab"]
    paths = [
        TokenPath([5] * 4 + [10, 11], [False] * 5 + [True], torch.arange(6).unsqueeze(0), (picture,), 5)
        for picture in (pictures[0], pictures[1], pictures[0])
    ]
    return pack([[path] for path in paths], 64)


def counted(model, batch):
    """FLOPs of forward and backward as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter:
        score(model, family_of(model.config), batch).logps.sum().backward()
    return counter.get_total_flops()


def masked_attention():
    """What a dense mask computes in vain: of T x T products those above the diagonal, forward and backward."""
    return 3 * 4 * LAYERS * HEADS * HEAD_DIM * (T * T - T * (T + 1) // 2)


def test_a_text_costs_what_pytorch_counts_but_for_masked_attention(model):
    batch = text_batch()
    assert Workload(model).training_flops(batch) == counted(model, batch) - masked_attention()


def test_under_a_frozen_decoder_the_products_with_weights_save_a_third_and_attention_nothing(model):
    whole = Workload(model).training_flops(text_batch())
    freeze(model, ["language_model"])
    attention = 3 * 4 * LAYERS * HEADS * HEAD_DIM * (T * (T + 1) // 2)
    assert Workload(model).training_flops(text_batch()) == attention + (whole - attention) * 2 // 3


def test_each_distinct_picture_costs_its_patches_times_the_weights_of_tower_and_connector(model):
    batch = picture_batch()
    layer = 4 * 16 * 16 + 2 * 16 * 32  # query, key, value, output; two of the feed-forward
    weights = 3 * 4 * 4 * 16 + CLIP["num_hidden_layers"] * layer + 16 * 24  # patches, layers, connector
    num_patches = 2 * (CLIP["image_size"] // CLIP["patch_size"]) ** 2  # two pictures of 4 x 4
    trained = Workload(model).training_flops(batch)
    freeze(model, ["vision_tower", "connector"])
    saved = trained - Workload(model).training_flops(batch)
    assert saved == 2 * 2 * weights * num_patches  # two of three passes
