"""Rows and videos of the clips' sections."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from tests.world.clip_scenes import CONFIG
from triptych.data.sampling import clips_of
from triptych.group import Group, prompt_text
from triptych.world.clip_actions import action_classes
from triptych.world.clip_config import ClipConfig, ClipCounts
from triptych.world.clip_oracle import prefer, score_clip
from triptych.world.clip_samples import build_clip_sample, clip_sections
from triptych.world.clip_scene import ClipScene, is_held_out
from triptych.world.glyphs import glyphs_by_value

COUNTS = ClipCounts(
    pretrain_stills=5,
    pretrain_clips=4,
    pretrain_texts=3,
    train_clips=12,
    train_comparisons=8,
    train_preferences_per_clip=2,
    prompt_clips=6,
    prompt_questions_per_clip=1,
    test_clips=8,
    test_actions=5,
)


def _build(config: ClipConfig = CONFIG, counts: ClipCounts = COUNTS, seed: int = 0):
    rows, clips = defaultdict(list), {}
    for section in clip_sections(counts):
        for index in range(section.num_samples):
            sample = build_clip_sample(section, index, config, counts, seed=seed)
            for name, group in sample.rows:
                assert name in section.files
                rows[name].append(group)
            clips.update(sample.clips)
            assert [path for path, _ in sample.pictures] == [path for _, row in sample.rows for path in row.images]
    return dict(rows), clips


ROWS, CLIPS = _build()


def test_the_counts_are_kept() -> None:
    assert {name: len(groups) for name, groups in ROWS.items()} == {
        "pretrain_stills": 5,
        "pretrain_clips": 20,
        "pretrain_text": 3,
        "pretrain_tracks": 4,
        "train_narratives": 12,
        "train_parts": 12,
        "train_questions": 48,
        "train_rationales": 12,
        "train_open": 12,
        "train_captions": 12,
        "train_comparisons": 16,
        "train_judgements": 12,
        "train_preferences": 24,
        "train_prompts": 12,
        "test_questions": 32,
        "test_generic": 16,
        "test_temporal": 8,
        "test_consistency": 8,
        "test_retrieval": 8,
        "test_prompts": 16,
        "test_actions": 5,
    }


def test_rows_are_valid_groups_with_unique_ids_and_their_own_video() -> None:
    groups = [group for each in ROWS.values() for group in each]
    assert len({group.id for group in groups}) == len(groups)
    assert all(Group.from_row(group.to_row()) == group for group in groups)
    assert {video for group in groups for video in group.videos} == set(CLIPS)
    shown = [group for group in groups if group.meta["kind"] not in ("text", "still")]
    assert all(prompt_text(group).startswith("<video>") and clips_of(group) for group in shown)
    for name, each in ROWS.items():
        assert name in ("pretrain_text", "pretrain_stills") or all(
            group.videos[0].startswith(f"videos/{name.split('_')[0]}/") for group in each
        )


def test_demonstrations_are_in_training_only() -> None:
    for name, groups in ROWS.items():
        number = 2 if name == "train_preferences" else int(name.startswith("train_") and name != "train_prompts")
        assert all(len(group.completions) == number for group in groups)
    assert all(group.completions[0].text == group.answer for group in ROWS["train_questions"])
    for group in ROWS["train_rationales"]:
        assert group.completions[0].text.endswith(f"\nFinal Answer: {group.answer}")
    with_answers = [name for name in ROWS if name.startswith("test_") and name != "test_prompts"]
    assert all(group.answer for name in with_answers for group in ROWS[name])


def test_prompts_for_preference_data_have_no_answers_but_a_truth_for_the_oracle() -> None:
    for name in ("train_prompts", "test_prompts"):
        assert not any(group.answer for group in ROWS[name])
        closed = [group for group in ROWS[name] if "truth" in group.meta]
        assert len(closed) == len(ROWS[name]) / 2
        assert all(prompt_text(group).endswith("Answer briefly.") for group in closed)


def test_documents_are_shown_their_clip_or_none() -> None:
    assert all(group.prompt[0]["role"] == "document" for group in ROWS["pretrain_clips"] + ROWS["pretrain_text"])
    parts = [clips_of(group)[0].sampling for group in ROWS["pretrain_clips"]]
    assert [item.num_parts for item in parts] == [1, 1, 3, 1, 1] * 4
    assert not any(group.videos for group in ROWS["pretrain_text"])


def test_answers_in_training_have_the_habits_asked_for() -> None:
    plain, _ = _build(replace(CONFIG, narrative_noise=0.0))
    habit, _ = _build(replace(CONFIG, narrative_noise=0.0, answer_noise=1.0))
    for name in ("train_questions", "train_open"):
        assert plain[name] != habit[name]
    assert plain["test_questions"] == habit["test_questions"]
    wrong = [score_clip(group.completions[0].text, group)["num_wrong"] for group in habit["train_open"]]
    assert sum(wrong) >= 3


def test_comparisons_may_be_of_short_answers() -> None:
    rows, _ = _build(replace(CONFIG, closed_share=1.0))
    for group in rows["train_comparisons"]:
        asked = prompt_text(group)
        assert "Answer briefly.\nAnswer A: " in asked
        right = asked.split(f"Answer {group.answer}: ")[1].split("\n")[0]
        assert group.completions[0].text == f"{group.answer} is better because the answer is {right}."


def test_the_references_are_right_and_complete() -> None:
    for name in ("test_generic", "test_temporal", "test_consistency", "test_retrieval"):
        for group in ROWS[name]:
            score = score_clip(group.answer, group)
            assert (score["num_wrong"], score["coverage"]) == (0, 1.0)
    for name in ("train_open", "train_captions"):
        for group in ROWS[name]:
            score = score_clip(group.completions[0].text, group)
            assert (score["num_wrong"], score["coverage"]) == (0, 1.0)


@pytest.mark.parametrize(("noise", "share"), [(0.0, 0.0), (1.0, 0.7)])
def test_narratives_have_the_habits_asked_for(noise: float, share: float) -> None:
    rows, _ = _build(
        replace(CONFIG, narrative_noise=noise, part_noise=noise),
        replace(COUNTS, pretrain_stills=0, pretrain_clips=0, prompt_clips=0, test_clips=0, test_actions=0),
    )
    scores = [score_clip(group.completions[0].text, group) for group in rows["train_narratives"] + rows["train_parts"]]
    wrong = [score["num_wrong"] for score in scores]
    assert sum(wrong) / len(wrong) >= share and max(wrong) == round(noise)
    assert all(score["coverage"] == 1.0 for score in scores)


def test_the_chosen_answer_of_a_pair_is_the_better_one_by_the_oracle_and_no_context_is_given() -> None:
    wordy = 0
    for group in _build(replace(CONFIG, closed_share=0.5))[0]["train_preferences"]:
        [pair] = group.pairs
        chosen, rejected = (group.completions[index].text for index in (pair.chosen, pair.rejected))
        assert "Context:" not in group.prompt[0]["content"][1]["text"]
        if group.prompt[0]["content"][1]["text"].endswith("Answer briefly."):
            assert chosen != rejected
            wordy += len(rejected) > 40
        else:
            assert score_clip(chosen, group)["quality"] > score_clip(rejected, group)["quality"]
    assert wordy


def test_a_narrative_of_a_part_shows_that_part() -> None:
    for group in ROWS["train_parts"]:
        scene, about = ClipScene.from_dict(group.meta["scene"]), group.meta["about"]
        sampling = clips_of(group)[0].sampling
        start, stop = about.get("start", 0), about.get("stop", scene.num_frames)
        assert sampling.num_parts == 3
        assert start == sampling.part * scene.num_frames // sampling.num_parts
        assert stop == (sampling.part + 1) * scene.num_frames // sampling.num_parts


def test_a_row_records_how_many_frames_it_shows() -> None:
    rows, _ = _build(replace(CONFIG, num_frames=12), ClipCounts(0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0))
    assert all(clips_of(group)[0].sampling.num_frames == 12 for groups in rows.values() for group in groups)


def test_comparisons_come_in_both_orders_and_say_what_the_oracle_says() -> None:
    answers = Counter(group.answer for group in ROWS["train_comparisons"])
    assert answers == {"A": 8, "B": 8}
    for group in ROWS["train_comparisons"]:
        first, second = prompt_text(group).split("Answer A: ")[1].split("\nAnswer B: ")
        second = second.split("\nWhich answer")[0]
        assert "AB"[prefer(first, second, group)] == group.answer
        assert group.completions[0].text.startswith(f"{group.answer} is better because ")
        assert group.meta["has_context"] == ("Context: " in prompt_text(group))


def test_consistency_rows_have_a_second_wording() -> None:
    for group in ROWS["test_consistency"]:
        assert group.meta["paraphrase"] != prompt_text(group).removeprefix("<video>")
    assert all(group.meta["about"].keys() <= {"after", "before"} for group in ROWS["test_temporal"])


def test_actions_come_in_turn() -> None:
    assert [group.answer for group in ROWS["test_actions"]] == action_classes(CONFIG)[:5]


def test_the_test_split_shares_nothing_with_training() -> None:
    held_out = {index for same in glyphs_by_value(True) for index in same}
    rows, clips = _build(replace(CONFIG, digit_share=0.6), replace(COUNTS, pretrain_texts=0))
    for name, groups in rows.items():
        for group in groups:
            scene = ClipScene.from_dict(group.meta["scene"])
            assert is_held_out(scene) is name.startswith("test_")
            glyphs = {item.glyph for item in scene.objects if item.glyph is not None}
            assert glyphs <= held_out if name.startswith("test_") else not glyphs & held_out
    assert len({frames.tobytes() for frames in clips.values()}) == len(clips)


def test_a_sample_is_a_pure_function_of_its_key() -> None:
    rows, clips = _build()
    assert rows == ROWS and all((clips[path] == frames).all() for path, frames in CLIPS.items())
    other, _ = _build(seed=1)
    assert other["test_questions"] != ROWS["test_questions"]


def test_clips_do_not_depend_on_texts_nor_on_counts() -> None:
    config = replace(CONFIG, narrative_noise=1.0, context_share=0.0, question_weights={"count": 1.0})
    _, clips = _build(config, replace(COUNTS, train_questions_per_clip=1))
    assert all((clips[path] == frames).all() for path, frames in CLIPS.items())
