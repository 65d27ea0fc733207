"""Preference pairs from files to log-probabilities."""

import json
from pathlib import Path

import pytest
import torch

from triptych.data.rows import write_groups
from triptych.engine.families import backbone_of, encode_images
from triptych.engine.pairs import PairRow, completions_of, mismatched, read_pairs, score_completions
from triptych.engine.paths import completion_paths
from triptych.engine.scoring import score
from triptych.engine.trie import pack
from triptych.errors import DataError, TriptychError
from triptych.group import Completion, Group, Pair, text_message


def group(name, texts, pairs, picture=""):
    prompt = [text_message("user", *([None] if picture else []), f"{name}: how many?")]
    completions = [Completion(text) for text in texts]
    return Group(name, prompt, [picture] if picture else [], completions=completions, pairs=[Pair(*p) for p in pairs])


def write(path, groups):
    path.parent.mkdir(exist_ok=True)
    write_groups(path, groups)
    return str(path)


def test_every_pair_is_a_row_and_groups_without_pairs_are_none(tmp_path):
    groups = [group("a", ["1", "2", "3"], [(0, 1), (0, 2)]), group("b", ["1"], []), group("c", ["1", "2"], [(1, 0)])]
    rows = read_pairs([write(tmp_path / "pairs.jsonl", groups)], "")
    assert [(row.group.id, row.pair.chosen, row.pair.rejected) for row in rows] == [
        ("a", 0, 1),
        ("a", 0, 2),
        ("c", 1, 0),
    ]


def test_one_id_in_two_files_stands_for_two_groups(tmp_path):
    first = write(tmp_path / "a" / "pairs.jsonl", [group("same", ["1", "2"], [(0, 1)])])
    second = write(tmp_path / "b" / "pairs.jsonl", [group("same", ["3", "4"], [(1, 0)])])
    rows = read_pairs([first, second], "")
    assert rows[0].name != rows[1].name
    texts = [group.completions[indices[0]].text for group, _, indices in completions_of(rows).values()]
    assert texts == ["1", "4"]


def test_media_lie_where_the_user_says_or_where_the_pairs_were_made_or_beside_the_file(tmp_path):
    file = write(tmp_path / "pairs.jsonl", [group("a", ["1", "2"], [(0, 1)])])
    assert read_pairs([file], "")[0].root == tmp_path
    assert read_pairs([str(tmp_path)], "")[0].root == tmp_path
    (tmp_path / "done.json").write_text(json.dumps({"result": {"root": "photos"}}))
    assert read_pairs([file], "")[0].root == Path("photos")
    assert read_pairs([file], "mine")[0].root == Path("mine")


@pytest.mark.parametrize(
    ("texts", "kind"), [(["1", "1"], "pair_same_text"), (["", "1"], "empty_chosen"), (["1", ""], "empty_rejected")]
)
def test_a_pair_that_prefers_nothing_is_refused_with_its_row(tmp_path, texts, kind):
    with pytest.raises(DataError) as caught:
        read_pairs([write(tmp_path / "pairs.jsonl", [group("the-row", texts, [(0, 1)])])], "")
    assert (caught.value.kind, caught.value.row) == (kind, "the-row")


def test_no_pair_at_all_is_refused(tmp_path):
    with pytest.raises(DataError, match="no preference pair"):
        read_pairs([write(tmp_path / "pairs.jsonl", [group("a", ["1"], [])])], "")


def test_each_completion_is_wanted_once_and_rejected_ones_only_where_they_are_compared(tmp_path):
    groups = [group("a", ["1", "2", "3", "4"], [(0, 1), (0, 3), (3, 1)])]
    rows = read_pairs([write(tmp_path / "pairs.jsonl", groups)], "")
    assert [indices for _, _, indices in completions_of(rows).values()] == [[0, 1, 3]]
    assert [indices for _, _, indices in completions_of(rows, rejected=False).values()] == [[0, 3]]


