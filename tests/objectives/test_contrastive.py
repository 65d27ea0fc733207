"""The contrastive loss, by hand and beside CLIP's own."""

import math

import pytest
import torch

from triptych.objectives.contrastive import contrastive_loss, negative_pairs

# texts . videos of these is [[1, 0.6], [0, 0.8]]
TEXTS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
VIDEOS = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
ALL = torch.ones(2, 2, dtype=torch.bool)


def test_two_pairs_by_hand():
    found = contrastive_loss(TEXTS, VIDEOS, torch.tensor(5.0), ALL)
    # logits [[5, 3], [0, 4]]: rows miss by 2 and 4, columns by 5 and 1
    missed = [(2, 5), (4, 1)]
    expected = [sum(math.log1p(math.exp(-gap)) for gap in gaps) / 2 for gaps in missed]
    assert found.loss.tolist() == pytest.approx(expected, abs=1e-6)
    assert found.accuracies.tolist() == [True, True]


def test_a_caption_nearer_to_another_video_is_a_miss():
    found = contrastive_loss(TEXTS, VIDEOS.flip(0), torch.tensor(1.0), ALL)
    assert found.accuracies.tolist() == [False, False]


def test_all_alike_costs_the_logarithm_of_the_number_of_pairs_and_hits_nothing():
    same = torch.tensor([[0.6, 0.8]]).repeat(7, 1)
    found = contrastive_loss(same, same, torch.tensor(3.0), torch.ones(7, 7, dtype=torch.bool))
    assert found.loss.tolist() == pytest.approx([math.log(7)] * 7, abs=1e-6)
    assert not found.accuracies.any()


def test_with_distinct_pairs_it_is_the_loss_of_clip_in_transformers():
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(
        projection_dim=6,
        text_config=small | {"vocab_size": 9, "eos_token_id": 8, "bos_token_id": 7, "pad_token_id": 6},
        vision_config=small | {"image_size": 4, "patch_size": 2},
    )
    model = CLIPModel(config).eval()
    ids = torch.tensor([[1, 8], [2, 8], [3, 8]])
    out = model(input_ids=ids, pixel_values=torch.randn(3, 3, 4, 4), return_loss=True)
    negatives = negative_pairs("abc", "xyz")
    found = contrastive_loss(out.text_embeds, out.image_embeds, model.logit_scale.exp(), negatives)
    assert found.loss.mean().item() == pytest.approx(out.loss.item(), abs=1e-6)


def test_what_is_no_negative_is_left_out_as_if_it_were_not_there():
    torch.manual_seed(1)
    texts, videos = (torch.nn.functional.normalize(torch.randn(3, 4), dim=1).requires_grad_() for _ in range(2))
    negatives = negative_pairs(["a", "b", "a"], ["x", "y", "z"])
    assert negatives.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    scale = torch.tensor(2.0)
    found = contrastive_loss(texts, videos, scale, negatives)
    first = contrastive_loss(texts[:2], videos[:2], scale, ALL)
    last = contrastive_loss(texts[1:], videos[1:], scale, ALL)
    assert found.loss[0].item() == pytest.approx(first.loss[0].item(), abs=1e-6)
    assert found.loss[2].item() == pytest.approx(last.loss[1].item(), abs=1e-6)
    [gradient] = torch.autograd.grad(found.loss[0], videos)
    assert gradient[2].abs().max() == 0 and gradient.isfinite().all()


def test_captions_of_one_video_are_no_negatives_of_each_other():
    assert negative_pairs(["a", "b"], [("v", 1), ("v", 1)]).sum() == 0
    assert negative_pairs(["a", "a"], ["v", "w"]).sum() == 0
    assert negative_pairs(["a", "b"], ["v", "w"]).tolist() == [[False, True], [True, False]]


def test_a_pair_without_negatives_costs_nothing_and_is_a_hit():
    found = contrastive_loss(TEXTS, VIDEOS, torch.tensor(5.0), torch.zeros(2, 2, dtype=torch.bool))
    assert found.loss.tolist() == [0.0, 0.0] and found.accuracies.tolist() == [True, True]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        contrastive_loss(TEXTS, VIDEOS[:1], torch.tensor(1.0), ALL)
