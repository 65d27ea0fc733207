"""What the video quickstart is to show, after the findings of VLM-RLAIF (arXiv:2402.03746, tables 1 and 5 to 8).

Free answers are scored by the oracle of the world (`true_generative`), question answering by rules (`exact_qa`). The
reward model's accuracy is that of its stage, whose `eval_data` are to be pairs of other clips that the oracle has
labelled.
"""

from __future__ import annotations

from triptych.lab.targets import Metrics, Target, gain, relative_gain, value_of

FIVE_ASPECTS, QUESTIONS, LENGTH = "true_generative", "exact_qa", "length_generic"
JUDGES = ("agreement_context", "agreement_no_context")
"""Agreement of the judge that is told a narrative of the clip with the oracle, and of the one that is not."""


def _context_gain(metrics: Metrics) -> float:
    """Return by how much context raises the agreement, of the model that was measured as a judge both ways."""
    with_context, without = JUDGES
    for results in metrics.values():
        if with_context in results and without in results:
            return results[with_context]["value"] - results[without]["value"]
    raise KeyError(with_context)


VIDEO_TARGETS = (
    Target("judge's agreement: with context minus without", _context_gain, 0.05),
    Target("reward model: accuracy against the oracle", value_of("accuracy", "reward"), 0.75),
    Target("five aspects: ppo over sft, relative", relative_gain(FIVE_ASPECTS, "ppo", "sft"), 0.10),
    Target("question answering: ppo minus sft", gain(QUESTIONS, "ppo", "sft"), 0.05),
    Target("length: tokens saved, ppo against sft", gain(LENGTH, "sft", "ppo"), 0.0, "high", "tokens"),
)
"""Of the recipe; more preference data and the curriculum are studies of their own (`recipes/studies`)."""
