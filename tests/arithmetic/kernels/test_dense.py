"""Dense layers are exact: by fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.kernels import Budget, Weights, multiply
from bninspect.errors import BninspectError


def _fractions(array: Any) -> Any:
    return np.vectorize(Fraction, otypes=[object])(array)


def _close(actual: Any, exact: Any, magnitude: Any) -> bool:
    """Return whether float64 results are right but for the rounding, and the underflow, of a hundred operations."""
    return all(
        abs(Fraction(a) - e) <= 100 * (Fraction(2) ** -53 * m + Fraction(2) ** -1075)
        for a, e, m in zip(actual.ravel().tolist(), exact.ravel(), magnitude.ravel(), strict=True)
    )


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_product_is_what_its_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, inputs, outputs = rng.integers(1, 6, 3)
    x, w, b = (rng.standard_normal(shape) for shape in ((rows, inputs), (inputs, outputs), (outputs,)))
    bound, bias_bound = np.abs(rng.standard_normal(w.shape)), np.abs(rng.standard_normal(b.shape))
    exact = multiply(x, Weights.of(w[np.newaxis], b, bound=bound[np.newaxis], bias_bound=bias_bound))
    magnitude = abs(_fractions(x)) @ abs(_fractions(w)) + abs(_fractions(b))
    inexact = abs(_fractions(x)) @ _fractions(bound) + _fractions(bias_bound)
    assert _close(exact.value, _fractions(x) @ _fractions(w) + _fractions(b), magnitude)
    assert _close(exact.magnitude, magnitude, magnitude)
    assert _close(exact.inexact, inexact, inexact)
    assert exact.terms == inputs


def test_leading_axes_are_rows() -> None:
    x, w = np.arange(24).reshape(2, 3, 4), np.arange(8).reshape(1, 4, 2)
    exact = multiply(x, Weights.of(w))
    assert (exact.places.pick(x @ w[0]) == exact.value).all()


def test_rows_are_sampled_above_the_budget() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1000, 8)), rng.standard_normal((1, 8, 2))
    exact = multiply(x, Weights.of(w), budget=Budget(products=100 * 16))
    assert 0.05 < exact.places.share <= 0.1
    np.testing.assert_allclose(exact.value, exact.places.pick(x @ w[0]), atol=1e-14)


@pytest.mark.parametrize(("x", "w"), [((3, 4), (1, 5, 2)), ((3, 4), (2, 4, 2)), ((0, 4), (1, 4, 2))])
def test_shapes_that_do_not_fit_are_refused(x: Any, w: Any) -> None:
    with pytest.raises(BninspectError):
        multiply(np.zeros(x), Weights.of(np.zeros(w)))


def test_biases_and_bounds_have_the_shape_of_the_weights() -> None:
    with pytest.raises(BninspectError):
        Weights.of(np.zeros((1, 4, 2)), np.zeros(4))
    with pytest.raises(BninspectError):
        Weights.of(np.zeros((1, 4, 2)), bound=np.zeros((1, 1, 2)))
    with pytest.raises(BninspectError):
        Weights.of(np.zeros((4, 2)))
