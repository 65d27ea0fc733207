"""Scorers as a stage: what they learn, that a run can be cut anywhere and in any way, and what is refused."""

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, CLIPModel

import triptych.engine.loop as loop_module
from tests.support.ranks import run_ranks
from tests.support.runs import curve, weights
from tests.support.tiny_scorer import CAPTIONS, SIZES, tiny_clip, write_corners
from triptych.config import load_config
from triptych.data.media import load_image
from triptych.data.rows import read_groups, write_groups
from triptych.errors import DataError, TriptychError
from triptych.evaluation.retrieval import rank_videos, summarise_retrieval
from triptych.evaluation.text_video import TextVideoScorer
from triptych.group import Completion, Group, text_message
from triptych.stages import scorer

COPIES = 4
SHORT = {"max_steps": 4, "per_device_train_batch_size": 12, "save_steps": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder of captioned videos and pictures, some to train on and others to measure on."""
    root = tmp_path_factory.mktemp("corners")
    write_corners(root, "train", COPIES, seed=0)
    write_corners(root, "test", 1, seed=1)
    write_corners(root, "pictures", 1, seed=2, kind="image")
    return root


@pytest.fixture(scope="module")
def train(root):
    """Return a function that runs the stage."""

    def run(out, **settings):
        config = {
            "data": str(root / "train.jsonl"),
            "out": str(out),
            "vocab_size": 300,
            "learning_rate": 3e-3,
            "logging_steps": 1,
            "save_steps": 0,
        }
        config |= {} if "init" in settings else {"model": SIZES}
        return scorer.run(load_config(scorer.Config, None, config | settings))

    return run


@pytest.fixture(scope="module")
def learnt(train, root, tmp_path_factory):
    """Return a run long enough to learn the corners, measured on videos that it has not seen."""
    out = tmp_path_factory.mktemp("learnt") / "run"
    settings = {"max_steps": 150, "per_device_train_batch_size": 32, "optimizer": "muon", "learning_rate": 1e-3}
    return out, train(out, warmup_ratio=0.1, weight_decay=0.0, eval_data=str(root / "test.jsonl"), **settings)


def test_captions_find_videos_never_seen(learnt):
    out, result = learnt
    assert result["r1"]["value"] > 0.7 > 10 / len(CAPTIONS)  # chance is 1 / 16
    assert result["r5"]["value"] == 1.0 and result["median_rank"]["value"] == 1.0
    assert (result["captions"], result["videos"], result["held_out"]) == (64, 64, 16)
    rows = curve(out)
    assert rows[-1]["loss"] < 0.3 < 2 < rows[0]["loss"]
    assert rows[-1]["contrastive/accuracy"] > 0.8
    assert rows[0]["contrastive/scale"] == pytest.approx(1 / 0.07, rel=1e-3)


def test_the_written_folder_is_a_plain_clip_and_gives_what_was_measured(learnt, root):
    out, result = learnt
    assert type(AutoModel.from_pretrained(out / "model")) is CLIPModel
    assert type(AutoProcessor.from_pretrained(out / "model")).__name__ == "CLIPProcessor"
    groups, named = read_groups(root / "test.jsonl"), TextVideoScorer.named(str(out / "model"))
    videos = [named.video(group, root) for group in groups]
    found = rank_videos([[group.completions[0].text] for group in groups], videos, named.compare_videos)
    assert summarise_retrieval(found, [group.id for group in groups])["r1"] == result["r1"]
    card = (out / "model" / "README.md").read_text()
    assert "AutoModel.from_pretrained" in card and "zero-shot-image-classification" in card and "| r1 |" in card


def test_a_step_starts_with_the_loss_worked_out_from_the_model_as_it_was_built(train, root, tmp_path):
    """All 16 captions of one copy are different, so it is the loss of CLIP's own forward."""
    first = read_groups(root / "test.jsonl")
    write_groups(tmp_path / "rows.jsonl", first)
    train(tmp_path / "run", data=str(tmp_path / "rows.jsonl"), root=str(root), max_frames=1, max_steps=1,
          per_device_train_batch_size=16, learning_rate=1e-30)  # fmt: skip
    model = CLIPModel.from_pretrained(tmp_path / "run" / "model").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "run" / "model")
    pictures = [load_image(f"{group.videos[0]}/0.png", root) for group in first]
    texts = [group.completions[0].text for group in first]
    with torch.no_grad():
        inputs = processor(text=texts, images=pictures, return_tensors="pt", padding="longest")
        expected = model(**inputs, return_loss=True)
    assert curve(tmp_path / "run")[0]["loss"] == pytest.approx(expected.loss.item(), abs=1e-5)


