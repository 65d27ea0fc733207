"""Configuration of the stage that measures models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from triptych.errors import TriptychError
from triptych.evaluation.similarity import CLIP
from triptych.generation.settings import Backend
from triptych.stages.pairs_config import JudgeSettings

BENCHMARK_TASKS = ("generative", "generic", "temporal", "consistency")
"""Names of generative tasks whose results bear the names of the aspects alone; they make the mean of the five."""


@dataclass(kw_only=True)
class Task:
    """One measurement of an evaluation."""

    name: str
    """Name of the result: direct, cot, describe, or your own."""
    data: str
    """Rows with prompts and answers, or reference texts (description, retrieval); or annotations, see `layout`."""
    root: str = ""
    """Data root of the media paths; where empty, the one of the evaluation, or the folder of the rows."""
    layout: Literal[
        "", "video_chatgpt", "msvd_qa", "msrvtt_qa", "activitynet_qa", "msvd", "msrvtt", "ucf101", "hmdb51"
    ] = ""
    """Annotations of a benchmark in place of rows: how they are written; see docs/video-evaluation.md."""
    question: str = ""
    """layout of captions or classes: what is asked of each video; a wording of ours where empty."""
    kind: Literal["accuracy", "vqa", "description", "generative", "video_qa", "retrieval", "actions", "judge"] = (
        "accuracy"
    )
    """accuracy checks answers; vqa compares with ten human answers in meta.answers; description scores free text; judge
    measures the model as a judge of answers; that and the others, of videos, are in docs/video-evaluation.md."""
    answer_style: Literal["final_answer", "boxed", "direct"] = "direct"
    """How an answer is marked in the text."""
    answer_kind: Literal["auto", "number", "choice", "yes_no", "text", "list", "expression"] = "auto"
    """What an answer is; auto infers it from each truth."""
    scorer: str = ""
    """description: function that checks a text against its row, as module:function; generative, video_qa: the truth
    that the judge is measured by, where there is one."""
    judged: bool = True
    """generative, video_qa: ask the judge; without it the scorer, or the rules for short answers, stand alone."""
    aspects: list[Literal["correctness", "detail", "context", "temporal", "consistency"]] = field(
        default_factory=lambda: ["correctness", "detail", "context"]
    )
    """generative: what answers are scored in; consistency needs a second wording in meta.paraphrase."""
    similarity: str = ""
    """retrieval, actions: how texts are compared: module:function, clip:MODEL, or tf-idf where empty. retrieval,
    description: clip:MODEL also says how well answers fit the frames, as clip_score."""
    by: Literal["text", "likelihood", "frames"] = "text"
    """retrieval, actions: text compares what the model says; frames the videos themselves, by the CLIP that similarity
    names and without the model; likelihood (actions, backend local) ranks the classes as answers of the model."""
    temperature: float = 0.0
    """0 decodes greedily."""
    max_new_tokens: int = 64
    """Most tokens of an answer."""
    limit: int = 0
    """Use only the first rows; 0 uses all."""
    cot_prompt: Literal["", "plain", "knowledge", "visual", "grounded"] = ""
    """Wrap questions in this chain-of-thought instruction."""
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    """judge: how two answers are judged, as `pairs` has it."""
    oracle: str = ""
    """judge: function of (first answer, second answer, row) that returns 0 or 1, the better one, or None where they are
    equally good, as module:function."""
    answers_by: str = ""
    """judge: folder of the model that answers rows without answers; where empty, the model that is measured."""

    def __post_init__(self) -> None:
        _check_at_least(0, self, "limit")
        if self.kind != "judge" and (self.oracle or self.answers_by or self.judge != JudgeSettings()):
            raise TriptychError(
                f"The task {self.name!r} is of kind {self.kind}; judge, oracle and answers_by are for the kind judge."
            )
        if not self.aspects or len(set(self.aspects)) < len(self.aspects):
            raise TriptychError(f"aspects of the task {self.name!r} names none, or one twice.")
        self._check_comparing()
        if self.question and not self.layout:
            raise TriptychError("`question` is for annotations, with `layout`; rows bring their prompts.")

    def _check_comparing(self) -> None:
        kinds = {"likelihood": ("actions",), "frames": ("retrieval", "actions")}
        if self.by != "text" and self.kind not in kinds[self.by]:
            raise TriptychError(
                f"The task {self.name!r} is of kind {self.kind}; by: {self.by} is for {', '.join(kinds[self.by])}."
            )
        by_clip = self.similarity.startswith(CLIP)
        if self.by == "frames" and not by_clip:
            raise TriptychError(
                f"The task {self.name!r} compares texts with frames; set similarity: clip:MODEL, a folder or hub name."
            )
        if self.kind == "description" and self.similarity and not by_clip:
            raise TriptychError(
                f"The task {self.name!r} is of kind description, whose similarity is to frames; name a clip:MODEL."
            )


@dataclass(kw_only=True)
class EvaluateConfig:
    """Measures a model."""

    model: str
    """Folder of the model."""
    out: str
    """Run directory of the evaluation."""
    tasks: list[Task] = field(default_factory=list)
    """What is measured."""
    data: str = ""
    """Rows with answers: short for one more task named accuracy, with direct answers."""
    root: str = ""
    """Data root of the media paths; the folder of each task's rows where empty."""
    seed: int = 0
    """Seed of sampled answers."""
    block_size: int = 1024
    """Prompts answered and stored at once."""
    batch_sequences: int = 256
    """Sequences decoded together."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the model."""
    frame_cache: str = ""
    """Folder of stored frames of video files; where empty they are decoded each time."""
    backend: Backend = field(default_factory=Backend)
    """The engine that answers: our sampler, a server, or vLLM."""
    judge: str = ""
    """Model that grades answers (generative, video_qa); where empty, the model that is measured."""
    judge_backend: Backend = field(default_factory=Backend)
    """The engine of the judge, where one is named."""
    judge_max_new_tokens: int = 128
    """Most tokens of a reply of the judge."""
    best_of: int = 1
    """Answers drawn per question; the one that the reward model likes best is measured."""
    best_of_temperature: float = 1.0
    """Temperature of several answers, in place of that of the task."""
    reward_model: str = ""
    """Folder of the reward model that chooses among several answers."""
    reference: str = ""
    """Folder of the model that a policy was trained from: results tell how far the policy has left it, in nats."""
    row_tokens: int = 8192
    """Most tokens of a packed row of the reward model and the reference; a prompt and its answers should fit in."""

    def __post_init__(self) -> None:
        _check_at_least(1, self, "block_size", "batch_sequences", "judge_max_new_tokens", "best_of", "row_tokens")
        if not self.tasks and not self.data:
            raise TriptychError("There is nothing to measure: give `data`, or a list of `tasks`.")
        names = [task.name for task in self.all_tasks]
        if len(set(names)) != len(names):
            raise TriptychError(f"Two tasks have the same name: {', '.join(names)}.")
        if self.backend.kind != "local" and any("likelihood" in (task.by, task.judge.by) for task in self.tasks):
            raise TriptychError("by: likelihood needs the probabilities that backend.kind: local alone tells.")
        self._check_best_of()
        own = [task for task in self.all_tasks if task.kind == "generative" and task.name in BENCHMARK_TASKS]
        aspects = [aspect for task in own for aspect in task.aspects]
        if len(set(aspects)) < len(aspects):
            named = ", ".join(task.name for task in own)
            raise TriptychError(f"Two of the tasks {named} score the same aspect; give one of them another name.")

    def _check_best_of(self) -> None:
        if (self.best_of > 1) != bool(self.reward_model):
            raise TriptychError("best_of above 1 and reward_model go together: the one chooses among the other.")
        if self.best_of > 1 and not self.best_of_temperature > 0:
            raise TriptychError(
                f"best_of_temperature is {self.best_of_temperature}; several greedy answers are all the same."
            )
        if self.reference and self.best_of > 1:
            raise TriptychError(
                "`reference` compares a model with another one, and best_of is no model; its bound is told as `kl`."
            )
        if self.reference and self.backend.kind != "local":
            raise TriptychError("`reference` needs the probabilities that backend.kind: local alone tells.")

    @property
    def all_tasks(self) -> list[Task]:
        """The tasks, with the one that `data` stands for."""
        return self.tasks + ([Task(name="accuracy", data=self.data)] if self.data else [])


def _check_at_least(least: int, config: Task | EvaluateConfig, *names: str) -> None:
    """Refuse settings below what they can be."""
    for name in names:
        if getattr(config, name) < least:
            raise TriptychError(f"{name} is {getattr(config, name)}; it must be at least {least}.")
