import re
from xml.etree import ElementTree

import pytest

from triptych.report.bars import Bin, bar_figure, calibration_figure


def _bars(parts, **settings):
    return bar_figure("test", parts, (0.0, 1.0), 2, x_label="confidence", description='a "b"', **settings)


def _spans(svg, colour):
    """Return (top, bottom) of the bars of a colour, in pixels of the drawing, counted from above."""
    paths = re.findall(rf'<path d="([^"]*)"[^>]*fill: var\(--{colour}\)', svg)
    values = [[float(value) for value in re.findall(r"[ML] \S+ (\S+)", path)] for path in paths]
    return [(min(item), max(item)) for item in values]


def test_bars_are_as_high_as_their_counts_and_values_beyond_the_axis_count_at_its_end():
    low, high = _spans(_bars({"right": [0.1, 0.2, -5.0, 0.9]}), "series-1")
    assert (low[1] - low[0]) / (high[1] - high[0]) == pytest.approx(3, rel=0.01)


def test_parts_lie_one_above_the_other_and_are_named():
    svg = _bars({"right": [0.1, 0.2], "wrong": [0.1]})
    assert "right" in svg and "wrong" in svg
    (below, *_), (above, *_) = _spans(svg, "series-1"), _spans(svg, "series-2")
    assert above[1] == below[0]
    assert (below[1] - below[0]) / (above[1] - above[0]) == pytest.approx(2, rel=0.01)
    assert "right" not in _bars({"right": [0.1]})  # a single part needs no name


def test_drawings_are_well_formed_describe_themselves_and_are_the_same_every_time():
    bins = [Bin(4, 0.6, 0.5, 0.2, 0.8), Bin(9, 0.9, 1.0, 0.7, 1.0)]
    for draw in (
        lambda: _bars({"a": [0.5]}, reference=0.0),
        lambda: _bars({}),
        lambda: calibration_figure("test", bins, description='a "b"'),
    ):
        svg = draw()
        assert ElementTree.fromstring(svg).attrib["aria-label"] == 'a "b"'
        assert draw() == svg
        assert "#0" not in svg  # all colours are the page's


def test_calibration_is_drawn_in_per_cent_with_a_dot_for_each_bin():
    bins = [Bin(4, 0.6, 0.5, 0.2, 0.8), Bin(16, 0.9, 1.0, 0.7, 1.0)]
    svg = calibration_figure("test", bins, description="")
    assert "60 %" in svg and "100 %" in svg
    assert svg.count("<use ") >= 2
