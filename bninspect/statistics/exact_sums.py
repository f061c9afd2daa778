"""Sums without any rounding, so that the order in which numbers arrive cannot matter, a column at a time in NumPy.

Two steps. The numbers of a block are split so that the leading parts add up without rounding in float64, whatever their
order, and so on with what is left: `ExtractVector` of Rump, Ogita and Oishi, Accurate floating-point summation I, SIAM
J. Sci. Comput. 31 (2008), section 3. What comes out of a block is then added to a fixed-point number per column that is
wide enough for every float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bninspect.statistics.scratch import scratch

if TYPE_CHECKING:
    from bninspect.arithmetic.formula import Float64

Digits: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
"""Of fixed-point numbers, one in each column, the lowest digit first."""

_DIGIT = 32
"""Bits of a digit of the fixed-point numbers."""
_CARRYING = 1 << 18
"""Deposits after which digits are carried: each is of less than 2**34, and 2**8 columns are added up in an int64."""
_MASK = (1 << _DIGIT) - 1
_LOWEST = 1152
"""Bits behind the binary point: more than the smallest float64 needs."""
_DIGITS = (_LOWEST + 1024 + 96) // _DIGIT
_ROOM = 2
"""Digits above the highest that what is carried may take."""
_LARGEST = 2.0**900
"""What is larger counts as infinite: splitting it would overflow."""
_WIDTH = 256
"""Numbers in a row of a block: of a few columns several rows are laid side by side."""
_ROWS = 128
"""Rows of a block: the fewer, the more bits are taken at a time."""
SPLITTING = 2.0**27 + 1
"""Factor by which Dekker splits a float64 in halves, whose products are exact."""
_SPLIT_BITS = 53
"""Bits between what is split off and the largest that can be left of it, half a unit in its last place."""


class ExactSums:
    """The exact sum of each column.

    Args:
        columns: number of columns.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._fold = max(1, _WIDTH // max(1, columns))
        self._digits: Digits = np.zeros((_DIGITS, self._fold * columns), np.int64)
        self._used = slice(_DIGITS, 0)
        """Rows of digits that are not zero: a few of them, as the numbers of a column are of one magnitude."""
        self._deposits = 0
        self.finite = np.ones(columns, np.bool_)
        """Columns in which every number was finite. The sum of another one means nothing."""

    def add(self, values: Float64) -> None:
        """Add numbers of shape (rows, columns), float64."""
        whole = len(values) - len(values) % self._fold
        wide = values[:whole].reshape(-1, self._fold * self._columns)
        for start in range(0, len(wide), _ROWS):
            self._add_block(wide[start : start + _ROWS])
        if whole < len(values):
            last = np.zeros((1, self._fold * self._columns))
            last[0, : (len(values) - whole) * self._columns] = values[whole:].ravel()
            self._add_block(last)

    def _add_block(self, block: Float64) -> None:
        with np.errstate(invalid="ignore"):
            largest = np.maximum(block.max(axis=0), -block.min(axis=0))
            if not (largest < _LARGEST).all():
                sound = np.abs(block) < _LARGEST
                self.finite &= sound.all(axis=0).reshape(self._fold, -1).all(axis=0)
                block = np.where(sound, block, 0.0)
                largest = np.abs(block).max(axis=0)
        if not largest.any():
            return
        room = (len(block) + 1).bit_length()  # 2**room >= rows + 2
        unit = np.ldexp(1.0, np.frexp(largest)[1] + room)
        leading, rest = (scratch(name, block.shape) for name in ("leading", "rest"))
        while True:
            np.add(block, unit, out=leading)
            np.subtract(leading, unit, out=leading)
            self._deposit(leading.sum(axis=0))
            block = np.subtract(block, leading, out=rest)
            if not block.any():
                return
            unit = np.ldexp(unit, room - _SPLIT_BITS)

    def _deposit(self, totals: Float64) -> None:
        """Add one number to each column."""
        mantissa, exponent = np.frexp(totals)
        whole = np.abs(np.ldexp(mantissa, 53)).astype(np.int64)
        sign = np.where(totals < 0, -1, 1)
        place = np.where(whole > 0, exponent.astype(np.int64) - 53 + _LOWEST, 0)
        digit, shift = place // _DIGIT, place % _DIGIT
        there = digit[whole > 0]
        self._used = slice(
            min(self._used.start, int(there.min(initial=_DIGITS))), max(self._used.stop, int(there.max(initial=-3)) + 3)
        )
        low, high = (whole & _MASK) << shift, (whole >> _DIGIT) << shift
        column = np.arange(len(totals))
        self._digits[digit, column] += sign * (low & _MASK)
        self._digits[digit + 1, column] += sign * ((low >> _DIGIT) + (high & _MASK))
        self._digits[digit + 2, column] += sign * (high >> _DIGIT)
        self._deposits += 1
        if self._deposits % _CARRYING == 0:
            self._digits, self._used = _carried(self._digits), slice(0, _DIGITS)

    def totals(self) -> FixedPoint:
        """Return the exact sums."""
        start = min(self._used.start, _DIGITS - _ROOM)
        rows = slice(start, min(max(self._used.stop, start) + _ROOM, _DIGITS))
        used = self._digits[rows].reshape(-1, self._fold, self._columns)
        return FixedPoint(_carried(used.sum(axis=1)), rows.start)


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Exact numbers: the sum of their digits, each times 2**(32 (row + lowest) - 1152)."""

    digits: Digits
    """Shape (rows, columns), from 0 to 2**32 - 1, but for the highest, which has the sign."""
    lowest: int
    """Row of the lowest of them."""

    def rounded(self) -> tuple[Float64, Float64]:
        """Return the numbers as float64, and what rounding left out, to 2**-96 of them at least."""
        negative = self.digits[-1] < 0
        size = _carried(np.where(negative, -self.digits, self.digits))
        top = len(size) - 1 - np.argmax(size[::-1] != 0, axis=0)
        columns = np.arange(size.shape[1])
        total, rest = np.zeros((2, size.shape[1]))
        for below in range(4):
            row = top - below
            part = np.where(row < 0, 0, size[row, columns]).astype(np.float64)
            total, lost = two_sum(total, np.ldexp(part, _DIGIT * (row + self.lowest) - _LOWEST))
            rest += lost
        total, rest = two_sum(total, rest)
        sign = np.where(negative, -1.0, 1.0)
        return total * sign, rest * sign


def weighted(parts: Sequence[tuple[int, FixedPoint]]) -> FixedPoint:
    """Return the exact sum of numbers, each times a weight of less than 2**30."""
    lowest = min(number.lowest for _, number in parts)
    rows = max(number.lowest + len(number.digits) for _, number in parts) - lowest + _ROOM
    total = np.zeros((rows, parts[0][1].digits.shape[1]), np.int64)
    for weight, number in parts:
        start = number.lowest - lowest
        total[start : start + len(number.digits)] += weight * number.digits
    return FixedPoint(_carried(total), lowest)


def _carried(digits: Digits) -> Digits:
    """Return the same numbers with digits from 0 to 2**32 - 1, but for the highest, which has the sign."""
    digits = digits.copy()
    for row in range(len(digits) - 1):
        digits[row + 1] += digits[row] >> _DIGIT
        digits[row] &= _MASK
    return digits


def two_sum(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return the sum of two arrays, rounded, and what the rounding left out, exactly (Knuth, TAOCP 2, 4.2.2)."""
    total = a + b
    second = total - a
    return total, (a - (total - second)) + (b - second)


def product(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return the product of two arrays, rounded, and what the rounding left out, exactly.

    Dekker's algorithm: A floating-point technique for extending the available precision, Numer. Math. 18 (1971). Exact
    while nothing overflows or underflows.
    """
    rounded = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return rounded, ((a_high * b_high - rounded) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: Float64) -> tuple[Float64, Float64]:
    """Return the upper 26 bits of each number, whose square is exact, and the rest of it."""
    scaled = a * SPLITTING
    high = scaled - (scaled - a)
    return high, a - high
