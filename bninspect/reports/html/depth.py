"""One picture of a model over its depth: what its layers hold, what they do to their input, and how far off they are.

Rounding stays small: an error is drawn on a logarithmic axis, as a mark below the limit. What is beyond the limit is
in another colour, on a tinted ground, and a band through all panels marks the place of its layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from bninspect.records import Distribution, LayerReport, ModelReport
from bninspect.reports import counts, words
from bninspect.reports.html import svg
from bninspect.reports.html.element import Markup
from bninspect.reports.html.scale import Scale, logarithmic
from bninspect.reports.html.svg import BAD, PlotFrame
from bninspect.safe_text import printable

_WIDTH, _LEFT, _RIGHT = 420, 58, 8
_PANEL, _TITLE, _TOP, _FOOT = 78, 20, 14, 18
_MOST_STEPS = 200
"""Places along the picture: layers share one where there are more of them."""
_WIDEST = 0.035
"""Share of the picture that the mark of a layer takes up at most."""
_LEAST_RATIO = 1e-3
_NOTHING = 1e-4
"""Share of epsilon below which a variance is drawn at the foot of its panel: it is nothing beside epsilon."""


@dataclass(frozen=True)
class _Panel:
    """One panel: its title, and what is drawn in it."""

    title: str
    draw: Callable[[PlotFrame], Iterator[Markup | None]]


@dataclass(frozen=True)
class _AxisStep:
    """The layers that share a place of the picture: mostly one."""

    layers: tuple[LayerReport, ...]
    left: float
    width: float


def picture(model: ModelReport, threshold: str) -> Markup | None:
    """Return the picture; None if the report holds no numbers of any layer."""
    steps = _steps(model.layers)
    panels = list(filter(None, (_variance(steps), _slopes(steps), _errors(steps))))
    if not panels:
        return None
    wrong = _first_wrong(model, threshold)
    whole = _TOP + len(panels) * (_TITLE + _PANEL) + _FOOT
    drawn: list[Markup | None] = [_places_of(wrong, steps, whole)]
    for index, panel in enumerate(panels):
        top = _TOP + index * (_TITLE + _PANEL) + _TITLE
        frame = PlotFrame(_WIDTH, whole, _LEFT, _RIGHT, top, whole - top - _PANEL)
        drawn += [svg.text(panel.title, _LEFT, top - 6, "start"), *panel.draw(frame), svg.ground(frame)]
    drawn += _depth_axis(len(model.layers), whole)
    text = f"{words.plural(len(model.layers), 'layer')} from the input to the output: "
    text += ", ".join(panel.title for panel in panels) + (f"; marked: {words.some(wrong)}" if wrong else "")
    return svg.picture(text, PlotFrame(_WIDTH, whole), filter(None, drawn))


def _first_wrong(model: ModelReport, threshold: str) -> list[LayerReport]:
    """Return the layers that fail by themselves; if there are none, those that fail because of another."""
    wrong = [layer for layer in model.layers if counts.layer_counts(layer, model, threshold)]
    return [layer for layer in wrong if not (layer.counterpart and layer.counterpart.inherited)] or wrong


def _steps(layers: Sequence[LayerReport]) -> list[_AxisStep]:
    each = max(1, -(-len(layers) // _MOST_STEPS))
    count = -(-len(layers) // each) if layers else 0
    width = min(1 / count, _WIDEST) if count else 0.0
    return [
        _AxisStep(tuple(layers[index * each : (index + 1) * each]), (index + 0.5) / count - width / 2, width)
        for index in range(count)
    ]


def _variance(steps: Sequence[_AxisStep]) -> _Panel | None:
    found = [[values for layer in step.layers if (values := layer.parameters.get("moving_variance"))] for step in steps]
    epsilons = [_epsilon(step) for step in steps]
    marked = [number for number in epsilons if number]
    scale = _scale(found, marked, least=min(marked, default=0.0) * _NOTHING)
    if scale is None:
        return None

    def draw(frame: PlotFrame) -> Iterator[Markup | None]:
        yield from _spread(steps, found, scale, frame)
        yield from _dashes(steps, epsilons, scale, frame)

    return _Panel(f"stored variance{' (dashed: epsilon)' if any(epsilons) else ''}", draw)


def _slopes(steps: Sequence[_AxisStep]) -> _Panel | None:
    found = [[layer.slopes for layer in step.layers if layer.slopes] for step in steps]
    scale = _scale(found, [])
    if scale is None:
        return None
    return _Panel("|gamma| / sqrt(variance + epsilon)", lambda frame: _spread(steps, found, scale, frame))


def _errors(steps: Sequence[_AxisStep]) -> _Panel | None:
    own = [[comparison.ratio for layer in step.layers for comparison in layer.comparisons] for step in steps]
    exported = [[comparison.ratio for layer in step.layers for comparison in layer.exported] for step in steps]
    if not any(own) and not any(exported):
        return None
    numbers = [ratio for ratios in (*own, *exported) for ratio in ratios if ratio is not None]
    scale = logarithmic([_LEAST_RATIO, 10.0, *(max(ratio, _LEAST_RATIO) for ratio in numbers)])

    def draw(frame: PlotFrame) -> Iterator[Markup | None]:
        yield svg.shades([(0.0, 1.0, scale.place(1.0), 1.0)], frame)
        lost = [step for place, step in enumerate(steps) if None in (*own[place], *exported[place])]
        yield svg.columns([(step.left, step.width) for step in lost], frame)
        for ratios, marks in ((own, svg.blocks), (exported, svg.diamonds)):
            worst = _worst(steps, ratios)
            for bad in (False, True):
                chosen = [(step, scale.place(ratio)) for step, ratio in worst if (ratio <= 1.0) is not bad]
                yield marks([(step.left, step.width, place, place) for step, place in chosen], frame, bad=bad)
        yield from svg.left_axis(scale.labels(), frame)
        yield svg.level(scale.place(1.0), frame)

    diamonds = "; diamonds: in the export" if any(exported) else ""
    return _Panel(f"largest error / its limit (dashed){diamonds}", draw)


def _worst(steps: Sequence[_AxisStep], ratios: Sequence[Sequence[float | None]]) -> list[tuple[_AxisStep, float]]:
    """Return the largest finite ratio of each step that has one."""
    finite = [[ratio for ratio in several if ratio is not None] for several in ratios]
    return [(step, max(several)) for step, several in zip(steps, finite, strict=True) if several]


def _epsilon(step: _AxisStep) -> float | None:
    return next((layer.epsilon for layer in step.layers if layer.epsilon), None)


def _scale(found: Sequence[Sequence[Distribution]], marked: Sequence[float], *, least: float = 0.0) -> Scale | None:
    """Return the axis for what is above zero, from `least` on; None if there is nothing to draw."""
    numbers = [
        value
        for several in found
        for histogram in several
        for value in (histogram.minimum, histogram.smallest_positive, *histogram.quantiles[2:3], histogram.maximum)
        if value is not None and value > 0
    ]
    return logarithmic([*(max(number, least) for number in numbers), *marked]) if numbers else None


def _spread(
    steps: Sequence[_AxisStep], found: Sequence[Sequence[Distribution]], scale: Scale, frame: PlotFrame
) -> Iterator[Markup | None]:
    """Yield a bar from the smallest to the largest value of each step, and a mark at its median."""
    bars, middles, broken = [], [], []
    for step, several in zip(steps, found, strict=True):
        low = [one.minimum for one in several if one.minimum is not None]
        high = [one.maximum for one in several if one.maximum is not None]
        middle = [one.quantiles[2] for one in several if len(one.quantiles) > 2]
        inner = [number for number in middle if number is not None]
        if low and high:
            bars.append((step.left, step.width, scale.place(min(low)), scale.place(max(high))))
        if inner:
            place = scale.place(median(inner))
            middles.append((step.left, step.width, place, place))
        if any(one.nonfinite for one in several) or (low and min(low) < 0):
            broken.append((step.left, step.width))
    yield svg.columns(broken, frame)
    yield svg.blocks(bars, frame, faint=True)
    yield svg.blocks(middles, frame)
    yield from svg.left_axis(scale.labels(), frame)


def _dashes(
    steps: Sequence[_AxisStep], epsilons: Sequence[float | None], scale: Scale, frame: PlotFrame
) -> Iterator[Markup]:
    """Yield a dashed line for each run of steps of one epsilon."""
    for epsilon, run in groupby(range(len(steps)), key=epsilons.__getitem__):
        places = list(run)
        if epsilon:
            left, right = places[0] / len(steps), (places[-1] + 1) / len(steps)
            yield svg.level(scale.place(epsilon), frame, left, right)


def _places_of(wrong: Sequence[LayerReport], steps: Sequence[_AxisStep], whole: int) -> Markup | None:
    """Return bands behind all panels where the layers are that fail, with the name of the first."""
    if not wrong:
        return None
    known = {id(layer) for layer in wrong}
    frame = PlotFrame(_WIDTH, whole, _LEFT, _RIGHT, _TOP + 3, _FOOT)
    places = [index for index, step in enumerate(steps) if any(id(layer) in known for layer in step.layers)]
    bands = [(index / len(steps), 1 / len(steps), 0.0, 1.0) for index in places]
    middle = (places[0] + 0.5) / len(steps)
    anchor = "start" if middle < 1 / 3 else "end" if middle > 2 / 3 else "middle"
    first = f"▼ {printable(wrong[0].name, 40)}"
    return Markup(
        svg.shades(bands, frame) + svg.text(first, frame.x(middle), _TOP - 1, anchor, class_="failing", fill=BAD)
    )


def _depth_axis(count: int, whole: int) -> Iterator[Markup]:
    yield svg.text("first layer", _LEFT, whole - 4, "start")
    if count > 1:
        yield svg.text(f"layer {count:,}", _WIDTH - _RIGHT, whole - 4, "end")
