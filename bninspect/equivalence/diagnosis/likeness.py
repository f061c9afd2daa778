"""How far numbers are from those that should be there, and how like them."""

from __future__ import annotations

import numpy as np

from bninspect.arithmetic.formula import Float64


def worst_ratio(actual: Float64, expected: Float64, bound: Float64) -> float:
    """Return how many times its bound the worst number is off; infinity where one is not finite."""
    with np.errstate(all="ignore"):
        ratio = np.abs(actual - expected) / bound
    return float(ratio.max()) if np.isfinite(ratio).all() else float("inf")


def correlation(expected: Float64, actual: Float64) -> float:
    """Return the correlation of two arrays, 0 where one of them is constant or not finite."""
    one, other = expected.reshape(-1), actual.reshape(-1).astype(np.float64)
    if one.shape != other.shape or one.size < 2:
        return 0.0
    with np.errstate(all="ignore"):
        found = float(np.corrcoef(one, other)[0, 1])
    return abs(found) if np.isfinite(found) else 0.0
