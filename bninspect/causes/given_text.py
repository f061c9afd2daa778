"""Numbers that somebody typed or copied: what they are, and how well they are known.

A number copied from a screen is known to half a unit of its last digit. A number that was chosen is known exactly: one
with at most three digits, such as 0.25 or 100, or one that float32 holds exactly, such as 0.0625.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import numpy as np

from bninspect.arithmetic.formula import Float64
from bninspect.errors import UsageError
from bninspect.safe_text import printable

CHOSEN = 3
"""Digits that a number may have that was chosen rather than copied."""

_LONGEST = 4096


@dataclass(frozen=True, eq=False)
class Typed:
    """Numbers as float32 holds them, in float64, and by how much each may be off."""

    values: Float64
    half_digits: Float64

    @property
    def size(self) -> int:
        """How many there are."""
        return int(self.values.size)


def numbers(text: str, *, chosen: bool = True, single: bool = True) -> Typed:
    """Return the numbers in a text, separated by commas or white space.

    Args:
        text: for instance `1.0055743` or `0.1, 0.2, 0.3`.
        chosen: whether a short number is exact. What a computation returned never is.
        single: whether the numbers are rounded to float32, as parameters and inputs of a kernel are.

    Raises:
        UsageError: it holds something else, no number at all, or one that is not finite.
    """
    tokens = [token for token in re.split(r"[,\s]+", text.strip("[]() \t\n")) if token]
    if not 0 < len(tokens) <= _LONGEST:
        raise UsageError(f"{printable(text)!r} holds no numbers" if not tokens else "too many numbers to type")
    decimals = [_decimal(token) for token in tokens]
    values = np.array([float(decimal) for decimal in decimals])
    with np.errstate(over="ignore"):
        held = values.astype(np.float32).astype(np.float64) if single else values
    if not np.isfinite(held).all():
        raise UsageError(f"{printable(text)!r} holds a number that float32 cannot")
    return Typed(held, np.array([0.0 if chosen and _chosen(decimal) else _half_unit(decimal) for decimal in decimals]))


def _decimal(token: str) -> Decimal:
    try:
        value = Decimal(token)
    except InvalidOperation:
        raise UsageError(f"{printable(token)!r} is not a number", hint="write 0.5, -1e-3 or 0.1,0.2,0.3") from None
    # An exponent of a million digits would be expanded by what follows.
    if not value.is_finite() or abs(value.adjusted()) > 400:
        raise UsageError(f"{printable(token)!r} is not a finite number")
    return value


def _chosen(value: Decimal) -> bool:
    digits = "".join(map(str, value.as_tuple().digits)).strip("0")
    return len(digits) <= CHOSEN or Decimal(float(np.float32(float(value)))) == value


def _half_unit(value: Decimal) -> float:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)  # noqa: S101 - it is finite
    return 0.5 * 10.0**exponent
