"""Stored and measured statistics on the page: over the depth of the network, and by channel where they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bninspect.records import DataFit, Departure, LayerReport, ModelReport
from bninspect.reports import drift_words
from bninspect.reports.html import charts, svg
from bninspect.reports.html.element import Child, Markup, code, element, joined, table
from bninspect.reports.html.scale import Scale
from bninspect.reports.html.svg import PlotFrame
from bninspect.safe_text import printable

_DEPTH = PlotFrame(420, 150, left=58, right=8, top=10, bottom=10)
_CHANNELS = PlotFrame(420, 90, left=74, right=8, top=8, bottom=24)
_MOST_STRIPS = 12
_THIN = 0.16
"""Width of the line from the smallest to the largest channel, as a share of a layer's place."""

_Pair = tuple[LayerReport, DataFit]


def section(model: ModelReport) -> Markup | None:
    """Return what the data says of a model; None if it was run on none."""
    if model.data is None:
        return None
    pairs = [(layer, layer.fit) for layer in model.layers if layer.fit is not None]
    cause = drift_words.cause(model.data) if model.data.first else ()
    return joined(
        element("h3", "The data"),
        element("p", drift_words.data(model.data), "; ", drift_words.assumptions(model, model.data)),
        element("ul", [element("li", line) for line in cause], class_="findings") if model.data.first else None,
        [element("p", text, class_="note") for text in drift_words.reserves(model)],
        element("div", _over_depth(pairs), class_="charts") if pairs else None,
        _table(pairs) if pairs else None,
        [_strips(layer, fit) for layer, fit in pairs if fit.verdict == "differs"][:_MOST_STRIPS],
    )


def _over_depth(pairs: Sequence[_Pair]) -> Iterator[Markup]:
    """Return two pictures: where the means and the variances of the data are, as the file would have them at zero."""
    means, variances = [fit.mean for _, fit in pairs], [fit.variance for _, fit in pairs]
    tolerance = pairs[0][1].tolerance
    for name, parts in (
        ("mean of the data less the stored mean, in stored deviations", means),
        ("logarithm of the variance of the data over the stored variance", variances),
    ):
        yield element("figure", _depth(name, pairs, parts, tolerance), element("figcaption", _caption(name)))


def _caption(name: str) -> str:
    return (
        f"{name}: one place for each layer, from the first to the last; the box holds half of its channels, the line"
        " all of them. Dashed: no difference, and the tolerance on both sides."
    )


def _depth(name: str, pairs: Sequence[_Pair], parts: Sequence[Departure], tolerance: float) -> Markup:
    numbers = [value for part in parts for value in part.quantiles if value is not None]
    scale = _signed([*numbers, tolerance, -tolerance, 0.0], tolerance or 0.1)
    lines: list[svg.Block] = []
    boxes: list[svg.Block] = []
    wrong: list[svg.Block] = []
    step = 1 / len(parts)
    for place, ((_, fit), part) in enumerate(zip(pairs, parts, strict=True)):
        if None in part.quantiles or not part.quantiles:
            continue
        low, lower, _, upper, high = (scale.place(value or 0.0) for value in part.quantiles)
        lines.append(((place + 0.5 - _THIN / 2) * step, _THIN * step, low, high))
        box = ((place + 0.2) * step, 0.6 * step, lower, upper)
        (wrong if part.beyond or fit.verdict == "differs" else boxes).append(box)
    text = f"{name}, by layer: " + "; ".join(
        f"{printable(layer.name)} {drift_words.number(part.effect)} at most"
        for (layer, _), part in list(zip(pairs, parts, strict=True))[:6]
    )
    return svg.picture(
        text + (f" and {len(parts) - 6} more layers" if len(parts) > 6 else ""),
        _DEPTH,
        svg.blocks(lines, _DEPTH),
        svg.blocks(boxes, _DEPTH),
        svg.blocks(wrong, _DEPTH, bad=True),
        svg.left_axis(scale.labels(), _DEPTH),
        [svg.level(scale.place(value), _DEPTH) for value in (0.0, tolerance, -tolerance)],
    )


def _signed(values: Sequence[float], unit: float) -> Scale:
    """Return an axis on which small differences and large ones are seen, on both sides of zero: by their asinh."""
    low, high = (math.asinh(value / unit) for value in (min(values), max(values)))

    def place(value: float) -> float:
        return min(1.0, max(0.0, (math.asinh(value / unit) - low) / ((high - low) or 1.0)))

    ticks = sorted({min(values), 0.0, max(values)})
    return Scale(place, tuple(ticks))


def _table(pairs: Sequence[_Pair]) -> Markup:
    head = ("layer", "verdict", "mean off at most", "z", "log variance off at most", "z", "samples")
    rows: list[list[Child]] = [
        [
            code(layer.name),
            element("span", fit.verdict, class_=f"badge {layer.status.value if layer.status else ''}"),
            drift_words.number(fit.mean.effect),
            drift_words.number(fit.mean.z),
            drift_words.number(fit.variance.effect),
            drift_words.number(fit.variance.z),
            f"{fit.samples:,}",
        ]
        for layer, fit in pairs
    ]
    return table(head, rows, caption="Stored statistics and those of the data", class_="status")


def _strips(layer: LayerReport, fit: DataFit) -> Markup:
    """Return how far each channel of a layer is off."""
    return element(
        "details",
        element("summary", code(layer.name), f" channel by channel: {drift_words.figures(fit)}"),
        _strip("mean, in stored deviations", fit.mean, fit.tolerance, layer.channels),
        _strip("logarithm of the variance", fit.variance, fit.tolerance, layer.channels),
        class_="layer",
    )


def _strip(name: str, part: Departure, tolerance: float, channels: int) -> Markup | None:
    known = [value for value in part.effects if value is not None]
    if not known:
        return None
    scale = _signed([0.0, tolerance, *known], tolerance or 0.1)
    text = f"{name}: off along {channels:,} channels, {max(known):.3g} at most; the dashed line is the tolerance"
    return charts.along_channels(text, part.effects, tolerance, scale, channels, _CHANNELS)
