"""The best of several answers."""

from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch

from triptych.evaluation.best_of import BestOf, RewardScorer, kl_bound
from triptych.generation.protocol import Request, Sample, SamplingParams
from triptych.group import Group, text_message
from triptych.models.loading import load_model, load_processor
from triptych.models.reward import RewardModel

GROUP = Group("g", [text_message("user", None, "How many circles?")], ["a.png"])


class Drawing:
    """Draws the words it is given, in turn."""

    name, codec, independent = "drawing", None, True

    def __init__(self, *words):
        self.words, self.asked = words, []

    def generate(self, requests, params, *, root):
        for request in requests:
            self.asked.append((request, params))
            yield [Sample(self.words[n], 1, False, n) for n in range(request.num_samples)]


class ByLength:
    """Prefers long texts."""

    def rewards(self, answered, root):
        return [[float(len(sample.text)) for sample in samples] for _, samples in answered]


def test_the_answer_of_the_highest_reward_is_given_and_the_first_of_equals():
    drawing = Drawing("a", "long", "mean", "to")
    best = BestOf(drawing, ByLength(), 4, temperature=0.7)
    requests = [Request(GROUP, seed=3), Request(replace(GROUP, id="h"), seed=3)]
    found = list(best.generate(requests, SamplingParams(temperature=0.0, max_new_tokens=9), root=Path()))
    assert [[sample.text for sample in samples] for samples in found] == [["long"], ["long"]]
    assert [(request.num_samples, request.seed) for request, _ in drawing.asked] == [(4, 3), (4, 3)]
    assert {params for _, params in drawing.asked} == {SamplingParams(temperature=0.7, max_new_tokens=9)}


@pytest.mark.parametrize("number", [1, 2, 4, 16])
def test_the_bound_is_the_divergence_of_the_best_of_many_distinct_answers(number):
    # k-th best of K equally likely answers: p = (k/K)^N - ((k-1)/K)^N, which goes to the bound as K grows
    edges = (np.arange(200_001) / 200_000) ** number
    share = np.diff(edges)
    assert kl_bound(number) == pytest.approx((share * np.log(share * 200_000)).sum(), abs=1e-4)
    assert kl_bound(4) == pytest.approx(log(4) - 0.75)


def test_rewards_are_those_of_the_models_own_forward(tiny_folder, picture_root, tmp_path):
    processor = load_processor(tiny_folder("mm1"))
    model = RewardModel.from_base(load_model(tiny_folder("mm1")))
    torch.nn.init.normal_(model.score.weight, std=0.125)
    model.save_pretrained(tmp_path / "reward")
    processor.save_pretrained(tmp_path / "reward")
    texts = [("Three.", False), ("Three circles and", True), ("", True)]
    group = Group("g", [text_message("user", "How many circles?")])
    samples = [Sample(text, 3, truncated, 0) for text, truncated in texts]
    [found] = RewardScorer(str(tmp_path / "reward")).rewards([(group, samples)], picture_root)
    prompt = processor.apply_chat_template(group.prompt, add_generation_prompt=True, tokenize=False)
    ends = ("<|end|>", "", "<|end|>")  # one cut off before its first word counts as ended
    for value, (text, _), end in zip(found, texts, ends, strict=True):
        inputs = processor(text=[prompt + text + end], return_tensors="pt")
        assert value == pytest.approx(model(**inputs).logits.item(), abs=1e-5)
