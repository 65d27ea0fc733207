"""Configuration of the stage that makes preference pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from triptych.errors import TriptychError
from triptych.generation.settings import Backend

POSITIVE = ("num_samples", "num_negatives", "min_gap", "block_size", "batch_sequences", "workers")
"""Settings that must be at least 1."""


@dataclass(kw_only=True)
class JudgeSettings:
    """How a judge compares two answers (VLM-RLAIF, arXiv:2402.03746)."""

    by: Literal["text", "likelihood", "answer"] = "text"
    """text: reads the judge's reply. likelihood: compares the probabilities of A and B as its first token. answer: asks
    the question itself, with the context, and compares the probabilities of both answers. The last two need the engine
    local."""
    function: str = ""
    """Judges in place of a model, as module:function of two answers and their row: where the truth is known."""
    prompt: str = ""
    """What it is asked, with {context}, {question}, {first} and {second} (by answer: the first two); where empty, the
    one that comes with us."""
    max_new_tokens: int = 128
    """Most tokens of a reply."""
    min_confidence: float = 0.5
    """likelihood, answer: where the better one has less of the probability than this, it is a tie."""
    context: bool = True
    """Give the judge a narrative of the media: captions of the clips of a video, by the judge itself."""
    context_request: str = "Describe the video in detail."
    """What the captions are asked for with."""
    context_frames: int = 20
    """Most frames of a clip."""
    context_total_frames: int = 0
    """Frames of a video in all its clips; 0 takes those that its row shows, as in the paper."""
    context_tokens: int = 256
    """Most tokens of a caption."""


@dataclass(kw_only=True)
class PairsConfig:
    """Makes preference pairs without annotators."""

    method: Literal["correctness", "dropout_ntp", "rlaif_v", "ai_feedback"]
    """correctness: samples checked against the answer of each row; dropout_ntp: second half re-told without media;
    rlaif_v: samples compared by how many of their claims a labeller rejects; ai_feedback: samples judged two by two."""
    model: str = ""
    """The model that answers: a folder, a hub name, or a server's name for it; not needed for rows with answers."""
    data: str
    """Rows with prompts, and answers where the method is correctness."""
    out: str
    """Run directory; pairs.jsonl is the result."""
    root: str = ""
    """Data root of the media paths; the folder of the rows where empty."""
    num_samples: int = 32
    """Answers drawn per prompt (MPO: up to 32). Rows that bring completions are taken as they are."""
    temperature: float = 1.0
    """Of the answers; for dropout_ntp of the chosen ones."""
    continuation_temperature: float = 1.0
    """Of the continuations without media."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of tokens that reaches this probability."""
    max_new_tokens: int = 256
    """Most tokens of an answer."""
    max_pairs: int = 15
    """Most pairs per prompt (MPO: 15; RLAIF-V: 2); of correctness, those with a wrong answer."""
    max_format_pairs: int = 3
    """Most pairs per prompt whose rejected answer could not be parsed."""
    max_length_ratio: float = 0.0
    """correctness: most by which one answer of a pair may be longer, in tokens, as a factor; 0 sets no limit."""
    balance_lengths: bool = False
    """correctness: prefer pairs that keep chosen and rejected answers of a prompt equally long on the whole."""
    gold_rationales: Literal["off", "missing", "always"] = "off"
    """correctness: take right completions that rows bring (source gold or rationale) as chosen: never, where no sample
    is right, or always."""
    keep_ratio: float = 0.5
    """dropout_ntp: share of the chosen answer's tokens kept before the media are dropped (MPO: 0.5)."""
    num_negatives: int = 1
    """dropout_ntp: continuations of each kept half."""
    with_media: bool = False
    """dropout_ntp: let the continuation see the media (an ablation)."""
    min_difference: float = 0.0
    """dropout_ntp: least share of the tokens after the cut that must differ, by edit distance."""
    replace_rejected: bool = False
    """dropout_ntp: of rows that bring pairs take the chosen answers and make the rejected ones anew."""
    claims: str = ""
    """rlaif_v: function that splits an answer into claims, as module:function; where empty the labeller does it."""
    min_gap: int = 1
    """rlaif_v: least number of rejected claims by which two answers must differ."""
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    """ai_feedback: how answers are judged."""
    labeller: str = ""
    """rlaif_v, ai_feedback: model that checks the claims, or judges; where empty it is the one that answers."""
    labeller_backend: Backend = field(default_factory=Backend)
    """rlaif_v, ai_feedback: the engine of the labeller."""
    answer_style: Literal["final_answer", "boxed", "direct"] = "final_answer"
    """How an answer is marked in the text."""
    answer_kind: Literal["auto", "number", "choice", "yes_no", "text", "list", "expression"] = "auto"
    """What an answer is; auto infers it from each truth."""
    answer_rel_tol: float = 0.0
    """Share of the truth by which a number may differ (0.05 for charts)."""
    answer_abs_tol: float = 0.0
    """Amount by which a number may differ."""
    answer_min_anls: float = 1.0
    """Similarity from which a text is right (0.9 for documents); 1 asks for equality."""
    cot_prompt: Literal["", "plain", "knowledge", "visual", "grounded"] = ""
    """Wrap questions in this chain-of-thought instruction; empty leaves the prompts as they are."""
    cot_language: Literal["auto", "en", "ko", "zh"] = "auto"
    """Language of that instruction; auto takes the question's."""
    seed: int = 0
    """Seed of every sample."""
    block_size: int = 512
    """Prompts sampled and stored at once; a job resumes at a block."""
    batch_sequences: int = 256
    """Sequences decoded together."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the model."""
    frame_cache: str = ""
    """Folder of stored frames of video files; where empty they are decoded each time."""
    backend: Backend = field(default_factory=Backend)
    """The engine that answers: our sampler, a server, or vLLM."""
    engine: Literal["local", "ray"] = "local"
    """Where blocks are worked on: on this machine, or on the cluster that Ray finds."""
    workers: int = 1
    """Processes on this machine, or actors of the cluster, that share the blocks."""

    def __post_init__(self) -> None:
        for least, names in ((1, POSITIVE), (0, ("max_pairs", "max_format_pairs"))):
            for name in names:
                if getattr(self, name) < least:
                    raise TriptychError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
