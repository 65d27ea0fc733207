from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from triptych.group import Group, prompt_text
from triptych.world.config import WorldConfig, WorldCounts
from triptych.world.describe import describe
from triptych.world.glyphs import glyphs_by_value
from triptych.world.oracle import score_description
from triptych.world.samples import build_sample, sections
from triptych.world.scene import Scene

CONFIG = WorldConfig()
COUNTS = WorldCounts(
    pretrain_captions=8,
    pretrain_synthetic=4,
    pretrain_interleaved=8,
    pretrain_text=5,
    sft_questions=16,
    sft_questions_per_picture=3,
    sft_rationales=8,
    sft_descriptions=9,
    sft_texts=3,
    prompt_questions=7,
    prompt_questions_per_picture=2,
    prompt_descriptions=4,
    test_questions=9,
    test_questions_per_picture=2,
    test_descriptions=6,
)


def _build(config=CONFIG, counts=COUNTS, seed=0):
    """All rows by file, and all pictures by path."""
    rows, pictures = defaultdict(list), {}
    for section in sections(counts):
        for index in range(section.num_samples):
            sample = build_sample(section, index, config, counts, seed=seed)
            for name, group in sample.rows:
                assert name in section.files
                rows[name].append(group)
            for path, picture in sample.pictures:
                assert path not in pictures
                pictures[path] = picture
    return rows, pictures


@pytest.fixture(scope="module")
def built():
    return _build()


def test_the_counts_are_kept(built):
    assert {name: len(groups) for name, groups in built[0].items()} == {
        "pretrain_captions": 8,
        "pretrain_synthetic": 4,
        "pretrain_interleaved": 8,
        "pretrain_text": 5,
        "sft_direct": 16,
        "sft_cot": 8,
        "sft_describe": 9,
        "sft_text": 3,
        "prompts_cot": 7,
        "prompts_describe": 4,
        "test_direct": 9,
        "test_cot": 9,
        "test_describe": 6,
    }


def test_rows_are_valid_groups_with_unique_ids(built):
    groups = [group for name in built[0] for group in built[0][name]]
    assert len({group.id for group in groups}) == len(groups)
    assert all(Group.from_row(group.to_row()) == group for group in groups)


def test_every_picture_belongs_to_a_row_and_the_other_way_round(built):
    used = {image for groups in built[0].values() for group in groups for image in group.images}
    assert used == set(built[1])


def test_pictures_differ_from_each_other(built):
    assert len({picture.tobytes() for picture in built[1].values()}) == len(built[1])


def test_rows_of_one_picture_are_neighbours(built):
    for groups in built[0].values():
        images = [group.images[0] for group in groups if group.images]
        changes = 1 + sum(before != after for before, after in pairwise(images))
        assert not images or changes == len(set(images))


def test_sft_rows_are_demonstrations(built):
    for name in ("sft_direct", "sft_cot", "sft_describe", "test_describe"):
        assert all([item.source for item in group.completions] == ["world"] for group in built[0][name])
    assert all(group.completions[0].text == group.answer for group in built[0]["sft_direct"])
    assert all(group.completions[0].text.endswith(f"\nFinal Answer: {group.answer}") for group in built[0]["sft_cot"])
    for name in ("prompts_cot", "prompts_describe", "test_direct", "test_cot"):
        assert all(group.completions == [] for group in built[0][name])


def test_prompts_put_the_picture_first_and_name_the_form(built):
    forms = {"direct": " Answer briefly.", "cot": " Think step by step.", "describe": "Describe the picture."}
    for name, groups in built[0].items():
        form = name.split("_")[1]
        if form in forms:
            assert all(prompt_text(group).startswith("<image>") for group in groups)
            assert all(prompt_text(group).endswith(forms[form]) for group in groups)


def test_both_test_files_ask_the_same_questions(built):
    direct, cot = built[0]["test_direct"], built[0]["test_cot"]
    for first, second in zip(direct, cot, strict=True):
        assert (first.images, first.answer, first.meta) == (second.images, second.answer, second.meta)
        ask = prompt_text(first).removesuffix(" Answer briefly.")
        assert ask == prompt_text(second).removesuffix(" Think step by step.")


def test_every_question_has_an_answer_a_kind_and_its_scene(built):
    for name in ("sft_direct", "sft_cot", "prompts_cot", "test_direct", "test_cot"):
        assert all(
            group.answer and group.meta["kind"] and Scene.from_list(group.meta["scene"]) for group in built[0][name]
        )


