"""Groups to tokens: the chat template, the processor's image expansion, and the end of a turn.

The prompt goes through the model's own processor, so that image placeholders, tiles and separators are those of the
family. A completion is plain text, tokenised without special tokens, followed by the family's end-of-turn token.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import torch

from triptych.data.media import load_image, media_key
from triptych.engine.families import Family, family_of
from triptych.errors import DataError, TriptychError
from triptych.group import Group, Media, text_message

MEDIA_CACHE_BYTES = 2**28
"""Processed pictures an encoder keeps for the next time they are asked for: 256 MiB, 9,700 pictures of 48 x 48."""


@dataclass(frozen=True)
class EncodedMedia:
    """One picture as its family's vision encoder takes it.

    Attributes:
        key: identity of the content; equal keys are encoded once.
        inputs: tensors of this picture alone, named as the processor names them.
        num_tokens: image tokens it takes in the stream.
    """

    key: str
    inputs: dict[str, torch.Tensor]
    num_tokens: int


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids of a prompt whose placeholders are expanded, and its pictures in order."""

    input_ids: list[int]
    media: list[EncodedMedia] = field(default_factory=list)


class Encoder:
    """Turns groups into token sequences for one model and its processor.

    Args:
        processor: the model's processor.
        model_config: the model's configuration; decides the family.
    """

    def __init__(self, processor: Any, model_config: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.family: Family = family_of(model_config)
        self.end_of_turn = self._find_end_of_turn()
        self.stop_ids = {*self.end_of_turn, self.tokenizer.eos_token_id} - {None}
        self._media_cache = _MediaCache(MEDIA_CACHE_BYTES)
        self._tokens_per_image: int | None = None

    def prompt(self, group: Group, root: Path, *, without_media: bool = False, prefix: str = "") -> EncodedPrompt:
        """Encode the prompt up to and including the assistant's header, then `prefix`.

        A document (a prompt with the role `document`) has no header: it is left open, to be continued.

        Args:
            group: its prompt must end with a user (or system, or tool) message.
            root: data root of the media paths.
            without_media: leave picture parts and pictures out (DropoutNTP).
            prefix: start of the assistant's answer.

        Raises:
            DataError: a medium that cannot be used, or a template or processor that refuses the messages.
        """
        messages = _without_media(group.prompt) if without_media else group.prompt
        text = self._prompt_text(group, messages)
        [encoded] = self._expand([(group.id, text, [] if without_media else group.images)], root)
        if prefix:
            encoded = EncodedPrompt(encoded.input_ids + self.completion(prefix, end_of_turn=False), encoded.media)
        return encoded

    def prompts(self, groups: Sequence[Group], root: Path) -> list[EncodedPrompt]:
        """Encode many prompts; the same as `prompt` on each, but distinct pictures are processed once and together."""
        rows = [(group.id, self._prompt_text(group, group.prompt), group.images) for group in groups]
        return self._expand(rows, root)

    def documents(self, groups: Sequence[Group], root: Path) -> list[EncodedPrompt]:
        """Encode pre-training documents: parts in order, no chat template, closed by the end-of-text token."""
        rows = [(group.id, self._document_text(group, group.prompt), group.images) for group in groups]
        eos = self.tokenizer.eos_token_id
        end = self.end_of_turn if eos is None else [eos]
        return [EncodedPrompt(opened.input_ids + end, opened.media) for opened in self._expand(rows, root)]

    def document(self, group: Group, root: Path) -> EncodedPrompt:
        """Encode one pre-training document; see `documents`."""
        return self.documents([group], root)[0]

    def completion(self, text: str, *, end_of_turn: bool = True) -> list[int]:
        """Tokenise an answer; `end_of_turn` closes it with the token the model stops at.

        Raises:
            DataError: the text holds the model's image placeholder.
        """
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if self.family.image_token_id in ids:
            raise _stray_placeholder("A completion", row=None)
        return ids + self.end_of_turn if end_of_turn else ids

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids, special tokens left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _prompt_text(self, group: Group, messages: list[dict[str, Any]]) -> str:
        if messages[0]["role"] == "document":
            return self._document_text(group, messages)
        _refuse_videos(group)
        try:
            return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except (ValueError, TypeError, KeyError, jinja2.TemplateError) as error:
            raise DataError(
                f"The chat template of this model refuses the prompt: {error}.",
                remedy="Check the roles and their order, or give the processor a chat template.",
                kind="template_refused",
                row=group.id,
            ) from error

    def _document_text(self, group: Group, messages: list[dict[str, Any]]) -> str:
        _refuse_videos(group)
        placeholder = self.family.image_placeholder(self.processor)
        return "".join(part["text"] if part["type"] == "text" else placeholder for part in messages[0]["content"])

    def _expand(self, rows: Sequence[tuple[str, str, list[Media]]], root: Path) -> list[EncodedPrompt]:
        """Tokenise rows (id, text, pictures) and give every placeholder its tokens."""
        if self.family.fixed_tokens_per_image:
            return self._expand_fixed(rows, root)
        return [self._expand_one(row, text, images, root) for row, text, images in rows]

    def _expand_one(self, row: str, text: str, images: list[Media], root: Path) -> EncodedPrompt:
        """Let the processor do it: tiles and separators are its own."""
        if not images:
            return EncodedPrompt(self._tokenise(row, text, num_images=0))
        with _located(row):
            keys = [media_key(item, root) for item in images]
            pictures = [load_image(item, root) for item in images]
        inputs = self._process(row, text=[text], images=[pictures], add_special_tokens=not self._starts_with_bos(text))
        ids = inputs["input_ids"][0].tolist()
        counts = self.family.tokens_per_image(ids, inputs, len(images), self.processor)
        parts = self.family.split_media(inputs, counts)
        media = [
            EncodedMedia(key + tag, tensors, count)
            for key, (tag, tensors), count in zip(keys, parts, counts, strict=True)
        ]
        return EncodedPrompt(ids, media)

    def _expand_fixed(self, rows: Sequence[tuple[str, str, list[Media]]], root: Path) -> list[EncodedPrompt]:
        """Repeat each placeholder in the tokens of the text, and process the distinct pictures of all rows at once."""
        keys = []
        for row, _, images in rows:
            with _located(row):
                keys.append([media_key(item, root) for item in images])
        pictures = self._pictures(rows, keys, root)
        encoded = []
        for (row, text, images), own in zip(rows, keys, strict=True):
            ids = self._tokenise(row, text, num_images=len(images))
            if images:
                ids = _repeat(ids, self.family.image_token_id, self._tokens_per_image)
            encoded.append(EncodedPrompt(ids, [pictures[key] for key in own]))
        return encoded

    def _pictures(
        self, rows: Sequence[tuple[str, str, list[Media]]], keys: list[list[str]], root: Path
    ) -> dict[str, EncodedMedia]:
        """Return every picture of the rows by its key; those not in the cache are processed in one call."""
        found: dict[str, EncodedMedia] = {}
        new: dict[str, Any] = {}
        for (row, _, images), own in zip(rows, keys, strict=True):
            for key, item in zip(own, images, strict=True):
                if key in found or key in new:
                    continue
                if (known := self._media_cache.get(key)) is not None:
                    found[key] = known
                    continue
                with _located(row):
                    new[key] = load_image(item, root)
        if not new:
            return found
        if self._tokens_per_image is None:
            self._tokens_per_image = self._count_tokens(next(iter(new.values())))
        counts = [self._tokens_per_image] * len(new)
        parts = self.family.split_media(self._process(None, images=list(new.values())), counts)
        for key, (_, tensors) in zip(new, parts, strict=True):
            # a copy, since a slice would keep the pictures of the whole call in memory
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            found[key] = EncodedMedia(key, tensors, self._tokens_per_image)
            self._media_cache.put(found[key])
        return found

    def _count_tokens(self, picture: Any) -> int:
        """Ask the processor how many tokens a picture takes."""
        placeholder = self.family.image_placeholder(self.processor)
        inputs = self._process(None, text=[placeholder], images=[[picture]], add_special_tokens=False)
        return inputs["input_ids"][0].tolist().count(self.family.image_token_id)

    def _process(self, row: str | None, **inputs: Any) -> Any:
        try:
            return self.processor(**inputs, return_tensors="pt")
        except ValueError as error:
            raise DataError(
                f"The processor of this model refuses the row: {error}",
                remedy="Text must not spell out image placeholders, and the chat template must write one per picture.",
                kind="processor_refused",
                row=row,
            ) from error

    def _tokenise(self, row: str, text: str, *, num_images: int) -> list[int]:
        """Return the ids of a text whose placeholders, one per picture, are not expanded yet."""
        ids = list(self.tokenizer(text, add_special_tokens=not self._starts_with_bos(text))["input_ids"])
        found = ids.count(self.family.image_token_id)
        if found < num_images:
            raise DataError(
                f"The text made of this prompt holds {found} image placeholder(s) for {num_images} picture(s).",
                remedy="Give the processor a chat template that writes its image placeholder for image parts.",
                kind="template_without_image",
                row=row,
            )
        if found > num_images:
            raise _stray_placeholder("The prompt", row=row)
        return ids

    def _starts_with_bos(self, text: str) -> bool:
        bos = self.tokenizer.bos_token
        return bool(bos) and text.startswith(bos)

    def _find_end_of_turn(self) -> list[int]:
        """Return the special token that the template puts after an answer, or else the end-of-text token."""
        marker = "@answer@"
        if self.processor.chat_template:
            messages = [text_message("user", "hi"), text_message("assistant", marker)]
            tail = self.processor.apply_chat_template(messages, tokenize=False).rsplit(marker, 1)[1]
            added = self.tokenizer.added_tokens_decoder
            for token in self.tokenizer(tail, add_special_tokens=False)["input_ids"]:
                if token in added and added[token].special:
                    return [token]
        if self.tokenizer.eos_token_id is None:
            raise TriptychError(
                "The tokenizer has neither an end-of-text token nor a chat template that closes a turn; "
                "set `eos_token` in its configuration."
            )
        return [self.tokenizer.eos_token_id]


class _MediaCache:
    """The pictures used last, as many as fit into `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._free, self._items = max_bytes, OrderedDict[str, EncodedMedia]()

    def get(self, key: str) -> EncodedMedia | None:
        if key in self._items:
            self._items.move_to_end(key)
        return self._items.get(key)

    def put(self, item: EncodedMedia) -> None:
        self._items[item.key] = item
        self._free -= _num_bytes(item)
        while self._free < 0:
            self._free += _num_bytes(self._items.popitem(last=False)[1])


def _num_bytes(item: EncodedMedia) -> int:
    return sum(tensor.nbytes for tensor in item.inputs.values())


@contextlib.contextmanager
def _located(row: str) -> Iterator[None]:
    """Name the row in errors that do not."""
    try:
        yield
    except DataError as error:
        raise error.located(row=row) from error


def _repeat(ids: list[int], token: int, times: int) -> list[int]:
    """Return the ids with every `token` written `times` times."""
    repeated: list[int] = []
    for index in ids:
        if index == token:
            repeated += [token] * times
        else:
            repeated.append(index)
    return repeated


def _refuse_videos(group: Group) -> None:
    if group.videos:
        raise DataError(
            "The row holds videos, which this version does not train on.",
            remedy="Extract frames and give them as `images`.",
            kind="video_unsupported",
            row=group.id,
        )


def _stray_placeholder(what: str, row: str | None) -> DataError:
    return DataError(
        f"{what} spells out the image placeholder of this model in its text.",
        remedy="Take the placeholder out of the text; pictures are parts of their own.",
        kind="placeholder_in_text",
        row=row,
    )


def _without_media(prompt: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"role": message["role"], "content": [part for part in message["content"] if part["type"] == "text"]}
        for message in prompt
    ]
