import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from tests.report.report_run import HOSTILE, METRICS, append, write_run, write_study
from triptych.errors import DataError
from triptych.report.build import build_report

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that every tag is closed in order, and collects what tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.headings, self.text = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", "".join(self.text))


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("report") / "quick & start")
    write_study(folder)
    return folder, build_report(folder).read_text(encoding="utf-8")


@pytest.fixture
def page(complete):
    return Page(complete[1])


def test_the_page_is_written_whole_and_is_the_same_every_time(complete):
    folder, text = complete
    assert build_report(folder) == folder / "report.html"
    assert (folder / "report.html").read_text(encoding="utf-8") == text
    assert not list(folder.glob(".report*"))


def test_tags_are_balanced_headings_in_order_and_ids_unique(page):
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    ids = [attributes["id"] for _, attributes in page.attributes if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing(complete, page):
    assert "script" not in page.tags and "img" not in page.tags and "iframe" not in page.tags
    for _, attributes in page.attributes:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert re.match(r"#|data:", attributes.get(name) or "#")
    assert not re.search(r"@import|url\((?!#)|https?://", complete[1])


def test_references_point_to_what_exists(page):
    ids = {attributes["id"] for _, attributes in page.attributes if "id" in attributes}
    targets = {
        attributes["href"][1:] for _, attributes in page.attributes if attributes.get("href", "").startswith("#")
    }
    assert targets <= ids


def test_the_page_reads_without_pictures(page):
    drawings = [attributes for tag, attributes in page.attributes if tag == "svg"]
    assert all(item.get("aria-label") or item.get("aria-hidden") for item in drawings)
    assert page.tags.count("table") == page.tags.count("caption")
    assert all("scope" in attributes for tag, attributes in page.attributes if tag == "th")


def test_the_story_is_told_in_order(complete, page):
    sections = re.findall(r'<h2 id="([a-z]+)"', complete[1])
    assert sections == ["built", "results", "data", "training", "pairs", "samples", "details"]
    for words in (
        "quick & start",
        "9 min 23 s in all",
        "triptych run recipe.yaml --out '../quick & start-again'",
        "73.8 71.9 – 75.7 +9.5 better",
        "Over 3 seeds",
        "What pretrain drew",
        "This is a blick.",
        "no answer",
        "Rejected continues the first",
        "Mended",
        "no_answer_in_row: 3",
        "Versions",
    ):
        assert words in page.words, words


def test_every_model_and_every_measured_value_is_in_the_table(page):
    for values in METRICS.values():
        for value in values[:6]:
            assert f"{100 * value:.1f}" in page.words


def test_what_a_model_wrote_is_shown_and_never_run(complete, page):
    assert HOSTILE in page.words
    assert "<script" not in complete[1]


def test_text_from_any_file_is_escaped(tmp_path):
    folder = write_run(tmp_path / "run", curves=False)
    texts = {
        name: f'"><script>{name}</script>'
        for name in ("stage", "model", "row", "kind", "config", "task", "target", "pair")
    }
    append(folder / "recipe.yaml", f"- {{name: '{texts['stage'].replace('/', '')}', verb: sft}}\n")
    (folder / "summary.json").write_text(json.dumps({"metrics": {texts["model"]: {"direct": 0.5}}}))
    row = {"id": texts["row"], "prompt": [{"role": "document", "content": texts["row"]}], "answer": texts["row"]}
    append(folder / "world" / "hostile.jsonl", json.dumps(row) + "\n")
    append(folder / "pairs_dropout" / "quarantine.jsonl", json.dumps({"kind": texts["kind"]}) + "\n")
    append(folder / "sft" / "config.yaml", f"name: '{texts['config']}'\n")
    said = texts["task"]
    sample = {"id": said, "task": said, "prediction": said, "verdict": said, "prompt": said}
    sample["claims"] = [{"text": "other words than " + said, "right": False}]
    for model in ("sft", "mpo"):
        append(folder / f"evaluate_{model}" / "samples-cot.jsonl", json.dumps(sample) + "\n")
    study = {"metrics": {}, "targets": [{"name": texts["target"], "target": texts["target"]}]}
    (folder / "study.json").write_text(json.dumps(study))
    pair = {"chosen": 0, "rejected": 1, "source": texts["pair"]}
    row = {"id": texts["pair"], "prompt": [{"role": "user", "content": texts["pair"]}]}
    row |= {
        "completions": [{"text": texts["pair"]}, {"text": "no", "verdict": texts["pair"]}],
        "pairs": [pair, {"a": 1}],
    }
    append(folder / "pairs_correctness" / "pairs.jsonl", json.dumps(row) + "\n")  # refused, and named in the problems
    row["pairs"].pop()
    append(folder / "pairs_dropout" / "pairs.jsonl", json.dumps(row) + "\n")
    text = build_report(folder).read_text(encoding="utf-8")
    assert "<script" not in text
    words = Page(text).words
    for name in texts:
        assert f"<script>{name}" in words, name


def test_an_empty_run_gives_a_page_that_says_what_is_missing(tmp_path):
    words = Page(build_report(tmp_path).read_text(encoding="utf-8")).words
    assert "Nothing has run here yet." in words
    assert words.count("Not run yet:") == 5


@pytest.mark.parametrize("missing", [["world", "evaluate_mpo"], ["evaluate_sft", "pairs_dropout", "mpo"]])
def test_any_part_may_be_missing(tmp_path, missing):
    folder = write_run(tmp_path / "run", curves=False)
    (folder / "summary.json").unlink()
    for name in missing:
        shutil.rmtree(folder / name)
    page = Page(build_report(folder).read_text(encoding="utf-8"))
    assert f"Not run yet: {' and '.join(missing).replace(' and ', ', ', len(missing) - 2)}." in page.words


def test_a_run_that_was_stopped_in_the_middle_of_a_line_gives_a_page(tmp_path):
    folder = write_run(tmp_path / "run", curves=False)
    for name in ("mpo/metrics.jsonl", "pairs_dropout/pairs.jsonl", "evaluate_mpo/samples-cot.jsonl"):
        append(folder / name, '{"step": 281, "id": "x')
        (folder / name).with_name("done.json").unlink()
    page = Page(build_report(folder).read_text(encoding="utf-8"))
    assert "Not finished: pairs_dropout, mpo and evaluate_mpo." in page.words
    assert "What could not be read" not in page.words


def test_damage_is_told_on_the_page(tmp_path):
    folder = write_run(tmp_path / "run", curves=False)
    (folder / "mpo" / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\nbroken\n{"step": 3}\n')
    page = Page(build_report(folder).read_text(encoding="utf-8"))
    assert "What could not be read mpo/metrics.jsonl, line 2: " in page.words


def test_a_large_run_gives_a_small_page(tmp_path):
    folder = write_run(tmp_path / "run", curves=False)
    rows = [json.dumps({"step": step, "loss": 1 / (step + 1), "mfu": 0.3 + step % 7 / 100}) for step in range(9_000)]
    (folder / "sft" / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    sample = json.dumps({"id": "x", "task": "cot", "prompt": "y " * 20_000, "prediction": "z " * 20_000}) + "\n"
    for model in ("sft", "mpo"):
        append(folder / f"evaluate_{model}" / "samples-cot.jsonl", sample)
    assert build_report(folder).stat().st_size < 700_000


def test_a_run_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(DataError, match="run_missing"):
        build_report(tmp_path / "none")
