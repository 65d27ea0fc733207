import io

import pytest

from triptych.engine.progress import Progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    """rich looks at more than the stream; CI systems set some of these."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_log_file_gets_a_line_every_ten_seconds_and_one_at_the_end():
    stream, clock = io.StringIO(), Clock()
    with Progress("sft", 10, stream=stream, clock=clock) as bar:
        for _ in range(10):
            clock.now += 4
            bar.advance(1, loss=0.123456, tokens_per_second=12345.6)
    assert stream.getvalue().splitlines() == [
        "sft: 3 of 10 steps, 0:00:12 elapsed, 0:00:28 left, loss 0.1235, tokens/s 12,346",
        "sft: 6 of 10 steps, 0:00:24 elapsed, 0:00:16 left, loss 0.1235, tokens/s 12,346",
        "sft: 9 of 10 steps, 0:00:36 elapsed, 0:00:04 left, loss 0.1235, tokens/s 12,346",
        "sft: 10 of 10 steps, 0:00:40 elapsed, loss 0.1235, tokens/s 12,346",
    ]


def test_steps_of_an_earlier_run_count_as_done_but_not_for_the_speed():
    stream, clock = io.StringIO(), Clock()
    with Progress("pairs", 1100, done=1000, unit="row", stream=stream, clock=clock) as bar:
        clock.now = 10
        bar.advance(50)
    assert stream.getvalue().splitlines() == [
        "pairs: 1,000 of 1,100 rows, 0:00:00 elapsed",
        "pairs: 1,050 of 1,100 rows, 0:00:10 elapsed, 0:00:10 left",
    ]


def test_a_job_that_counts_for_itself_is_followed():
    stream, clock = io.StringIO(), Clock()
    with Progress("world", 0, unit="sample", stream=stream, clock=clock) as bar:
        clock.now = 10
        bar.show(128, 256)
        bar.show(256, 256)
    assert stream.getvalue().splitlines() == [
        "world: 128 of 256 samples, 0:00:10 elapsed, 0:00:10 left",
        "world: 256 of 256 samples, 0:00:10 elapsed",
    ]


def test_a_terminal_gets_a_bar_with_figures():
    stream = Terminal()
    with Progress("sft [1/2]", 4, stream=stream) as bar:
        bar.advance(4, loss=0.5, note="[x]")
    shown = stream.getvalue()
    assert "sft [1/2]" in shown
    assert "4/4" in shown
    assert "loss 0.5, note [x]" in shown


def test_an_error_inside_passes_and_what_was_done_is_shown():
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress("sft", 5, stream=stream) as bar:
        bar.advance(2)
        raise KeyboardInterrupt
    assert stream.getvalue().startswith("sft: 2 of 5 steps")


def test_standard_error_is_where_progress_goes(capsys):
    with Progress("sft", 1) as bar:
        bar.advance()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "sft: 1 of 1 steps" in captured.err


def test_of_several_ranks_only_the_first_shows_progress(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    with Progress("sft", total=2) as bar:
        bar.advance(2)
    assert bar.done == 2
    assert capsys.readouterr().err == ""
