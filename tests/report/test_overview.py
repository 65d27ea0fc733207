import json
import struct

from tests.report.report_run import write_run
from tests.report.video_run import finish, write_video_run
from triptych.report.curves import read_log
from triptych.report.examples import pair_stages
from triptych.report.items import differences_to_base
from triptych.report.overview import count_parameters, panels, stage_times, summary_sentences, total_time, versions
from triptych.report.pictures import Pictures
from triptych.report.reading import Stage, read_run
from triptych.report.results import measured


def _parts(folder):
    run = read_run(folder)
    logs = {name: log for name, stage in run.stages.items() if (log := read_log(run, stage)).columns}
    return run, logs, pair_stages(run, run.stages.values(), Pictures()), measured(run)


def _summary(folder):
    parts = _parts(folder)
    return summary_sentences(*parts, differences_to_base(parts[0], parts[-1]))


def test_the_summary_tells_what_was_done_and_what_changed(tmp_path):
    text = " ".join(_summary(write_run(tmp_path / "run")))
    assert "trained in 5 stages (pretrain, sft, mpo, sft_on_chosen, dpo)" in text
    assert "9 min 23 s all told" in text  # the sum of the fake times plus four seconds
    assert "chain-of-thought accuracy rose from 64.3 % to 73.8 %" in text
    assert "the share of descriptions with a hallucination fell from 27.0 % to 19.6 %" in text
    assert "Direct accuracy (74.9 % to 73.7 %) did not change by more than the uncertainty." in text
    assert "Not" not in text


def test_the_summary_names_what_is_missing(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "dpo" / "done.json").unlink()
    for name in ("world", "evaluate_dpo"):
        (folder / name).rename(tmp_path / name)
    summary = json.loads((folder / "summary.json").read_text())
    del summary["stages"]["evaluate_dpo"]
    (folder / "summary.json").write_text(json.dumps(summary))
    text = " ".join(_summary(folder))
    assert "Not finished: dpo." in text
    assert "Removed since: world." in text
    assert "Not run yet: evaluate_dpo." in text


def test_an_empty_run_says_so(tmp_path):
    parts = _parts(tmp_path)
    assert summary_sentences(*parts, {}) == ["Nothing has run here yet."]
    assert [(panel.figure, panel.label) for panel in panels(*parts)] == [
        ("–", "not run yet"),
        ("–", "no pairs yet"),
        ("–", "not compared yet"),
    ]
    assert total_time(parts[0]) == ""


def test_the_panels_hold_the_headline_figures(tmp_path):
    build, align, measure = panels(*_parts(write_run(tmp_path / "run")))
    assert (build.figure, build.label) == ("1.2 M", "parameters")  # 9000 x 128 = 1,152,000
    assert build.lines == ["pretrain: 250 steps", "sft: 600 steps"]
    assert align.lines[0] == "mpo: 280 steps"
    assert (measure.figure, measure.label) == ("+9.5", "points chain-of-thought accuracy, sft to mpo")


def test_times_are_relative_to_the_longest_stage(tmp_path):
    times = {item.name: item for item in stage_times(read_run(write_run(tmp_path / "run")))}
    assert times["sft"].percent == 100
    assert round(times["pretrain"].percent, 1) == 41.1  # 54 of 131.5 seconds
    assert times["pretrain"].time == "54 s"


def test_without_a_summary_the_times_of_the_stages_add_up(tmp_path):
    for name, seconds in (("sft", 40), ("mpo", 50)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "done.json").write_text(json.dumps({"seconds": seconds, "result": {}}))
    assert total_time(read_run(tmp_path)) == "1 min 30 s"


def test_parameters_are_counted_from_the_header_of_every_shard(tmp_path):
    (tmp_path / "model").mkdir()
    for name, shape in (("one", [2, 3]), ("two", [5])):
        header = {"__metadata__": {"format": "pt"}, "weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}
        encoded = json.dumps(header).encode()
        (tmp_path / "model" / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(encoded)) + encoded)
    (tmp_path / "model" / "broken.safetensors").write_bytes(b"\xff" * 9)
    assert count_parameters(Stage("sft", tmp_path)) == 11
    assert count_parameters(None) == 0


def test_versions_of_the_run_count_more_than_those_of_today(tmp_path):
    run = read_run(tmp_path)
    assert versions(run)[0]["torch"]
    run.summary["versions"] = {"torch": "2.9"}
    assert versions(run) == ({"torch": "2.9"}, "of the run")


def test_alignment_from_feedback_is_told_in_the_header(tmp_path):
    folder = write_video_run(tmp_path / "run")
    _, align, measure = panels(*_parts(folder))
    assert (align.figure, align.label) == ("4", "preference pairs")
    assert align.lines == [
        "reward: 50 % right on pairs held out",
        "ppo: 3 steps, score 0.30 → 0.90",
        "ppo_oracle: 3 steps, score 0.50 → 1.50",
    ]
    assert (measure.figure, measure.label) == ("+1.25", "correctness by the oracle, sft to ppo")
    assert measure.lines[-1] == "Length, qa 4.2 → 4.8 tokens"
    for model, length in (("sft", 4.0), ("ppo", 5.0)):
        finish(folder, f"evaluate_{model}", {"exact_qa": 0.5, "length_qa": {"value": length, "ci": [length] * 2}}, {})
    assert "From sft to ppo, answer length rose from 4.0 to 5.0 tokens." in _summary(folder)
