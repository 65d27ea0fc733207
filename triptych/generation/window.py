"""Requests that are answered together: distinct prompts and pictures, once each, in batches of like length."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from triptych.engine.encode import EncodedMedia, EncodedPrompt
from triptych.generation.protocol import Request


@dataclass
class Prompt:
    """A distinct prompt, and which requests of the window ask it."""

    input_ids: list[int]
    media: list[EncodedMedia]
    two_way: tuple[tuple[int, int], ...]
    asked_by: list[int] = field(default_factory=list)
    num_samples: int = 0


@dataclass
class Window:
    """Consecutive requests that are answered before the next are read."""

    requests: list[Request] = field(default_factory=list)
    prompts: dict[Any, Prompt] = field(default_factory=dict)
    pictures: dict[str, EncodedMedia] = field(default_factory=dict)
    num_samples: int = 0
    num_bytes: int = 0

    def add(self, request: Request, encoded: EncodedPrompt) -> None:
        """Take in a request; prompts and pictures that are here already are kept once."""
        for item in encoded.media:
            if item.key not in self.pictures:
                self.pictures[item.key] = item
                self.num_bytes += sum(tensor.nbytes for tensor in item.inputs.values())
        media = [self.pictures[item.key] for item in encoded.media]
        identity = (tuple(encoded.input_ids), tuple(item.key for item in media), encoded.two_way)
        prompt = self.prompts.setdefault(identity, Prompt(encoded.input_ids, media, encoded.two_way))
        prompt.asked_by.append(len(self.requests))
        prompt.num_samples += request.num_samples
        self.requests.append(request)
        self.num_samples += request.num_samples

    def batches(self, batch_sequences: int) -> list[list[Prompt]]:
        """Cut the prompts, ordered by length, into batches of at most `batch_sequences` samples or of one prompt."""
        batches: list[list[Prompt]] = []
        room = 0
        for prompt in sorted(self.prompts.values(), key=lambda prompt: len(prompt.input_ids)):
            if not batches or prompt.num_samples > room:
                batches.append([])
                room = batch_sequences
            batches[-1].append(prompt)
            room -= prompt.num_samples
        return batches


@dataclass(frozen=True)
class Drawn:
    """Token ids drawn for each sample up to and including its stop token, and whether there is one."""

    token_ids: list[list[int]]
    stopped: list[bool]
