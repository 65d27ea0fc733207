import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.world.scenes import scene_of
from triptych.world.config import QUESTION_KINDS, RATIONALE_KINDS, WorldConfig
from triptych.world.describe import describe
from triptych.world.oracle import judge
from triptych.world.questions import addition, ask, draw_questions, rationale
from triptych.world.randomness import rng_for
from triptych.world.scene import sample_scene

CONFIG = WorldConfig()
SIDES = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "circle": 0, "star": 10}
PLACES = {
    "at the top left": (0, 0), "at the top": (0, 1), "at the top right": (0, 2),
    "on the left": (1, 0), "in the centre": (1, 1), "on the right": (1, 2),
    "at the bottom left": (2, 0), "at the bottom": (2, 1), "at the bottom right": (2, 2),
}  # fmt: skip


def _select(items, words):
    """The objects that some words name: `red objects`, `digits`, `blue shapes`, `red 3`, `object in the centre`."""
    place = next((cell for name, cell in PLACES.items() if words.endswith(f" {name}")), None)
    if place is not None:
        return [item for item in items if (item["row"], item["column"]) == place]
    *colour, noun = words.split()
    noun = noun if noun.isdigit() else noun.removesuffix("s")
    tests = {
        "object": lambda item: True,
        "digit": lambda item: item["kind"] == "digit",
        "shape": lambda item: item["kind"] in SIDES,
    }
    fits = tests.get(noun, lambda item: noun in (item["kind"], str(item.get("value"))))
    return [item for item in items if fits(item) and (not colour or item["colour"] == colour[0])]


def _only(items, words):
    (item,) = _select(items, words)
    return item


def _noun(item):
    return str(item["value"]) if item["kind"] == "digit" else item["kind"]


def _solve(text, items):
    """Answer a question from the words of the question and the raw scene, by brute force."""
    if match := re.fullmatch(r"How many (.+) are there\?", text):
        return str(len(_select(items, match[1])))
    if match := re.fullmatch(r"What colour is the (.+)\?", text):
        return _only(items, match[1])["colour"]
    if match := re.fullmatch(r"What is the sum of the (.+)\?", text):
        return str(sum(item["value"] for item in _select(items, match[1])))
    if match := re.fullmatch(r"How many sides do the (.+) have in total\?", text):
        return str(sum(SIDES[item["kind"]] for item in _select(items, match[1])))
    if match := re.fullmatch(r"What is the (.+)\?", text):
        return _noun(_only(items, match[1]))
    if match := re.fullmatch(r"Where is the (.+)\?", text):
        item = _only(items, match[1])
        (name,) = [name for name, cell in PLACES.items() if cell == (item["row"], item["column"])]
        return name.split(" the ")[1]
    if match := re.fullmatch(r"Are there more (.+) than (.+)\?", text):
        return "yes" if len(_select(items, match[1])) > len(_select(items, match[2])) else "no"
    match = re.fullmatch(r"Is the (.+) (above|below|to the left of|to the right of) the (.+)\?", text)
    first, second = _only(items, match[1]), _only(items, match[3])
    holds = {
        "above": first["row"] < second["row"],
        "below": first["row"] > second["row"],
        "to the left of": first["column"] < second["column"],
        "to the right of": first["column"] > second["column"],
    }
    return "yes" if holds[match[2]] else "no"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40))
@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_answers_agree_with_brute_force(kind, seed):
    scene = sample_scene(CONFIG, "sft", rng_for(seed))
    question = ask(kind, scene, CONFIG, rng_for(seed, "question"))
    assert (question.kind, question.answer) == (kind, _solve(question.text, scene.to_list()))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40), kind=st.sampled_from(QUESTION_KINDS))
