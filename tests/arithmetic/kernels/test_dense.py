"""Dense layers, Gemm and batched products are exact: by fractions, by NumPy on objects, by ONNX's own reference."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.kernels import Budget, Dense, Weights, multiply, multiply_batches
from bninspect.errors import BninspectError


def _fractions(array: Any) -> Any:
    return np.vectorize(Fraction, otypes=[object])(array)


def _close(actual: Any, exact: Any, magnitude: Any) -> bool:
    """Return whether float64 results are right but for the rounding, and the underflow, of a hundred operations."""
    return all(
        abs(Fraction(a) - e) <= 100 * (Fraction(2) ** -53 * m + Fraction(2) ** -1075)
        for a, e, m in zip(actual.ravel().tolist(), exact.ravel(), magnitude.ravel(), strict=True)
    )


@given(st.integers(0, 2**32), st.floats(-3, 3), st.floats(-3, 3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_gemm_is_what_its_definition_says(seed: int, alpha: float, beta: float, transposed: bool) -> None:
    rng = np.random.default_rng(seed)
    rows, inputs, outputs = rng.integers(1, 6, 3)
    x, w, b = (rng.standard_normal(shape) for shape in ((rows, inputs), (inputs, outputs), (outputs,)))
    bound, bias_bound = np.abs(rng.standard_normal(w.shape)), np.abs(rng.standard_normal(b.shape))
    weights = Weights.of(w[np.newaxis], b, bound=bound[np.newaxis], bias_bound=bias_bound)
    exact = multiply(Dense(alpha, beta, transposed), x.T if transposed else x, weights)
    a, c = abs(Fraction(alpha)), abs(Fraction(beta))
    value = Fraction(alpha) * (_fractions(x) @ _fractions(w)) + Fraction(beta) * _fractions(b)
    magnitude = a * (abs(_fractions(x)) @ abs(_fractions(w))) + c * abs(_fractions(b))
    inexact = a * (abs(_fractions(x)) @ _fractions(bound)) + c * _fractions(bias_bound)
    assert _close(exact.value, value, magnitude)
    assert _close(exact.magnitude, magnitude, magnitude)
    assert _close(exact.inexact, inexact, inexact)
    assert exact.terms == inputs


def test_leading_axes_are_rows_and_a_zero_point_is_subtracted() -> None:
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    w = np.arange(8).reshape(1, 4, 2)
    exact = multiply(Dense(), x, Weights.of(w), zero=5)
    expected = (x.astype(int) - 5) @ w[0]
    assert (exact.places.pick(expected) == exact.value).all()


def test_rows_are_sampled_above_the_budget() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1000, 8)), rng.standard_normal((1, 8, 2))
    exact = multiply(Dense(), x, Weights.of(w), budget=Budget(products=100 * 16))
    assert 0.05 < exact.places.share <= 0.1
    np.testing.assert_allclose(exact.value, exact.places.pick(x @ w[0]), atol=1e-14)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (4, 2)), ((5, 3, 4), (4, 2)), ((5, 3, 4), (5, 4, 2)), ((2, 1, 3, 4), (5, 4, 2)), ((3, 4), (7, 4, 2))],
)
def test_batched_products_broadcast_as_numpy_has_it(a: Any, b: Any) -> None:
    rng = np.random.default_rng(2)
    left, right = rng.integers(-9, 10, a), rng.integers(-9, 10, b)
    exact = multiply_batches(left, right)
    assert (exact.places.pick(left @ right) == exact.value).all()
    assert (exact.places.pick(abs(left) @ abs(right)) == exact.magnitude).all()
    part = multiply_batches(left, right, budget=Budget(0))
    assert (part.places.pick(left @ right) == part.value).all()


@pytest.mark.parametrize(
    ("x", "w", "operation"),
    [((3, 4), (1, 5, 2), Dense()), ((3, 4), (2, 4, 2), Dense()), ((2, 3, 4), (1, 4, 2), Dense(transpose_input=True)),
     ((0, 4), (1, 4, 2), Dense())],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(x: Any, w: Any, operation: Dense) -> None:
    with pytest.raises(BninspectError):
        multiply(operation, np.zeros(x), Weights.of(np.zeros(w)))


def test_batches_that_do_not_fit_are_refused() -> None:
    for a, b in (((2, 3, 4), (3, 4, 2)), ((3, 4), (5, 2)), ((4,), (4, 2))):
        with pytest.raises(BninspectError):
            multiply_batches(np.zeros(a), np.zeros(b))


def test_biases_and_bounds_have_the_shape_of_the_weights() -> None:
    with pytest.raises(BninspectError):
        Weights.of(np.zeros((1, 4, 2)), np.zeros(4))
    with pytest.raises(BninspectError):
        Weights.of(np.zeros((1, 4, 2)), bound=np.zeros((1, 1, 2)))
    with pytest.raises(BninspectError):
        Weights.of(np.zeros((4, 2)))
