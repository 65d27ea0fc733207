"""What is found in the rows before training, by row and remedy."""

from __future__ import annotations

import copy
import itertools
import sys
from dataclasses import replace

import pytest
from PIL import Image

from tests.data.clips import video_bytes
from tests.support.tiny_models import FAMILIES, PLAIN, VIDEO
from triptych.data.media import image_size, load_image
from triptych.engine import preflight
from triptych.engine.encode import Encoder
from triptych.engine.families import backbone_of
from triptych.engine.pairs import PairRow
from triptych.engine.paths import completion_paths
from triptych.engine.preflight import check_before_training
from triptych.engine.trie import pack
from triptych.errors import DataError
from triptych.group import Completion, Group, Pair, text_message

TEXTS = ("There are three circles and two squares.", "There are three circles.", "Five.")


def group(name, *, prompt=None, images=("a.png",), texts=TEXTS):
    message = text_message("user", *[None] * len(images), "How many?") if prompt is None else prompt
    return Group(name, [message], list(images), completions=[Completion(text) for text in texts])


def rows_of(*groups, root, pairs=((0, 1), (0, 2))):
    return [PairRow(item, Pair(*pair), root, f"0:{item.id}") for item in groups for pair in pairs]


def exact_tokens(tiny, item):
    prompt = tiny.encoder.prompt(item, tiny.root)
    return pack([completion_paths(tiny.encoder, backbone_of(tiny.model), prompt, item.completions)], 4096).num_tokens


@pytest.mark.parametrize("family", (*FAMILIES, *PLAIN))
def test_good_rows_pass_and_their_tokens_are_those_of_the_packed_trie(family, tiny_of):
    tiny = tiny_of(family)
    single = [group("one"), group("two", images=("c.png",)), group("text", images=(), texts=TEXTS[::-1])]
    both = group("both", images=("a.png", "b.png"))
    found = check_before_training(tiny.encoder, rows_of(*single, both, root=tiny.root), 4096)
    assert found.keys() == {f"0:{item.id}" for item in (*single, both)}
    exact = {item.id: exact_tokens(tiny, item) for item in (*single, both)}
    slack = {"gemma3": 12, "paligemma": 4, "paligemma2": 4, "smolvlm": 66, "idefics3": 0, "llava_onevision": 8}
    if not tiny.encoder.family.packed:
        return  # nothing is shared there
    for name, tokens in exact.items():
        missing = tokens - found[f"0:{name}"]
        assert 0 <= missing <= slack.get(family, 0), name
    assert found["0:text"] == exact["text"] or "paligemma" in family


@pytest.mark.parametrize("family", VIDEO)
def test_the_tokens_of_videos_are_counted_exactly(family, tiny_of):
    """Places with text at both sides, so that times and markers that a processor writes there meet words."""
    tiny = tiny_of(family)
    (tiny.root / "wide.mp4").write_bytes(video_bytes(list(range(0, 70, 10)), rate=10))
    prompt = text_message("user", "First", "then", "and now?")
    policies = [{}, {"num_frames": 2}, {"num_frames": 3}, {"fps": 0.5}]
    rows = []
    for number, (policy, video) in enumerate(itertools.product(policies, ("clip", "other", "wide.mp4"))):
        content = [part for part in prompt["content"]]
        content.insert(number % 3, {"type": "video"})
        one = group(f"{number}", prompt={"role": "user", "content": content}, images=())
        rows.append(replace(one, videos=[video], meta={"video": policy}))
    content = [{"type": "video"}, *prompt["content"], {"type": "video"}]
    both = group("both", prompt={"role": "user", "content": content}, images=())
    rows.append(replace(both, videos=["clip", "other"], meta={"video": {"num_frames": 2}}))
    rows = [row for row in rows if family != "qwen3_vl" or "fps" not in str(row.meta)]  # it wants at least two frames
    found = check_before_training(tiny.encoder, rows_of(*rows, root=tiny.root), 4096)
    assert found == {f"0:{row.id}": exact_tokens(tiny, row) for row in rows}


