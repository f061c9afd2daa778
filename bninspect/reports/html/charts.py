"""The charts of the page, each with what it shows in words as its text alternative.

However many channels there are, a chart has at most 128 steps of them, each with its extremes (strips.py): it stays
light, and no spike is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from bninspect.arithmetic import channel_strips
from bninspect.records import Distribution, Strip
from bninspect.reports.html import svg
from bninspect.reports.html.element import Markup
from bninspect.reports.html.scale import Scale, linear, logarithmic
from bninspect.reports.html.svg import PlotFrame

_CHART = PlotFrame(420, 150, left=58, right=8, top=10, bottom=24)
_SPARK = PlotFrame(128, 18)
_BAR = PlotFrame(800, 14)
_NARROWEST = 0.04
"""Share of the axis that a histogram takes up at least: a single value is a bar all the same."""
_LOWEST_RATIO = 1e-3
_FAR = 2.0
"""Ratio from which on the axis is logarithmic."""

Steps = Sequence[float | None]


def histogram(values: Distribution, name: str, epsilon: float | None = None) -> Markup | None:
    """Return how often values occur: those of a variance by their logarithm, with a line at epsilon.

    None if there are no finite values.
    """
    logarithm = bool(values.log_counts)
    counts = _joined(values.log_counts if logarithm else values.counts)
    low, high = values.smallest_positive if logarithm else values.minimum, values.maximum
    if not any(counts) or low is None or high is None:
        return None
    marked = [epsilon] if logarithm and epsilon else []
    scale = (logarithmic if logarithm else linear)([low, high, *marked])
    begin, end = scale.place(low), scale.place(high)
    if end - begin < _NARROWEST:
        begin, end = max(0.0, begin - _NARROWEST / 2), min(1.0, end + _NARROWEST / 2)
    most, width = max(counts), (end - begin) / len(counts)
    bars = [(begin + index * width, width, 0.0, count / most) for index, count in enumerate(counts) if count]
    text = f"{name}: how often values between {low:.4g} and {high:.4g} occur"
    if below := sum(values.counts) - sum(values.log_counts) if logarithm else 0:
        text += f", without {below} that are not above zero"
    return svg.picture(
        text + _line_text(marked),
        _CHART,
        svg.blocks(bars, _CHART),
        svg.bottom_axis(scale, _CHART),
        svg.left_axis([(0.0, "0"), (1.0, f"{most:,}")], _CHART),
        [svg.upright(scale.place(value), _CHART) for value in marked],
    )


def _joined(counts: Sequence[int]) -> list[int]:
    """Return a histogram in fewer bins where there are few values, by Sturges' rule: 8 values show nothing in 24."""
    wanted = math.ceil(math.log2(max(sum(counts), 1))) + 1
    each = next((size for size in (6, 4, 3, 2) if len(counts) % size == 0 and len(counts) // size >= wanted), 1)
    return [sum(counts[start : start + each]) for start in range(0, len(counts), each)]


def strip(values: Distribution, name: str, channels: int, epsilon: float | None = None) -> Markup | None:
    """Return the values along the channels: a variance on a logarithmic axis, with a line at epsilon."""
    if values.strip is None or not values.strip.low:
        return None
    low, high = values.strip.low, values.strip.high or values.strip.low
    finite = [number for number in (*low, *high) if number is not None]
    logarithm = bool(values.log_counts)
    marked = [epsilon] if epsilon and logarithm else []
    on_a_line = finite if len(set(finite)) > 1 else [*finite, 0.0]
    scale = logarithmic([*finite, *marked]) if logarithm else linear(on_a_line)
    marks = [
        (index / len(low), 1 / len(low), scale.place(bottom), scale.place(top))
        for index, (bottom, top) in enumerate(zip(low, high, strict=True))
        if bottom is not None and top is not None
    ]
    sunk = [step for step, number in enumerate(low) if logarithm and number is not None and number <= 0]
    return svg.picture(
        _strip_text(values.strip, name, channels, sunk) + _line_text(marked),
        _CHART,
        svg.missing([*values.strip.nonfinite, *sunk], len(low), _CHART),
        svg.blocks(marks, _CHART),
        svg.channel_axis(channels, values.strip.channels * len(low), _CHART),
        svg.left_axis(scale.labels(), _CHART),
        [svg.level(scale.place(value), _CHART) for value in marked],
    )


def ratios(steps: Steps, observed: str, channels: int) -> Markup | None:
    """Return the largest error in units of its bound along the channels; None if nothing was compared."""
    if not steps:
        return None
    top = max((ratio for ratio in steps if ratio is not None), default=1.0)
    scale = logarithmic([_LOWEST_RATIO, 1.0, top]) if top > _FAR else linear([0.0, 1.0, top * 1.02])
    text = _ratio_text(steps, observed, channels) + "; the dashed line is the bound"
    return along_channels(text, steps, 1.0, scale, channels, _CHART)


def along_channels(text: str, steps: Steps, limit: float, scale: Scale, channels: int, frame: PlotFrame) -> Markup:
    """Return a bar for each step of the channels, red beyond the limit, where a dashed line is."""
    return svg.picture(
        text,
        frame,
        *_bars(steps, limit, scale.place, frame),
        svg.channel_axis(channels, channel_strips.width(channels) * len(steps), frame),
        svg.left_axis(scale.labels(), frame),
        [svg.level(scale.place(limit), frame)],
    )


def spark(steps: Steps, channels: int) -> Markup | None:
    """Return the same as small as a word, up to the bound: what is beyond it is as high, and red."""
    if not steps:
        return None
    bars = _bars(steps, 1.0, lambda ratio: min(1.0, ratio), _SPARK)
    return svg.picture(_ratio_text(steps, "at its worst", channels), _SPARK, *bars)


def shares(parts: Sequence[tuple[str, int, str]]) -> Markup:
    """Return a bar of the parts of a whole: word, number and colour of each."""
    there = [part for part in parts if part[1]]
    text = ", ".join(f"{number:,} {word}" for word, number, _ in parts)
    return svg.picture(text, _BAR, svg.shares(there, _BAR), stretched=True)


def _bars(steps: Steps, limit: float, place: Callable[[float], float], frame: PlotFrame) -> Iterator[Markup | None]:
    """Yield marks of the steps without a number, the bars up to the limit, and those beyond it."""
    yield svg.missing([index for index, value in enumerate(steps) if value is None], len(steps), frame)
    width = 1 / len(steps)
    for bad in (False, True):
        known = [
            (index, value) for index, value in enumerate(steps) if value is not None and (value <= limit) is not bad
        ]
        yield svg.blocks([(index * width, width, 0.0, place(value)) for index, value in known], frame, bad=bad)


def _strip_text(strip: Strip, name: str, channels: int, sunk: list[int]) -> str:
    lows = [(number, step) for step, number in enumerate(strip.low) if number is not None]
    highs = [(number, -step) for step, number in enumerate(strip.high or strip.low) if number is not None]
    text = f"{name} along {channels:,} channels"
    if lows:
        (low, first), (high, last) = min(lows), max(highs)
        text += f": lowest {low:.4g} in {_where(first, channels)}, highest {high:.4g} in {_where(-last, channels)}"
    if strip.nonfinite:
        text += f"; not finite in {_wheres(strip.nonfinite, channels)}"
    return text + (f"; not above zero in {_wheres(sunk, channels)}" if sunk else "")


def _ratio_text(steps: Steps, observed: str, channels: int) -> str:
    text = f"error over bound, {observed}, along {channels:,} channels"
    known = [(ratio, -step) for step, ratio in enumerate(steps) if ratio is not None]
    if known:
        ratio, step = max(known)
        text += f": largest {ratio:.4g} in {_where(-step, channels)}"
    broken = [step for step, ratio in enumerate(steps) if ratio is None]
    return text + (f"; not finite in {_wheres(broken, channels)}" if broken else "")


def _line_text(marked: list[float]) -> str:
    return "".join(f"; the dashed line is epsilon, {value:g}" for value in marked)


def _where(step: int, channels: int) -> str:
    per_step = channel_strips.width(channels)
    first, last = step * per_step, min((step + 1) * per_step, channels) - 1
    return f"channel {first}" if first >= last else f"channels {first} to {last}"


def _wheres(steps: Sequence[int], channels: int) -> str:
    places = ", ".join(_where(step, channels) for step in steps[:3])
    return f"{places} and {len(steps) - 3} more" if len(steps) > 3 else places
