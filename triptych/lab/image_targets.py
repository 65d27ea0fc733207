"""What the quickstart is to show, after the findings of MPO (arXiv:2411.10442)."""

from __future__ import annotations

from collections.abc import Callable

from triptych.lab.targets import Metrics, Target, gain


def _reduction(metric: str) -> Callable[[Metrics], float]:
    return lambda metrics: 1 - metrics["mpo"][metric]["value"] / metrics["sft"][metric]["value"]


IMAGE_TARGETS = (
    Target("sft: direct minus cot", lambda m: m["sft"]["direct"]["value"] - m["sft"]["cot"]["value"], 0.0),
    Target("cot: mpo minus sft", gain("cot", "mpo", "sft"), 0.10),
    Target("mpo: cot minus direct", lambda m: m["mpo"]["cot"]["value"] - m["mpo"]["direct"]["value"], 0.0),
    Target("cot: mpo minus sft_on_chosen", gain("cot", "mpo", "sft_on_chosen"), 0.0, "low"),
    Target("hallucination at T = 1, relative reduction", _reduction("hallucination_sampled"), 0.40),
    Target("hallucination greedy, relative reduction", _reduction("hallucination"), 0.25),
    Target("coverage greedy: mpo minus sft", gain("coverage", "mpo", "sft"), 0.0),
    Target("coverage at T = 1: mpo minus sft", gain("coverage_sampled", "mpo", "sft"), 0.0),
)