def test_rationales_are_true_and_end_in_the_answer(seed, kind):
    scene = sample_scene(CONFIG, "test", rng_for(seed))
    question = ask(kind, scene, CONFIG, rng_for(seed, "question"))
    for style in RATIONALE_KINDS:
        text = rationale(question, scene, style)
        reasoning, final = text.split("\n")
        assert final == f"Final Answer: {question.answer}"
        assert text.count("Final Answer:") == 1 and reasoning.endswith(".")
        sums = [tuple(map(int, found)) for found in re.findall(r"(\d+) \+ (\d+) = (\d+)", reasoning)]
        assert all(first + second == total for first, second, total in sums)
        if sums:
            assert str(sums[-1][2]) == question.answer
        assert judge(text, scene).num_wrong == 0, text


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40), kind=st.sampled_from(QUESTION_KINDS))
def test_the_three_kinds_of_rationale_open_as_they_should(seed, kind):
    scene = sample_scene(CONFIG, "sft", rng_for(seed))
    question = ask(kind, scene, CONFIG, rng_for(seed, "question"))
    assert rationale(question, scene, "visual").startswith(describe(scene))
    grounded = rationale(question, scene, "grounded")
    regions = [f"{item.colour} {item.noun} [{item.place}]" for item in question.objects]
    assert re.findall(r"\w+ \w+ \[[\w ]+\]", grounded.lower()) == regions
    knowledge = rationale(question, scene, "knowledge")
    assert "[" not in knowledge and knowledge.startswith(question.knowledge)


def test_a_grounded_rationale_by_hand():
    scene = scene_of("red 3 top left", "blue star top", "blue 7 centre", "red 9 bottom")
    (question,) = {
        question.text: question
        for question in (ask("sum", scene, CONFIG, rng_for(index)) for index in range(20))
        if question.text == "What is the sum of the digits?"
    }.values()
    assert rationale(question, scene, "grounded") == (
        "Red 3 [top left], blue 7 [centre], red 9 [bottom]. 3 + 7 = 10, 10 + 9 = 19.\nFinal Answer: 19"
    )
    assert question.direct_prompt == "What is the sum of the digits? Answer briefly."
    assert question.cot_prompt == "What is the sum of the digits? Think step by step."


def test_background_knowledge_tells_the_sides_of_the_shapes():
    scene = scene_of("red circle top left", "red star top", "red star centre")
    question = ask("sides", scene, CONFIG, rng_for(0))
    assert rationale(question, scene, "knowledge") == (
        "A circle has no sides and a star has 10 sides. 0 + 10 = 10, 10 + 10 = 20.\nFinal Answer: 20"
    )


def test_sums_are_written_step_by_step():
    assert [addition(values) for values in ([], [4], [4, 5], [4, 5, 6])] == [
        "None is 0.", "Only 4.", "4 + 5 = 9.", "4 + 5 = 9, 9 + 6 = 15.",
    ]  # fmt: skip


def test_kinds_follow_their_weights():
    config = WorldConfig(question_weights={"count": 3.0, "position": 1.0, "sum": 0.0})
    kinds = Counter()
    for index in range(800):
        scene = sample_scene(config, "sft", rng_for(index))
        kinds.update(question.kind for question in draw_questions(scene, config, 1, rng_for(index, "q")))
    assert set(kinds) == {"count", "position"}
    assert abs(kinds["count"] - 600) < 62  # standard error sqrt(800 * 3/4 * 1/4) = 12


def test_a_scene_is_asked_about_what_it_shows():
    config = WorldConfig(question_weights={"sum": 1.0, "sides": 1.0})
    digits, shapes = scene_of("red 3 top left", "blue 7 centre"), scene_of("red star top", "blue star left")
    for index in range(20):
        assert draw_questions(digits, config, 1, rng_for(index))[0].kind == "sum"
        assert draw_questions(shapes, config, 1, rng_for(index))[0].kind == "sides"


def test_the_sum_of_no_digits_is_0_where_nothing_else_may_be_asked():
    config = WorldConfig(question_weights={"sum": 1.0})
    (question,) = draw_questions(scene_of("red star top", "blue star left"), config, 1, rng_for(0))
    assert question.answer == "0"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40), number=st.integers(0, 6))
def test_questions_about_one_picture_differ(seed, number):
    scene = sample_scene(CONFIG, "prompts", rng_for(seed))
    texts = [question.text for question in draw_questions(scene, CONFIG, number, rng_for(seed, "q"))]
    assert len(texts) == len(set(texts)) == number


def test_the_number_of_questions_is_kept_where_too_few_differ():
    config = WorldConfig(question_weights={"sum": 1.0})
    questions = draw_questions(scene_of("red 3 top", "blue star left"), config, 5, rng_for(0))
    assert len(questions) == 5 and {question.answer for question in questions} == {"3"}


def test_yes_and_no_are_about_equally_frequent():
    answers = Counter()
    for index in range(600):
        scene = sample_scene(CONFIG, "prompts", rng_for(index))
        answers[ask("comparison", scene, CONFIG, rng_for(index, "q")).answer] += 1
    assert abs(answers["yes"] - 300) < 60
