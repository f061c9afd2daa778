"""The channels of a layer that disagrees: the worst ones with their figures, and a bar of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bninspect.records import Comparison
from bninspect.reports.text.lines import Line, line

_INDENT = " " * 6
_BARS = "▁▂▃▄▅▆▇█"
_DECADES = 6.0
"""What the bar spans: a full block is a million times the bound, and more."""
_MOST = 5


def worst_channels(comparison: Comparison) -> Iterator[Line]:
    """Return one line with the worst channels, the worst first, and how far each is beyond its bound."""
    beyond = [(one.channel, one.ratio) for one in comparison.worst_channels if one.ratio is not None and one.ratio > 1]
    if len(beyond) > 1:
        text = ", ".join(f"{channel} ({ratio:.2g} x bound)" for channel, ratio in beyond[:_MOST])
        yield line((f"{_INDENT}channels   ", "dim"), text + (" and more" if len(comparison.channels) > _MOST else ""))


def bar(comparison: Comparison) -> Iterator[Line]:
    """Return the largest error of each channel in units of its bound, as a bar: low within it, then by decades."""
    if comparison.channel_ratios:
        blocks = "".join(map(_block, comparison.channel_ratios))
        yield line((f"{_INDENT}           ", "dim"), (blocks, "red"))


def _block(ratio: float | None) -> str:
    if ratio is None:
        return _BARS[-1]
    if ratio <= 1.0:
        return _BARS[0]
    share = min(math.log10(ratio) / _DECADES, 1.0)
    return _BARS[max(1, math.ceil(share * (len(_BARS) - 1)))]
