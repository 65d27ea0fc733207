"""Groups to tokens: the chat template, the processor's image expansion, and the end of a turn.

The prompt goes through the model's own processor, so that image placeholders, tiles and separators are those of the
family. A completion is plain text, tokenised without special tokens, followed by the family's end-of-turn token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from triptych.data.frame_cache import FrameCache
from triptych.data.sampling import clips_of
from triptych.data.video_loader import VideoLoader
from triptych.engine.expand import EncodedMedia, EncodedPrompt, Expander, Row, stray_placeholder, video_unsupported
from triptych.engine.families import Family, family_of
from triptych.errors import DataError, TriptychError
from triptych.group import Group, text_message

__all__ = ["EncodedMedia", "EncodedPrompt", "Encoder"]


class Encoder:
    """Turns groups into token sequences for one model and its processor.

    Args:
        processor: the model's processor.
        model_config: the model's configuration; decides the family.
        frames: where decoded frames of video files are looked up and stored, or a loader of videos that encoders
            of several models share; None stores nothing.
    """

    def __init__(self, processor: Any, model_config: Any, frames: FrameCache | VideoLoader | None = None) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.family: Family = family_of(model_config)
        self.end_of_turn = self._find_end_of_turn()
        self.stop_ids = {*self.end_of_turn, self.tokenizer.eos_token_id} - {None}
        videos = frames if isinstance(frames, VideoLoader) else VideoLoader(frames)
        self._expander = Expander(processor, self.family, videos)

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
        row = Row(group.id, text) if without_media else Row(group.id, text, group.images, clips_of(group))
        [encoded] = self._expander.expand([row], root)
        if prefix:
            encoded = _extended(encoded, self.completion(prefix, end_of_turn=False))
        return encoded

    def prompt_text(self, group: Group) -> str:
        """Return the text of a prompt up to and including the assistant's header, placeholders not expanded.

        Raises:
            DataError: a template that refuses the messages, or videos that the model does not take.
        """
        return self._prompt_text(group, group.prompt)

    def prompts(self, groups: Sequence[Group], root: Path) -> list[EncodedPrompt]:
        """Encode many prompts; the same as `prompt` on each, but distinct pictures are processed once and together."""
        texts = (self._prompt_text(group, group.prompt) for group in groups)
        rows = [Row(group.id, text, group.images, clips_of(group)) for group, text in zip(groups, texts, strict=True)]
        return self._expander.expand(rows, root)

    def documents(self, groups: Sequence[Group], root: Path) -> list[EncodedPrompt]:
        """Encode pre-training documents: parts in order, no chat template, closed by the end-of-text token.

        Raises:
            TriptychError: the model cannot be trained on every text token of a document.
        """
        self.family.check_document()
        texts = (self._document_text(group, group.prompt) for group in groups)
        rows = [Row(group.id, text, group.images, clips_of(group)) for group, text in zip(groups, texts, strict=True)]
        eos = self.tokenizer.eos_token_id
        end = self.end_of_turn if eos is None else [eos]
        return [_extended(opened, end) for opened in self._expander.expand(rows, root)]

    def document(self, group: Group, root: Path) -> EncodedPrompt:
        """Encode one pre-training document; see `documents`."""
        return self.documents([group], root)[0]

    def completion(self, text: str, *, end_of_turn: bool = True) -> list[int]:
        """Tokenise an answer; `end_of_turn` closes it with the token the model stops at.

        Raises:
            DataError: the text holds the model's image placeholder.
        """
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if self.family.image_token_id in ids or self.family.video_token_id in ids:
            raise stray_placeholder("A completion", row=None)
        return ids + self.end_of_turn if end_of_turn else ids

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids, special tokens left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _prompt_text(self, group: Group, messages: list[dict[str, Any]]) -> str:
        if messages[0]["role"] == "document":
            return self._document_text(group, messages)
        self._check_videos(group)
        try:
            return self.family.prompt_text(self.processor, messages)
        except (ValueError, TypeError, KeyError, jinja2.TemplateError) as error:
            raise DataError(
                f"The chat template of this model refuses the prompt: {error}.",
                remedy="Check the roles and their order, or give the processor a chat template.",
                kind="template_refused",
                row=group.id,
            ) from error

    def _check_videos(self, group: Group) -> None:
        name = f"A model of type {self.family.config.model_type!r} takes"
        if group.videos and not self.family.takes_videos:
            raise video_unsupported(f"{name} no videos.", group.id)
        if group.videos and group.images and not self.family.mixes_videos_with_images:
            raise video_unsupported(f"{name} pictures or videos, not both in one prompt.", group.id)

    def _document_text(self, group: Group, messages: list[dict[str, Any]]) -> str:
        self._check_videos(group)
        placeholders = {"image": self.family.image_placeholder, "video": self.family.video_placeholder}
        parts = messages[0]["content"]
        return "".join(
            part["text"] if part["type"] == "text" else placeholders[part["type"]](self.processor) for part in parts
        )

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


def _extended(encoded: EncodedPrompt, ids: list[int]) -> EncodedPrompt:
    return EncodedPrompt(encoded.input_ids + ids, encoded.media, encoded.two_way)


def _without_media(prompt: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"role": message["role"], "content": [part for part in message["content"] if part["type"] == "text"]}
        for message in prompt
    ]
