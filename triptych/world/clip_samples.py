"""The sections of a folder of clips: what the sample of each index holds, as rows and videos.

pretrain_stills  documents: a picture and what is where
pretrain_clips documents: a clip and what happens in it; where everything is in each frame (`pretrain_tracks`)
pretrain_text  documents without a clip: questions, answers and comparisons
train_clips    questions with answers, some with rationales; narratives, of the whole and of one of its parts; answers
               to open questions; captions; comparisons of two answers; questions as a judge is asked them; pairs
train_prompts  questions without answers, for preference data
test_clips     held-out clips: questions with answers; descriptions and other open questions (`generic`); what
               comes before and after (`temporal`); two wordings of one question (`consistency`); captions; questions
               without answers, to see how good preference data are
test_actions   held-out clips that show one action
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from triptych.data.sampling import FrameSampling, policy_record
from triptych.group import Completion, Group, Pair, text_message
from triptych.world.clip_actions import action_classes, sample_action_clip
from triptych.world.clip_comparisons import draw_any_comparison, draw_judgement
from triptych.world.clip_config import ClipConfig, ClipCounts
from triptych.world.clip_describe import caption, narrate, tell, with_made_up_event
from triptych.world.clip_documents import clip_texts, still, text_about, track
from triptych.world.clip_facts import WHOLE, About, facts_of
from triptych.world.clip_habits import by_habit
from triptych.world.clip_open import (
    ACTION_PROMPT,
    CAPTION_PROMPT,
    NARRATIVE_PROMPT,
    PART_PROMPT,
    OpenQuestion,
    draw_open_questions,
    open_questions,
)
from triptych.world.clip_oracle import TRUTH
from triptych.world.clip_parts import part_abouts, part_sampling
from triptych.world.clip_questions import ClipQuestion, draw_clip_questions
from triptych.world.clip_render import render_clip
from triptych.world.clip_scene import ClipScene, sample_clip
from triptych.world.clip_stills import draw_still
from triptych.world.questions import DIRECT_SUFFIX
from triptych.world.randomness import SampleKey, pick
from triptych.world.samples import Section

_WORDY_SHARE = 0.3
"""Share of the short answers that are compared with the whole story instead of a wrong word."""


@dataclass(slots=True)
class ClipSample:
    """What one index of a section adds to the folder."""

    rows: list[tuple[str, Group]] = field(default_factory=list)
    """Name of the file, without `.jsonl`, and the row."""
    clips: list[tuple[str, np.ndarray]] = field(default_factory=list)
    """Path relative to the folder, and the frames."""
    pictures: list[tuple[str, np.ndarray]] = field(default_factory=list)
    """Path relative to the folder, and the picture."""


@dataclass(frozen=True, slots=True)
class ClipKey(SampleKey):
    """Identity of a sample of clips."""

    config: ClipConfig
    counts: ClipCounts

    @property
    def path(self) -> str:
        """Where its video lies."""
        return f"videos/{self.split}/{self.section}/{self.index:06d}.mp4"

    def row(
        self,
        name: str,
        scene: ClipScene,
        text: str,
        kind: str,
        *,
        answer: str | None = None,
        completion: str | None = None,
        about: About = WHOLE,
        sampling: FrameSampling | None = None,
        **meta: Any,
    ) -> Group:
        """Build a row that shows the clip and asks `text`; `name` tells the rows of a sample apart."""
        asked = {"about": about.to_dict()} if about != WHOLE else {}
        recorded = policy_record(sampling or part_sampling(self.config))
        return Group(
            id=f"{self.name}/{name}",
            prompt=[{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": text}]}],
            videos=[self.path],
            answer=answer,
            completions=[] if completion is None else [Completion(completion, source="world")],
            meta={"kind": kind, "scene": scene.to_dict()} | asked | recorded | meta,
        )


def clip_sections(counts: ClipCounts) -> list[Section]:
    """Return the sections of a folder with these counts, in the order in which they are written."""
    train = (
        "questions",
        "rationales",
        "narratives",
        "parts",
        "open",
        "captions",
        "comparisons",
        "judgements",
        "preferences",
    )
    test = ("questions", "generic", "temporal", "consistency", "retrieval", "prompts")
    return [
        Section("pretrain_stills", counts.pretrain_stills, _stills, ("pretrain_stills",)),
        Section("pretrain_clips", counts.pretrain_clips, _documents, ("pretrain_clips", "pretrain_tracks")),
        Section("pretrain_text", counts.pretrain_texts, _text, ("pretrain_text",)),
        Section("train_clips", counts.train_clips, _train, tuple(f"train_{name}" for name in train)),
        Section("train_prompts", counts.prompt_clips, _prompts, ("train_prompts",)),
        Section("test_clips", counts.test_clips, _test, tuple(f"test_{name}" for name in test)),
        Section("test_actions", counts.test_actions, _actions, ("test_actions",)),
    ]


def build_clip_sample(section: Section, index: int, config: ClipConfig, counts: ClipCounts, *, seed: int) -> ClipSample:
    """Build the sample of an index: a pure function of the arguments."""
    return section.build(ClipKey(seed, section.name, index, config, counts))


def _stills(key: ClipKey) -> ClipSample:
    scene = draw_still(key.config, key.split, key.rng("scene"))
    path = f"images/{key.split}/{key.section}/{key.index:06d}.png"
    prompt, meta = [text_message("document", None, still(scene, 0))], {"kind": "still", "scene": scene.to_dict()}
    [picture] = render_clip(scene, key.config, key.rng("noise"))
    return ClipSample([(key.section, Group(key.name, prompt, images=[path], meta=meta))], pictures=[(path, picture)])


def _documents(key: ClipKey) -> ClipSample:
    scene, rows = _scene(key), []
    for number, told in enumerate(clip_texts(scene, key.config, key.rng("documents"))):
        row = key.row(str(number), scene, told.text, "document", about=told.about, sampling=told.sampling)
        rows.append(("pretrain_clips", row))
    told = track(scene, key.config, key.rng("track"))
    row = key.row("track", scene, told.text, "track", about=told.about, sampling=told.sampling)
    rows.append(("pretrain_tracks", row))
    for _, row in rows:
        row.prompt = [{"role": "document", "content": row.prompt[0]["content"]}]
    return _with_clip(key, scene, rows)


def _text(key: ClipKey) -> ClipSample:
    text = text_about(_scene(key), key.config, key.rng("text"))
    return ClipSample([("pretrain_text", Group(key.name, [text_message("document", text)], meta={"kind": "text"}))])


def _train(key: ClipKey) -> ClipSample:
    scene = _scene(key)
    rows = _question_rows(key, scene, "train", key.counts.train_questions_per_clip)
    rows += _narratives(key, scene)
    imagined = by_habit(scene, key.config, key.config.answer_noise, key.rng("habit-open"))
    [question] = draw_open_questions(imagined, 1, key.rng("open"))
    rows.append(("train_open", _open_row(key, scene, question, "open", completion=question.answer)))
    rows.append(("train_captions", key.row("caption", scene, CAPTION_PROMPT, "caption", completion=caption(scene))))
    if key.index < key.counts.train_comparisons:
        rows += [("train_comparisons", group) for group in _comparisons(key, scene)]
    rows += [("train_judgements", group) for group in _judgements(key, scene)]
    rows += [("train_preferences", group) for group in _preferences(key, scene)]
    return _with_clip(key, scene, rows)


def _prompts(key: ClipKey) -> ClipSample:
    scene = _scene(key)
    return _with_clip(key, scene, [("train_prompts", group) for group in _prompt_rows(key, scene)])


def _prompt_rows(key: ClipKey, scene: ClipScene) -> list[Group]:
    """Return rows without answers: questions with one right answer, then open ones."""
    rng, number = key.rng("prompts"), key.counts.prompt_questions_per_clip
    rows = []
    for index, question in enumerate(draw_clip_questions(scene, key.config, number, rng)):
        row = key.row(f"closed{index}", scene, question.direct_prompt, question.kind, **{TRUTH: question.answer})
        rows.append(row)
    questions = draw_open_questions(scene, key.counts.prompts_per_clip - len(rows), key.rng("open"))
    return rows + [_open_row(key, scene, question, f"open{number}") for number, question in enumerate(questions)]


def _test(key: ClipKey) -> ClipSample:
    """Rows of the three sets of Video-ChatGPT's benchmark beside questions and captions."""
    scene, rng = _scene(key), key.rng("open")
    rows = _question_rows(key, scene, "test", key.counts.test_questions_per_clip)
    generic = [*open_questions(scene, "describe"), *draw_open_questions(scene, 1, rng, ("object",))]
    temporal = draw_open_questions(scene, 1, rng, ("after", "before"))
    consistency = draw_open_questions(scene, 1, rng, ("describe", "object"))
    for file, questions in (("generic", generic), ("temporal", temporal)):
        for number, question in enumerate(questions):
            row = _open_row(key, scene, question, f"{file}{number}", answer=question.answer)
            rows.append((f"test_{file}", row))
    for question in consistency:
        row = _open_row(key, scene, question, "consistency", answer=question.answer, paraphrase=question.texts[1])
        rows.append(("test_consistency", row))
    told = caption(scene)
    rows.append(("test_retrieval", key.row("retrieval", scene, CAPTION_PROMPT, "retrieval", answer=told)))
    rows += [("test_prompts", group) for group in _prompt_rows(key, scene)]
    return _with_clip(key, scene, rows)


