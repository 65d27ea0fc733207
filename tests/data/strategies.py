"""Random groups for property tests."""

from hypothesis import strategies as st

from triptych.group import PAIR_SOURCES, Completion, Group, Pair

plain_text = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=12)
"""Any text without halves of surrogate pairs, control characters and line separators included."""
words = st.text(alphabet="ab \n.é字", min_size=1, max_size=12)
finite = st.floats(allow_nan=False, allow_infinity=False)
int64 = st.integers(-(2**63), 2**63 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | int64 | finite | plain_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_text, inner, max_size=3),
    max_leaves=6,
)
media = st.sampled_from(["a.png", "b/c d.jpg", "é.webp"]) | st.binary(min_size=1, max_size=6)


def maybe(strategy):
    return st.none() | strategy


@st.composite
def groups(draw):
    """Any group that `Group.check` accepts."""
    part = st.sampled_from([{"type": "image"}, {"type": "video"}]) | st.builds(
        lambda text: {"type": "text", "text": text}, plain_text
    )
    roles = st.sampled_from(["system", "user", "assistant", "tool", "document"])
    prompt = draw(st.lists(st.fixed_dictionaries({"role": roles, "content": st.lists(part, max_size=4)}), max_size=3))
    kinds = [part["type"] for message in prompt for part in message["content"]]
    count = draw(st.integers(0, 4))
    completion = st.builds(
        Completion,
        text=plain_text,
        source=maybe(plain_text),
        model=maybe(plain_text),
        seed=maybe(int64),
        parent=maybe(st.integers(0, count - 1)) if count else st.none(),
        cut=maybe(st.integers(0, 9)),
        correct=maybe(st.booleans()),
        verdict=maybe(plain_text),
        reward=maybe(finite),
        num_tokens=maybe(st.integers(0, 9)),
        truncated=maybe(st.booleans()),
    )
    indices = st.integers(0, max(0, count - 1))
    pair = st.builds(
        Pair,
        chosen=indices,
        rejected=indices,
        source=st.sampled_from(PAIR_SOURCES),
        margin=maybe(finite),
        judge=maybe(st.dictionaries(plain_text, json_values, max_size=3)),
    ).filter(lambda pair: pair.chosen != pair.rejected)
    return Group(
        id=draw(plain_text.filter(bool)),
        prompt=prompt,
        images=[draw(media) for _ in range(kinds.count("image"))],
        videos=[draw(media) for _ in range(kinds.count("video"))],
        answer=draw(maybe(plain_text)),
        completions=draw(st.lists(completion, min_size=count, max_size=count)),
        pairs=draw(st.lists(pair, max_size=3)) if count > 1 else [],
        meta=draw(st.dictionaries(plain_text, json_values, max_size=3)),
    )


@st.composite
def content(draw, kinds=("image",)):
    """Content parts as the foreign formats hold them: no empty text, no two texts in a row."""
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["text", *kinds]))
        if kind != "text":
            parts.append({"type": kind})
        elif not parts or parts[-1]["type"] != "text":
            parts.append({"type": "text", "text": draw(words)})
    return parts or [{"type": "text", "text": "?"}]


@st.composite
def foreign_groups(draw, kinds=("image",), turns=1, with_pairs=True):
    """Groups that a foreign format holds whole: alternating turns, pairs that use every completion in order."""
    prompt = []
    for turn in range(draw(st.integers(1, turns))):
        if turn:
            prompt.append({"role": "assistant", "content": [{"type": "text", "text": draw(words)}]})
        prompt.append({"role": "user", "content": draw(content(kinds))})
    shown = [part["type"] for message in prompt for part in message["content"]]
    texts = draw(st.lists(words, min_size=2, max_size=4, unique=True))
    return Group(
        id=f"q{draw(st.integers(0, 10**9))}",
        prompt=prompt,
        images=[f"{n}.png" for n in range(shown.count("image"))],
        videos=[f"{n}.mp4" for n in range(shown.count("video"))],
        completions=[Completion(text, source="imported") for text in (texts if with_pairs else texts[:1])],
        pairs=[Pair(0, n) for n in range(1, len(texts))] if with_pairs else [],
    )


def unique_prompts(items):
    """Leave out groups of the same id or prompt, which a reader would gather."""
    seen, kept = set(), []
    for group in items:
        keys = {group.id, repr(group.prompt)}
        if not keys & seen:
            kept.append(group)
            seen |= keys
    return kept
