"""What can be wrong with a group that is well formed: its content contradicts itself, or no model could learn from it.

`group_faults` needs neither files nor a model and takes microseconds, so that any stage may call it on every row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from triptych.errors import DataError
from triptych.group import PAIR_SOURCES, Completion, Group

_PLACEHOLDER = re.compile(
    r"<image>|<video>|<IMG_CONTEXT>|<image_soft_token>|<start_of_image>|<\|(?:image|video|vision)_\w+\|>"
)
_CHAT_TOKEN = re.compile(r"<\|\w+\|>|<(?:start|end)_of_turn>")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ufffe\uffff]")


def group_faults(group: Group) -> Iterator[DataError]:
    """Yield every fault of content, each with its kind; `docs/data-format.md` lists them."""
    yield from _prompt_faults(group)
    yield from _text_faults(group)
    for index, completion in enumerate(group.completions):
        yield from _completion_faults(group, index, completion)
    yield from _pair_faults(group)


def _fault(kind: str, problem: str, remedy: str) -> DataError:
    return DataError(problem, remedy=remedy, kind=kind)


def _prompt_faults(group: Group) -> Iterator[DataError]:
    roles = [message["role"] for message in group.prompt]
    blank = [_is_blank(message) for message in group.prompt]
    if all(blank):
        yield _fault("empty_prompt", "The prompt holds neither text nor media.", "Write a question, or drop the row.")
        return
    if any(blank):
        problem = f"Message {blank.index(True)} of the prompt is empty."
        yield _fault("empty_message", problem, "Leave the message out.")
    if group.answer is not None and not group.answer.strip():
        yield _fault("empty_answer", "The answer is empty.", "Leave `answer` out where it is not known.")
    if "document" in roles:
        if len(roles) > 1 or group.completions:
            problem = "A document has other messages or completions beside it."
            yield _fault("document_not_alone", problem, "Give a pre-training document a row of its own.")
        return
    if "user" not in roles:
        yield _fault("no_user_message", "The prompt has no user message.", "Give the question the role `user`.")
    if roles[-1] == "assistant":
        problem = "The prompt ends with a message of the assistant."
        yield _fault("prompt_ends_with_assistant", problem, "Move that answer to `completions`.")
    if "system" in roles[1:]:
        problem = "A system message does not come first."
        yield _fault("system_not_first", problem, "Join it with the first one.")


def _is_blank(message: dict) -> bool:
    return all(part["type"] == "text" and not part["text"].strip() for part in message["content"])


def _text_faults(group: Group) -> Iterator[DataError]:
    """Find text that a tokenizer would take for something else, and characters that betray a damaged text."""
    texts = [part["text"] for message in group.prompt for part in message["content"] if part["type"] == "text"]
    texts += [completion.text for completion in group.completions]
    found: set[str] = set()
    for text in texts:
        for error in _suspicious(text):
            if error.kind not in found:
                found.add(error.kind)
                yield error


def _suspicious(text: str) -> Iterator[DataError]:
    if "<" in text:
        if match := _PLACEHOLDER.search(text):
            problem = f"A text holds {match[0]!r}, which a processor would take for a medium."
            remedy = 'Use a part {"type": "image"} in its place, or take it out.'
            yield _fault("placeholder_in_text", problem, remedy)
        elif match := _CHAT_TOKEN.search(text):
            problem = f"A text holds {match[0]!r}, which a chat template uses to end or begin a turn."
            yield _fault("chat_token_in_text", problem, "Take it out: the template adds its own.")
    if match := _CONTROL.search(text):
        if match[0] == "\ufffd":
            problem = "A text holds U+FFFD, the mark of bytes that were decoded wrongly."
            yield _fault("replacement_character", problem, "Decode the source with its own encoding.")
        else:
            problem = f"A text holds the control character U+{ord(match[0]):04X}."
            yield _fault("control_character", problem, "Take it out.")


def _completion_faults(group: Group, index: int, completion: Completion) -> Iterator[DataError]:
    if not completion.text.strip():
        yield from _empty_faults(group, index)
    if completion.num_tokens is not None and completion.num_tokens < 0:
        problem = f"Completion {index} has {completion.num_tokens} tokens."
        yield _fault("negative_number", problem, "Leave `num_tokens` out where it is not known.")
    if completion.parent is None:
        if completion.cut is not None:
            problem = f"Completion {index} has a `cut` without a `parent`."
            yield _fault("cut_without_parent", problem, "Name the completion it branched off.")
        return
    if _begins_cycle(group, index):
        problem = f"Completion {index} descends from itself."
        yield _fault("parent_cycle", problem, "`parent` names an earlier completion.")
    parent, cut = group.completions[completion.parent], completion.cut
    if cut is None:
        return
    if not 0 <= cut <= min(len(parent.text), len(completion.text)):
        problem = f"Completion {index} is cut at character {cut}, beyond its own text or its parent's."
        yield _fault("cut_out_of_range", problem, "`cut` counts the characters that both texts begin with.")
    elif completion.text[:cut] != parent.text[:cut]:
        problem = f"Completion {index} does not begin like its parent, up to character {cut}."
        yield _fault("cut_mismatch", problem, "`cut` counts the characters that both texts begin with.")


def _empty_faults(group: Group, index: int) -> Iterator[DataError]:
    roles = [role for role in ("chosen", "rejected") if any(getattr(pair, role) == index for pair in group.pairs)]
    for role in roles or ["completion"]:
        yield _fault(f"empty_{role}", f"Completion {index} ({role}) is empty.", "Leave it out, and its pairs.")


def _begins_cycle(group: Group, index: int) -> bool:
    """Say whether the line of parents comes back to `index`, the smallest index of that circle: it is told once."""
    seen = {index}
    parent = group.completions[index].parent
    while parent is not None and parent not in seen:
        seen.add(parent)
        parent = group.completions[parent].parent
    return parent == index == min(seen)


def _pair_faults(group: Group) -> Iterator[DataError]:
    seen: set[tuple[int, int]] = set()
    for number, pair in enumerate(group.pairs):
        chosen, rejected = group.completions[pair.chosen], group.completions[pair.rejected]
        same_end = bool(chosen.truncated) == bool(rejected.truncated)  # else they differ in the end-of-turn token
        if same_end and chosen.text.strip() == rejected.text.strip():
            problem = f"Pair {number} prefers a text to itself."
            yield _fault("pair_identical_text", problem, "Leave the pair out.")
        if (pair.chosen, pair.rejected) in seen:
            yield _fault("duplicate_pair", f"Pair {number} is there already.", "Leave it out.")
        if (pair.rejected, pair.chosen) in seen:
            problem = f"Pair {number} says the opposite of an earlier one."
            yield _fault("pair_contradiction", problem, "Keep the one that is meant.")
        if chosen.correct is False and rejected.correct is True:
            problem = f"Pair {number} prefers a wrong answer to a correct one."
            yield _fault("pair_against_truth", problem, "Swap `chosen` and `rejected`, or mend `correct`.")
        if pair.margin is not None and pair.margin < 0:
            problem = f"Pair {number} has the margin {pair.margin}."
            yield _fault("negative_margin", problem, "Swap `chosen` and `rejected`; a margin is not negative.")
        if pair.source not in PAIR_SOURCES:
            problem = f"Pair {number} has the unknown source {pair.source!r}."
            yield _fault("unknown_source", problem, f"Use one of {', '.join(PAIR_SOURCES)}.")
        seen.add((pair.chosen, pair.rejected))
