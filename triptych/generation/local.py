"""The local sampler: prompts once, their samples together, finished samples out of the way.

How it departs from `model.generate`:

- Prompts are prefilled once however many samples hang on them, and their keys and values exist once. Samples that drew
  the same tokens so far are decoded once; those that ended leave the batch (`branches.py`).
- Each distinct picture goes through the vision tower once.
- Prompts are padded on the right: a causal decoder never sees what comes after, so the prefill needs no mask.
- A sample draws from its own stream of uniform numbers (`draw.py`), not from the global generator.

Letters: G prompts, P tokens of the longest, B samples, T drawn tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from triptych.engine.encode import EncodedPrompt, Encoder
from triptych.engine.families import Family, ImageFeatures, as_encoder_outputs, backbone_of, encode_images
from triptych.engine.families.masks import layer_windows
from triptych.engine.pairs import score_completions
from triptych.errors import DataError, TriptychError
from triptych.generation.branches import BranchCache, Prompts, attending_to_branches
from triptych.generation.draw import draw, stream_seeds, uniforms
from triptych.generation.plain import check_logits, draw_plain
from triptych.generation.protocol import Codec, Request, Sample, SamplingParams
from triptych.generation.window import Drawn, Prompt, Window
from triptych.group import Group

WINDOW_BATCHES = 4
"""Batches' worth of samples read ahead, among which prompts of like length are found."""
WINDOW_BYTES = 2**30
"""Most bytes of preprocessed pictures held at once."""
PREFILL_TOKENS = 4096
"""Most prompt tokens, padding included, in one prefill forward (a longer prompt has one of its own)."""
SCORED_TOGETHER = 32
"""Prompts whose given answers are scored in one forward."""


