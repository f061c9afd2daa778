"""Sums without any rounding, so that the order in which numbers arrive cannot matter, a column at a time in NumPy.

Two steps. The numbers of a block are split so that the leading parts add up without rounding in float64, whatever their
order, and so on with what is left: `ExtractVector` of Rump, Ogita and Oishi, Accurate floating-point summation I, SIAM
J. Sci. Comput. 31 (2008), section 3. What comes out of a block is then added to a fixed-point number per column that is
wide enough for every float64.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bninspect.arithmetic.formula import Float64

_DIGIT = 32
"""Bits of a digit of the fixed-point numbers. Those of a digit's int64 above them take 2**30 carries."""
_LOWEST = 1152
"""Bits behind the binary point: more than the smallest float64 needs."""
_DIGITS = (_LOWEST + 1024 + 96) // _DIGIT
_LARGEST = 2.0**900
"""What is larger counts as infinite: splitting it would overflow."""
_BLOCK = 1 << 16
"""Numbers of a block: as many as stay in the cache."""
_ROWS = (64, 1024)
"""Fewest and most rows of a block: the fewer, the more bits are taken at a time."""


class ExactSums:
    """The exact sum of each column.

    Args:
        columns: number of columns.
    """

    def __init__(self, columns: int) -> None:
        self._digits = np.zeros((columns, _DIGITS), np.int64)
        self.finite = np.ones(columns, np.bool_)
        """Columns in which every number was finite. The sum of another one means nothing."""

    def add(self, values: Float64) -> None:
        """Add numbers of shape (rows, columns), float64."""
        fewest, most = _ROWS
        rows = min(most, max(fewest, _BLOCK // max(1, values.shape[1])))
        for start in range(0, len(values), rows):
            self._add_block(values[start : start + rows])

    def _add_block(self, values: Float64) -> None:
        with np.errstate(invalid="ignore"):
            sound = np.abs(values) < _LARGEST
        self.finite &= sound.all(axis=0)
        rest = np.where(sound, values, 0.0)
        room = (len(values) + 1).bit_length()  # 2**room >= rows + 2
        while (largest := np.abs(rest).max(axis=0, initial=0.0)).any():
            unit = np.ldexp(1.0, np.frexp(largest)[1] + room)
            leading = (rest + unit) - unit
            rest -= leading
            self._deposit(leading.sum(axis=0))

    def _deposit(self, totals: Float64) -> None:
        """Add one number to each column."""
        mantissa, exponent = np.frexp(totals)
        whole = np.abs(np.ldexp(mantissa, 53)).astype(np.int64)
        sign = np.where(totals < 0, -1, 1)
        place = exponent.astype(np.int64) - 53 + _LOWEST
        digit, shift = np.divmod(np.where(whole > 0, place, 0), _DIGIT)
        mask = (1 << _DIGIT) - 1
        low, high = (whole & mask) << shift, (whole >> _DIGIT) << shift
        column = np.arange(len(totals))
        self._digits[column, digit] += sign * (low & mask)
        self._digits[column, digit + 1] += sign * ((low >> _DIGIT) + (high & mask))
        self._digits[column, digit + 2] += sign * (high >> _DIGIT)

    def totals(self) -> list[Fraction]:
        """Return the exact sums."""
        return [_number(digits) for digits in self._digits]


def _number(digits: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Fraction:
    places = np.flatnonzero(digits)
    return Fraction(sum(int(digits[place]) << (_DIGIT * int(place)) for place in places), 1 << _LOWEST)


def product(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return the product of two arrays, rounded, and what the rounding left out, exactly.

    Dekker's algorithm: A floating-point technique for extending the available precision, Numer. Math. 18 (1971). Exact
    while nothing overflows or underflows.
    """
    rounded = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return rounded, ((a_high * b_high - rounded) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: Float64) -> tuple[Float64, Float64]:
    scaled = a * 134217729.0  # 2**27 + 1
    high = scaled - (scaled - a)
    return high, a - high
