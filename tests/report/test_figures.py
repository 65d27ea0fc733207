import re
from xml.etree import ElementTree

import numpy as np
import pytest

from triptych.report.figures import Dot, Series, dot_figure, downsample, line_figure, smooth


def test_a_short_curve_is_not_downsampled():
    steps, values = downsample([1, 2, 3], [5.0, 6.0, 7.0], limit=3)
    assert steps.tolist() == [1, 2, 3]
    assert values.tolist() == [5, 6, 7]


def test_downsampling_averages_neighbours_and_passes_over_nothing():
    steps, values = downsample([1, 2, 3, 4], [0.0, 2.0, 10.0, 30.0], limit=2)
    assert steps.tolist() == [1.5, 3.5]
    assert values.tolist() == [1.0, 20.0]


def test_downsampling_leaves_out_what_is_not_finite():
    _, values = downsample([1, 2, 3, 4], [float("nan"), 2.0, float("nan"), float("inf")], limit=2)
    assert values[0] == 2.0
    assert np.isnan(values[1])


def test_a_downsampled_curve_keeps_its_mean_when_the_parts_are_equal():
    values = np.sin(np.arange(4000.0))
    _, small = downsample(range(4000), values, limit=400)
    assert len(small) == 400
    assert small.mean() == pytest.approx(values.mean(), abs=1e-12)


def test_smoothing_leaves_a_constant_alone_and_averages_a_window():
    assert smooth(np.full(50, 3.0)) == pytest.approx(np.full(50, 3.0))
    spike = np.zeros(41)  # the window reaches over two neighbours on each side
    spike[20] = 5.0
    assert smooth(spike)[17:24].tolist() == [0, 1, 1, 1, 1, 1, 0]


def _figure(**settings):
    series = [Series("chosen", range(1000), np.arange(1000) / 7), Series("$<b>$", range(3), [0.1, 0.2, 0.3])]
    return line_figure("test", series, description='loss, "<b>" 0.00123', **settings)


def test_a_figure_is_well_formed_and_describes_itself():
    root = ElementTree.fromstring(_figure())
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == 'loss, "<b>" 0.00123'
    assert "$<b>$" in [text.text for text in root.iter("text")]


def test_a_figure_is_the_same_every_time():
    assert _figure() == _figure()


def test_a_figure_takes_its_colours_and_font_from_the_page():
    svg = _figure(reference=0.0)
    assert "var(--series-1)" in svg and "var(--series-2)" in svg and "var(--line)" in svg
    assert not re.search(r"(fill|stroke): #", svg)
    assert "font-family" not in svg and "<style" not in svg


def test_ids_are_unique_in_the_page_and_every_reference_is_defined():
    first, second = _figure(), dot_figure("other <name>", [Dot("sft", 1, 0, 2)], description="")
    ids = re.findall(r'id="([^"]*)"', first + second)
    assert ids and len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[\w-]+", name) for name in ids)
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', first + second)) <= set(ids)


def test_long_curves_stay_small():
    svg = line_figure(
        "long", [Series("loss", range(200_000), np.random.default_rng(0).random(200_000))], description=""
    )
    assert len(svg) < 30_000


def test_tick_labels_keep_their_digits():
    svg = line_figure("rate", [Series("rate", [0, 1], [0.0, 0.0003])], description="")
    assert ">0.0003<" in svg


def test_shares_are_labelled_in_per_cent():
    assert ">50 %<" in line_figure("share", [Series("mfu", [0, 1], [0.0, 1.0])], description="", percent=True)


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [2.0, 2.0], [float("nan"), float("nan")], [-1.0, 1e9]])
def test_degenerate_curves_are_drawn(values):
    ElementTree.fromstring(line_figure("odd", [Series("x", range(len(values)), values)], description="", log=True))


def test_a_loss_over_decades_is_drawn_on_a_logarithmic_axis():
    settings = {"description": "", "smoothed": False}
    wide = line_figure("wide", [Series("loss", [0, 1, 2], [10.0, 1.0, 0.1])], log=True, **settings)
    heights = [float(y) for y in re.findall(r"(?:M|L) \S+ (\S+)\n", wide[wide.index("--series-1") - 200 :])][:3]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)


def test_a_dot_plot_has_a_row_for_each_model():
    svg = dot_figure("dots", [Dot("sft", 1, 0.5, 1.5), Dot("mpo", 2, 1.5, 2.5, True)], description="", reference=1)
    assert ">sft<" in svg and ">mpo<" in svg
    assert svg.count("<use") == 2
