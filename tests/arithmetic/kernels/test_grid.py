"""Grids: positions, limits, how far stored weights are off, and what a wrong quantised result looks like."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.kernels import (
    RELU6,
    Activation,
    Convolution,
    Grid,
    Requantisation,
    Weights,
    Window,
    activation_steps,
    convolve,
    expect_steps,
    expect_sum,
    on_grid,
    own_step,
    quantise,
    quantised_bound,
    steps_off,
)
from bninspect.arithmetic.kernels.requantisation import multiplication_error
from bninspect.errors import BninspectError


@given(st.integers(-128, 127), st.integers(-128, 127), st.floats(1e-5, 10))
def test_numbers_and_positions_undo_each_other(q: int, zero: int, step: float) -> None:
    grid = Grid.of("int8", step, zero)
    number = grid.numbers(np.array([q]))
    assert number[0] == pytest.approx(step * (q - zero))
    assert grid.positions(number)[0] == pytest.approx(q)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "int64"])
def test_the_range_of_a_type_is_that_of_numpy(kind: str) -> None:
    grid, info = Grid.of(kind, 0.5), np.iinfo(kind)
    assert (grid.low, grid.high) == (info.min, info.max)


def test_limits_are_those_of_the_type_and_of_the_activation() -> None:
    grid = Grid.of("uint8", 0.1, 100)
    assert [float(end) for end in grid.limits()] == [0, 255]
    assert [float(end) for end in grid.limits(RELU6)] == [100, 160]
    assert [float(end) for end in Grid.of("int8", 6 / 255, -128).limits(Activation("relu"))] == [-128, 127]
    with pytest.raises(BninspectError):
        grid.limits(Activation("tanh"))


@pytest.mark.parametrize("step", [0.0, -1.0, np.nan, np.inf])
def test_a_step_that_is_not_a_positive_number_is_refused(step: float) -> None:
    with pytest.raises(BninspectError):
        Grid.of("int8", np.array([1.0, step]))
    with pytest.raises(BninspectError):
        Grid.of("float32", 1.0)


def test_weights_are_within_half_a_step_or_rounded_otherwise() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((9, 4, 6)).astype(np.float32).astype(np.float64)
    step = (np.abs(values).max(axis=(0, 1)) / 127).astype(np.float32)
    grid = Grid.of("int8", step)
    nearest = np.rint(values / step)
    assert 0.45 < steps_off(values, np.zeros(values.shape), nearest, grid).max() <= 0.5
    down = np.floor(values / step)
    assert 0.95 < steps_off(values, np.zeros(values.shape), down, grid).max() <= 1.0
    off = nearest.copy()
    off[3, 2, 1] += 2
    assert 1.5 <= steps_off(values, np.zeros(values.shape), off, grid).max() <= 2.5
    assert steps_off(values, np.full(values.shape, 3.0 * step.max()), off, grid).max() == 0
    assert np.isnan(steps_off(values * np.nan, np.zeros(values.shape), off, grid)).all()


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


def _quantised() -> tuple[Convolution, np.ndarray, np.ndarray, np.ndarray, Grid, Grid, Grid]:
    rng = np.random.default_rng(2)
    x, w = rng.integers(-128, 128, (1, 12, 12, 4)), rng.integers(-127, 128, (9, 4, 5))
    operation = Convolution(Window.of((3, 3), padding=((1, 1), (1, 1))))
    bias = rng.integers(-9000, 9000, 5)
    return operation, x, w, bias, Grid.of("int8", 0.02, -17), Grid.of("int8", 0.01), Grid.of("int8", 0.12, 5)


def test_wrong_quantised_results_are_beyond_the_bound() -> None:
    operation, x, w, bias, gx, gw, gy = _quantised()
    m = float(gx.step * gw.step / gy.step)
    exact = convolve(operation, x, Weights.of(w, bias), zero=-17)
    expected = expect_steps(exact, m, gy, Requantisation.FIXED)
    right = np.rint(expected.value)
    assert expected.worst(right) <= 1.0
    padded = convolve(operation, x + 17, Weights.of(w, bias))  # the same, with the zero point taken off before
    assert (padded.value == exact.value).all()
    for wrong in (
        right + (np.arange(right.size).reshape(right.shape) == 77),
        np.rint(expect_steps(exact, m * 1.02, gy, Requantisation.FIXED).value),
        np.rint(expect_steps(convolve(operation, x, Weights.of(w, bias)), m, gy, Requantisation.FIXED).value),
        np.rint(expect_steps(convolve(operation, x, Weights.of(w), zero=-17), m, gy, Requantisation.FIXED).value),
        np.floor(expected.value),
    ):
        assert expected.worst(wrong) > 1.0


def test_saturation_is_a_share_and_not_an_error() -> None:
    operation, x, w, bias, gx, gw, _ = _quantised()
    narrow = Grid.of("int8", 0.02, 5)
    exact = convolve(operation, x, Weights.of(w, bias), zero=-17)
    expected = expect_steps(exact, float(gx.step * gw.step / narrow.step), narrow, Requantisation.FIXED)
    assert expected.worst(np.clip(np.rint(expected.value), -128, 127)) <= 1.0
    real = gx.step * gw.step * exact.value / narrow.step + 5
    share = np.mean((real > 127.51) | (real < -128.51))
    assert 0.05 < expected.saturated_share == pytest.approx(share, abs=0.01)
    # What relu takes away is not lost to the range.
    at_zero = Grid.of("int8", 0.02, -128)
    m = float(gx.step * gw.step / at_zero.step)
    cut = expect_steps(exact, m, at_zero, Requantisation.FIXED, Activation("relu"))
    position = gx.step * gw.step * exact.value / at_zero.step - 128
    assert cut.saturated_share == pytest.approx(np.mean(position > 127.51), abs=0.01)
    assert cut.saturated_share < np.mean((position > 127.51) | (position < -128.51)) - 0.1
    assert cut.worst(np.clip(np.rint(position), -128, 127)) <= 1.0


def test_what_rounding_takes_away_is_no_saturation() -> None:
    grid = Grid.of("int8", 1.0)
    steps = on_grid(np.array([127.4, 127.6, -128.4, -129.0, 3.0]), np.zeros(5), grid)
    assert steps.saturated_share == pytest.approx(2 / 5)


def test_the_own_range_of_an_input_includes_zero_unless_it_is_symmetric() -> None:
    x = np.array([[4.0, 6.0], [-1.0, 3.0], [-5.0, -2.0]])
    each = own_step(x, (1,), symmetric=False).ravel()
    np.testing.assert_allclose(each, np.array([6.0, 4.0, 5.0]) / 255, rtol=1e-4)
    assert (each >= np.array([6.0, 4.0, 5.0]) / 255).all()
    np.testing.assert_allclose(own_step(x, (0, 1), symmetric=True), 6 / 127, rtol=1e-4)


def test_what_quantisation_costs_holds_for_a_right_file_and_is_not_much_more() -> None:
    operation, q, _, _, gx, gw, gy = _quantised()
    rng = np.random.default_rng(4)
    model = rng.uniform(-1.2, 1.2, (9, 4, 5))
    bias = rng.standard_normal(5)
    stored, stored_bias = np.rint(model / gw.step), np.rint(bias / (gx.step * gw.step))
    whole = convolve(operation, q, Weights.of(stored, stored_bias), zero=-17)
    steps = expect_steps(whole, float(gx.step * gw.step / gy.step), gy, Requantisation.FLOAT)
    y = gy.numbers(np.rint(steps.value))
    weights = Weights.of(
        model,
        bias,
        bound=np.full(model.shape, 0.5 * gw.step),
        bias_bound=np.full(5, 0.5 * gx.step * gw.step),
    )
    exact = convolve(operation, gx.numbers(q), weights)
    bound = quantised_bound(exact, gy)
    inside = steps.saturated == 0
    assert 0.1 < (np.abs(y - exact.value) / bound)[inside].max() <= 1.0


def test_quantised_activations_are_tables_multipliers_or_unknown() -> None:
    x, y = Grid.of("int8", 0.05, 3), Grid.of("int8", 1 / 256, -128)
    q = np.arange(-128, 128)
    steps = activation_steps(Activation("sigmoid"), q, x, y, Requantisation.FIXED)
    right = np.clip(np.rint(256 / (1 + np.exp(-0.05 * (q - 3.0))) - 128), -128, 127)
    assert steps.worst(right) <= 1.0
    assert steps.worst(right + 1) > 1.0
    leaky = activation_steps(Activation("leaky_relu", alpha=0.3), q, x, x, Requantisation.FIXED)
    assert leaky.value[0] == pytest.approx(0.3 * -131 + 3)
    assert float(leaky.bound[0]) == pytest.approx(0.5 + 0.25, abs=1e-3)
    wide = Grid.of("int16", 1e-4)
    with pytest.raises(BninspectError):
        activation_steps(Activation("tanh"), q, wide, wide, Requantisation.FIXED16)


def test_quantise_linear_behind_a_float_operation_widens_by_half_a_step() -> None:
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((1, 9, 3)), rng.standard_normal((3, 3, 4))
    expected = expect_sum(convolve(Convolution(Window.of((3,))), x, Weights.of(w)))
    grid = Grid.of("uint8", 0.01, 100)
    steps = quantise(expected, grid)
    q = np.clip(np.rint(expected.value / 0.01) + 100, 0, 255)
    assert steps.worst(q) <= 1.0
    assert (steps.bound - expected.bound / 0.01 >= 0.5).all()
    assert steps.worst(255 - q) > 1.0