@pytest.mark.parametrize(("family", "kind"), [("llava_onevision", "video_lengths"), ("qwen3_vl", "processor_refused")])
def test_videos_that_a_processor_does_not_take_are_named(family, kind, tiny_of):
    tiny = tiny_of(family)
    prompt = {"role": "user", "content": [{"type": "video"}, {"type": "video"}]}
    meta = {"video": [{"num_frames": 3}, {"num_frames": 1}]}
    error = only_fault(tiny, replace(group("bad", prompt=prompt, images=()), videos=["clip", "other"], meta=meta))
    assert (error.kind, error.row) == (kind, "bad") and "meta.video" in error.remedy


def test_a_machine_without_a_decoder_is_told_before_training(tiny_of, monkeypatch):
    tiny = tiny_of("mm1")
    (tiny.root / "it.mp4").write_bytes(b"some video")
    monkeypatch.setitem(sys.modules, "av", None)
    prompt = {"role": "user", "content": [{"type": "video"}]}
    error = only_fault(tiny, replace(group("bad", prompt=prompt, images=()), videos=["it.mp4"]))
    assert (error.kind, error.row) == ("video_decoder", "bad") and "triptych[video]" in error.remedy


def test_the_tokens_of_videos_beside_pictures_are_counted_exactly(tiny_of):
    tiny = tiny_of("mm1")
    prompt = {"role": "user", "content": [{"type": "video"}, {"type": "image"}, {"type": "video"}]}
    item = replace(group("clips", prompt=prompt), videos=["clip", "other"])
    few = replace(item, id="few", meta={"video": {"num_frames": 2}})
    found = check_before_training(tiny.encoder, rows_of(item, few, root=tiny.root), 4096)
    assert found == {f"0:{row.id}": exact_tokens(tiny, row) for row in (item, few)}
    assert found["0:clips"] - found["0:few"] == 1 + 2, "3 and 4 frames, or 2 and 2"
    longest = len(tiny.encoder.prompt(item, tiny.root).input_ids) + len(tiny.encoder.completion(TEXTS[0]))
    assert only_fault(tiny, item, row_tokens=longest - 1).kind == "too_long"


def only_fault(tiny, *groups, row_tokens=4096, encoder=None, **kwargs):
    with pytest.raises(DataError) as caught:
        check_before_training(encoder or tiny.encoder, rows_of(*groups, root=tiny.root, **kwargs), row_tokens)
    return caught.value


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (group("bad", images=("lost.png",)), "media_missing"),
        (group("bad", images=("notes.png",)), "media_not_an_image"),
        (group("bad", prompt=text_message("user", None, "What is <image>?")), "placeholder_in_text"),
        (group("bad", texts=("See <image>", "No.", "Yes.")), "placeholder_in_text"),
        (group("bad", texts=("Yes.", "Yes.", "No.")), "pair_same_tokens"),
        (
            replace(group("bad"), completions=[Completion("", truncated=True), *map(Completion, TEXTS[1:])]),
            "no_targets",
        ),
        (replace(group("bad"), videos=["a.mp4"]), "media_missing"),
    ],
)
def test_a_bad_row_is_named_with_its_fault(bad, kind, tiny_of):
    tiny = tiny_of("llava")
    (tiny.root / "notes.png").write_text("not a picture")
    error = only_fault(tiny, group("good"), bad)
    assert (error.kind, error.row) == (kind, "bad")
    assert error.remedy


def test_texts_that_differ_and_tokenise_alike_are_no_pair(tiny_of):
    """A tokenizer that lowers its input: nothing in the text shows that the model sees one answer."""
    tiny = tiny_of("llava")
    encoder = copy.copy(tiny.encoder)
    encoder.tokenizer = lambda texts, **kwargs: tiny.encoder.tokenizer(
        [text.lower() for text in texts] if isinstance(texts, list) else texts, **kwargs
    )
    encoder.tokenizer.bos_token = tiny.encoder.tokenizer.bos_token
    error = only_fault(tiny, group("bad", texts=("Yes.", "yes.", "No.")), encoder=encoder)
    assert (error.kind, error.row) == ("pair_same_tokens", "bad")
    assert "0 (chosen) and 1 (rejected)" in error.problem


