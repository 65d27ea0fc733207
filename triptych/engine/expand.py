"""Text with placeholders to tokens and media: what a model's own processor makes of a prompt.

Letters: T tokens.
"""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from triptych.data.media import load_image, media_key
from triptych.data.sampling import Clip
from triptych.data.video import Video, frame_keys, video_key
from triptych.data.video_loader import VideoLoader
from triptych.engine.families.base import Family, Span
from triptych.engine.families.plain import prompt_inputs
from triptych.errors import DataError, TriptychError
from triptych.group import Media, fingerprint

MEDIA_CACHE_BYTES = 2**28
"""Processed pictures and videos an encoder keeps for the next time they are asked for: 256 MiB, 9,700 pictures of
48 x 48 or 194 videos of 50 such frames."""


@dataclass(frozen=True)
class EncodedMedia:
    """One picture or video as its family's vision encoder takes it.

    For a model whose paths are not packed, all that its processor makes of a prompt.

    Attributes:
        key: identity of the content; equal keys are encoded once.
        inputs: tensors of this picture alone, named as the processor names them.
        num_tokens: image tokens it takes in the stream.
        token_id: its placeholder, where that is not the one of pictures.
    """

    key: str
    inputs: dict[str, torch.Tensor]
    num_tokens: int
    token_id: int | None = None


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids of a prompt whose placeholders are expanded, its media in order, and its spans of two-way attention."""

    input_ids: list[int]
    media: list[EncodedMedia] = field(default_factory=list)
    two_way: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Row:
    """A prompt before its placeholders are expanded; `name` stands for it in errors."""

    name: str
    text: str
    images: Sequence[Media] = ()
    videos: Sequence[Media | Clip] = ()


class Expander:
    """Gives every placeholder its tokens and its tensors.

    Args:
        processor: the model's processor.
        family: of the model.
        videos: loads them.
    """

    def __init__(self, processor: Any, family: Family, videos: VideoLoader) -> None:
        self.processor, self.family = processor, family
        self._videos = videos
        self._media_cache = _MediaCache(MEDIA_CACHE_BYTES)
        self._tokens_per_image: int | None = None

    def expand(self, rows: Sequence[Row], root: Path) -> list[EncodedPrompt]:
        """Tokenise rows, in order.

        Raises:
            DataError: a medium that cannot be used, or a text whose placeholders do not fit it.
        """
        if self.family.fixed_tokens_per_image:
            return self._expand_fixed(rows, root)
        expand = self._expand_one if self.family.packed else self._expand_whole
        return [expand(row, root) for row in rows]

    def _expand_one(self, row: Row, root: Path) -> EncodedPrompt:
        """Let the processor do it: tiles and separators are its own."""
        if not row.images and not row.videos:
            ids = self._tokenise(row)
            return EncodedPrompt(ids, two_way=self.family.two_way(ids))
        inputs = self._process_row(row, root)
        ids = inputs["input_ids"][0].tolist()
        with _located(row.name):
            media = self._pictures_and_frames if self.family.frames_are_images else self._pictures_and_videos
            return EncodedPrompt(ids, media(row, ids, inputs, root), self.family.two_way(ids))

    def _expand_whole(self, row: Row, root: Path) -> EncodedPrompt:
        """Keep all that the processor gives, as the only medium."""
        inputs = self._process_row(row, root)
        ids = inputs["input_ids"][0].tolist()
        with _located(row.name):
            media = [media_key(item, root) for item in row.images] + [video_key(item, root) for item in row.videos]
        return EncodedPrompt(ids, [EncodedMedia(fingerprint([media, ids]), prompt_inputs(dict(inputs)), 0)])

    def _pictures_and_videos(self, row: Row, ids: list[int], inputs: Any, root: Path) -> list[EncodedMedia]:
        """Cut the processor's tensors into pictures and videos, in the order of their placeholders."""
        family, found = self.family, {"image": iter(()), "video": iter(())}
        if row.images:
            counts = family.tokens_per_image(ids, inputs, len(row.images), self.processor)
            parts = zip(row.images, family.split_media(inputs, counts), counts, strict=True)
            found["image"] = (
                EncodedMedia(media_key(item, root) + tag, tensors, count) for item, (tag, tensors), count in parts
            )
        if row.videos:
            videos = zip(row.videos, family.split_videos(inputs, ids), strict=True)
            found["video"] = (
                EncodedMedia(video_key(item, root), tensors, count, family.video_token_id)
                for item, (count, tensors) in videos
            )
        return [next(found[kind]) for kind in self._kinds(row)]

    def _pictures_and_frames(self, row: Row, ids: list[int], inputs: Any, root: Path) -> list[EncodedMedia]:
        """Cut the processor's tensors into pictures, of which frames are some."""
        keys = {
            "image": iter([media_key(item, root)] for item in row.images),
            "video": iter([key + "f" for key in frame_keys(item, root)] for item in row.videos),
        }
        in_order = [key for kind in self._kinds(row) for key in next(keys[kind])]
        counts = self.family.tokens_per_image(ids, inputs, len(in_order), self.processor)
        parts = zip(in_order, self.family.split_media(inputs, counts), counts, strict=True)
        return [EncodedMedia(key + tag, tensors, count) for key, (tag, tensors), count in parts]

    def _kinds(self, row: Row) -> list[str]:
        """Return "image" or "video" for each placeholder of the text, in order."""
        if not row.videos:
            return ["image"] * len(row.images)
        names = {self.processor.image_token: "image", self.processor.video_token: "video"}
        return [names[token] for token in re.findall("|".join(map(re.escape, names)), row.text)]

    def _expand_fixed(self, rows: Sequence[Row], root: Path) -> list[EncodedPrompt]:
        """Repeat each placeholder in the tokens of the text, and process the distinct pictures of all rows at once.

        Every distinct video is loaded once, too.
        """
        keys = []
        for row in rows:
            with _located(row.name):
                keys.append([media_key(item, root) for item in row.images])
        pictures = self._pictures(rows, keys, root)
        videos: dict[str, EncodedMedia] = {}
        encoded = []
        for row, own in zip(rows, keys, strict=True):
            ids = self._tokenise(row)
            with _located(row.name):
                own_videos = [self._video(item, root, videos) for item in row.videos]
            media = {self.family.image_token_id: [pictures[key] for key in own], self.family.video_token_id: own_videos}
            encoded.append(_filled(ids, media))
        return encoded

    def _pictures(self, rows: Sequence[Row], keys: list[list[str]], root: Path) -> dict[str, EncodedMedia]:
        """Return every picture of the rows by its key; those not in the cache are processed in one call."""
        found: dict[str, EncodedMedia] = {}
        new: dict[str, Any] = {}
        for row, own in zip(rows, keys, strict=True):
            for key, item in zip(own, row.images, strict=True):
                if key in found or key in new:
                    continue
                if (known := self._media_cache.get(key)) is not None:
                    found[key] = known
                    continue
                with _located(row.name):
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

    def _video(self, item: Media | Clip, root: Path, found: dict[str, EncodedMedia]) -> EncodedMedia:
        """Return a video from `found` or the cache; a new one is loaded, processed and put into both."""
        key = video_key(item, root)
        if key not in found and (known := self._media_cache.get(key)) is not None:
            found[key] = known
        if key not in found:
            video = self._videos.load(item, root)
            inputs = self._process(None, videos=[list(video.frames)], videos_kwargs=_videos_kwargs([video]))
            [(count, tensors)] = self.family.split_videos(inputs, [])
            found[key] = EncodedMedia(key, tensors, count, self.family.video_token_id)
            self._media_cache.put(found[key])
        return found[key]

    def _count_tokens(self, picture: Any) -> int:
        """Ask the processor how many tokens a picture takes."""
        placeholder = self.family.image_placeholder(self.processor)
        inputs = self._process(None, text=[placeholder], images=[[picture]], add_special_tokens=False)
        return inputs["input_ids"][0].tolist().count(self.family.image_token_id)

    def _process_row(self, row: Row, root: Path) -> Any:
        """Load the media of a row and give all of it to the processor."""
        with _located(row.name):
            pictures = [load_image(item, root) for item in row.images]
            videos = [self._videos.load(item, root) for item in row.videos]
        inputs: dict[str, Any] = {"images": [pictures]} if pictures else {}
        if videos:
            inputs |= {"videos": [list(video.frames) for video in videos], "videos_kwargs": _videos_kwargs(videos)}
        try:
            return self._process(
                row.name, text=[row.text], add_special_tokens=not self._starts_with_bos(row.text), **inputs
            )
        except TriptychError as error:
            raise error if isinstance(error, DataError) else video_unsupported(str(error), row.name) from error

    def _process(self, row: str | None, **inputs: Any) -> Any:
        try:
            return self.processor(**inputs, return_tensors="pt")
        except TriptychError:
            raise
        except ValueError as error:
            raise DataError(
                f"The processor of this model refuses the row: {error}",
                remedy="Text must not spell out image placeholders, and the chat template must write one per picture.",
                kind="processor_refused",
                row=row,
            ) from error

    def _tokenise(self, row: Row) -> list[int]:
        """Return the ids of a text whose placeholders, one per picture or video, are not expanded yet."""
        tokenizer = self.processor.tokenizer
        ids = list(tokenizer(row.text, add_special_tokens=not self._starts_with_bos(row.text))["input_ids"])
        for kind, token, media in (
            ("image", self.family.image_token_id, row.images),
            ("video", self.family.video_token_id, row.videos),
        ):
            found = ids.count(token)
            if found < len(media):
                raise DataError(
                    f"The text made of this prompt holds {found} {kind} placeholder(s) for {len(media)} {kind}(s).",
                    remedy=f"Give the processor a chat template that writes its {kind} placeholder for {kind} parts.",
                    kind="template_without_image",
                    row=row.name,
                )
            if found > len(media):
                raise stray_placeholder("The prompt", row=row.name)
        return ids

    def _starts_with_bos(self, text: str) -> bool:
        bos = self.processor.tokenizer.bos_token
        return bool(bos) and text.startswith(bos)