class LocalGenerator:
    """Samples from a model in this process.

    The text is reproducible: the same requests with the same settings give the same samples, on the same machine and
    versions. Batches are a pure function of the requests in their order, `params` and `batch_sequences`. A sample's
    random numbers depend on its own request only, so other requests around it change its text no more than by the
    rounding of logits in another batch, which seldom, but now and then, tips a token. A stage that must resume to the
    same result therefore cuts its job into fixed blocks of requests, and calls `generate` once per block.

    Args:
        model: any supported causal vision-language model, bare or under PEFT; used in its dtype and on its device. One
            whose prompts cannot be shared draws by its own `generate`.
        encoder: turns its groups into tokens.
        batch_sequences: most samples decoded together. Memory grows with it: the keys and values of the distinct
            prompts of a batch, and those of every token drawn.

    Raises:
        TriptychError: `batch_sequences` is below 1, or a language model outside transformers' attention interface.
    """

    independent = False

    def __init__(self, model: Any, encoder: Encoder, *, batch_sequences: int = 256) -> None:
        if batch_sequences < 1:
            raise TriptychError(f"batch_sequences is {batch_sequences}; it must be at least 1.")
        self.model, self.encoder, self.batch_sequences = model, encoder, batch_sequences
        self.decoder = backbone_of(model).get_decoder() if encoder.family.packed else None
        if self.decoder is not None and not self.decoder._supports_attention_backend:
            raise TriptychError(
                f"The language model is a {type(self.decoder).__name__}, whose attention cannot be replaced by that of "
                "the local sampler; sample from it through a server."
            )
        self.name: str = model.config.name_or_path or model.config.model_type
        self.codec = Codec(lambda text: encoder.completion(text, end_of_turn=False), encoder.decode)
        self.context_tokens = _context_tokens(model.config)
        self.windows = layer_windows(model.config.get_text_config())

    def generate(self, requests: Sequence[Request], params: SamplingParams, *, root: Path) -> Iterator[list[Sample]]:
        """Yield the samples of each request in the order of the requests, window after window.

        Raises:
            DataError: a prompt that cannot be encoded, or whose answer might not fit the context of the model.
            TriptychError: the model's logits are not numbers.
        """
        answer = self._answer if self.encoder.family.packed else self._answer_plainly
        for window in self._windows(requests, params, root):
            yield from answer(window, params)

    @torch.no_grad()
    def option_logps(self, requests: Sequence[Request], options: Sequence[str], *, root: Path) -> Iterator[list[float]]:
        """Yield, for each request, the log-probability that its answer begins with the first token of each option.

        Raises:
            TriptychError: two options begin alike, or the prompts of the model cannot be packed.
        """
        first = [self.encoder.completion(option, end_of_turn=False)[0] for option in options]
        if len(set(first)) < len(first):
            raise TriptychError(f"To this tokenizer, of {', '.join(options)} two begin with the same token.")
        if not self.encoder.family.packed:
            raise TriptychError("The probabilities of options are told of models only whose prompts can be packed.")
        for window in self._windows(requests, SamplingParams(max_new_tokens=1), root):
            found: list[list[float]] = [[] for _ in window.requests]
            with _evaluating(self.model):
                for batch in window.batches(self.batch_sequences):
                    _, logits = self._prefill(batch, {})
                    logps = logits.float().log_softmax(-1)[:, first].tolist()
                    for prompt, row in zip(batch, logps, strict=True):
                        for owner in prompt.asked_by:
                            found[owner] = row
            yield from found

    def answer_logps(self, groups: Sequence[Group], *, root: Path) -> Iterator[list[tuple[float, int]]]:
        """Yield, for each row, the log-probability of each of its completions as the whole answer, in nats, and its
        number of tokens, that of the end of the turn included.

        Raises:
            DataError: kind `too_long`, a prompt with a completion has more tokens than a packed row.
        """
        for start in range(0, len(groups), SCORED_TOGETHER):
            part = groups[start : start + SCORED_TOGETHER]
            wanted = {str(n): (group, root, list(range(len(group.completions)))) for n, group in enumerate(part)}
            with _evaluating(self.model), torch.no_grad():
                scored = score_completions(self.model, self.encoder, wanted, PREFILL_TOKENS)
            for n, group in enumerate(part):
                places = [(str(n), index) for index in range(len(group.completions))]
                yield [(scored.logps[place].item(), scored.num_targets[place]) for place in places]

    def _windows(self, requests: Iterable[Request], params: SamplingParams, root: Path) -> Iterator[Window]:
        """Encode requests until a window is full."""
        window = Window()
        for request in requests:
            encoded = self.encoder.prompt(
                request.group, root, without_media=request.without_media, prefix=request.prefix
            )
            self._check_length(request, len(encoded.input_ids), params.max_new_tokens)
            window.add(request, encoded)
            if window.num_samples >= WINDOW_BATCHES * self.batch_sequences or window.num_bytes >= WINDOW_BYTES:
                yield window
                window = Window()
        if window.requests:
            yield window

    def _check_length(self, request: Request, num_tokens: int, max_new_tokens: int) -> None:
        if self.context_tokens is not None and num_tokens + max_new_tokens > self.context_tokens:
            raise DataError(
                f"The prompt takes {num_tokens} tokens; with {max_new_tokens} new ones it exceeds the "
                f"{self.context_tokens} tokens of the model's context.",
                remedy="Shorten the prompt, use smaller pictures, or lower `max_new_tokens`.",
                kind="context_exceeded",
                row=request.group.id,
            )

    @torch.no_grad()
    def _answer(self, window: Window, params: SamplingParams) -> list[list[Sample]]:
        """Draw all samples of a window."""
        batches = window.batches(self.batch_sequences)
        last_use = {item.key: n for n, batch in enumerate(batches) for prompt in batch for item in prompt.media}
        features: dict[str, ImageFeatures] = {}
        answers: list[list[Sample]] = [[] for _ in window.requests]
        with _evaluating(self.model):
            for n, batch in enumerate(batches):
                owners = [owner for prompt in batch for owner in prompt.asked_by]
                lengths = {owner: len(prompt.input_ids) for prompt in batch for owner in prompt.asked_by}
                seeds = [stream_seeds(window.requests[owner]) for owner in owners]
                prompt_of_sample = [index for index, prompt in enumerate(batch) for _ in range(prompt.num_samples)]
                prompts, logits = self._prefill(batch, features)
                drawn = self._decode(prompts, logits, prompt_of_sample, list(chain.from_iterable(seeds)), params)
                first = 0
                for owner, stream in zip(owners, seeds, strict=True):
                    answers[owner] = self._samples(window.requests[owner], stream, drawn, first, lengths[owner])
                    first += len(stream)
                features = {key: value for key, value in features.items() if last_use[key] > n}
        return answers

    @torch.no_grad()
    def _answer_plainly(self, window: Window, params: SamplingParams) -> list[list[Sample]]:
        """Draw all samples of a window by `model.generate`, prompt by prompt."""
        answers: list[list[Sample]] = [[] for _ in window.requests]
        with _evaluating(self.model):
            for prompt in window.prompts.values():
                encoded = EncodedPrompt(prompt.input_ids, prompt.media)
                for owner in prompt.asked_by:
                    seeds = stream_seeds(window.requests[owner])
                    drawn = draw_plain(self.model, encoded, self.encoder.stop_ids, seeds, params, self.batch_sequences)
                    num_prompt = len(prompt.input_ids)
                    answers[owner] = self._samples(window.requests[owner], seeds, drawn, 0, num_prompt)
        return answers

    def _prefill(self, prompts: list[Prompt], features: dict[str, ImageFeatures]) -> tuple[Prompts, torch.Tensor]:
        """Run prompts (ascending in length) once each, and add the features of new pictures to `features`.

        Returns:
            the prompts, and the logits (G, V) of the first token drawn.
        """
        parts, logits = zip(*(self._prefill_part(part, features) for part in _parts(prompts)), strict=True)
        for part in logits:
            check_logits(part)
        return Prompts.join(parts), torch.cat(logits)

    def _prefill_part(self, prompts: list[Prompt], features: dict[str, ImageFeatures]) -> tuple[Prompts, torch.Tensor]:
        backbone, head, family = backbone_of(self.model), self.model.get_output_embeddings(), self.encoder.family
        device = head.weight.device
        self._encode_new(prompts, features)
        media = [item for prompt in prompts for item in prompt.media]
        outputs = as_encoder_outputs([features[item.key] for item in media], [item.inputs for item in media])
        positions = [
            family.position_ids(backbone, prompt.input_ids, [item.inputs for item in prompt.media])
            for prompt in prompts
        ]
        longest = len(prompts[-1].input_ids)
        position_ids = torch.stack([_padded(item, longest) for item in positions], dim=1).to(device)  # (A, G, P)
        cache = DynamicCache()
        masks = {} if family.causal else {"attention_mask": _masks(family, prompts, longest, head.weight)}
        hidden = backbone(
            input_ids=torch.stack([_padded(torch.tensor(prompt.input_ids), longest) for prompt in prompts]).to(device),
            position_ids=position_ids if len(position_ids) > 1 else position_ids[0],
            past_key_values=cache,
            use_cache=True,
            **masks,
            **({"mm_encoder_outputs": outputs} if outputs else {}),
        ).last_hidden_state
        lengths = torch.tensor([len(prompt.input_ids) for prompt in prompts], device=device)
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        next_positions = torch.stack([item.max() + 1 for item in positions]).to(device)
        last = hidden[torch.arange(len(prompts), device=device), lengths - 1]
        return Prompts(layers, lengths, next_positions), self._logits(last)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits of the model (B, V) from its last hidden states (B, D)."""
        logits, softcap = self.model.get_output_embeddings()(hidden), self.encoder.family.logit_softcap
        return logits if softcap is None else softcap * torch.tanh(logits / softcap)

    def _encode_new(self, prompts: list[Prompt], features: dict[str, ImageFeatures]) -> None:
        """Encode the pictures of the prompts that `features` lacks."""
        new = {item.key: item for prompt in prompts for item in prompt.media if item.key not in features}
        media, counts = [item.inputs for item in new.values()], [item.num_tokens for item in new.values()]
        features.update(zip(new, encode_images(self.model, self.encoder.family, media, counts), strict=True))

    def _decode(
        self,
        prompts: Prompts,
        logits: torch.Tensor,
        prompt_of_sample: list[int],
        seeds: list[int],
        params: SamplingParams,
    ) -> Drawn:
        """Draw a sample of prompt `prompt_of_sample[n]` with `seeds[n]` for each n, `batch_sequences` at a time."""
        drawn = Drawn([], [])
        with attending_to_branches(self.decoder):
            for first in range(0, len(seeds), self.batch_sequences):
                chunk = slice(first, first + self.batch_sequences)
                rows = torch.tensor(prompt_of_sample[chunk], device=logits.device)
                uniform = uniforms(seeds[chunk], params.max_new_tokens).to(logits.device)
                table, lengths, stopped = self._decode_chunk(prompts, logits, rows, uniform, params)
                drawn.token_ids.extend(
                    ids[:length] for ids, length in zip(table.tolist(), lengths.tolist(), strict=True)
                )
                drawn.stopped.extend(stopped.tolist())
        return drawn

    def _decode_chunk(
        self,
        prompts: Prompts,
        logits: torch.Tensor,
        row_of_sample: torch.Tensor,
        uniform: torch.Tensor,
        params: SamplingParams,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw all tokens of B samples.

        Args:
            logits: (G, V) of the first token.
            row_of_sample: (B,) the prompt of each sample: at first the rows of the decoder are the prompts.
            uniform: (B, T).

        Returns:
            token ids (B, T), of which the first `lengths` (B,) count; whether a stop token ended the sample (B,).
        """
        stop_ids = torch.tensor(sorted(self.encoder.stop_ids), dtype=torch.long, device=uniform.device)
        cache = BranchCache(prompts, max_samples=len(uniform), windows=self.windows)
        table = torch.zeros_like(uniform, dtype=torch.long)
        lengths = torch.full_like(row_of_sample, params.max_new_tokens)
        stopped = torch.zeros_like(row_of_sample, dtype=torch.bool)
        samples = torch.arange(len(uniform), device=uniform.device)  # those that go on
        for step in range(params.max_new_tokens):
            token_ids = draw(logits, row_of_sample, uniform[samples, step], params)
            table[samples, step] = token_ids
            ends = torch.isin(token_ids, stop_ids)
            lengths[samples[ends]] = step + 1
            stopped[samples[ends]] = True
            samples, row_of_sample, token_ids = samples[~ends], row_of_sample[~ends], token_ids[~ends]
            if len(samples) == 0 or step + 1 == params.max_new_tokens:
                break
            row_tokens, row_of_sample = cache.branch(row_of_sample, token_ids)
            hidden = self.decoder(
                input_ids=row_tokens[:, None],
                position_ids=cache.position_ids,
                past_key_values=cache,
                use_cache=True,
                branches=cache,
            ).last_hidden_state
            logits = self._logits(hidden[:, -1])
        return table, lengths, stopped

    def _samples(
        self, request: Request, seeds: list[int], drawn: Drawn, first: int, prompt_tokens: int
    ) -> list[Sample]:
        """Turn the rows from `first` on into the samples of one request."""
        prefix = request.prefix
        prefix_ids = self.encoder.completion(prefix, end_of_turn=False) if prefix else []
        # Decoded together: a tokenizer may treat the first token of a text unlike the others (its leading space).
        start = len(self.encoder.decode(prefix_ids)) if prefix else 0
        samples = []
        for row, seed in enumerate(seeds, first):
            ids, stopped = drawn.token_ids[row], drawn.stopped[row]
            text = self.encoder.decode(prefix_ids + (ids[:-1] if stopped else ids))[start:]
            samples.append(Sample(text, len(ids), not stopped, seed, prompt_tokens, tuple(ids)))
        return samples


