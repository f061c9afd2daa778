"""The bookkeeping of a comparison: what is within its bound, what is not, which element is the worst.

A `Tally` takes contiguous pieces of the arrays in their order; where they are cut makes no difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64, along, require_axes
from bninspect.records import Array

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST = float(np.finfo(np.float64).max)
_EXPONENT = np.int64(0x7FF0000000000000)


@dataclass(frozen=True)
class Layout:
    """Where the channels are in the flat order of an array: in spans, each channel `inner` times in a row.

    A layer over several axes has a span from the first of them to the last, with the parameters repeated along
    the axes in between.
    """

    shape: tuple[int, ...]
    axis: tuple[int, ...]

    def __post_init__(self) -> None:
        require_axes(self.shape, self.axis)

    @cached_property
    def inner(self) -> int:
        """How many neighbours in flat order share their parameters."""
        return math.prod(self.shape[max(self.axis) + 1 :])

    def spread(self, parameter: Array) -> Array:
        """Return the values of a parameter along one span.

        Raises:
            BninspectError: its shape does not fit.
        """
        shaped = along(parameter, self.shape, self.axis)
        within = slice(min(self.axis), max(self.axis) + 1)
        return np.broadcast_to(shaped.reshape(shaped.shape[within]), self.shape[within]).reshape(-1)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The channel at each place of a span."""
        lengths = [self.shape[a] for a in sorted(self.axis)]
        return self.spread(np.arange(math.prod(lengths)).reshape(lengths))

    @cached_property
    def span(self) -> int:
        """Number of places of the parameters until they repeat."""
        return int(self.labels.size)

    @property
    def count(self) -> int:
        """Number of channels."""
        return math.prod(self.shape[a] for a in self.axis)

    def channels(self, flat: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the channel of each flat index: the place of its parameters in their stored order."""
        return np.asarray(self.labels[flat // self.inner % self.labels.size])


@dataclass(frozen=True)
class Element:
    """One element: its flat index and the numbers that were compared."""

    flat: int
    expected: float
    actual: float
    allowed: float


class Tally:
    """Counts. Neither NaN nor a bound that is not a positive finite number is ever counted as agreement."""

    def __init__(self, layout: Layout, output: str) -> None:
        self.layout = layout
        self.violations = 0
        self.nonfinite = 0
        self.unmeasured = False
        """Whether a violation has no ratio, because something is not finite or has no bound."""
        self.ratio: float | None = None
        self.max_abs: float | None = None
        self.worst: Element | None = None
        self._type = precision(output)
        self._units: float | None = None
        self._inner = layout.inner
        self._period = layout.inner * layout.span
        self._places = np.zeros(layout.span)
        """Largest ratio at each place of a span, from rows that are of one channel each."""
        self._columns: dict[tuple[int, int], Float64] = {}
        """Largest ratios of columns that run across channels, by where they begin in a span and their number."""

    @property
    def max_ulp(self) -> float | None:
        """Largest distance in units in the last place of the output type, taken at the expected number."""
        return None if self._units is None else min(self._units * 2.0 ** (self._type.digits - 1), _LARGEST)

    def peaks(self) -> Float64:
        """Return the largest ratio of each channel, shape (channels,); infinite where a violation has no ratio."""
        places = self._places
        for (start, size), columns in self._columns.items():
            if start == 0 and size % self._period == 0:
                repeated = columns.reshape(-1, places.size, self._inner)
                np.maximum(places, repeated.max(axis=(0, 2)), out=places)
            else:
                np.maximum.at(places, (start + np.arange(size)) // self._inner % places.size, columns)
        peaks = np.zeros(self.layout.count)
        np.maximum.at(peaks, self.layout.labels, places)
        return peaks

    def add(
        self,
        start: int,
        expected: Float64,
        actual: Float64,
        allowed: Float64,
        scratch: tuple[Float64 | None, Float64 | None] = (None, None),
    ) -> None:
        """Count the contiguous pieces of three arrays that begin at the flat index `start`.

        They are two-dimensional. `scratch` may hold two arrays of the same shape to work in.
        """
        if not expected.size:
            return
        by_row = self._rows_are_channels(start, expected.shape)
        with np.errstate(all="ignore"):
            error = np.subtract(actual, expected, out=scratch[0])
            np.abs(error, out=error)
            ratio = np.divide(error, allowed, out=scratch[1])
            peaks = _peaks(ratio, by_row=by_row)
            largest = float(peaks.max())  # NaN, if there is one
            if largest <= 1.0 and allowed.min() > 0 and allowed.max() < np.inf:
                if self.ratio is None or largest > self.ratio:
                    self._keep(int(ratio.argmax()), start, largest, expected, actual, allowed)
                self._measure(expected, error, out=ratio)
            else:
                severity = self._add_violations(start, expected.ravel(), actual.ravel(), allowed.ravel())
                peaks = _peaks(severity.reshape(expected.shape), by_row=by_row)
        if by_row:
            self._raise_rows(start, peaks)
        else:
            columns = self._columns.setdefault((start % self._period, peaks.size), peaks)
            np.maximum(columns, peaks, out=columns)

    def _rows_are_channels(self, start: int, shape: tuple[int, ...]) -> bool:
        """Return whether each row of a piece is of one channel; if not, each column is."""
        rows, columns = shape
        if columns % self._period == 0:
            return False
        one_each = start % self._inner + columns <= self._inner and (rows == 1 or columns == self._inner)
        assert one_each or rows == 1  # noqa: S101 - pieces.py cuts no other way
        return one_each

    def _raise_rows(self, start: int, peaks: Float64) -> None:
        """Raise the largest ratios of consecutive places, which may run over the end of a span."""
        first = start // self._inner % self._places.size
        rest = max(0, first + peaks.size - self._places.size)
        for places, part in (
            (self._places[first : first + peaks.size], peaks[: peaks.size - rest]),
            (self._places[:rest], peaks[peaks.size - rest :]),
        ):
            np.maximum(places, part, out=places)

    def _add_violations(self, start: int, expected: Float64, actual: Float64, allowed: Float64) -> Float64:
        """Count a piece in which something is not as it should be; every element is looked at on its own.

        Returns:
            The ratio of each element: infinite for a violation that has none, 0 for an overflow that agrees.
        """
        error = np.abs(actual - expected)
        ratio = np.minimum(error / allowed, _LARGEST)
        finite = np.isfinite(expected) & np.isfinite(actual)
        measured = finite & (allowed > 0) & (allowed < np.inf)
        # Numbers round to infinity from half a step beyond the largest one, a half that the bound covers too.
        limit = self._type.largest * (1 + self._type.unit)
        beyond = np.abs(expected) + allowed > limit
        overflow = np.isinf(actual) & (np.sign(actual) == np.sign(expected)) & beyond
        violating = ~np.where(measured, ratio <= 1.0, overflow)
        self.violations += int(np.count_nonzero(violating))
        self.nonfinite += int(np.count_nonzero(~finite))
        if not self.unmeasured and (unmeasured := violating & ~measured).any():
            self.unmeasured = True
            place = int(unmeasured.argmax())
            self.worst = Element(start + place, *(float(a[place]) for a in (expected, actual, allowed)))
        if measured.any():
            place = int(np.where(measured, ratio, -1.0).argmax())
            self._keep(place, start, float(ratio[place]), expected, actual, allowed)
        if finite.any():
            self._measure(expected[finite], error[finite])
        return np.where(measured, ratio, np.where(violating, np.inf, 0.0))

    def _keep(self, place: int, start: int, ratio: float, expected: Float64, actual: Float64, allowed: Float64) -> None:
        """Keep the largest ratio of a piece if it is the largest so far; the first of equal ones stays."""
        if self.ratio is not None and ratio <= self.ratio:
            return
        self.ratio = ratio
        if not self.unmeasured:
            self.worst = Element(start + place, *(float(each.flat[place]) for each in (expected, actual, allowed)))

    def _measure(self, expected: Float64, error: Float64, out: Float64 | None = None) -> None:
        """Take the largest distance, and in units of 2**floor(log2|expected|), which the exponent bits are."""
        self.max_abs = max(float(error.max()), self.max_abs or 0.0)
        unit = np.bitwise_and(expected.view(np.int64), _EXPONENT, out=None if out is None else out.view(np.int64))
        unit = np.maximum(unit.view(np.float64), 2.0**self._type.lowest, out=out)
        units = min(float(np.divide(error, unit, out=unit).max()), _LARGEST)
        self._units = max(units, self._units or 0.0)


def _peaks(ratio: Float64, *, by_row: bool) -> Float64:
    """Return the largest element of each row or of each column."""
    if by_row:  # four times as fast for short rows as max(axis=1)
        return np.maximum.reduceat(ratio.ravel(), np.arange(0, ratio.size, ratio.shape[1]))
    return np.asarray(ratio.max(axis=0))