def test_an_answer_cut_at_the_limit_differs_from_the_same_text_that_ended(tiny_of):
    tiny = tiny_of("llava")
    item = group("g", texts=("Yes.", "Yes.", "No."))
    item.completions[1].truncated = True
    assert check_before_training(tiny.encoder, rows_of(item, root=tiny.root), 4096)


@pytest.mark.parametrize("family", ["llava", "llava_next", "qwen2_5_vl", "internvl", "mm1_sub_images"])
def test_the_budget_is_known_to_the_token_before_a_picture_is_decoded(family, tiny_of):
    tiny = tiny_of(family)
    item = group("long")
    prompt = tiny.encoder.prompt(item, tiny.root)
    longest = len(prompt.input_ids) + len(tiny.encoder.completion(TEXTS[0]))
    assert check_before_training(tiny.encoder, rows_of(item, root=tiny.root), longest)
    error = only_fault(tiny, item, row_tokens=longest - 1)
    assert (error.kind, error.row) == ("too_long", "long")
    assert f"together {longest}; a row holds {longest - 1}" in error.problem
    assert f"`row_tokens` of {longest}" in error.remedy


def test_positions_beyond_those_of_the_model_are_refused_where_tokens_are_positions(tiny_of):
    long = "circle " * 300  # the tiny models have 512 positions
    item = group("long", texts=(long, "Yes.", "No."))
    error = only_fault(tiny_of("llava"), item)
    assert error.kind == "too_long" and "has positions for 512" in error.problem
    assert check_before_training(tiny_of("qwen2_vl").encoder, rows_of(item, root=tiny_of("qwen2_vl").root), 4096)


def test_all_faults_are_one_error_and_the_longest_row_is_told(tiny_of):
    tiny = tiny_of("llava")
    bad = [group(f"bad{n}", images=("lost.png",)) for n in range(8)]
    error = only_fault(tiny, bad[0], group("good"), *bad[1:])
    assert error.row == "bad0"
    assert "Also faulty: bad1 (media_missing), bad2 (media_missing)" in error.problem and "and 2 more" in error.problem
    longer, longest = group("longer", texts=("a " * 90, "b", "c")), group("longest", texts=("a " * 99, "b", "c"))
    error = only_fault(tiny, longer, longest, row_tokens=64)
    size = len(tiny.encoder.prompt(longest, tiny.root).input_ids) + len(tiny.encoder.completion("a " * 99))
    assert error.row == "longer" and f"`row_tokens` of {size}" in error.remedy


def test_a_processor_without_chat_template_is_named_and_so_is_a_template_without_pictures(tiny_of):
    tiny = tiny_of("llava")
    processor = copy.deepcopy(tiny.processor)
    processor.chat_template = processor.tokenizer.chat_template = None
    error = only_fault(tiny, group("any"), encoder=Encoder(processor, tiny.model.config))
    assert error.kind == "no_chat_template" and "chat_template.jinja" in error.remedy
    processor.chat_template = "{% for message in messages %}{{ message['content'][-1]['text'] }}{% endfor %}"
    error = only_fault(tiny, group("any"), encoder=Encoder(processor, tiny.model.config))
    assert error.kind == "template_without_image" and error.row == "any"
    assert "holds 0 image placeholder(s) '<image>' for 1 picture(s)" in error.problem


def test_each_file_is_read_once_and_no_picture_is_decoded(tiny_of, monkeypatch):
    tiny, read = tiny_of("llava"), []

    def size(item, root):
        read.append(item)
        return image_size(item, root)

    monkeypatch.setattr(preflight, "image_size", size)
    monkeypatch.setattr("triptych.data.media._decode", None)
    groups = [group(f"g{n}", images=(("a.png", "b.png")[n % 2],)) for n in range(6)]
    assert len(check_before_training(tiny.encoder, rows_of(*groups, root=tiny.root), 4096)) == 6
    assert sorted(read) == ["a.png", "b.png"]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_of_a_picture_is_that_of_the_upright_one(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / "photo.jpg", exif=exif)
    assert image_size("photo.jpg", tmp_path) == load_image("photo.jpg", tmp_path).size
    data = (tmp_path / "photo.jpg").read_bytes()
    assert image_size(data, tmp_path) == image_size("photo.jpg", tmp_path)
