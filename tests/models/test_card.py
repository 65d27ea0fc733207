"""The card of a trained model: read back by the hub's own library, and nothing private in it."""

import pytest
import yaml
from huggingface_hub import ModelCard

from triptych.models.card import model_card, write_model_card

SETTINGS = {
    "model": "OpenGVLab/InternVL3-1B-hf",
    "data": ["/home/someone/secret/pairs.jsonl", "more.jsonl"],
    "root": "~/pictures",
    "loss_type": ["sigmoid", "bco_pair", "sft"],
    "loss_weights": [0.8, 0.2, 1.0],
    "learning_rate": 5e-6,
    "betas": (0.9, 0.999),
    "freeze": ["model.vision_tower"],
}
INPUTS = {
    "OpenGVLab/InternVL3-1B-hf": "OpenGVLab/InternVL3-1B-hf",
    "/home/someone/secret/pairs.jsonl": "0123456789abcdef",
    "more.jsonl": "fedcba9876543210",
}
RESULT = {"steps": 600, "model": "/home/someone/runs/mpo/model", "pairs": 20_000, "delta": 0.25}
EVALUATION = {"counting": {"value": 0.75, "ci": [0.7, 0.8]}, "vqa": 0.5}


def card(**changes):
    arguments = {"model_type": "internvl", "evaluation": EVALUATION} | changes
    return model_card("mpo", SETTINGS, INPUTS, RESULT, **arguments)


def test_the_hub_reads_the_metadata(tmp_path):
    write_model_card(tmp_path, card())
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.base_model == "OpenGVLab/InternVL3-1B-hf"
    assert (data.library_name, data.pipeline_tag) == ("transformers", "image-text-to-text")
    assert {"triptych", "mpo", "arxiv:2411.10442"} <= set(data.tags)
    assert {result.dataset_name: result.metric_value for result in data.eval_results} == {"counting": 0.75, "vqa": 0.5}


def test_the_text_has_base_data_counts_loss_results_recipe_and_how_to_load():
    text = card()
    assert "`OpenGVLab/InternVL3-1B-hf`, trained on preference pairs with `triptych mpo`." in text
    for row in ("| pairs.jsonl | 0123456789abcdef |", "| more.jsonl | fedcba9876543210 |", "| bco_pair | 0.2 |"):
        assert row in text
    assert "| counting | 0.75 | 0.7 to 0.8 |" in text and "| vqa | 0.5 |  |" in text
    assert "600 steps, 20,000 pairs." in text
    assert "AutoModelForImageTextToText.from_pretrained(folder)" in text and "import triptych" not in text
    recipe = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert recipe == SETTINGS | {"data": ["pairs.jsonl", "more.jsonl"], "root": "pictures", "betas": [0.9, 0.999]}


def test_no_path_of_the_machine_is_published():
    local = {**SETTINGS, "model": "/home/someone/models/base"}
    inputs = {"/home/someone/models/base": "00ff00ff00ff00ff"}
    text = model_card("mpo", local, inputs, RESULT, model_type="llava")
    assert "someone" not in text and "base_model" not in text
    assert "`base` (fingerprint `00ff00ff00ff00ff`), trained" in text and "# base-mpo" in text


def test_a_model_from_nothing_and_our_own_type_say_so():
    settings = {"model": {"connector_type": "average"}, "init": "", "sources": [{"path": "/data/a.jsonl"}]}
    text = model_card("pretrain", settings, {"/data/a.jsonl": "1" * 16}, {"steps": 3}, model_type="triptych_mm1")
    assert "A new model, pre-trained on documents" in text and "# triptych_mm1-pretrain" in text
    assert "import triptych.models.mm1" in text
    assert "## Loss" not in text and "## Results" not in text and "/data" not in text


@pytest.mark.parametrize("stage", ["sft", "pretrain"])
def test_every_stage_has_a_card_that_loads(stage, tmp_path):
    settings = {"model": "runs/start", "learning_rate": 1e-4}
    write_model_card(tmp_path, model_card(stage, settings, {"runs/start": "a" * 16}, {}, model_type="llava"))
    assert stage in ModelCard.load(tmp_path / "README.md").data.tags
