"""What is derived for the multiplier of a quantised kernel holds for the kernel by its definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.kernels import Requantisation, multiplication_error


@given(st.integers(-(2**30), 2**30), st.floats(1e-9, 8.0))
@settings(max_examples=300)
def test_the_fixed_point_multiplier_is_as_good_as_stated(accumulator: int, multiplier: float) -> None:
    """The kernel of LiteRT, by its definition: gemmlowp's rounding doubling high multiply, then a rounding shift."""
    fraction, shift = np.frexp(multiplier)
    quantised = round(float(fraction) * 2**31)
    if quantised == 2**31:
        quantised, shift = 2**30, shift + 1
    left, right = max(0, int(shift)), max(0, -int(shift))
    scaled = accumulator << left
    if abs(scaled) >= 2**31:
        return  # saturates: no file has such an accumulator
    product = scaled * quantised
    high = int(Fraction(product + (2**30 if product >= 0 else 1 - 2**30), 2**31))
    result = _half_away(Fraction(high, 2**right))
    exact = Fraction(accumulator) * Fraction(multiplier)
    size = np.asarray(float(abs(exact)))
    allowed = 0.5 + float(multiplication_error(Requantisation.FIXED, np.asarray(multiplier), size))
    assert abs(result - exact) <= Fraction(allowed)


def _half_away(value: Fraction) -> int:
    magnitude = int(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude
