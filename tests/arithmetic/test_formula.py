"""The formula against exact arithmetic, and against figures that others have published."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.formula import Parameters, affine, along, batch_moments, moving_update, normalise, unbiased
from bninspect.arithmetic.rounding import rounded
from bninspect.errors import BninspectError, DamagedFile, UsageError
from bninspect.records import Array, BatchNorm

UNIT = 2.0**-53

magnitudes = st.floats(2**-20, 2**20, width=32) | st.floats(-(2**20), -(2**-20), width=32)
variances = st.floats(0, 2**27, width=32)
epsilons = st.sampled_from([1e-3, 1e-5, 1.001e-5, 1e-6, 1e-12])


def stored(gamma: float = 1.0, beta: float = 0.0, mean: float = 0.0, variance: float = 1.0, **rest: Any) -> BatchNorm:
    """Return a layer of one channel in float64, so that figures of others are taken as they are written."""
    arrays = [np.array([each], dtype=np.float64) for each in (gamma, beta, mean, variance)]
    return BatchNorm("bn", arrays[0], arrays[1], arrays[2], arrays[3], **rest)


def exactly(gamma: float, beta: float, mean: float, variance: float, epsilon: float, x: float) -> Decimal:
    """Return gamma * (x - mean) / sqrt(variance + epsilon) + beta to 60 digits."""
    with localcontext() as context:
        context.prec = 60
        root = (Decimal(variance) + Decimal(epsilon)).sqrt()
        return Decimal(gamma) * (Decimal(x) - Decimal(mean)) / root + Decimal(beta)


@settings(deadline=None)
@given(magnitudes, magnitudes, magnitudes, variances, epsilons, magnitudes)
def test_the_formula_to_60_digits(
    gamma: float, beta: float, mean: float, variance: float, epsilon: float, x: float
) -> None:
    layer = stored(gamma, beta, mean, variance, epsilon=epsilon)
    used = rounded(epsilon, "float32")
    expected = exactly(gamma, beta, mean, variance, used, x)
    product = float(exactly(gamma, 0.0, mean, variance, used, x))

    y = normalise(layer, np.array([x]), axis=(0,))

    error = abs(Decimal(float(y[0])) - expected)
    assert error <= Decimal(UNIT * (6 * abs(product) + abs(float(expected))) * 1.0001)


@settings(deadline=None)
@given(magnitudes, magnitudes, magnitudes, variances, epsilons)
def test_scale_and_shift_to_60_digits_with_the_epsilon_of_the_file(
    gamma: float, beta: float, mean: float, variance: float, epsilon: float
) -> None:
    scale, shift = affine(stored(gamma, beta, mean, variance, epsilon=epsilon))

    exact_shift = exactly(gamma, beta, mean, variance, epsilon, 0.0)
    exact_scale = exactly(gamma, 0.0, 0.0, variance, epsilon, 1.0)
    assert float(scale[0]) == pytest.approx(float(exact_scale), rel=4 * UNIT, abs=0)
    allowed = UNIT * (abs(float(exact_shift)) + 6 * abs(mean * float(exact_scale)))
    assert abs(Decimal(float(shift[0])) - exact_shift) <= Decimal(allowed)


def test_epsilon_is_rounded_as_the_kernel_rounds_it() -> None:
    layer = stored(variance=0.0, epsilon=1e-3)

    assert Parameters.of(layer).epsilon == 0.0010000000474974513
    assert Parameters.of(layer, "float64").epsilon == 0.001
    assert affine(layer)[0][0] == pytest.approx(1 / math.sqrt(0.001), rel=1e-15)
    assert rounded(1e-5, "float16") == 1.00135803222656250e-05


@settings(deadline=None)
@given(st.floats(width=64))
def test_rounding_to_bfloat16_is_that_of_ml_dtypes(value: float) -> None:
    with np.errstate(all="ignore"):
        expected = float(ml_dtypes.bfloat16(np.float32(value)))

    assert rounded(value, "bfloat16") == expected or (math.isnan(value) and math.isnan(expected))


def test_published_by_hand_calculation() -> None:
    """Stack Overflow, 2017-05-21: a channel of FaceNet, which the asker could not reproduce."""
    layer = stored(1.0055743, -0.016652612, -0.089603029, 0.000436493, epsilon=0.001)
    x = np.array([-0.077417567])

    assert normalise(layer, x, axis=(0,), arithmetic="float64")[0] == pytest.approx(0.30664642276945747, rel=1e-15)
    # What TensorFlow returned, and what the asker got by adding epsilon to the standard deviation.
    assert normalise(layer, x, axis=(0,))[0] == pytest.approx(0.30664611, abs=4e-7)
    of = Parameters.of(layer, "float64")
    outside = replace(of, variance=np.square(np.sqrt(of.variance) + of.epsilon), epsilon=0.0)
    assert normalise(outside, x, axis=(0,))[0] == pytest.approx(0.543057, abs=1e-6)


def test_published_epsilon_that_was_clamped() -> None:
    """tensorflow#22985: epsilon 0 was raised to 1.001e-5."""
    layer = stored(variance=0.3333333333333333, epsilon=0.0)
    x = np.array([100.0])

    assert normalise(layer, x, axis=(0,))[0] == pytest.approx(173.20508075688772, rel=1e-15)
    assert normalise(replace(layer, epsilon=1.001e-5), x, axis=(0,))[0] == pytest.approx(173.20248, abs=1e-5)


