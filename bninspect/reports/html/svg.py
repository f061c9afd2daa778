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
_DIAMOND = 3.5
_TURNS = f"{_DIAMOND} {_DIAMOND} -{_DIAMOND} {_DIAMOND} -{_DIAMOND} -{_DIAMOND}"
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


def picture(words: str, frame: PlotFrame, *parts: Markup | Iterable[Markup] | None, stretched: bool = False) -> Markup:
    """Return a drawing with its text alternative; a stretched one takes any proportions."""
    width, height = frame.whole_width, frame.whole_height
    return element(
        "svg",
        element("title", words),
        *parts,
        role="img",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        preserveAspectRatio="none" if stretched else None,
        font_size=11,
        fill="currentColor",
    )


def blocks(found: Iterable[Block], frame: PlotFrame, *, bad: bool = False, faint: bool = False) -> Markup | None:
    """Return filled rectangles as one path."""
    return _filled("".join(_block(one, frame) for one in found), bad=bad, opacity=0.35 if faint else None)


def diamonds(found: Iterable[Block], frame: PlotFrame, *, bad: bool = False) -> Markup | None:
    """Return a diamond in the middle of the top of each rectangle, as one path."""
    tips = ((frame.x(left + width / 2), frame.y(top) - _DIAMOND) for left, width, _, top in found)
    path = "".join(f"M{short(x)} {short(y)}l{_TURNS}z" for x, y in tips)
    return _filled(path, bad=bad)


def columns(found: Iterable[tuple[float, float]], frame: PlotFrame) -> Markup | None:
    """Return columns of the whole height, by left and width, where there is no number to draw."""
    return _filled("".join(_block((*one, 0.0, 1.0), frame) for one in found), bad=True, opacity=0.55)


def shades(found: Iterable[Block], frame: PlotFrame) -> Markup:
    """Return rectangles without gaps, tinted as what is wrong, to stand behind what is drawn."""
    path = "".join(
        f"M{short(frame.x(left))} {short(frame.y(top))}H{short(frame.x(left + width))}V{short(frame.y(bottom))}"
        f"H{short(frame.x(left))}z"
        for left, width, bottom, top in found
    )
    return element("path", d=path, fill=BAD, fill_opacity=0.1, class_="bad")


def _filled(path: str, *, bad: bool, opacity: float | None = None) -> Markup | None:
    kind = "bad" if bad else "bars"
    return element("path", d=path, fill=BAD if bad else PLAIN, fill_opacity=opacity, class_=kind) if path else None


def missing(steps: Iterable[int], count: int, frame: PlotFrame) -> Markup | None:
    """Return columns of the whole height in the steps, out of `count`, in which there is no number to draw."""
    return columns(((step / count, 1 / count) for step in steps), frame)


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
    for place, label in scale.labels():
        anchor = "start" if place < 0.06 else "end" if place > 0.94 else "middle"
        yield text(label, frame.x(place), frame.whole_height - 8, anchor)


def channel_axis(channels: int, places: int, frame: PlotFrame) -> Iterator[Markup]:
    """Return an axis of channels, of which there are fewer than places if the last step is not full."""
    yield _rule(frame.x(0), frame.y(0), frame.x(1), frame.y(0))
    yield text("channel 0", frame.x(0), frame.whole_height - 8, "start")
    if channels > 1:
        yield text(f"{channels - 1}", frame.x(channels / places), frame.whole_height - 8, "end")


def left_axis(labels: Iterable[tuple[float, str]], frame: PlotFrame) -> Iterator[Markup]:
    """Return ticks with their texts."""
    for place, label in labels:
        yield _rule(frame.x(0) - 4, frame.y(place), frame.x(0), frame.y(place))
        yield text(label, frame.x(0) - 7, frame.y(place) + 4, "end")


def ground(frame: PlotFrame) -> Markup:
    """Return the line below a chart."""
    return _rule(frame.x(0), frame.y(0), frame.x(1), frame.y(0))


def level(share: float, frame: PlotFrame, left: float = 0, right: float = 1) -> Markup:
    """Return a dashed horizontal line."""
    return _dashed(frame.x(left), frame.y(share), frame.x(right), frame.y(share))


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


def text(words: str, x: float, y: float, anchor: str, *, class_: str | None = None, fill: str | None = None) -> Markup:
    """Return words at a place in the picture."""
    return element("text", words, x=short(x), y=short(y), text_anchor=anchor, fill=fill, class_=class_)


def short(number: float) -> str:
    """Return a length with one decimal, which is finer than a screen."""
    return f"{number:.1f}".removesuffix(".0")
