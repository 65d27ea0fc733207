"""Log-ratios of answers, against the forwards of both models."""

from pathlib import Path

import pytest
import torch

from tests.support.tiny_models import make_tiny
from triptych.engine.encode import Encoder
from triptych.errors import TriptychError
from triptych.evaluation import log_ratios
from triptych.evaluation.log_ratios import LogRatios
from triptych.generation.local import LocalGenerator
from triptych.generation.protocol import Request, SamplingParams
from triptych.group import Group, text_message
from triptych.models.loading import load_model, load_processor

GROUPS = [
    Group("a", [text_message("user", None, "How many circles?")], ["a.png"]),
    Group("b", [text_message("user", None, "Describe the picture.")], ["a.png"]),
    Group("none", [text_message("user", "Count to five.")]),
]


@pytest.fixture
def generator(tiny_folder):
    model = load_model(tiny_folder("mm1"))
    return LocalGenerator(model, Encoder(load_processor(tiny_folder("mm1")), model.config))


def drawn(generator, root, most=6):
    requests = [Request(group) for group in GROUPS]
    return [sample for (sample,) in generator.generate(requests, SamplingParams(max_new_tokens=most), root=root)]


def other_weights(generator, folder):
    """Write the same model with its decoder's weights moved."""
    moved = load_model(generator.name)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in moved.get_decoder().parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    moved.save_pretrained(folder)
    generator.encoder.processor.save_pretrained(folder)
    return moved.eval()


def token_logps(model, encoder, group, sample, root):
    """Sum the log-probabilities of the drawn tokens by the model's own forward."""
    prompt = encoder.prompt(group, root)
    ids = torch.tensor([[*prompt.input_ids, *sample.token_ids]])
    media = {name: torch.cat([item.inputs[name] for item in prompt.media]) for name in _names(prompt)}
    logps = model(input_ids=ids, **media).logits.log_softmax(-1)[0]
    first = len(prompt.input_ids)
    return sum(logps[first + n - 1, token].item() for n, token in enumerate(sample.token_ids))


def _names(prompt):
    return list(prompt.media[0].inputs) if prompt.media else []


@torch.no_grad()
def test_ratios_are_those_of_the_models_own_forwards(generator, picture_root, tmp_path, monkeypatch):
    reference = other_weights(generator, tmp_path / "reference")
    samples = drawn(generator, picture_root)
    found = LogRatios(generator, str(tmp_path / "reference"))(GROUPS, samples, picture_root)
    for group, sample, ratio in zip(GROUPS, samples, found, strict=True):
        policy, other = (
            token_logps(model, generator.encoder, group, sample, picture_root) for model in (generator.model, reference)
        )
        assert abs(policy - other) > 0.01
        assert ratio == pytest.approx(policy - other, abs=1e-3)
    monkeypatch.setattr(log_ratios, "PROMPTS_AT_ONCE", 1)
    alone = LogRatios(generator, str(tmp_path / "reference"))(GROUPS, samples, picture_root)
    assert alone == pytest.approx(found, abs=1e-3)


def test_a_model_has_not_left_itself(generator, picture_root):
    assert LogRatios(generator, generator.name)(GROUPS, drawn(generator, picture_root), picture_root) == [0.0] * 3


def test_a_reference_with_other_tokens_is_refused(generator, tmp_path):
    other = make_tiny("llava", tmp_path / "llava")
    with pytest.raises(TriptychError, match="has other tokens"):
        LogRatios(generator, str(other))


def test_no_answers_have_no_ratios(generator):
    assert LogRatios(generator, generator.name)([], [], Path()) == []
