"""From settings to the generator they name."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from triptych.data.frame_cache import FrameCache, frame_cache_in
from triptych.errors import TriptychError
from triptych.generation.protocol import Codec, Generator
from triptych.generation.settings import Backend


def make_generator(
    model: str,
    backend: Backend,
    *,
    dtype: str = "float32",
    batch_sequences: int = 256,
    frame_cache: str = "",
) -> Generator:
    """Return the generator that answers for a model.

    Args:
        model: folder or hub name; for a server the name it knows the model by.
        backend: which engine.
        dtype: precision of the weights, where they are loaded here.
        batch_sequences: sequences decoded together by the local sampler.
        frame_cache: folder of stored frames of video files.
    """
    makers: dict[str, Callable[..., Generator]] = {"local": _local, "server": _server, "vllm": _vllm}
    return makers[backend.kind](model, backend, dtype, batch_sequences, frame_cache_in(frame_cache))


def _local(model: str, backend: Backend, dtype: str, batch_sequences: int, frames: FrameCache | None) -> Generator:
    from triptych.engine.encode import Encoder
    from triptych.generation.local import LocalGenerator
    from triptych.models.loading import load_model, load_processor

    loaded = load_model(model, dtype=dtype)
    encoder = Encoder(load_processor(model), loaded.config, frames)
    return LocalGenerator(loaded, encoder, batch_sequences=batch_sequences)


def _server(model: str, backend: Backend, dtype: str, batch_sequences: int, frames: FrameCache | None) -> Generator:
    from triptych.generation.server import ServerGenerator

    return ServerGenerator(
        backend.base_url,
        model,
        api_key=_api_key(backend.api_key_env),
        concurrency=backend.concurrency,
        timeout_s=backend.timeout_s,
        max_attempts=backend.max_attempts,
        continuation=backend.continuation,
        videos=backend.videos,
        frame_cache=frames,
        extra_body=backend.extra_body,
        codec=_tokenizer(backend.tokenizer) if backend.tokenizer else None,
    )


def _vllm(model: str, backend: Backend, dtype: str, batch_sequences: int, frames: FrameCache | None) -> Generator:
    from triptych.generation.vllm import VllmGenerator

    return VllmGenerator(
        model,
        dtype=dtype,
        tensor_parallel_size=backend.tensor_parallel_size,
        max_model_len=backend.max_model_len or None,
        limit_mm_per_prompt=backend.limit_mm_per_prompt or None,
        frame_cache=frames,
    )


def _api_key(name: str) -> str:
    if name and name not in os.environ:
        raise TriptychError(f"The environment variable {name}, named by backend.api_key_env, is not set.")
    return os.environ.get(name, "") if name else ""


def _tokenizer(name: str) -> Codec:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(name)
    return Codec(
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
    )