def _context_tokens(config: Any) -> int | None:
    """Return how many tokens the decoder can attend to: its context, or its chunk where that is shorter."""
    names = ("max_position_embeddings", "attention_chunk_size")
    limits = [getattr(config.get_text_config(), name, None) for name in names]
    return min((limit for limit in limits if limit), default=None)


def _parts(prompts: list[Prompt]) -> Iterator[list[Prompt]]:
    """Cut prompts (ascending in length) so that a part, padded to its longest, has at most `PREFILL_TOKENS` tokens."""
    part: list[Prompt] = []
    for prompt in prompts:
        if part and (len(part) + 1) * len(prompt.input_ids) > PREFILL_TOKENS:
            yield part
            part = []
        part.append(prompt)
    yield part


def _masks(family: Family, prompts: list[Prompt], longest: int, like: torch.Tensor) -> Any:
    """Return the masks of prompts padded on the right to `longest` tokens, with the dtype and device of `like`."""
    subtree_end = torch.arange(1, longest + 1).repeat(len(prompts), 1)
    block_end = torch.zeros_like(subtree_end)
    for row, prompt in enumerate(prompts):
        subtree_end[row, : len(prompt.input_ids)] = len(prompt.input_ids)
        for start, end in prompt.two_way:
            block_end[row, start:end] = end
    return family.attention_mask(subtree_end.to(like.device), block_end.to(like.device), like.dtype)


def _padded(values: torch.Tensor, length: int) -> torch.Tensor:
    """Pad the last dimension with zeros on the right."""
    return torch.nn.functional.pad(values, (0, length - values.shape[-1]))


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode, and every module back into its own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
