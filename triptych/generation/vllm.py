"""Samples from vLLM in this process, without a server.

Prompts go through `vllm.LLM.chat`, so template, placeholders and media are handled as `vllm serve` handles them. Every
sample has a seed of its own; their common prompt is computed once where prefix caching is on, as it is by default.
What is drawn together changes the rounding of logits, so samples are reproducible batch by batch, not one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.data.frame_cache import FrameCache
from triptych.errors import DataError, TriptychError
from triptych.generation.chat_request import Messages, chat_messages
from triptych.generation.continuation import OPEN_TURN, begun, joined
from triptych.generation.draw import stream_seeds
from triptych.generation.protocol import Codec, Request, Sample, SamplingParams


class VllmGenerator:
    """Samples from a model that vLLM loads.

    Args:
        model: folder or hub name.
        dtype: precision of the weights; auto takes that of the checkpoint.
        tensor_parallel_size: GPUs that share the model.
        max_model_len: most tokens of prompt and answer; what the model allows if None.
        limit_mm_per_prompt: most media of each kind in a prompt, such as `{"image": 8, "video": 1}`.
        batch_sequences: most samples handed to the engine at once; it schedules them as its memory allows.
        frame_cache: where frames of video files are looked up and stored.

    Raises:
        TriptychError: vLLM is not installed, or an argument is out of range.
    """

    independent = False

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        tensor_parallel_size: int = 1,
        max_model_len: int | None = None,
        limit_mm_per_prompt: Mapping[str, int] | None = None,
        batch_sequences: int = 1024,
        frame_cache: FrameCache | None = None,
    ) -> None:
        if batch_sequences < 1:
            raise TriptychError(f"batch_sequences is {batch_sequences}; it must be at least 1.")
        self._vllm = _import_vllm()
        limits = {} if limit_mm_per_prompt is None else {"limit_mm_per_prompt": dict(limit_mm_per_prompt)}
        self._llm = self._vllm.LLM(
            model=model,
            dtype=dtype,
            tensor_parallel_size=tensor_parallel_size,
            max_model_len=max_model_len,
            **limits,
        )
        tokenizer = self._llm.get_tokenizer()
        self.name = model
        self.codec = Codec(
            encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
            decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
        )
        self.batch_sequences, self._frame_cache = batch_sequences, frame_cache

    def generate(self, requests: Sequence[Request], params: SamplingParams, *, root: Path) -> Iterator[list[Sample]]:
        """Yield the samples of each request in the order of the requests, batch after batch.

        Raises:
            DataError: a medium that cannot be used, or a prompt that vLLM refuses, such as one that is too long.
            TriptychError: vLLM gave up on a sample.
        """
        batch: list[Request] = []
        for request in requests:
            if batch and sum(item.num_samples for item in batch) + request.num_samples > self.batch_sequences:
                yield from self._answer(batch, params, root)
                batch = []
            batch.append(request)
        yield from self._answer(batch, params, root)

    def _answer(self, batch: list[Request], params: SamplingParams, root: Path) -> Iterator[list[Sample]]:
        """Answer requests together, or one by one where vLLM refuses one of them, without saying which."""
        try:
            answers = self._drawn(batch, params, root)
        except TriptychError:
            raise
        except ValueError as error:
            if len(batch) == 1:
                raise DataError(
                    f"vLLM refuses the prompt: {error}",
                    remedy="Shorten the prompt, use fewer or smaller media, or raise `max_model_len`.",
                    kind="vllm_refused",
                    row=batch[0].group.id,
                ) from error
            for request in batch:
                yield from self._answer([request], params, root)
        else:
            yield from answers

    def _drawn(self, batch: list[Request], params: SamplingParams, root: Path) -> list[list[Sample]]:
        """Draw the samples of requests: those that begin an answer and those that continue one take a call each."""
        answers: list[list[Sample]] = [[] for _ in batch]
        for begins, fields in ((True, {}), (False, OPEN_TURN)):
            owners = [owner for owner, request in enumerate(batch) if begins == (not request.prefix)]
            prompts = {owner: self._messages(batch[owner], root) for owner in owners}
            asked = [(owner, seed) for owner in owners for seed in stream_seeds(batch[owner])]
            if not asked:
                continue
            outputs = self._llm.chat(
                [prompts[owner] for owner, _ in asked],
                sampling_params=[self._settings(params, seed) for _, seed in asked],
                use_tqdm=False,
                **fields,
            )
            for (owner, seed), output in zip(asked, outputs, strict=True):
                answers[owner].append(_sample(batch[owner], seed, output))
        return answers

    def _messages(self, request: Request, root: Path) -> Messages:
        messages = chat_messages(
            request.group,
            root,
            without_media=request.without_media,
            videos="video_url",
            frame_cache=self._frame_cache,
        )
        return begun(messages, request.prefix, "continue_final_message")[0] if request.prefix else messages

    def _settings(self, params: SamplingParams, seed: int) -> Any:
        return self._vllm.SamplingParams(
            n=1,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k or -1,
            max_tokens=params.max_new_tokens,
            seed=seed,
        )


def _sample(request: Request, seed: int, output: Any) -> Sample:
    drawn = output.outputs[0]
    if drawn.finish_reason not in ("stop", "length"):
        raise TriptychError(
            f"vLLM ended a sample of row {request.group.id!r} with {drawn.finish_reason!r}; look at its log."
        )
    text = joined(request.prefix, drawn.text, "continue_final_message") if request.prefix else drawn.text
    truncated = drawn.finish_reason == "length"
    return Sample(text, len(drawn.token_ids), truncated, seed, len(output.prompt_token_ids))


def _import_vllm() -> Any:
    try:
        import vllm
    except ImportError:
        raise TriptychError("The engine vLLM is not installed: pip install 'triptych[vllm]'.") from None
    return vllm
