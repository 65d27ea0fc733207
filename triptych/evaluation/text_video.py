"""Texts and videos in one space: what a model like CLIP says of how well they go together.

A video is the mean of its frames' features, and so CLIPScore (Hessel et al. 2021, arXiv:2104.08718) of a text and a
video is the mean over its frames. Here it is the plain cosine; theirs is 2.5 times that, and 0 where it is negative.

Letters: N texts, V videos, Q texts that are compared with C captions, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych.data.frame_cache import FrameCache
from triptych.engine.captioned import frames_of
from triptych.group import Group
from triptych.models.scorer import load_scorer, mean_frames, picture_features, text_features, tokenise

_AT_ONCE = 64
"""Texts or frames of one forward."""


class TextVideoScorer:
    """Compares texts with texts, and with videos.

    Args:
        load: returns model and processor; called at the first use.
        frame_cache: where decoded frames of files are looked up and stored; None stores nothing.
    """

    def __init__(self, load: Callable[[], tuple[Any, Any]], frame_cache: FrameCache | None = None) -> None:
        self._load, self._frame_cache = load, frame_cache

    @classmethod
    def named(cls, name: str, frame_cache: FrameCache | None = None) -> TextVideoScorer:
        """Return the scorer of a folder or hub name, which is loaded at its first use."""
        return cls(lambda: load_scorer(name), frame_cache)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return features of texts, (N, D), of length 1."""
        model, processor = self._model
        found = []
        for start in range(0, len(texts), _AT_ONCE):
            with torch.no_grad():
                inputs = tokenise(model, processor.tokenizer, texts[start : start + _AT_ONCE])
                found.append(text_features(model, inputs).double().cpu())
        return torch.cat(found).numpy()

    def video(self, group: Group, root: Path) -> np.ndarray:
        """Return the mean of the features of a row's pictures and frames, (D,), each of them of length 1.

        Args:
            group: all frames count that the policies of its videos take.
            root: data root of its media.

        Raises:
            DataError: a medium that cannot be used; kind `no_media`, the row has none.
        """
        model, processor = self._model
        frames, found = frames_of(group, root, cache=self._frame_cache), []
        for start in range(0, len(frames), _AT_ONCE):
            with torch.no_grad():
                inputs = processor.image_processor(images=frames[start : start + _AT_ONCE], return_tensors="pt")
                found.append(picture_features(model, inputs).double().cpu())
        return mean_frames(torch.cat(found), [len(frames)])[0].numpy()

    def compare_texts(self, texts: Sequence[str], captions: Sequence[str]) -> np.ndarray:
        """Return the cosines of texts and captions, (Q, C)."""
        return self.texts(texts) @ self.texts(captions).T

    def compare_videos(self, texts: Sequence[str], videos: Sequence[Sequence[float]]) -> np.ndarray:
        """Return the cosines of texts and videos, (N, V).

        Args:
            texts: (N,).
            videos: (V, D) from `video`.
        """
        means = np.asarray(videos)
        return self.texts(texts) @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T

    def clip_score(self, text: str, video: np.ndarray) -> float:
        """Return the mean over a video's frames of their cosines with a text.

        Args:
            text: what was told of it.
            video: (D,) from `video`.
        """
        return float(self.texts([text])[0] @ video)

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        model, processor = self._load()
        return model.eval(), processor