def test_rationales_are_spread_over_the_pictures(built):
    images = [group.images[0] for group in built[0]["sft_cot"]]
    assert len(set(images)) == 6  # six pictures carry the 16 questions: six first questions, then two second ones
    asked = {(group.images[0], prompt_text(group).removesuffix(" Answer briefly.")) for group in built[0]["sft_direct"]}
    assert all(
        (group.images[0], prompt_text(group).removesuffix(" Think step by step.")) in asked
        for group in built[0]["sft_cot"]
    )


def test_glyphs_of_the_test_split_occur_nowhere_else(built):
    held_out = {index for same in glyphs_by_value(True) for index in same}
    for name, groups in built[0].items():
        for group in groups:
            scenes = group.meta.get("scenes", [group.meta["scene"]] if "scene" in group.meta else [])
            glyphs = {item["glyph"] for scene in scenes for item in scene if item["kind"] == "digit"}
            assert glyphs <= held_out if name.startswith("test") else not glyphs & held_out


def test_interleaved_rows_have_one_scene_per_picture(built):
    for group in built[0]["pretrain_interleaved"]:
        assert 2 <= len(group.images) == len(group.meta["scenes"]) <= 4


def test_reference_descriptions_are_exact(built):
    for group in built[0]["test_describe"]:
        score = score_description(group.completions[0].text, group)
        assert (score["num_wrong"], score["coverage"]) == (0, 1.0)


def test_description_noise_mentions_absent_companions_in_sft_only():
    counts = replace(COUNTS, sft_questions=0, sft_rationales=0, sft_descriptions=120)
    noisy, clean = (_build(WorldConfig(description_noise=noise, companion_bias=0.5), counts)[0] for noise in (1.0, 0.0))
    assert all(
        not score_description(group.completions[0].text, group)["hallucinated"] for group in clean["sft_describe"]
    )
    wrong = [score_description(group.completions[0].text, group)["num_wrong"] for group in noisy["sft_describe"]]
    assert set(wrong) == {0, 1} and sum(wrong) > 20
    assert all(
        not score_description(group.completions[0].text, group)["hallucinated"] for group in noisy["test_describe"]
    )


@pytest.mark.parametrize(("share", "kind", "word"), [(0.0, "text", "facts"), (1.0, "usual", "picture")])
def test_demonstrations_without_a_picture_tell_facts_or_of_a_usual_picture(share, kind, word):
    counts = WorldCounts(**{name: 0 for name in vars(COUNTS) if "per_picture" not in name} | {"sft_texts": 4})
    rows, pictures = _build(WorldConfig(text_descriptions=share), counts)
    assert list(rows) == ["sft_text"] and not pictures
    for group in rows["sft_text"]:
        assert not group.images and word in prompt_text(group) and group.meta["kind"] == kind
        assert group.completions[0].text.endswith(".")


def test_a_sample_is_a_pure_function_of_its_key(built):
    rows, pictures = _build()
    assert rows == built[0]
    assert all((pictures[path] == picture).all() for path, picture in built[1].items())
    other = _build(seed=1)[1]
    assert all((other[path] != picture).any() for path, picture in built[1].items() if path in other)


def test_pictures_do_not_depend_on_texts_nor_on_counts(built):
    config = replace(CONFIG, caption_noise=0, description_noise=0, question_weights={"sum": 1.0})
    pictures = _build(config, replace(COUNTS, sft_questions=30))[1]
    quiet = _build(replace(CONFIG, pixel_noise=0))[0]
    for path, picture in built[1].items():
        assert (pictures[path] == picture).all()
    assert quiet == built[0]
    assert isinstance(picture, np.ndarray) and picture.dtype == np.uint8


def test_what_is_not_wanted_is_not_made():
    nothing = WorldCounts(*(0 if "per_picture" not in name else 1 for name in WorldCounts.__dataclass_fields__))
    rows, pictures = _build(counts=nothing)
    assert not rows and not pictures
    rows, pictures = _build(counts=replace(nothing, sft_descriptions=2))
    assert list(rows) == ["sft_describe"]
    assert describe(Scene.from_list(rows["sft_describe"][0].meta["scene"])).endswith(".") and len(pictures) == 2


def test_pictures_that_are_only_described_can_have_their_own_share_of_digits():
    config, counts = WorldConfig(digit_share=1.0, description_digit_share=0.0), WorldCounts()
    for section in sections(counts):
        if section.name in ("test_describe", "prompts_describe", "test_questions"):
            rows = [row for index in range(5) for row in build_sample(section, index, config, counts, seed=0).rows]
            kinds = {item["kind"] for _, group in rows for item in group.meta["scene"]}
            assert (kinds == {"digit"}) == (section.name == "test_questions")
            assert ("digit" in kinds) == (section.name == "test_questions")