def stray_placeholder(what: str, row: str | None) -> DataError:
    """Build the error of a text that spells out a placeholder."""
    return DataError(
        f"{what} spells out the image placeholder of this model in its text.",
        remedy="Take the placeholder out of the text; pictures are parts of their own.",
        kind="placeholder_in_text",
        row=row,
    )


def video_unsupported(problem: str, row: str) -> DataError:
    """Build the error of a video that a model does not take."""
    return DataError(problem, remedy="Extract frames and give them as `images`.", kind="video_unsupported", row=row)


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


def _videos_kwargs(videos: Sequence[Video]) -> dict[str, Any]:
    """Tell the processor when the frames were taken, and to take all of them."""
    return {"video_metadata": [video.metadata() for video in videos], "do_sample_frames": False}


def _filled(ids: list[int], media: Mapping[int | None, Sequence[EncodedMedia]]) -> EncodedPrompt:
    """Write every placeholder as many times as its medium has tokens.

    Args:
        ids: with one placeholder for each medium.
        media: by placeholder, in order.
    """
    waiting = {token: iter(items) for token, items in media.items()}
    filled: list[int] = []
    in_order: list[EncodedMedia] = []
    for token in ids:
        if token in waiting:
            in_order.append(next(waiting[token]))
            filled += [token] * in_order[-1].num_tokens
        else:
            filled.append(token)
    return EncodedPrompt(filled, in_order)
