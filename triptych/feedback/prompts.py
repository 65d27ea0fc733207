"""Prompts that ask for reasoning before the answer, by kind of chain of thought.

The kinds are those of MPO (arXiv:2411.10442, section 4.2), whose wordings are not published; these are ours.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from triptych.errors import DataError
from triptych.group import Group

CotKind = Literal["plain", "knowledge", "visual", "grounded"]
CotStyle = Literal["final_answer", "boxed"]

INSTRUCTIONS: dict[CotKind, str] = {
    "plain": "Think step by step before you answer.",
    "knowledge": (
        "First state the facts, definitions or formulas that the question depends on. "
        "Then reason from them step by step."
    ),
    "visual": (
        "First describe what the image shows, with every text, number and object that matters for the question. "
        "Then reason from your description step by step."
    ),
    "grounded": (
        "Whenever you mention an object, say where in the image it is. "
        "Reason step by step from the objects you have located."
    ),
}
"""What to do before the answer: reason; recall knowledge first (science); describe first (charts, documents); tie
objects to regions (general pictures)."""

ANSWER_FORMATS: dict[CotStyle, str] = {
    "final_answer": 'End with one line that reads "Final Answer:" followed by the answer alone.',
    "boxed": "End with one line that holds the answer alone, written as \\boxed{answer}.",
}
"""How to end, by the style that `parse_answer` reads."""

DIRECT_REQUESTS: tuple[str, ...] = (
    r"(?:please )?answer (?:the question )?(?:using|with|in) (?:a|one) single word or (?:short )?phrase",
    r"(?:please )?answer (?:directly )?with the (?:option'?s )?letter(?: of the correct (?:option|choice))?"
    r"(?: from the given choices)?(?: directly)?",
    r"(?:please )?answer (?:with )?['\"]?yes['\"]? or ['\"]?no['\"]?(?: only)?",
    r"(?:please )?give the answer (?:only|directly)",
    r"(?:please )?answer (?:briefly|directly)",
)
"""Patterns of closing sentences that ask for a bare answer and would contradict a request to reason."""

_DIRECT_ENDING = re.compile(rf"\s*(?:{'|'.join(DIRECT_REQUESTS)})[.!]?\s*$", re.IGNORECASE)


def cot_prompt(group: Group, kind: CotKind, *, style: CotStyle = "final_answer") -> Group:
    """Return the group with a request to reason at the end of its last user message.

    A closing request for a bare answer is removed first. The id gains the suffix `:cot-<kind>`, since another prompt is
    another group, and `meta["cot"]` names the kind. Completions and pairs belong to the old prompt and are left out.

    Args:
        group: a question; its last user message must end with a text part.
        kind: plain, background knowledge first, visual content first, or grounded.
        style: where the answer is asked for; judge the answers with the same style.
    Raises:
        DataError: the prompt has no user message, or its last one no text.
    """
    messages = [{"role": message["role"], "content": list(message["content"])} for message in group.prompt]
    for message in reversed(messages):
        if message["role"] != "user":
            continue
        for position in reversed(range(len(message["content"]))):
            part = message["content"][position]
            if part["type"] == "text":
                question = _DIRECT_ENDING.sub("", part["text"]).rstrip()
                text = "\n".join(filter(None, (question, INSTRUCTIONS[kind], ANSWER_FORMATS[style])))
                message["content"][position] = {"type": "text", "text": text}
                return replace(
                    group,
                    id=f"{group.id}:cot-{kind}",
                    prompt=messages,
                    completions=[],
                    pairs=[],
                    meta={**group.meta, "cot": kind},
                )
        break
    raise DataError(
        "The prompt has no text in its last user message.",
        remedy="Give the question as text; a request to reason is added behind it.",
        kind="no_question",
        row=group.id,
    )