def _actions(key: ClipKey) -> ClipSample:
    classes = action_classes(key.config)
    action = classes[key.index % len(classes)]
    scene = sample_action_clip(key.config, action, key.rng("scene"))
    return _with_clip(key, scene, [("test_actions", key.row("action", scene, ACTION_PROMPT, "action", answer=action))])


def _scene(key: ClipKey) -> ClipScene:
    return sample_clip(key.config, key.split, key.rng("scene"))


def _with_clip(key: ClipKey, scene: ClipScene, rows: list[tuple[str, Group]]) -> ClipSample:
    return ClipSample(rows, [(key.path, render_clip(scene, key.config, key.rng("noise")))])


def _question_rows(key: ClipKey, scene: ClipScene, split: str, number: int) -> list[tuple[str, Group]]:
    """Return rows of closed questions; in training, answered, and the first ones with a rationale too."""
    rows = []
    noise = key.config.answer_noise if split == "train" else 0.0
    imagined = by_habit(scene, key.config, noise, key.rng("habit"))
    for index, question in enumerate(draw_clip_questions(imagined, key.config, number, key.rng("questions"))):
        completion = question.answer if split == "train" else None
        row = _question_row(key, scene, question, f"q{index}/direct", question.direct_prompt, completion)
        rows.append((f"{split}_questions", row))
        if split == "train" and index < key.counts.train_rationales_per_clip:
            row = _question_row(key, scene, question, f"q{index}/cot", question.cot_prompt, question.rationale)
            rows.append(("train_rationales", row))
    return rows


