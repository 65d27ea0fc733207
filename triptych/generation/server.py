"""Samples from any server with an OpenAI-compatible chat endpoint.

Calls run in an event loop on a thread of their own, so that they go on while the caller works with what it has got. At
most `concurrency` are under way, and only those hold the media of their prompts in memory. A sample has a call and a
seed of its own, a pure function of (seed, group, number, prefix), so where the server honours seeds a sample does not
depend on what else is asked. How exactly it does is the server's affair: see docs/generation.md.
"""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from triptych.data.frame_cache import FrameCache
from triptych.errors import DataError, TriptychError
from triptych.generation.chat_client import REFUSED, ChatClient, Choice, Reply, import_openai
from triptych.generation.chat_request import Messages, VideoParts, chat_messages
from triptych.generation.continuation import Continuation, begun, find_continuation, joined
from triptych.generation.draw import stream_seeds
from triptych.generation.pieces import PIECES
from triptych.generation.protocol import Codec, Request, Sample, SamplingParams
from triptych.group import Group

MAX_CONCURRENCY = 1000
"""Connections that the client keeps at once."""
WINDOW_CALLS = 16
"""Calls read ahead for each one that may be under way, so that one slow answer does not idle the others."""
PROBE = "(how answers are continued)"


class ServerGenerator:
    """Samples from an OpenAI-compatible server.

    Args:
        base_url: address of the endpoint, such as `http://127.0.0.1:8000/v1`.
        model: the name the server knows the model by.
        api_key: sent as bearer token; empty where the server wants none.
        concurrency: most calls under way at once.
        timeout_s: most seconds of one attempt.
        max_attempts: most attempts of one call.
        samples_per_call: most samples asked for in one call, as `n` choices. They share a seed and the price of the
            prompt; with 1 each sample can be repeated by itself. A server that gives fewer choices is asked again.
        continuation: how an answer is begun (`continuation.py`); auto finds out when it first matters, and says so.
        videos: how videos are sent.
        frame_cache: where frames of video files are looked up and stored.
        extra_body: further fields of every call, over all others; None removes a field.
        codec: the tokenizer of the model; words and characters if None.

    Raises:
        TriptychError: an argument out of range, or `openai` is not installed.
    """

    independent = True

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str = "",
        concurrency: int = 32,
        timeout_s: float = 600.0,
        max_attempts: int = 8,
        samples_per_call: int = 1,
        continuation: Continuation | Literal["auto"] = "auto",
        videos: VideoParts = "frames",
        frame_cache: FrameCache | None = None,
        extra_body: Mapping[str, Any] | None = None,
        codec: Codec | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise TriptychError(f"base_url is {base_url!r}; give an address such as http://127.0.0.1:8000/v1.")
        if not 1 <= concurrency <= MAX_CONCURRENCY:
            raise TriptychError(f"concurrency is {concurrency}; it must lie between 1 and {MAX_CONCURRENCY}.")
        for name, value in (("max_attempts", max_attempts), ("samples_per_call", samples_per_call)):
            if value < 1:
                raise TriptychError(f"{name} is {value}; it must be at least 1.")
        if timeout_s <= 0:
            raise TriptychError(f"timeout_s is {timeout_s}; it must be positive.")
        import_openai()
        self.name = model
        self.codec = codec or PIECES
        self.base_url, self.concurrency = base_url, concurrency
        self.samples_per_call, self.videos, self.frame_cache = samples_per_call, videos, frame_cache
        self.extra_body = dict(extra_body or {})
        self.continuation = continuation
        """Once found out, what is used in the place of auto."""
        self._calls = {"api_key": api_key, "timeout_s": timeout_s, "max_attempts": max_attempts}

    def generate(self, requests: Sequence[Request], params: SamplingParams, *, root: Path) -> Iterator[list[Sample]]:
        """Yield the samples of each request in the order of the requests, as they become ready.

        Raises:
            DataError: a medium that cannot be used, or a request that the server refuses.
            TriptychError: the server refuses all requests, or gives no usable answer however often it is asked.
        """
        window = WINDOW_CALLS * self.concurrency
        waiting: deque[tuple[int, Future[list[Sample]]]] = deque()
        with _session(self, params, root) as session:
            for request in requests:
                while waiting and sum(size for size, _ in waiting) + request.num_samples > window:
                    yield waiting.popleft()[1].result()
                waiting.append((request.num_samples, session.submit(request)))
            while waiting:
                yield waiting.popleft()[1].result()

    def client(self) -> ChatClient:
        """Return a client of the server, for the running event loop."""
        return ChatClient(self.base_url, self.name, **self._calls)


