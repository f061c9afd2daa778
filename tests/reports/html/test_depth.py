"""The picture over the depth: what it draws is where the numbers are, and what fails is marked."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.made_reports import comparison, layer, model

from bninspect.inspection.description import distribution
from bninspect.records import Counterpart, Distribution, LayerReport, LayerStatus
from bninspect.reports.html import depth
from bninspect.reports.html.svg import BAD, PLAIN

LEFT, RIGHT = 58, 412


def with_numbers(made: LayerReport, variance: list[float], slopes: list[float]) -> LayerReport:
    stored = distribution(np.array(variance), logarithmic=True)
    low, middle, high = min(slopes), sorted(slopes)[len(slopes) // 2], max(slopes)
    drawn = Distribution(low, (low, low, middle, high, high), high, 0, ())
    return replace(made, parameters={"moving_variance": stored}, slopes=drawn)


def marks(svg: str, colour: str) -> list[tuple[float, float]]:
    """Return the middles of all blocks of a colour, panel by panel."""
    found = []
    for path in re.findall(rf'<path d="([^"]*)" fill="{colour}" class', svg):
        for block in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)V([\d.]+)h-", path):
            x, y, width, bottom = map(float, block)
            found.append((x + width / 2, (y + bottom) / 2))
    return found


def test_each_layer_stands_at_its_depth_and_its_numbers() -> None:
    layers = [with_numbers(layer(f"bn{n}", 0.1), [10.0**-n], [10.0**n]) for n in range(3)]
    svg = depth.picture(model("m", *layers), "error")
    assert svg is not None
    found = marks(svg, PLAIN)
    variances, slopes, errors = found[:3], found[3:6], found[6:]
    for panel in (variances, slopes, errors):
        places = [LEFT + (n + 0.5) / 3 * (RIGHT - LEFT) for n in range(3)]
        assert [x for x, _ in panel] == pytest.approx(places, abs=0.2)
    assert variances[1][1] - variances[0][1] == pytest.approx(variances[2][1] - variances[1][1], abs=0.3)
    assert variances[0][1] < variances[2][1]
    assert slopes[0][1] > slopes[2][1]
    assert len({y for _, y in errors}) == 1
    assert "▼" not in svg


def test_what_is_beyond_its_limit_is_above_the_line_and_its_place_marked() -> None:
    layers = [layer("first", 0.5), layer("second", 5e4), layer("third", 0.9)]
    svg = depth.picture(model("m", *layers), "error")
    assert svg is not None
    ((bad_x, bad_y),) = marks(svg, BAD)
    levels = [float(y) for y in re.findall(r'<line x1="58" y1="([\d.]+)" x2="412" y2="\1" [^>]*dasharray', svg)]
    assert len(levels) == 1
    assert bad_y < levels[0] < min(y for _, y in marks(svg, PLAIN))
    assert bad_x == pytest.approx((LEFT + RIGHT) / 2, abs=0.2)
    assert "▼ second" in svg
    assert "marked: second" in svg


def test_what_only_follows_from_an_earlier_layer_is_not_marked() -> None:
    wrong = (comparison(50.0, "output"),)
    first = Counterpart(LayerStatus.MISMATCH, LayerStatus.VERIFIED, "folded", comparisons=wrong)
    later = replace(first, inherited="first")
    status = LayerStatus.MISMATCH
    layers = [layer("first", status=status, counterpart=first), layer("later", status=status, counterpart=later)]
    svg = depth.picture(model("m", *layers), "error")
    assert svg is not None
    assert "▼ first" in svg
    assert "marked: first<" in svg
    assert "diamonds: in the export" in svg


def test_a_value_that_is_not_finite_takes_the_whole_height() -> None:
    svg = depth.picture(model("m", layer("bn", None)), "error")
    assert svg is not None
    assert re.search(rf'<path d="M[^"]*" fill="{BAD}" fill-opacity="0.55"', svg)


def test_thousands_of_layers_share_places() -> None:
    svg = depth.picture(model("m", *(with_numbers(layer(f"bn{n}"), [1.0], [2.0]) for n in range(5000))), "error")
    assert svg is not None
    assert len(svg) < 40_000
    assert "5,000 layers from the input to the output" in svg


def test_a_report_without_numbers_has_no_picture() -> None:
    assert depth.picture(model("m", layer(comparisons=(), status=None)), "error") is None
