import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, LlamaConfig, LlamaForCausalLM, SiglipImageProcessorPil

from tests.models.tiny_mm1 import CLIP, LLAMA, TEXTS, VISION, noise_image, tiny_mm1, without_video_token
from tests.support.tiny_models import make_tiny
from triptych.engine.encode import Encoder
from triptych.errors import DataError, TriptychError
from triptych.group import Group
from triptych.models.adapters import LoraSettings, add_lora
from triptych.models.loading import build_mm1, load_model, load_processor
from triptych.models.mm1 import MM1ForConditionalGeneration, MM1Processor
from triptych.models.mm1.positions import sincos_positions
from triptych.models.mm1.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(TEXTS, 300)
CONFIG = {"vision_config": CLIP, "text_config": LLAMA, "connector_type": "average", "num_image_tokens": 4}


@pytest.fixture
def saved(tmp_path):
    model, processor = tiny_mm1()
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_saved_mm1_loads_with_its_processor(saved):
    model, processor = load_model(saved), load_processor(str(saved))
    assert type(model) is MM1ForConditionalGeneration
    assert type(processor) is MM1Processor
    assert not model.training
    assert (model.dtype, model.config._attn_implementation) == (torch.float32, "sdpa")
    inputs = processor(text="<image>", images=[noise_image(0)], return_tensors="pt")
    assert torch.equal(model(**inputs).logits, tiny_mm1()[0](**inputs).logits)
    assert load_model(saved, dtype="bfloat16", attn_implementation="eager").dtype == torch.bfloat16


