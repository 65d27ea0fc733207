"""CLIPs that are built, written and read, and their features beside those of transformers."""

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPImageProcessorPil, CLIPModel, CLIPTextModelWithProjection

from tests.support.tiny_scorer import CAPTIONS, SIZES, tiny_clip
from triptych.errors import TriptychError
from triptych.models.loading import save_model
from triptych.models.mm1.tokenizer import train_tokenizer
from triptych.models.scorer import (
    build_scorer,
    load_scorer,
    mean_frames,
    num_cut,
    picture_features,
    text_features,
    tokenise,
)

TEXTS = ["red square at the top left", "a blue one", "green " * 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("clip"))


def build(sizes=SIZES, **settings):
    return build_scorer(sizes, train_tokenizer(CAPTIONS, 300), **settings)


@torch.no_grad()
def test_features_are_those_that_transformers_gives_from_the_folder_alone(folder):
    theirs, processor = CLIPModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    pictures = [Image.effect_noise((20, 30), 80).convert("RGB") for _ in range(3)]
    inputs = processor(text=TEXTS, images=pictures, return_tensors="pt", padding=True, truncation=True, max_length=12)
    expected = theirs(**inputs)
    model, processor = load_scorer(folder)
    texts = text_features(model, tokenise(model, processor.tokenizer, TEXTS))
    torch.testing.assert_close(texts, expected.text_embeds, rtol=0, atol=1e-6)
    found = picture_features(model, processor.image_processor(images=pictures, return_tensors="pt"))
    torch.testing.assert_close(found, expected.image_embeds, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_tower_can_be_loaded_alone(folder):
    tower = CLIPTextModelWithProjection.from_pretrained(folder).eval()
    model, processor = load_scorer(folder)
    inputs = tokenise(model, processor.tokenizer, TEXTS)
    expected = torch.nn.functional.normalize(tower(**inputs).text_embeds, dim=-1)
    torch.testing.assert_close(text_features(model, inputs), expected, rtol=0, atol=1e-6)


def test_every_text_ends_with_the_end_token_also_when_it_is_cut(folder):
    model, processor = load_scorer(folder)
    inputs, end = tokenise(model, processor.tokenizer, TEXTS), model.config.text_config.eos_token_id
    lengths = inputs["attention_mask"].sum(1).tolist()
    assert [row[length - 1] for row, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)] == [end] * 3
    assert (inputs["input_ids"] == end).sum(1).tolist() == [1, 1, 1]
    assert lengths[2] == 12 > max(lengths[:2])
    assert inputs["attention_mask"][:, 0].all()  # padded behind the text
    assert num_cut(model, processor.tokenizer, TEXTS) == 1


@torch.no_grad()
def test_the_company_of_a_text_changes_nothing(folder):
    model, processor = load_scorer(folder)
    alone, beside = (text_features(model, tokenise(model, processor.tokenizer, part)) for part in (TEXTS[1:2], TEXTS))
    torch.testing.assert_close(alone[0], beside[1], rtol=0, atol=1e-6)


def test_weights_are_a_function_of_sizes_and_seed():
    first, again, other = (build(seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_video_is_the_mean_of_its_frames():
    frames = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert mean_frames(frames, [2, 1]).tolist() == [[0.5, 0.5], pytest.approx([0.6, 0.8])]


def test_a_tokenizer_of_a_model_that_generates_is_taken(tiny_folder):
    from triptych.models.loading import load_processor

    tokenizer = load_processor(tiny_folder("mm1")).tokenizer
    model, processor = build_scorer(SIZES, tokenizer)
    inputs = tokenise(model, processor.tokenizer, ["one", "two of them"])
    assert inputs["input_ids"][0][inputs["attention_mask"][0].sum() - 1] == tokenizer.eos_token_id


def test_a_tokenizer_that_clip_would_misread_is_refused():
    tokenizer = train_tokenizer(CAPTIONS, 300)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(2)
    with pytest.raises(TriptychError, match="has the id 2"):
        build_scorer(SIZES, tokenizer)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_size": 8}, "Unknown key 'hidden_size' in the model configuration"),
        ({"vision_config": {"patchsize": 8}}, "Unknown key 'patchsize' in vision_config. CLIPVisionConfig has patch_"),
        ({"text_config": {"vocab_size": 9}}, "vocab_size is 9, but the tokenizer has"),
        ({"text_config": {"hidden_size": 9, "num_attention_heads": 2}}, "cannot be built.*not a multiple"),
    ],
)
def test_sizes_that_make_no_model_are_refused(sizes, message):
    with pytest.raises(TriptychError, match=message):
        build(sizes)


def test_a_model_that_generates_is_no_scorer(tiny_folder):
    with pytest.raises(TriptychError, match="does not put texts and pictures into one space"):
        load_scorer(tiny_folder("llava"))


@torch.no_grad()
def test_siglip_reads_texts_padded_to_full_length(tmp_path):
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel, SiglipProcessor

    tokenizer = build()[1].tokenizer
    layer = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = layer | {"vocab_size": len(tokenizer), "max_position_embeddings": 12, "pad_token_id": 0}
    theirs = SiglipModel(
        SiglipConfig(text_config=text, vision_config=layer | {"image_size": 16, "patch_size": 8})
    ).eval()
    images = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    save_model(theirs, SiglipProcessor(images, tokenizer), tmp_path)
    model, processor = load_scorer(tmp_path)
    inputs = tokenizer(TEXTS, padding="max_length", max_length=12, truncation=True, return_tensors="pt")
    pixels = processor.image_processor(images=[Image.new("RGB", (20, 20), "red")] * 3, return_tensors="pt")
    expected = theirs(input_ids=inputs["input_ids"], **pixels)
    texts = text_features(model, tokenise(model, processor.tokenizer, TEXTS))
    torch.testing.assert_close(texts, expected.text_embeds, rtol=0, atol=1e-6)
    torch.testing.assert_close(picture_features(model, pixels), expected.image_embeds, rtol=0, atol=1e-6)


def test_pictures_are_resized_whole_without_torchvision(folder):
    processor = load_scorer(folder)[1].image_processor
    assert isinstance(processor, CLIPImageProcessorPil) and not processor.do_center_crop
    assert processor(images=[Image.new("RGB", (40, 20))], return_tensors="pt")["pixel_values"].shape == (1, 3, 16, 16)