def test_captions_that_say_the_same_are_no_negatives_of_each_other(train, root, tmp_path):
    """Where all captions of a step are the same there is nothing to learn, and no loss."""
    groups = [group for group in read_groups(root / "train.jsonl") if group.completions[0].text == CAPTIONS[0]]
    write_groups(tmp_path / "rows.jsonl", groups)
    train(tmp_path / "run", data=str(tmp_path / "rows.jsonl"), root=str(root), max_steps=1)
    assert curve(tmp_path / "run")[0]["loss"] == 0 == curve(tmp_path / "run")[0]["grad_norm"]


def test_the_update_does_not_depend_on_how_a_step_is_cut(train, tmp_path, monkeypatch):
    """Steps of 24, 24 and 16 captions."""
    gradients, losses = {}, {}
    for parts in (1, 2, 3):
        seen = gradients[parts] = []

        def keep(parameters, max_norm, seen=seen):
            seen.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).clone())
            return 1.0

        monkeypatch.setattr(loop_module, "clip_gradients", keep)
        cut = {"per_device_train_batch_size": 24 // parts, "gradient_accumulation_steps": parts}
        train(tmp_path / str(parts), eps=1e-3, **cut)
        losses[parts] = [row["loss"] for row in curve(tmp_path / str(parts))]
    assert len(losses[1]) == 3
    for parts in (2, 3):
        pairs = zip(gradients[1], gradients[parts], strict=True)
        assert max(((one - cut).abs().max() / one.abs().max()).item() for one, cut in pairs) < 1e-4
        assert losses[parts] == pytest.approx(losses[1], rel=1e-5)


class Killed(Exception):
    """Stands for SIGKILL: nothing of the stage runs after it."""


def test_a_run_killed_between_checkpoints_ends_with_the_same_curve_and_weights(train, root, tmp_path, monkeypatch):
    settings = SHORT | {"max_steps": 6, "eval_data": str(root / "test.jsonl"), "optimizer": "muon"}
    whole = train(tmp_path / "whole", **settings)
    update = loop_module.TrainingLoop.update

    def update_and_die(self, **metrics):
        update(self, **metrics)
        if self.step == 5:
            raise Killed

    monkeypatch.setattr(loop_module.TrainingLoop, "update", update_and_die)
    with pytest.raises(Killed):
        train(tmp_path / "killed", **settings)
    monkeypatch.setattr(loop_module.TrainingLoop, "update", update)
    killed = train(tmp_path / "killed", **settings)
    assert killed | {"model": ""} == whole | {"model": ""}
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    first, second = (weights(tmp_path / name) for name in ("whole", "killed"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_two_ranks_train_to_the_losses_and_weights_of_one_process(train, root, tmp_path):
    """The last of the steps has one caption, so that one rank has nothing to do."""
    settings = {"num_train_epochs": 25 / 64, "per_device_train_batch_size": 6, "gradient_accumulation_steps": 2}
    settings |= {"eps": 1e-3, "eval_data": str(root / "test.jsonl")}
    one = train(tmp_path / "one", **settings)
    first, second = run_ranks(lambda: train(tmp_path / "two", **settings))
    assert first == second
    assert first | {"model": ""} == one | {"model": ""}
    for row, expected in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-5)
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)


def test_the_scale_stays_below_its_limit(train, tmp_path):
    train(tmp_path / "run", **SHORT | {"max_steps": 1}, model=SIZES | {"logit_scale_init_value": 6.0})
    assert curve(tmp_path / "run")[0]["contrastive/scale"] == pytest.approx(100.0)
    assert weights(tmp_path / "run")["logit_scale"].item() <= math.log(100) + 1e-6


def test_a_clip_is_fine_tuned_on_pictures_with_its_own_tokenizer(train, root, tmp_path):
    folder = tiny_clip(tmp_path / "clip")
    train(tmp_path / "run", init=str(folder), data=str(root / "pictures.jsonl"), max_steps=2, learning_rate=1e-3,
          freeze=["vision_model"])  # fmt: skip
    start, end = load_file(folder / "model.safetensors"), weights(tmp_path / "run")
    changed = {name for name in end if not torch.equal(start[name], end[name])}
    assert "logit_scale" in changed and not any(name.startswith("vision_model") for name in changed)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert card.startswith("---") and "clip-scorer" in card


def test_the_tokenizer_of_another_model_is_taken(train, tmp_path, tiny_folder):
    train(tmp_path / "run", **SHORT, tokenizer=str(tiny_folder("mm1")))
    ours = AutoProcessor.from_pretrained(tmp_path / "run" / "model").tokenizer
    assert ours.get_vocab() == AutoProcessor.from_pretrained(tiny_folder("mm1")).tokenizer.get_vocab()


def test_captions_longer_than_the_model_takes_are_counted(train, root, tmp_path, capsys):
    groups = read_groups(root / "test.jsonl")
    groups[0].completions[0].text = "square " * 30
    groups[1].completions.append(Completion("a square"))
    write_groups(tmp_path / "rows.jsonl", groups)
    result = train(tmp_path / "run", data=str(tmp_path / "rows.jsonl"), root=str(root), max_steps=1)
    assert (result["cut_captions"], result["captions"], result["videos"]) == (1, 17, 16)
    assert "1 of 17 captions are cut" in capsys.readouterr().err


def test_videos_that_are_trained_on_are_not_measured_on(train, root, tmp_path):
    with pytest.raises(DataError, match=r"held_out_media.*test\.jsonl: 16 picture"):
        train(tmp_path / "run", data=[str(root / "train.jsonl"), str(root / "test.jsonl")],
              eval_data=str(root / "test.jsonl"))  # fmt: skip


def test_rows_without_caption_or_video_are_named(train, root, tmp_path):
    group = read_groups(root / "test.jsonl")[0]
    silent = Group("silent", group.prompt, videos=group.videos)
    blind = Group("blind", [text_message("user", "?")], answer="a star")
    for kind, row in (("missing_answer", silent), ("no_media", blind)):
        write_groups(tmp_path / f"{row.id}.jsonl", [row])
        with pytest.raises(DataError, match=rf"{kind}.*{row.id}\.jsonl, row {row.id}"):
            train(tmp_path / "run", data=str(tmp_path / f"{row.id}.jsonl"), root=str(root))


def test_another_kind_of_model_is_no_start(train, tmp_path, tiny_folder):
    with pytest.raises(TriptychError, match="does not put texts and pictures into one space"):
        train(tmp_path / "run", init=str(tiny_folder("mm1")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {}}, "Give either `init`"),
        ({"init": "openai/clip"}, "Give either `init`"),
        ({"model": {}, "init": "openai/clip", "tokenizer": "x"}, "has its own"),
        ({"max_frames": 0}, "max_frames is 0"),
        ({"lora_r": 4}, "`lora_r` is for models that generate"),
        ({"row_tokens": 4}, "`row_tokens` is for models that generate"),
        ({"per_device_train_batch_size": 1}, "nothing to compare"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(TriptychError, match=message):
        load_config(scorer.Config, None, {"data": "d", "out": "o", "model": SIZES} | settings)
