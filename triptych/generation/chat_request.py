"""Groups as messages of the OpenAI chat format, media as data URLs.

Pictures reach the server as `load_image` would decode them here: a PNG or JPEG file goes out byte by byte where every
decoder agrees on it, and is written again where one might not (transparency, palettes, an orientation tag, 16 bits).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from triptych.data.frame_cache import FrameCache
from triptych.data.media import load_image, resolve_media, verify_image
from triptych.data.sampling import clips_of
from triptych.data.video import Video, load_video
from triptych.errors import DataError
from triptych.group import Group, Media

Messages = list[dict[str, Any]]
VideoParts = Literal["frames", "video_url"]
"""How a video is written: a picture for each frame, which any server with several pictures takes, or one `video_url` of
the type `video/jpeg`, frames separated by commas, which vLLM gives to the model as a video (at 2 frames per second)."""

FRAME_QUALITY = 95
"""JPEG quality of frames: as PNG, those of one video would exceed what servers accept."""
_ORIENTATION = 0x0112


def chat_messages(
    group: Group,
    root: str | Path,
    *,
    without_media: bool = False,
    videos: VideoParts = "frames",
    frame_cache: FrameCache | None = None,
) -> Messages:
    """Return the prompt of a group as chat messages.

    The content is a string where there is nothing but text, since not every template takes parts in every role.

    Args:
        group: its prompt is a chat, not a document.
        root: data root of the media paths, which none may leave.
        without_media: leave the picture and video parts out.
        videos: how a video is written.
        frame_cache: where frames of video files are looked up and stored.

    Raises:
        DataError: a medium that cannot be used, or a prompt that is a document.
    """
    if group.prompt[0]["role"] == "document":
        raise DataError(
            "A document cannot be sent to a chat endpoint.",
            remedy="Give a prompt of chat messages.",
            kind="not_a_chat",
            row=group.id,
        )
    images = iter(group.images)
    loaded = (load_video(clip, root, frame_cache) for clip in clips_of(group))
    messages = []
    for message in group.prompt:
        parts: list[dict[str, Any]] = []
        for part in message["content"]:
            if part["type"] == "text":
                add_text(parts, part["text"])
            elif not without_media:
                try:
                    parts.extend(_media_parts(part["type"], images, loaded, root, videos))
                except DataError as error:
                    raise error.located(row=group.id) from error
        messages.append({"role": message["role"], "content": _plain(parts)})
    return messages


def add_text(parts: list[dict[str, Any]], text: str) -> None:
    """Append text to content parts, to the last one if that is text: servers differ in what they put between two."""
    if parts and parts[-1]["type"] == "text":
        parts[-1] = {"type": "text", "text": parts[-1]["text"] + text}
    else:
        parts.append({"type": "text", "text": text})


def _plain(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _media_parts(
    kind: str, images: Iterator[Media], loaded: Iterator[Video], root: str | Path, videos: VideoParts
) -> list[dict[str, Any]]:
    if kind == "image":
        return [_image_part(_picture_url(next(images), root))]
    frames = [_jpeg(frame) for frame in next(loaded).frames]
    if videos == "video_url":
        return [{"type": "video_url", "video_url": {"url": "data:video/jpeg;base64," + ",".join(frames)}}]
    return [_image_part("data:image/jpeg;base64," + frame) for frame in frames]


def _image_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def _picture_url(item: Media, root: str | Path) -> str:
    verify_image(item, root, decode=True)
    data = item if isinstance(item, bytes) else resolve_media(item, root).read_bytes()
    if mime := _plain_format(data):
        return f"data:{mime};base64,{base64.b64encode(data).decode()}"
    return f"data:image/png;base64,{_encoded(load_image(data, root), 'PNG')}"


def _plain_format(data: bytes) -> str | None:
    """Return the media type of a picture that every decoder shows alike, else None."""
    with Image.open(io.BytesIO(data)) as image:
        plain = image.mode in ("L", "RGB") and "transparency" not in image.info
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        return Image.MIME[image.format] if image.format in ("PNG", "JPEG") and plain and upright else None


def _jpeg(frame: Image.Image) -> str:
    return _encoded(frame, "JPEG", quality=FRAME_QUALITY, subsampling=0)


def _encoded(image: Image.Image, image_format: str, **settings: Any) -> str:
    file = io.BytesIO()
    image.save(file, image_format, **settings)
    return base64.b64encode(file.getvalue()).decode()
