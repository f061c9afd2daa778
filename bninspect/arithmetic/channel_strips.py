"""One number per channel in at most 128 steps, to be drawn: neighbours share a step, and its extremes stay.

Numbers are rounded: no drawing shows more digits, and they would make a report three times as long.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from bninspect.records import Array, Strip

if TYPE_CHECKING:
    from bninspect.arithmetic.formula import Float64

MOST_STEPS = 128
_MOST_DIGITS = 300


def width(channels: int) -> int:
    """Return how many neighbouring channels share a step."""
    return max(1, -(-channels // MOST_STEPS))


def strip(values: Array) -> Strip:
    """Return the extremes of the finite values in each step; the values are in the order of the channels."""
    wide = np.asarray(values, np.float64).ravel()
    if not wide.size:
        return Strip(1, (), (), ())
    step = width(wide.size)
    starts = np.arange(0, wide.size, step)
    finite = np.isfinite(wide)
    lowest = np.minimum.reduceat(np.where(finite, wide, np.inf), starts)
    highest = np.maximum.reduceat(np.where(finite, wide, -np.inf), starts)
    broken = np.flatnonzero(np.logical_or.reduceat(~finite, starts))
    return Strip(
        channels=step,
        low=_short(lowest),
        high=_short(highest) if step > 1 else (),
        nonfinite=tuple(broken.tolist()),
    )


def peaks(ratios: Float64) -> tuple[float | None, ...]:
    """Return the largest ratio in each step, to 4 decimals up to 1 and whole beyond it; None for an infinite one."""
    if not ratios.size:
        return ()
    largest = np.maximum.reduceat(ratios, np.arange(0, ratios.size, width(ratios.size)))
    shown = np.where(largest <= 1.0, np.round(np.minimum(largest, 1.0), 4), largest).tolist()
    return tuple(shown) if np.isfinite(largest).all() else tuple(value if value < math.inf else None for value in shown)


def joined(a: tuple[float | None, ...], b: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """Return the peaks of two calls of one layer; `()` is a call of nothing."""
    return tuple(
        None if one is None or other is None else max(one, other) for one, other in zip_longest(a, b, fillvalue=0.0)
    )


def _short(numbers: Float64) -> tuple[float | None, ...]:
    """Return the numbers to five digits, None for those that are not finite."""
    with np.errstate(all="ignore"):
        digits = 4 - np.floor(np.log10(np.abs(numbers)))
        # A power of ten is exact up to 22: dividing a whole number by it gives the float with the shortest decimals.
        up, down = 10.0 ** np.clip(digits, 0, _MOST_DIGITS), 10.0 ** np.clip(-digits, 0, _MOST_DIGITS)
        short = np.rint(numbers * up / down) / up * down
        # Zero has no digits, and the smallest and largest numbers leave the range on the way: they stay as they are.
        kept = np.where((np.abs(digits) <= _MOST_DIGITS) & np.isfinite(short), short, numbers)
    if np.isfinite(kept).all():
        return tuple(kept.tolist())
    return tuple(value if math.isfinite(value) else None for value in kept.tolist())