class _Session:
    """The calls of one `generate`, inside its event loop."""

    def __init__(
        self, owner: ServerGenerator, params: SamplingParams, root: Path, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._owner, self._params, self._root, self._loop = owner, params, root, loop
        self._client = asyncio.run_coroutine_threadsafe(self._connected(), loop).result()
        self._slots = asyncio.Semaphore(owner.concurrency)
        self._probing = asyncio.Lock()
        self._prompts: OrderedDict[tuple[int, bool], tuple[Group, asyncio.Future[Messages]]] = OrderedDict()

    def submit(self, request: Request) -> Future[list[Sample]]:
        """Start to answer a request; to be called from outside the loop."""
        return asyncio.run_coroutine_threadsafe(self._answer(request), self._loop)

    async def close(self) -> None:
        """Cancel what is under way and close the connections."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    async def _connected(self) -> ChatClient:
        return self._owner.client()

    async def _answer(self, request: Request) -> list[Sample]:
        seeds = [_short(seed) for seed in stream_seeds(request)]
        size = self._owner.samples_per_call
        calls = [self._draw(request, seeds[first : first + size]) for first in range(0, len(seeds), size)]
        return [sample for samples in await asyncio.gather(*calls) for sample in samples]

    async def _draw(self, request: Request, seeds: list[int]) -> list[Sample]:
        """Draw one sample for each seed: in one call as far as the server goes along, the rest one by one."""
        async with self._slots:
            samples = await self._call(request, seeds[0], len(seeds))
            for seed in seeds[len(samples) :]:
                samples += await self._call(request, seed, 1)
        return samples

    async def _call(self, request: Request, seed: int, num_choices: int) -> list[Sample]:
        messages, opening, continuation = await self._messages(request), {}, None
        if request.prefix:
            continuation = await self._continuation()
            messages, opening = begun(messages, request.prefix, continuation)
        fields = self._fields(seed, num_choices) | opening | self._owner.extra_body
        reply = await self._client.ask(messages, fields, row=request.group.id, num_choices=num_choices)
        samples = []
        for choice in reply.choices:
            text = choice.text if continuation is None else joined(request.prefix, choice.text, continuation)
            num_tokens = self._num_tokens(choice, reply)
            samples.append(Sample(text, num_tokens, choice.truncated, seed, reply.prompt_tokens or 0))
        return samples

    def _fields(self, seed: int, num_choices: int) -> dict[str, Any]:
        params = self._params
        return {
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k or None,  # not of the OpenAI format: left out unless it is wanted
            "max_tokens": params.max_new_tokens,
            "seed": seed,
            "n": num_choices if num_choices > 1 else None,
        }

    def _num_tokens(self, choice: Choice, reply: Reply) -> int:
        if reply.completion_tokens is not None and len(reply.choices) == 1:
            return reply.completion_tokens
        return len(self._owner.codec.encode(choice.text)) + (not choice.truncated)

    async def _messages(self, request: Request) -> Messages:
        """Return the messages of a prompt, made once for the calls that are under way about the same group."""
        group, without_media = request.group, request.without_media
        key = (id(group), without_media)
        if key not in self._prompts:
            # In a thread: videos are decoded and pictures read while other calls go on.
            making = asyncio.to_thread(
                chat_messages,
                group,
                self._root,
                without_media=without_media,
                videos=self._owner.videos,
                frame_cache=self._owner.frame_cache,
            )
            self._prompts[key] = (group, asyncio.ensure_future(making))
            if len(self._prompts) > self._owner.concurrency:
                self._prompts.popitem(last=False)
        self._prompts.move_to_end(key)
        return await self._prompts[key][1]

    async def _continuation(self) -> Continuation:
        async with self._probing:
            if self._owner.continuation == "auto":
                self._owner.continuation, reason = await find_continuation(self._count_tokens)
                print(
                    f"Begun answers of {self._owner.name} are continued by `{self._owner.continuation}`: {reason}.",
                    file=sys.stderr,
                )
        return self._owner.continuation

    async def _count_tokens(self, messages: Messages, fields: dict[str, Any]) -> int | None:
        """See `continuation.CountTokens`."""
        least = {"temperature": 0, "max_tokens": 1} | fields | self._owner.extra_body
        try:
            reply = await self._client.ask(messages, least, row=PROBE)
        except DataError as error:
            if error.kind == REFUSED:
                return None
            raise
        return reply.prompt_tokens or 0


@contextmanager
def _session(owner: ServerGenerator, params: SamplingParams, root: Path) -> Iterator[_Session]:
    """Run a session in an event loop on a thread of its own; whatever is under way at the end is given up."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="triptych-server", daemon=True)
    thread.start()
    ending = ExitStack()
    ending.callback(loop.close)
    ending.callback(thread.join)
    ending.callback(loop.call_soon_threadsafe, loop.stop)
    # A generator that is never closed ends with the interpreter, when there is no thread any more to wait for.
    atexit.register(ending.close)
    try:
        session = _Session(owner, params, root, loop)
        ending.callback(lambda: asyncio.run_coroutine_threadsafe(session.close(), loop).result())
        yield session
    finally:
        atexit.unregister(ending.close)
        ending.close()


def _short(seed: int) -> int:
    """Return 31 bits of a seed: some servers keep seeds in 32 bits, and some read numbers as floating point."""
    return seed >> 32