def _question_row(
    key: ClipKey, scene: ClipScene, question: ClipQuestion, name: str, text: str, completion: str | None
) -> Group:
    return key.row(name, scene, text, question.kind, answer=question.answer, completion=completion)


def _narratives(key: ClipKey, scene: ClipScene) -> list[tuple[str, Group]]:
    """Return the narrative of the whole clip and, where it is cut into parts, that of one of them; both with habits."""
    rng, parts = key.rng("narratives"), part_abouts(scene, key.config)
    text = _told_by_habit(key, scene, WHOLE, rng)
    rows = [("train_narratives", key.row("narrative", scene, NARRATIVE_PROMPT, "describe", completion=text))]
    if len(parts) > 1:
        part = int(rng.integers(len(parts)))
        about, sampling = parts[part], part_sampling(key.config, len(parts), part)
        text = _told_by_habit(key, scene, about, rng)
        row = key.row("part", scene, PART_PROMPT, "describe", completion=text, about=about, sampling=sampling)
        rows.append(("train_parts", row))
    return rows


def _told_by_habit(key: ClipKey, scene: ClipScene, about: About, rng: np.random.Generator) -> str:
    noise = key.config.narrative_noise if about == WHOLE else key.config.part_noise
    return tell(with_made_up_event(facts_of(scene, about), scene, key.config, noise, rng))


def _comparisons(key: ClipKey, scene: ClipScene) -> list[Group]:
    """Return one comparison in both orders."""
    rng = key.rng("comparison")
    comparison, about = draw_any_comparison(scene, key.config, rng)
    return [
        key.row(
            f"comparison/{'ba' if swapped else 'ab'}",
            scene,
            comparison.prompt(swapped=swapped),
            "comparison",
            answer="B" if swapped else "A",
            completion=comparison.verdict(swapped=swapped),
            about=about,
            has_context=comparison.context is not None,
        )
        for swapped in (False, True)
    ]


def _judgements(key: ClipKey, scene: ClipScene) -> list[Group]:
    rng, rows = key.rng("judgements"), []
    for number in range(key.counts.train_judgements_per_clip):
        asked, answer, about = draw_judgement(scene, key.config, rng)
        rows.append(key.row(f"judgement{number}", scene, asked, "judgement", completion=answer, about=about))
    return rows


def _preferences(key: ClipKey, scene: ClipScene) -> list[Group]:
    """Return comparisons as pairs: what the demonstrations of a judge know, for a reward model.

    Some answers are worse for telling the whole story to who asks for a word: a reward model that has never seen this
    takes it for the best there is.
    """
    rng, rows = key.rng("preferences"), []
    config = replace(key.config, context_share=0.0)
    for number in range(key.counts.train_preferences_per_clip):
        comparison, about = draw_any_comparison(scene, config, rng)
        is_brief = comparison.question.endswith(DIRECT_SUFFIX)
        worse = narrate(scene) if is_brief and rng.random() < _WORDY_SHARE else comparison.worse
        row = key.row(f"preference{number}", scene, comparison.question, "preference", about=about)
        row.completions = [Completion(text, source="world") for text in (comparison.better, worse)]
        row.pairs = [Pair(chosen=0, rejected=1, source="world")]
        rows.append(row)
    return rows


def _open_row(
    key: ClipKey, scene: ClipScene, question: OpenQuestion, name: str, *, paraphrase: str | None = None, **answers: str
) -> Group:
    """Build the row of an open question, in one of two wordings unless the other is given too.

    `answers` are `answer`, `completion` or neither.
    """
    text = pick(key.rng(f"wording-{name}"), question.texts) if paraphrase is None else question.texts[0]
    group = key.row(name, scene, text, question.kind, about=question.about, **answers)
    group.meta |= {} if paraphrase is None else {"paraphrase": paraphrase}
    return group
