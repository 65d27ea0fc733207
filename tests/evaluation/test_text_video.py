"""Texts and videos compared by CLIP, beside transformers' own forward."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, CLIPModel

from tests.support.tiny_scorer import CAPTIONS, tiny_clip, write_corners
from triptych.data.media import load_image
from triptych.data.rows import read_groups
from triptych.errors import DataError, TriptychError
from triptych.evaluation import text_video
from triptych.evaluation.text_video import TextVideoScorer
from triptych.group import Group, text_message

TEXTS = ["red square", "white square at the bottom right"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Return rows about videos, their data root, and features of each frame by transformers alone, (V, F, D)."""
    root = tmp_path_factory.mktemp("videos")
    return read_groups(write_corners(root, "test", 1, seed=0))[:3], root


@torch.no_grad()
def cosines(folder, groups, root):
    """Return the cosine of each text with each frame of each video, (N, V, F), by transformers alone."""
    model, processor = CLIPModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    pictures = [load_image(f"{group.videos[0]}/{frame}.png", root) for group in groups for frame in range(2)]
    inputs = processor(text=TEXTS, images=pictures, return_tensors="pt", padding=True)
    found = model(**inputs)
    return (found.text_embeds @ found.image_embeds.T).view(2, len(groups), 2).numpy(), found.image_embeds


def test_clip_score_is_the_mean_cosine_of_a_text_and_the_frames(folder, videos):
    groups, root = videos
    scorer = TextVideoScorer.named(str(folder))
    expected, _ = cosines(folder, groups, root)
    found = [[scorer.clip_score(text, scorer.video(group, root)) for group in groups] for text in TEXTS]
    assert np.array(found) == pytest.approx(expected.mean(axis=2), abs=1e-6)


def test_texts_look_for_videos_by_the_cosine_with_the_mean_of_their_frames(folder, videos):
    groups, root = videos
    scorer = TextVideoScorer.named(str(folder))
    by_frame, pictures = cosines(folder, groups, root)
    lengths = np.linalg.norm(pictures.view(3, 2, -1).mean(dim=1).numpy(), axis=1)
    found = scorer.compare_videos(TEXTS, [scorer.video(group, root).tolist() for group in groups])
    assert found == pytest.approx(by_frame.mean(axis=2) / lengths, abs=1e-6)
    assert scorer.compare_texts(TEXTS, TEXTS).diagonal() == pytest.approx([1.0, 1.0])


def test_how_many_go_through_the_model_at_once_changes_nothing(folder, videos, monkeypatch):
    groups, root = videos
    whole = TextVideoScorer.named(str(folder))
    expected = whole.video(groups[0], root), whole.texts(CAPTIONS)
    monkeypatch.setattr(text_video, "_AT_ONCE", 1)
    assert whole.video(groups[0], root) == pytest.approx(expected[0], abs=1e-6)
    assert whole.texts(CAPTIONS) == pytest.approx(expected[1], abs=1e-6)


def test_pictures_count_as_frames(folder, videos):
    groups, root = videos
    as_pictures = Group(
        "p",
        [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "?"}]}],
        images=[f"{groups[0].videos[0]}/{frame}.png" for frame in range(2)],
    )
    scorer = TextVideoScorer.named(str(folder))
    assert scorer.video(as_pictures, root) == pytest.approx(scorer.video(groups[0], root), abs=1e-6)
    with pytest.raises(DataError, match="no_media"):
        scorer.video(Group("t", [text_message("user", "?")]), root)


def test_a_model_is_loaded_when_it_is_used_and_once():
    loads = []

    def load():
        loads.append(1)
        raise TriptychError("not there")

    scorer = TextVideoScorer(load)
    assert not loads
    with pytest.raises(TriptychError, match="not there"):
        scorer.texts(TEXTS)