def test_an_mm1_saved_before_there_were_videos_gives_what_it_gave_and_takes_none(saved):
    processor = load_processor(saved)
    MM1Processor(processor.image_processor, without_video_token(processor.tokenizer), 4).save_pretrained(saved)
    settings = json.loads((saved / "config.json").read_text())
    assert settings.pop("video_token_id") == processor.video_token_id
    (saved / "config.json").write_text(json.dumps(settings))
    model, old = load_model(saved), load_processor(saved)
    assert model.config.video_token_id is None and old.video_token is None
    inputs = old(text="<image>How many?", images=[noise_image(0)], return_tensors="pt")
    assert torch.equal(model(**inputs).logits, tiny_mm1()[0](**inputs).logits)
    with pytest.raises(DataError, match="takes no videos"):
        Encoder(old, model.config).prompt(
            Group("g", [{"role": "user", "content": [{"type": "video"}]}], videos=["clip"]), saved
        )


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "llava_onevision"])
def test_other_families_load_and_read_a_picture(family, tmp_path):
    folder = make_tiny(family, tmp_path / family)
    model, processor = load_model(folder), load_processor(folder)
    assert model.config.model_type == family
    content = [{"type": "image", "image": noise_image(0)}, {"type": "text", "text": "How many?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert model(**inputs).logits.isfinite().all()
    processor.save_pretrained(folder)
    assert load_processor(folder).to_dict() == processor.to_dict()


def without(folder, name):
    (folder / name).unlink()


def as_pickle(folder):
    model = load_model(folder)
    without(folder, "model.safetensors")
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def as_adapter(folder):
    without(folder, "config.json")
    without(folder, "model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))


def as_adapter_with_config(folder):
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))


def with_an_adapter_beside_the_weights(folder):
    (folder / "adapter_config.json").write_text("{}")


def with_adapters_among_the_weights(folder):
    add_lora(model := load_model(folder), LoraSettings(lora_r=2))
    save_file(dict(model.state_dict()), folder / "model.safetensors")


def with_a_shard_missing(folder):
    index = {"metadata": {}, "weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def with_changed_config(**changes):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return damage


def with_truncated_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: without(folder, "config.json"), "holds no config.json"),
        (lambda folder: without(folder, "model.safetensors"), "but no weights"),
        (as_pickle, r"pickled weights only \(pytorch_model.bin\).*can run code"),
        (as_adapter, r"an adapter, not a model.*load_model\('org/base'\).*merge_and_unload"),
        (as_adapter_with_config, r"an adapter, not a model.*load_model\('org/base'\).*merge_and_unload"),
        (with_an_adapter_beside_the_weights, "an adapter beside its weights.*delete adapter_config.json.*merge_and_un"),
        (with_adapters_among_the_weights, r"un-merged LoRA adapters \(.*base_layer.*merge_and_unload"),
        (with_a_shard_missing, "lacks 1 of 2 weight files: model-00002.safetensors"),
        (with_truncated_weights, "Cannot load the model from .*model: "),
        (lambda folder: (folder / "config.json").write_text("{"), "Cannot load the model from .*JSON"),
        (with_changed_config(model_type="nothing_known"), "Cannot load the model from .*nothing_known"),
        (with_changed_config(connector_type="c_abstractor"), "lacks .* weights of its model.*model.connector"),
        (shutil.rmtree, "There is no folder"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_the_reason(saved, damage, sentence):
    damage(saved)
    with pytest.raises(TriptychError, match=sentence):
        load_model(saved)


def test_names_that_are_neither_folder_nor_model_are_refused(saved, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TriptychError, match=r"config\.json is a file"):
        load_model(saved / "config.json")
    for load in (load_model, load_processor):
        with pytest.raises(TriptychError, match=r"Cannot load the (model|processor) from no-such-owner/no-such-model"):
            load("no-such-owner/no-such-model")
    with pytest.raises(TriptychError, match="choose one of float32, bfloat16"):
        load_model(saved, dtype="int8")


def test_a_text_model_and_a_missing_processor_are_refused(tmp_path, saved):
    LlamaForCausalLM(LlamaConfig(**LLAMA, vocab_size=300)).save_pretrained(tmp_path / "text")
    TOKENIZER.save_pretrained(tmp_path / "text")
    with pytest.raises(TriptychError, match=r"Cannot load the model from .*LlamaConfig"):
        load_model(tmp_path / "text")
    with pytest.raises(TriptychError, match=r"holds no processor.*save_pretrained"):
        load_processor(tmp_path / "text")
    without(saved, "tokenizer.json")
    with pytest.raises(TriptychError, match=r"Cannot load the processor"):
        load_processor(saved)


def test_the_remedy_for_an_adapter_folder_works(saved, tmp_path):
    adapted = add_lora(load_model(saved), LoraSettings(lora_dropout=0.0))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(TriptychError, match="holds an adapter"):
        load_model(tmp_path / "adapter")
    PeftModel.from_pretrained(load_model(saved), tmp_path / "adapter").merge_and_unload().save_pretrained(
        tmp_path / "merged"
    )
    inputs = load_processor(saved)(text="<image>many", images=[noise_image(0)], return_tensors="pt")
    merged = load_model(tmp_path / "merged")
    torch.testing.assert_close(merged(**inputs).logits, adapted.eval()(**inputs).logits, rtol=1e-4, atol=1e-4)


def test_an_adapter_that_transformers_loads_with_its_base_is_noticed(saved, tmp_path, monkeypatch):
    """Of a hub name nothing can be checked before it is loaded."""
    adapted = add_lora(load_model(saved), LoraSettings(lora_r=2))
    adapted.peft_config["default"].base_model_name_or_path = str(saved)
    adapted.save_pretrained(tmp_path / "adapter")
    monkeypatch.setattr("triptych.models.loading._check_model_folder", lambda folder: None)
    with pytest.raises(TriptychError, match=rf"an adapter, not a model.*load_model\('{saved}'\)"):
        load_model(tmp_path / "adapter")


@pytest.mark.parametrize("vision", VISION)
def test_building_fills_in_what_follows_from_the_tokenizer(vision):
    model, processor = build_mm1(CONFIG | {"vision_config": VISION[vision]}, TOKENIZER)
    text = model.config.text_config
    assert text.vocab_size == len(TOKENIZER) == model.lm_head.out_features
    assert (text.pad_token_id, text.eos_token_id, text.bos_token_id) == (0, TOKENIZER.eos_token_id, None)
    assert model.generation_config.eos_token_id == TOKENIZER.eos_token_id
    assert model.config.image_token_id == processor.image_token_id == TOKENIZER.convert_tokens_to_ids("<image>")
    assert isinstance(processor.image_processor, CLIPImageProcessorPil)
    assert (
        processor(text="<image>", images=[noise_image(0, (9, 9))], return_tensors="pt")["pixel_values"].shape[-1] == 16
    )


def test_building_is_a_function_of_configuration_and_seed():
    torch.manual_seed(5)
    first, _ = build_mm1(CONFIG, TOKENIZER, seed=1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)  # the caller's generator did not move
    second, _ = build_mm1(CONFIG, TOKENIZER, seed=1)
    other, _ = build_mm1(CONFIG, TOKENIZER, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


@pytest.mark.parametrize("vision", ["clip", "siglip", "dinov2"])
def test_positions_start_from_sines_where_that_is_asked_and_nothing_else_changes(vision):
    plain, _ = build_mm1(CONFIG | {"vision_config": VISION[vision]}, TOKENIZER)
    model, _ = build_mm1(CONFIG | {"vision_config": VISION[vision]}, TOKENIZER, position_init="sincos")
    old = dict(plain.named_parameters())
    [changed] = [name for name, value in model.named_parameters() if not torch.equal(value, old[name])]
    assert "position_embedding" in changed
    assert torch.equal(model.get_parameter(changed)[..., -16:, :].reshape(16, 16), sincos_positions(4, 16))


def test_building_takes_a_padded_vocabulary_and_another_image_processor():
    image_processor = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    model, processor = build_mm1(
        CONFIG | {"text_config": LLAMA | {"vocab_size": 320}}, TOKENIZER, image_processor=image_processor
    )
    assert model.lm_head.out_features == 320
    assert processor.image_processor is image_processor


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"conector_type": "average"}, "Unknown key 'conector_type'.* connector_type"),
        ({"vision_config": CLIP | {"hiden_size": 8}}, "Unknown key 'hiden_size' in vision_config.* hidden_size"),
        ({"text_config": LLAMA | {"layers": 8}}, "Unknown key 'layers' in text_config"),
        ({"text_config": {}}, "text_config needs a `model_type`.* such as llama"),
        ({"vision_config": {"model_type": "vgg"}}, "such as clip_vision_model, not 'vgg'"),
        ({"text_config": LLAMA | {"vocab_size": 10}}, "vocab_size is 10, but the tokenizer has 300 tokens"),
    ],
)
def test_building_refuses_what_it_does_not_know(changes, sentence):
    with pytest.raises(TriptychError, match=sentence):
        build_mm1(CONFIG | changes, TOKENIZER)
