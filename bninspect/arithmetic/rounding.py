"""Numbers rounded to other types, and the simplest number that an interval of rounding leaves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bninspect.errors import BninspectError
from bninspect.records import Array
from bninspect.safe_text import printable

_LARGEST_N = 4096


def narrowed(values: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Return the values rounded to float16, bfloat16 or float32, to nearest with ties to even."""
    with np.errstate(all="ignore"):
        if kind != "bfloat16":
            return values.astype(kind).astype(np.float64)
        single = values.astype(np.float32)
        bits = single.view(np.uint32)
        upper = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
        return np.where(np.isfinite(single), upper.view(np.float32), single).astype(np.float64)


def rounded(value: float, arithmetic: str) -> float:
    """Return `value` as a kernel holds it that computes in float16, bfloat16, float32 or float64.

    Raises:
        BninspectError: there is no such arithmetic.
    """
    if arithmetic not in {"float16", "bfloat16", "float32", "float64"}:
        raise BninspectError(f"no such arithmetic: {printable(arithmetic)}")
    return float(narrowed(np.array(value, np.float64), arithmetic))


def widened(values: Array) -> NDArray[np.float64]:
    """Return numbers in float64. NumPy warns where it widens a signalling NaN, which the report has a finding for."""
    with np.errstate(invalid="ignore"):
        return np.asarray(values, np.float64)


def from_bfloat16(bits: Array) -> NDArray[np.float32]:
    """Return 16-bit patterns of bfloat16, the upper half of a float32, as float32, which holds them exactly."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def nicest(low: float, high: float, *, bessel: bool = False) -> float:
    """Return the number with the fewest decimal digits in an interval; with `bessel` rather n/(n-1) or (n-1)/n."""
    middle = (low + high) / 2
    n = round(middle / (middle - 1)) if middle != 1 else 0
    if bessel and 2 <= abs(n) <= _LARGEST_N and low <= n / (n - 1) <= high:
        return n / (n - 1)  # a negative n is that of (n-1)/n
    for digits in range(17):
        short = float(f"{middle:.{digits}e}")
        if low <= short <= high:
            return short
    return middle


def bessel(k: float, *, tolerance: float = 1e-12) -> int | None:
    """Return the n up to 4096 for which k is n/(n-1), or (n-1)/n if it is less than 1; None if there is none."""
    if not 0 < k < np.inf or k == 1:
        return None
    factor = k if k > 1 else 1 / k
    n = round(factor / (factor - 1))
    return n if 2 <= n <= _LARGEST_N and abs(n / (n - 1) / factor - 1) <= tolerance else None
