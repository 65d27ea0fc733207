"""One step of preference optimisation: the same loss and gradients however it is cut, and the peers' ways to cut it."""

import math
from types import SimpleNamespace

import pytest

from tests.stages.one_step import Loop, largest_difference, pair_rows, students_of
from tests.support.ranks import run_ranks
from triptych.engine.distributed import all_reduce_sum
from triptych.engine.encode import Encoder
from triptych.engine.loop import TrainingLoop
from triptych.models.loading import load_model, load_processor
from triptych.objectives.mpo import RewardShift
from triptych.objectives.names import LOSSES

CUTS = [((name,), 4) for name in LOSSES] + [(("sigmoid", "bco_pair", "sft"), 2), (("aot", "kto", "simpo", "orpo"), 8)]
PAPER = {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]}


@pytest.fixture(scope="module")
def students(tiny_folder):
    folder = tiny_folder("llava")
    model, processor = load_model(folder), load_processor(folder)
    return students_of(model, Encoder(processor, model.config))


@pytest.fixture(scope="module")
def rows(picture_root):
    return pair_rows(picture_root, ("a.png", "b.png", "", "a.png"))


def settings_of(names):
    smoothed = any("label_smoothing" in LOSSES[name].parameters for name in names)
    weights = [1.0, 0.25, 0.5, 0.125][: len(names)]
    return {"loss_type": list(names), "loss_weights": weights, **({"label_smoothing": 0.1} if smoothed else {})}


def minus_log_s(x):
    return math.log1p(math.exp(-x))


def log_ratios(outcome):
    """a and b of every pair."""
    return [values.tolist() for values in outcome.logps.ratios()]