def test_published_moments() -> None:
    x = np.array([[0.69495416, 2.08983064, -1.08764684], [0.31431156, -0.98923939, -0.34656194]], np.float32)

    mean, variance = batch_moments(x, (1,))

    np.testing.assert_allclose(mean, [0.50463283, 0.55029559, -0.71710438], rtol=1e-6)
    np.testing.assert_allclose(variance, [0.0362222, 2.37016821, 0.13730171], rtol=1e-6)


def test_published_variance_estimators() -> None:
    """Stack Overflow 44808838; keras#10443; pytorch#106366."""
    assert unbiased(np.array([1.0]), 16)[0] == 1.0666666666666667
    assert unbiased(np.array([0.09011541]), 16)[0] == pytest.approx(0.09612311, rel=1e-6)
    assert unbiased(np.array([1.25]), 4, ddof=1 + 0.001)[0] == pytest.approx(1.6672224, rel=1e-7)
    updated = moving_update(np.array([1.0]), unbiased(np.array([1.25]), 144), momentum=1 - 0.1)
    assert updated[0] == pytest.approx(1.0259, abs=5e-5)
    assert updated[0] == pytest.approx(0.9 * 1 + 0.1 * 1.25 * 144 / 143, rel=1e-15)


def test_the_variance_of_one_value_is_left_alone() -> None:
    assert unbiased(np.array([0.0]), 1)[0] == 0.0


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=12), st.sampled_from([0.0, 1e4, 1e6]))
def test_moments_are_exact_whatever_the_offset(values: list[float], offset: float) -> None:
    x = np.array(values, np.float64) + offset
    exact = [Fraction(float(each)) for each in x]
    mean = sum(exact) / len(exact)
    variance = sum((each - mean) ** 2 for each in exact) / len(exact)

    got_mean, got_variance = batch_moments(x.reshape(-1, 1), (1,))

    assert got_mean[0] == pytest.approx(float(mean), rel=1e-14, abs=1e-14)
    # Two passes: the error is relative to the variance and not to the square of the offset.
    assert got_variance[0] == pytest.approx(
        float(variance), rel=1e-12, abs=(len(values) * UNIT * 2 * offset) ** 2 + 1e-28
    )


def test_moments_over_several_axes_have_the_shape_of_stored_parameters() -> None:
    x = np.random.default_rng(0).standard_normal((5, 6, 4, 3)).astype(np.float32)

    mean, variance = batch_moments(x, (1, 3))

    assert mean.shape == variance.shape == (1, 6, 1, 3)
    assert mean[0, 4, 0, 2] == pytest.approx(float(x[:, 4, :, 2].astype(np.float64).mean()), rel=1e-12)
    assert variance[0, 4, 0, 2] == pytest.approx(float(x[:, 4, :, 2].astype(np.float64).var()), rel=1e-12)


