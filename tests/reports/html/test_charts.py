"""What is drawn is where the numbers are."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.arithmetic import channel_strips
from bninspect.inspection.description import distribution
from bninspect.reports.html import charts, scale
from bninspect.reports.html.svg import BAD, PLAIN

FINITE = st.floats(allow_nan=False, allow_infinity=False)
LEFT, RIGHT, TOP, BOTTOM = 58, 412, 10, 126
"""Edges of the frame in a chart of 420 x 150."""


def blocks(svg: str, colour: str) -> list[tuple[float, float, float, float]]:
    """Return left, right, top and bottom of each rectangle of a colour."""
    found = []
    for path in re.findall(rf'<path d="([^"]*)" fill="{colour}"', svg):
        for block in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)V([\d.]+)h-", path):
            x, y, width, bottom = map(float, block)
            found.append((x, x + width, y, bottom))
    return found


def lines(svg: str) -> list[tuple[float, float, float, float]]:
    pattern = r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" stroke="currentColor" stroke-width'
    return [tuple(map(float, found)) for found in re.findall(pattern, svg)]  # type: ignore[misc]


@given(st.lists(FINITE, min_size=1, max_size=9))
def test_a_linear_axis_keeps_order_and_ends(values: list[float]) -> None:
    axis = scale.linear(values)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    if max(values) / 2 > min(values) / 2:
        assert (places[0], places[-1]) == (0, 1)
    assert 1 <= len(axis.labels()) <= 6
    assert all(0 <= place <= 1 for place, _ in axis.labels())


@given(st.lists(st.floats(0, exclude_min=True, allow_infinity=False), min_size=1, max_size=9))
def test_a_logarithmic_axis_keeps_order_and_ratios(values: list[float]) -> None:
    axis = scale.logarithmic(values)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    assert 1 <= len(axis.labels()) <= 6
    for place, text in axis.labels():
        power = math.log10(float(text.replace(",", "")))
        assert power == pytest.approx(round(power), abs=0.01)
        assert 0 <= place <= 1


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0", "0.5", "1"]),
        (-3.98, 2.38, ["-2", "0", "2"]),
        (0.844, 1.2, ["0.9", "1", "1.1", "1.2"]),
        (99.9999, 100.0001, ["99.9999", "99.99995", "100", "100.00005", "100.0001"]),
        (-1e308, 1.7e308, ["-1e+308", "1.7e+308"]),
        (5.0, 5.0, ["5"]),
    ],
)
def test_ticks_are_round_numbers_with_the_digits_they_need(low: float, high: float, labels: list[str]) -> None:
    assert [text for _, text in scale.linear([low, high]).labels()] == labels


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(1e-36, 1.0, ["1e-36", "1e-27", "1e-18", "1e-09", "1"]), (0.5, 2, ["0.1", "1", "10"]), (3, 3, ["1", "10"])],
)
def test_ticks_of_a_logarithmic_axis_are_powers_of_ten(low: float, high: float, labels: list[str]) -> None:
    assert [text for _, text in scale.logarithmic([low, high]).labels()] == labels


def test_a_strip_shows_each_channel_at_its_value() -> None:
    values = np.array([0.0, 10.0, 5.0, np.nan])
    svg = charts.strip(distribution(values), "beta", 4)
    assert svg is not None
    width = (RIGHT - LEFT) / 4
    for index, (left, right, top, bottom) in enumerate(blocks(svg, PLAIN)):
        assert left == pytest.approx(LEFT + index * width, abs=1)
        assert right == pytest.approx(LEFT + (index + 1) * width, abs=1)
        height = TOP + (1 - values[index] / 10) * (BOTTOM - TOP)
        assert top - 2.5 <= height <= bottom + 2.5
    (missing,) = blocks(svg, BAD)
    assert missing == pytest.approx((LEFT + 3 * width, RIGHT, TOP, BOTTOM), abs=1)
    assert "lowest 0 in channel 0, highest 10 in channel 1; not finite in channel 3" in svg


def test_a_variance_is_drawn_by_its_logarithm_with_epsilon() -> None:
    values = np.array([1e-6, 1e-3, 1.0, 0.0, -2.0])
    found = distribution(values, logarithmic=True)
    svg = charts.strip(found, "moving_variance", 5, 1e-3)
    assert svg is not None
    heights = [(top + bottom) / 2 for _, _, top, bottom in blocks(svg, PLAIN)]
    assert heights[1] - heights[2] == pytest.approx(heights[0] - heights[1], abs=2)
    ((_, level, _, same),) = lines(svg)
    assert level == same == pytest.approx(heights[1], abs=1)
    assert [left for left, *_ in blocks(svg, BAD)] == pytest.approx([LEFT + 3 * 70.8, LEFT + 4 * 70.8], abs=1)
    assert "not above zero in channel 3, channel 4; the dashed line is epsilon, 0.001" in svg

    drawn = charts.histogram(found, "moving_variance", 1e-3)
    assert drawn is not None
    assert "between 1e-06 and 1 occur, without 2 that are not above zero" in drawn
    ((upright, _, _, _),) = lines(drawn)
    assert upright == pytest.approx((LEFT + RIGHT) / 2, abs=1)
    assert [left for left, *_ in blocks(drawn, PLAIN)] == pytest.approx(
        [LEFT, upright, RIGHT - (RIGHT - LEFT) / 4], abs=1
    )


def test_a_histogram_has_bars_as_high_as_its_counts() -> None:
    svg = charts.histogram(distribution(np.array([0.0] * 4 + [1.0] * 2 + [0.5])), "gamma")
    assert svg is not None
    heights = [bottom - top for *_, top, bottom in blocks(svg, PLAIN)]
    whole = BOTTOM - TOP
    assert heights == pytest.approx([whole, whole / 4, whole / 2], abs=0.2)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.02, 1.5, 1e6])
def test_what_is_beyond_the_bound_is_of_another_colour_and_above_the_line(ratio: float) -> None:
    svg = charts.ratios((0.25, ratio, None), "probed", 3)
    assert svg is not None
    ((_, level, _, _),) = lines(svg)
    tops = {colour: [top for *_, top, _ in blocks(svg, colour)] for colour in (BAD, PLAIN)}
    assert len(tops[PLAIN]) == (2 if ratio <= 1 else 1)
    assert len(tops[BAD]) == (1 if ratio <= 1 else 2)
    assert all(top >= level - 0.1 for top in tops[PLAIN])
    assert ratio <= 1 or max(tops[BAD]) < level
    assert f"largest {ratio:.4g} in channel 1; not finite in channel 2" in svg
    assert "the dashed line is the bound" in svg


@given(st.integers(1, 5000))
def test_steps_are_named_by_their_channels(channels: int) -> None:
    values = np.zeros(channels)
    values[channels // 2] = 1.0
    svg = charts.ratios(channel_strips.peaks(values), "probed", channels)
    found = re.search(r"largest 1 in channels? (\d+)(?: to (\d+))?", str(svg))
    assert found
    assert int(found[1]) <= channels // 2 <= int(found[2] or found[1]) < channels


def test_nothing_is_not_drawn() -> None:
    assert charts.ratios((), "probed", 0) is None
    assert charts.spark((), 0) is None
    assert charts.strip(distribution(np.zeros(0)), "beta", 0) is None
    assert charts.histogram(distribution(np.array([np.nan])), "beta") is None


@pytest.mark.parametrize(("channels", "bins"), [(1, 4), (8, 4), (16, 6), (60, 8), (512, 12), (5000, 24)])
def test_a_histogram_of_few_values_has_few_bins(channels: int, bins: int) -> None:
    svg = charts.histogram(distribution(np.linspace(0.0, 1.0, channels)), "gamma")
    assert svg is not None
    assert len(blocks(svg, PLAIN)) == (bins if channels > 1 else 1)
