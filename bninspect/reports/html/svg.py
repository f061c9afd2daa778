"""The strokes that charts are made of, in SVG. Places are shares of a frame, from 0 to 1.

Colours and sizes are attributes, so that they are there where no style sheet is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bninspect.reports.html.element import Markup, element
from bninspect.reports.html.scale import Scale

PLAIN, BAD = "#4477aa", "#cc3311"
"""Told apart by people who see no red or no green too."""
_THIN = 2.5
"""Height of the mark of a single value."""

Block = tuple[float, float, float, float]
"""Left, width, bottom and top."""


@dataclass(frozen=True)
class PlotFrame:
    """Where a chart draws, in a picture of `whole_width` and `whole_height`."""

    whole_width: int
    whole_height: int
    left: float = 0
    right: float = 0
    top: float = 0
    bottom: float = 0

    @property
    def height(self) -> float:
        """How high it is."""
        return self.whole_height - self.top - self.bottom

    def x(self, share: float) -> float:
        """Return the horizontal place."""
        return self.left + share * (self.whole_width - self.left - self.right)

    def y(self, share: float) -> float:
        """Return the vertical place; 0 is below."""
        return self.top + (1 - share) * self.height


def picture(text: str, frame: PlotFrame, *parts: Markup | Iterable[Markup] | None, stretched: bool = False) -> Markup:
    """Return a drawing with its text alternative; a stretched one takes any proportions."""
    width, height = frame.whole_width, frame.whole_height
    return element(
        "svg",
        element("title", text),
        *parts,
        role="img",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        preserveAspectRatio="none" if stretched else None,
        font_size=11,
        fill="currentColor",
    )


def blocks(found: Iterable[Block], frame: PlotFrame, *, bad: bool = False) -> Markup | None:
    """Return filled rectangles as one path."""
    path = "".join(_block(one, frame) for one in found)
    return element("path", d=path, fill=BAD if bad else PLAIN, class_="bad" if bad else "bars") if path else None


def missing(steps: Iterable[int], count: int, frame: PlotFrame) -> Markup | None:
    """Return columns of the whole height in the steps, out of `count`, in which there is no number to draw."""
    path = "".join(_block((step / count, 1 / count, 0.0, 1.0), frame) for step in steps)
    return element("path", d=path, fill=BAD, fill_opacity=0.55, class_="bad") if path else None


def _block(block: Block, frame: PlotFrame) -> str:
    left, width, bottom, top = block
    x, across = frame.x(left), frame.x(left + width) - frame.x(left)
    gap = min(1.0, across / 5)
    high, low = frame.y(top), frame.y(bottom)
    if low - high < _THIN:
        high = min(max((low + high - _THIN) / 2, 0), frame.y(0) - _THIN)
        low = high + _THIN
    across_less = short(across - gap)
    return f"M{short(x + gap / 2)} {short(high)}h{across_less}V{short(low)}h-{across_less}z"


def bottom_axis(scale: Scale, frame: PlotFrame) -> Iterator[Markup]:
    """Return an axis of values."""
    yield _rule(frame.x(0), frame.y(0), frame.x(1), frame.y(0))
    for place, text in scale.labels():
        anchor = "start" if place < 0.06 else "end" if place > 0.94 else "middle"
        yield _text(text, frame.x(place), frame.whole_height - 8, anchor)


def channel_axis(channels: int, places: int, frame: PlotFrame) -> Iterator[Markup]:
    """Return an axis of channels, of which there are fewer than places if the last step is not full."""
    yield _rule(frame.x(0), frame.y(0), frame.x(1), frame.y(0))
    yield _text("channel 0", frame.x(0), frame.whole_height - 8, "start")
    if channels > 1:
        yield _text(f"{channels - 1}", frame.x(channels / places), frame.whole_height - 8, "end")


def left_axis(labels: Iterable[tuple[float, str]], frame: PlotFrame) -> Iterator[Markup]:
    """Return ticks with their texts."""
    for place, text in labels:
        yield _rule(frame.x(0) - 4, frame.y(place), frame.x(0), frame.y(place))
        yield _text(text, frame.x(0) - 7, frame.y(place) + 4, "end")


def level(share: float, frame: PlotFrame) -> Markup:
    """Return a dashed horizontal line."""
    return _dashed(frame.x(0), frame.y(share), frame.x(1), frame.y(share))


def upright(share: float, frame: PlotFrame) -> Markup:
    """Return a dashed vertical line."""
    return _dashed(frame.x(share), frame.y(0), frame.x(share), frame.y(1))


def shares(parts: Sequence[tuple[str, int, str]], frame: PlotFrame) -> Iterator[Markup]:
    """Return one bar of parts: word, number and colour of each."""
    total, before = sum(number for _, number, _ in parts), 0
    for word, number, colour in parts:
        left, right = frame.x(before / total), frame.x((before + number) / total)
        width = short(max(right - left - 2, 1))
        yield element("rect", x=short(left), y=0, width=width, height=frame.height, rx=2, fill=colour, class_=word)
        before += number


def _rule(x1: float, y1: float, x2: float, y2: float) -> Markup:
    ends = {"x1": short(x1), "y1": short(y1), "x2": short(x2), "y2": short(y2)}
    return element("line", **ends, stroke="currentColor", class_="axis")


def _dashed(x1: float, y1: float, x2: float, y2: float) -> Markup:
    ends = {"x1": short(x1), "y1": short(y1), "x2": short(x2), "y2": short(y2)}
    return element("line", **ends, stroke="currentColor", stroke_width=1.5, stroke_dasharray="5 3", class_="mark")


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, x=short(x), y=short(y), text_anchor=anchor)


def short(number: float) -> str:
    """Return a length with one decimal, which is finer than a screen."""
    return f"{number:.1f}".removesuffix(".0")