def test_moments_of_nothing_are_unknown() -> None:
    mean, variance = batch_moments(np.zeros((0, 3), np.float32), (1,))

    assert np.isnan(mean).all()
    assert np.isnan(variance).all()
    assert mean.shape == (3,)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_parameters_run_along_any_axis(axis: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 4, 5))
    arrays = [np.asarray(rng.uniform(0.5, 2.0, x.shape[axis])) for _ in range(4)]
    layer = BatchNorm("bn", arrays[0], arrays[1], arrays[2], arrays[3], 1e-3)

    y = normalise(layer, x, axis=(axis,), arithmetic="float64")

    for channel in range(x.shape[axis]):
        gamma, beta, mean, variance = (float(each[channel]) for each in arrays)
        ours, theirs = (np.take(each, channel, axis).ravel() for each in (y, x))
        for got, value in zip(ours, theirs, strict=True):
            wanted = gamma * (float(value) - mean) / math.sqrt(variance + 1e-3) + beta
            assert float(got) == pytest.approx(wanted, rel=1e-13, abs=1e-15)


def test_parameters_of_full_rank_run_along_several_axes() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 6, 4, 3))
    gamma, beta, mean, variance = (np.asarray(rng.uniform(0.5, 2.0, (1, 6, 1, 3))) for _ in range(4))

    y = normalise(BatchNorm("bn", gamma, beta, mean, variance, 0.0), x, axis=(1, 3))

    np.testing.assert_allclose(y, gamma * (x - mean) / np.sqrt(variance) + beta, rtol=1e-13)


@pytest.mark.parametrize(
    ("parameter", "shape", "axis"),
    [
        ((3,), (2, 4), (1,)),
        ((1,), (2, 4), (1,)),
        ((4,), (2, 1), (1,)),
        ((3, 6), (2, 6, 4, 3), (1, 3)),
        ((18,), (2, 6, 4, 3), (1, 3)),
        ((4,), (4, 4), (2,)),
        ((4,), (4, 4), (-1,)),
        ((4,), (4, 4), ()),
        ((4, 4), (4, 4), (1, 1)),
    ],
)
def test_parameters_are_never_stretched(
    parameter: tuple[int, ...], shape: tuple[int, ...], axis: tuple[int, ...]
) -> None:
    with pytest.raises(BninspectError):
        along(np.zeros(parameter), shape, axis)


def test_a_layer_without_gamma_and_beta() -> None:
    layer = replace(stored(mean=2.0, variance=4.0, epsilon=0.0, scale=False, center=False), gamma=None, beta=None)

    assert normalise(layer, np.array([5.0]), axis=(0,))[0] == 1.5


def test_a_negative_variance_gives_nan_and_a_smaller_one_than_epsilon_is_used_as_it_is() -> None:
    x = np.array([1.0])

    assert np.isnan(normalise(stored(variance=-0.5, epsilon=1e-3), x, axis=(0,))).all()
    amplified = normalise(stored(variance=-5e-4, epsilon=1e-3), x, axis=(0,), arithmetic="float64")
    assert amplified[0] == pytest.approx(44.721359549995796, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"epsilon": None}, UsageError, "epsilon"),
        ({"undecided": np.ones(1), "gamma": None}, UsageError, "gamma or beta"),
        ({"gamma": None, "scale": True}, DamagedFile, "no gamma"),
        ({"beta": None, "center": True}, DamagedFile, "no beta"),
        ({"moving_mean": None}, DamagedFile, "no moving_mean"),
        ({"moving_mean": None, "moving_variance": None}, DamagedFile, "no moving_mean and no moving_variance"),
        ({"gamma": np.ones(2)}, DamagedFile, r"gamma \(2,\)"),
    ],
)
def test_what_is_missing_is_named(change: dict[str, Array | None], error: type[BninspectError], words: str) -> None:
    layer = replace(stored(epsilon=1e-3), **change)  # type: ignore[arg-type]

    with pytest.raises(error, match=words) as caught:
        Parameters.of(layer)
    if layer.epsilon is None:
        assert caught.value.hint.startswith("pass --epsilon")


def test_an_unknown_arithmetic_is_refused() -> None:
    with pytest.raises(BninspectError, match="int8"):
        rounded(1.0, "int8")
