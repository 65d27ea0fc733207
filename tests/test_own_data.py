"""The commands of the README on a Hugging Face model folder and a folder of photographs."""

import json
from dataclasses import replace

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.support.tiny_models import make_tiny
from triptych.cli import main
from triptych.data.rows import read_groups
from triptych.group import Completion, Pair, text_message
from triptych.models.loading import load_model, load_processor


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two photographs and four questions about them, as a user would write them."""
    folder = tmp_path_factory.mktemp("photos")
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        Image.fromarray(pixels).resize((160, 107)).save(folder / f"{name}.jpg")
    rows = [
        {
            "id": f"{name}-{n}",
            "prompt": [text_message("user", None, question)],
            "images": [f"{name}.jpg"],
            "answer": answer,
        }
        for name, truth in (("china", "temple"), ("flower", "flower"))
        for n, (question, answer) in enumerate([("What is this?", truth), ("How many people are there?", "0")])
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava"])
def test_pairs_mpo_and_evaluate_run_on_any_model_and_photographs(family, photos, tmp_path, capsys):
    model = make_tiny(family, tmp_path / "model")
    questions, pairs = photos / "questions.jsonl", tmp_path / "pairs"
    common = ["--model", str(model), "--max_new_tokens", "12"]
    assert main(["data", "check", str(questions)]) == 0
    making = ["pairs", "--method", "dropout_ntp", "--data", str(questions), "--num_samples", "2", "--out", str(pairs)]
    assert main([*making, *common]) == 0
    groups = read_groups(pairs / "pairs.jsonl")
    if not any(group.pairs for group in groups):  # a random model seldom ends its answers
        rows = [with_pair(group).to_row() for group in groups]
        (pairs / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = ["mpo", "--model", str(model), "--data", str(pairs / "pairs.jsonl"), "--root", str(photos)]
    settings = ["--max_steps", "2", "--per_device_train_batch_size", "2", "--learning_rate", "1e-4"]
    assert main([*training, *settings, "--out", str(tmp_path / "mpo")]) == 0
    load_model(tmp_path / "mpo" / "model")
    load_processor(tmp_path / "mpo" / "model")
    measuring = ["evaluate", "--model", str(tmp_path / "mpo" / "model"), "--data", str(questions)]
    assert main([*measuring, "--out", str(tmp_path / "evaluation")]) == 0
    assert '"accuracy"' in capsys.readouterr().out


def with_pair(group):
    """Give a row a preference, as an import of a user's own would."""
    completions = [Completion("A quiet place by the water."), Completion("A busy street at night.")]
    return replace(group, completions=completions, pairs=[Pair(chosen=0, rejected=1)])
