"""The sums are those of rational arithmetic, whatever the numbers and their order."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bninspect.statistics.exact_sums import ExactSums, product

NUMBERS = st.floats(-(2.0**800), 2.0**800, allow_nan=False)


def totals(sums: ExactSums) -> list[Fraction]:
    """Return the sums as fractions."""
    found = sums.totals()
    return [
        Fraction(sum(int(digit) << (32 * row) for row, digit in enumerate(column, found.lowest)), 1 << 1152)
        for column in found.digits.T
    ]


@given(st.lists(NUMBERS, min_size=1, max_size=40), st.integers(1, 7))
def test_a_sum_is_that_of_fractions(numbers: list[float], step: int) -> None:
    sums = ExactSums(1)
    for start in range(0, len(numbers), step):
        sums.add(np.array(numbers[start : start + step])[:, np.newaxis])
    assert totals(sums) == [sum(map(Fraction, numbers))]


@given(st.lists(NUMBERS, min_size=1, max_size=9))
def test_a_sum_is_rounded_to_twice_the_digits_of_a_float(numbers: list[float]) -> None:
    sums = ExactSums(1)
    sums.add(np.array(numbers)[:, np.newaxis])
    exact = sum(map(Fraction, numbers), Fraction(0))
    total, rest = (Fraction(float(part[0])) for part in sums.totals().rounded())
    assert abs(total + rest - exact) <= abs(exact) / 2**96 + Fraction(1, 2**1074)


def test_many_rows_of_all_magnitudes_add_up_exactly_in_every_column() -> None:
    generator = np.random.default_rng(1)
    values = generator.standard_normal((30_001, 5)) * 10.0 ** generator.integers(-320, 200, (30_001, 5))
    sums = ExactSums(5)
    sums.add(values)
    assert totals(sums) == [sum(map(Fraction, column)) for column in values.T.tolist()]


def test_a_column_that_is_not_finite_is_said_and_spoils_no_other() -> None:
    sums = ExactSums(3)
    sums.add(np.array([[1.0, np.nan, 2.0], [1.0, 3.0, -np.inf]]))
    assert sums.finite.tolist() == [True, False, False]
    assert totals(sums)[0] == 2


@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30))
def test_a_product_and_what_rounding_left_out_are_the_exact_product(a: float, b: float) -> None:
    tiny: Any = 1e-120
    if any(0 < abs(one) < tiny for one in (a, b)):
        return  # its parts would underflow
    rounded, rest = product(np.array([a]), np.array([b]))
    assert Fraction(float(rounded[0])) + Fraction(float(rest[0])) == Fraction(a) * Fraction(b)