@pytest.mark.parametrize(
    ("names", "parts"), CUTS, ids=lambda value: "+".join(value) if isinstance(value, tuple) else ""
)
def test_the_cut_of_a_step_changes_neither_loss_nor_gradient(students, rows, names, parts):
    whole, cut = students.step(rows, **settings_of(names)), students.step(rows, parts=parts, **settings_of(names))
    assert cut.loss == pytest.approx(whole.loss, rel=3e-6)
    # the exponential of discopop, at a temperature of 0.05, magnifies the rounding of log-probabilities
    assert largest_difference(cut.gradients, whole.gradients) < (1e-4 if "discopop" in names else 1e-5)
    assert cut.metrics == pytest.approx(whole.metrics, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("names", [("sft",), ("orpo",)])
def test_an_average_over_tokens_does_not_depend_on_the_cut_either(students, rows, names):
    settings = settings_of(names) | {"sft_average": "token"}
    whole, cut = [students.step(rows, parts=parts, **settings) for parts in (1, 4)]
    assert cut.loss == pytest.approx(whole.loss, rel=3e-6)
    assert largest_difference(cut.gradients, whole.gradients) < 1e-5
    if names == ("sft",):
        logps = whole.logps
        assert whole.loss == pytest.approx(-(logps.chosen.sum() / logps.chosen_lengths.sum()).item(), rel=1e-9)


@pytest.mark.parametrize(
    ("names", "parts", "expected"),
    [(("sigmoid", "sft"), 1, 1), (("sigmoid", "sft"), 4, 4), (("bco_pair",), 1, 1), (("aot",), 4, 8), (("kto",), 1, 2)],
)
def test_only_what_couples_micro_batches_costs_a_second_pass(students, rows, names, parts, expected):
    outcome = students.step(rows, parts=parts, **settings_of(names))
    assert (outcome.num_forwards, outcome.num_with_graph) == (expected, parts)


def test_delta_is_the_mean_reward_of_the_whole_step_and_goes_on_from_the_steps_before(students, rows):
    outcome = students.step(rows, parts=4, shift=RewardShift(mean=0.4, count=3), **PAPER)
    a, b = log_ratios(outcome)
    mean_reward = 0.1 * sum(a + b) / 16
    assert abs(mean_reward) > 1e-3
    assert outcome.shift.mean == pytest.approx((3 * 0.4 + mean_reward) / 4, abs=1e-9)
    assert outcome.metrics["mpo/delta"] == outcome.shift.mean
    bco = [
        minus_log_s(0.1 * x - outcome.shift.mean) + minus_log_s(outcome.shift.mean - 0.1 * y)
        for x, y in zip(a, b, strict=True)
    ]
    assert outcome.metrics["mpo/bco"] == pytest.approx(sum(bco) / 8, rel=1e-9)


def test_z_is_the_mean_log_ratio_of_completions_under_the_next_prompt(students, rows):
    outcome = students.step(rows, **settings_of(("kto",)))
    foreign = []
    for row, host in zip(rows, [*rows[1:], rows[0]], strict=True):
        for pair in row.group.pairs:
            texts = [row.group.completions[index] for index in (pair.chosen, pair.rejected)]
            group = host.group.__class__(
                host.group.id, host.group.prompt, host.group.images, completions=texts, pairs=[pair]
            )
            foreign.append(row.__class__(group, pair, row.root, host.name))
    a, b = log_ratios(students.step(foreign, loss_type=["sigmoid"]))
    z = sum(a + b) / 16
    assert outcome.metrics["kl"] == pytest.approx(max(z, 0), abs=1e-5)


def test_internvl_moves_delta_in_every_micro_batch_and_averages_tokens_there(students, rows):
    outcome = students.step(rows, parts=4, convention="internvl", **PAPER)
    a, b = log_ratios(outcome)
    logps, losses, rewards = outcome.logps, [], []
    for first in range(0, 8, 2):
        pair = slice(first, first + 2)
        rewards.append(0.1 * sum(a[pair] + b[pair]) / 4)
        delta = sum(rewards) / len(rewards)
        dpo = sum(minus_log_s(0.1 * (x - y)) for x, y in zip(a[pair], b[pair], strict=True)) / 2
        bco = (
            sum(
                minus_log_s(0.1 * x - delta) + minus_log_s(delta - 0.1 * y)
                for x, y in zip(a[pair], b[pair], strict=True)
            )
            / 2
        )
        sft = -(logps.chosen[pair].sum() / logps.chosen_lengths[pair].sum()).item()
        losses.append(0.8 * dpo + 0.2 * bco + sft)
    assert outcome.loss == pytest.approx(sum(losses) / 4, rel=1e-9)
    assert outcome.shift.count == 4


def test_the_conventions_differ_where_they_should(students, rows):
    losses = {
        name: students.step(rows, parts=4, convention=name, **PAPER).loss for name in ("paper", "trl", "internvl")
    }
    assert len({round(loss, 6) for loss in losses.values()}) == 3


def test_llamafactory_weighs_the_preference_terms_relative_to_each_other(students, rows):
    """Its pref_bco_weight 0.25 and pref_ftx 1.0 are the paper's weights."""
    relative = students.step(
        rows, convention="llamafactory", loss_type=PAPER["loss_type"], loss_weights=[1.0, 0.25, 1.0]
    )
    paper = students.step(rows, **PAPER)
    assert relative.loss == pytest.approx(paper.loss, rel=1e-9)


def test_with_one_pair_per_micro_batch_the_sort_of_trl_is_none_and_aot_is_dpo(students, rows):
    peers = students.step(rows, parts=8, convention="trl", **settings_of(("aot_unpaired",)) | {"label_smoothing": 0.0})
    dpo = students.step(rows, parts=8, convention="trl", **settings_of(("sigmoid",)))
    assert peers.loss == pytest.approx(dpo.loss, rel=1e-9)
    ours = students.step(rows, parts=8, loss_type=["aot_unpaired"])
    assert ours.loss != pytest.approx(dpo.loss, rel=1e-4)


def test_pairs_of_uneven_micro_batches_weigh_the_same_but_not_for_the_peers(students, rows):
    three = rows[:3]
    whole = students.step(three, parts=1, loss_type=["sigmoid"])
    a, b = log_ratios(whole)
    losses = [minus_log_s(0.1 * (x - y)) for x, y in zip(a, b, strict=True)]
    assert students.step(three, parts=2, loss_type=["sigmoid"]).loss == pytest.approx(sum(losses) / 3, rel=1e-5)
    peers = students.step(three, parts=2, convention="trl", loss_type=["sigmoid"])  # cut into one and two pairs
    assert peers.loss == pytest.approx((losses[0] + (losses[1] + losses[2]) / 2) / 2, rel=1e-5)


class RankLoop(Loop):
    """The same on one of several ranks, each with the whole model, under the rules of the training loop."""

    def __init__(self, model, num_parts):
        super().__init__(model, num_parts)
        self.config = SimpleNamespace(gradient_accumulation_steps=num_parts)

    micro_batches, total, gather = TrainingLoop.micro_batches, TrainingLoop.total, TrainingLoop.gather

    def backward(self, loss, batch):
        super().backward(loss if self._counts else 0 * loss, batch)


def summed_over_ranks(students, rows, settings):
    outcome = students.step(rows, parts=2, loop=RankLoop, **settings)
    gradients = {name: all_reduce_sum(gradient) for name, gradient in outcome.gradients.items()}
    return all_reduce_sum(outcome.loss), gradients, outcome.metrics


@pytest.mark.parametrize("num_pairs", [5, 2, 1], ids="{} pairs".format)
def test_ranks_share_a_step_like_micro_batches(students, rows, num_pairs):
    """Two pairs on the first of three ranks, or none on the last, and every loss that looks over the whole step."""
    names = ("bco_pair", "aot", "sft", "kto") if num_pairs > 1 else ("bco_pair", "aot", "sft")
    settings = settings_of(names) | {"sft_average": "token"}
    whole = students.step(rows[:num_pairs], **settings)
    for loss, gradients, metrics in run_ranks(summed_over_ranks, students, rows[:num_pairs], settings, num_ranks=3):
        assert loss == pytest.approx(whole.loss, rel=3e-6)
        assert largest_difference(gradients, whole.gradients) < 1e-5
        assert metrics == pytest.approx(whole.metrics, rel=1e-5, abs=1e-5)