def test_scores_belong_to_their_completions_where_groups_share_a_picture(tiny_of, tmp_path):
    """The groups with the same picture become neighbours in the batch; each is scored by itself for comparison."""
    tiny = tiny_of("mm1")
    groups = [
        group("a", ["Five.", "There are three circles", "Five circles."], [(0, 1), (2, 1)], "a.png"),
        group("b", ["1", "1 2 3"], [(1, 0)], "b.png"),
        group("c", ["A green square.", "Five."], [(0, 1)], "a.png"),
        group("d", ["Yes", "No"], [(0, 1)]),
    ]
    rows = read_pairs([write(tmp_path / "pairs.jsonl", groups)], str(tiny.root))
    wanted = completions_of(rows)
    backbone = backbone_of(tiny.model)
    with torch.no_grad():
        scored = score_completions(tiny.model, tiny.encoder, wanted, row_tokens=512)
        for name, (item, root, indices) in wanted.items():
            prompt = tiny.encoder.prompt(item, root)
            for index in indices:
                text = item.completions[index].text
                [path] = completion_paths(tiny.encoder, backbone, prompt, [item.completions[index]])
                alone = score(tiny.model, tiny.encoder.family, pack([[path]], 512)).logps[0]
                torch.testing.assert_close(scored.logps[name, index], alone, rtol=2e-6, atol=1e-5)
                assert scored.num_targets[name, index] == len(tiny.encoder.completion(text))
    assert len(scored.logps) == 9
    assert len(scored.batch.image_order) == 2, "one prompt's picture for both groups about it"


def rows_of(tiny, pairs, texts=("Five.", "There are three circles", "No."), picture="a.png"):
    item = group("a", list(texts), pairs, picture)
    return [PairRow(item, pair, tiny.root, "0:a") for pair in item.pairs]


def test_a_completion_without_a_token_to_predict_is_named_not_scored_with_loss_zero(tiny_of):
    """Sampling was cut off before the first token, so that not even an end-of-turn token belongs to the text."""
    tiny = tiny_of("mm1")
    rows = rows_of(tiny, [(0, 1)])
    rows[0].group.completions[1] = Completion("", truncated=True)
    with pytest.raises(DataError, match="Completion 1 has no token to predict") as caught:
        score_completions(tiny.model, tiny.encoder, completions_of(rows), row_tokens=512)
    assert (caught.value.kind, caught.value.row) == ("no_targets", "a")


def test_a_completion_too_long_for_a_row_is_named_with_its_length(tiny_of):
    tiny = tiny_of("mm1")
    rows = rows_of(tiny, [(0, 1)])
    prompt = tiny.encoder.prompt(rows[0].group, tiny.root).input_ids
    length = len(prompt) + len(tiny.encoder.completion("There are three circles"))
    with pytest.raises(DataError, match=f"completion 1 takes {length} tokens, but a row holds {length - 1}") as caught:
        score_completions(tiny.model, tiny.encoder, completions_of(rows), row_tokens=length - 1)
    assert (caught.value.kind, caught.value.row) == ("too_long", "a")


def test_mismatched_rows_have_the_completions_of_one_prompt_under_the_next():
    groups = [
        group("a", ["1", "2", "3"], [(0, 1), (2, 1)], "a.png"),
        group("b", ["4", "5"], [(1, 0)]),
        group("c", ["6", "7"], [(0, 1)]),
    ]
    rows = [PairRow(item, pair, Path(item.id), f"0:{item.id}") for item in groups for pair in item.pairs]
    others = mismatched(rows)
    told = [
        (row.group.id, row.root.name, *(row.group.completions[n].text for n in (row.pair.chosen, row.pair.rejected)))
        for row in others
    ]
    assert told == [("b", "b", "1", "2"), ("b", "b", "3", "2"), ("c", "c", "5", "4"), ("a", "a", "6", "7")]
    assert others[3].group.images == ["a.png"]
    assert len({row.name for row in others}) == 4
    assert [row.group.completions[0].text for row in rows] == ["1", "1", "4", "6"], "the rows themselves stay"


def test_one_prompt_alone_has_no_mismatch():
    item = group("a", ["1", "2", "3"], [(0, 1), (0, 2)])
    with pytest.raises(TriptychError, match="about one prompt"):
        mismatched([PairRow(item, pair, Path(), "0:a") for pair in item.pairs])


def test_features_that_are_known_are_used(tiny_of):
    tiny = tiny_of("mm1")
    wanted = completions_of(rows_of(tiny, [(0, 1), (0, 2)]))

    class Source:
        def features(self, media):
            inputs, sizes = [item.inputs for item in media], [item.num_tokens for item in media]
            return encode_images(tiny.model, tiny.encoder.family, inputs, sizes)

    with torch.no_grad():
        plain = score_completions(tiny.model, tiny.encoder, wanted, 512)
        known = score_completions(tiny.model, tiny.encoder, wanted, 512, Source())
    assert known.packed.features is not None
    assert all(torch.equal(plain.logps[place], known.logps[place]) for place in plain.logps)
