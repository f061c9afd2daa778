"""The bounds of moments hold for float32 sums in any order, and for the updates that frameworks write."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.arithmetic.formula import Float64, Parameters, normalise
from bninspect.arithmetic.moments import Moments, output_allowances, updated
from bninspect.records import Array, Estimator, Form

F = np.float32


def _one_after_the_other(x: Array) -> Array:
    total: Array = x[0]
    for row in x[1:]:
        total = total + row
    return total


def _as_a_tree(x: Array) -> Array:
    while len(x) > 1:
        odd = x[-1:] if len(x) % 2 else x[:0]
        x = np.concatenate([x[0 : len(x) - len(odd) : 2] + x[1 : len(x) - len(odd) : 2], odd])
    return np.asarray(x[0])


def _largest_first(x: Array) -> Array:
    return _one_after_the_other(np.take_along_axis(x, np.argsort(-np.abs(x), axis=0), axis=0))


def _in_blocks(x: Array) -> Array:
    return _one_after_the_other(np.stack([_one_after_the_other(x[at : at + 7]) for at in range(0, len(x), 7)]))


ORDERS = (_one_after_the_other, _as_a_tree, _largest_first, _in_blocks)


def exact(values: Array) -> tuple[Fraction, Fraction]:
    """Mean and biased variance without any rounding."""
    numbers = [Fraction(float(value)) for value in values]
    mean = sum(numbers, Fraction(0)) / len(numbers)
    return mean, sum(((one - mean) ** 2 for one in numbers), Fraction(0)) / len(numbers)


def batch(seed: int, n: int, channels: int = 60, mean_per_sigma: tuple[float, float] = (-3, 7)) -> Array:
    rng = np.random.default_rng(seed)
    sigma = 10.0 ** rng.uniform(-6, 4, channels)
    mean = rng.choice([-1, 1], channels) * sigma * 10.0 ** rng.uniform(*mean_per_sigma, channels)
    return np.asarray(mean + sigma * rng.standard_normal((n, channels)) * rng.choice([0.01, 1, 3], (n, 1)), F)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [1, 2, 3, 8, 12, 33, 257])
@pytest.mark.parametrize("one_pass", [False, True])
def test_float32_moments_are_within_their_bound(order: Callable[[Array], Array], n: int, one_pass: bool) -> None:
    x = batch(n, n)
    moments = Moments.of(x, (1,), one_pass=one_pass)
    mean = order(x) / F(n)
    variance = order(np.square(x - mean)) / F(n)
    if one_pass:
        variance = np.maximum(order(np.square(x)) / F(n) - np.square(mean), F(0))
    for channel in range(x.shape[1]):
        true_mean, true_variance = exact(x[:, channel])
        assert abs(Fraction(float(mean[channel])) - true_mean) <= Fraction(float(moments.mean_error[channel]))
        assert abs(Fraction(float(variance[channel])) - true_variance) <= Fraction(
            float(moments.variance_error[channel])
        )
        assert float(true_mean) == pytest.approx(moments.mean[channel], rel=1e-13)
        # The reference is float64 itself: what its mean is off by enters the variance squared.
        assert float(true_variance) == pytest.approx(
            moments.variance[channel], rel=1e-13, abs=(n * 1e-16 * float(true_mean)) ** 2
        )


def test_the_bound_of_the_mean_is_reached_by_an_order_of_adding() -> None:
    """1 and then numbers that each vanish in it: the bound may not be any smaller than a constant times n."""
    n = 4096
    x = np.full((n, 1), 2.0**-24, F)
    x[0] = 1
    assert _one_after_the_other(x)[0] == 1
    off = abs(1 / n - float(x.astype(np.float64).mean()))
    error = float(Moments.of(x, (1,)).mean_error[0])
    assert 0.4 * error < off <= error


@pytest.mark.parametrize(("arithmetic", "unit"), [("float32", 2.0**-24), ("float64", 2.0**-53)])
def test_bounds_by_hand(arithmetic: str, unit: float) -> None:
    """Of -1 and 1: sums of two, no mean to subtract. What is compared with is computed too, in float64."""
    moments = Moments.of(np.array([[-1.0], [1.0]]), (1,), arithmetic=arithmetic)
    unit += 2.0**-53
    assert float(moments.mean_error[0]) == pytest.approx((2 - 1) * unit, rel=1e-5, abs=0)
    assert float(moments.variance_error[0]) == pytest.approx((2 + 5) * unit, rel=1e-5, abs=0)
    one_pass = Moments.of(np.array([[-1.0], [1.0]]), (1,), arithmetic=arithmetic, one_pass=True)
    assert float(one_pass.variance_error[0]) == pytest.approx((2 + 3 + 1) * unit, rel=1e-5, abs=0)


def test_two_passes_know_the_variance_of_a_large_mean_and_one_pass_does_not() -> None:
    x = batch(1, 32, mean_per_sigma=(4, 4))
    two, one = Moments.of(x, (1,)), Moments.of(x, (1,), one_pass=True)
    assert (two.variance_error < 1e-2 * two.variance).all()
    assert (one.variance_error > one.variance).all()


@given(st.integers(1, 40), st.sampled_from([0.0, 0.3, 0.9, 0.99, 0.999, 1.0]), st.sampled_from(["float32", "float16"]))
def test_every_way_to_write_the_update_is_within_its_bound(seed: int, momentum: float, kept: str) -> None:
    rng = np.random.default_rng(seed)
    size = (-3, 3) if kept == "float16" else (-6, 6)
    old = (rng.choice([-1, 1], 500) * 10.0 ** rng.uniform(*size, 500)).astype(kept)
    batch_ = np.asarray(rng.choice([-1, 1], 500) * 10.0 ** rng.uniform(*size, 500), F)
    wide = batch_.astype(np.float64)
    expected, bound = updated(old, wide, np.zeros(500), momentum, kept=kept)
    start, decay = old.astype(F), F(1.0 - momentum)
    ways = (
        start * F(momentum) + batch_ * decay,
        start - (start - batch_) * decay,
        (F(1) - decay) * start + decay * batch_,
    )
    for way in ways:
        assert (np.abs(way.astype(kept).astype(np.float64) - expected) <= bound).all()
    wrong = start * decay + batch_ * F(momentum)
    if momentum != 0.3:
        assert (np.abs(wrong.astype(kept).astype(np.float64) - expected) > bound).mean() > 0.9


@pytest.mark.parametrize("kept", ["bfloat16", "float32"])
def test_a_moving_statistic_in_bfloat16_may_be_off_by_its_last_digit(kept: str) -> None:
    _, bound = updated(np.ones(1, F), np.ones(1), np.zeros(1), 0.99, kept=kept)
    assert bound[0] == pytest.approx(2.0**-8 if kept == "bfloat16" else 3.06 * 2.0**-24, rel=0.02)


def test_masked_values_do_not_count() -> None:
    x = np.array([[1.0, 5.0], [3.0, np.nan], [100.0, 7.0], [8.0, np.inf]], F)
    mask = np.array([[True, True], [True, False], [False, True], [False, False]])
    moments = Moments.of(x, (1,), mask=mask)
    assert moments.count.tolist() == [2, 2]
    assert moments.mean.tolist() == [2, 6]
    assert moments.variance.tolist() == [1, 1]
    assert moments.kept(Estimator.UNBIASED, 1e-3)[0].tolist() == [2, 2]
    assert moments.kept(Estimator.OVERCORRECTED, 1e-3)[0] == pytest.approx([2 / 0.999] * 2)


def test_what_the_biased_variance_may_be_off_grows_with_the_unbiased_one() -> None:
    moments = Moments.of(np.array([[1.0], [2.0]], F), (1,))
    variance, error = moments.kept(Estimator.UNBIASED, 1e-3)
    assert (variance[0], error[0]) == (0.5, 2 * moments.variance_error[0])


def test_a_channel_without_values_promises_nothing() -> None:
    mask = np.array([[True, False], [True, False]])
    moments = Moments.of(np.ones((2, 2), F), (1,), mask=mask)
    assert np.isnan(moments.mean_error).tolist() == [False, True]
    assert np.isnan(moments.variance_error).tolist() == [False, True]


def test_a_sum_that_the_type_cannot_hold_promises_nothing() -> None:
    moments = Moments.of(np.array([[1e19, 1e18], [-1e20, -1e18]], F), (1,))
    assert np.isnan(moments.variance_error).tolist() == [True, False]


def test_several_axes_keep_the_full_rank_of_their_parameters() -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 5, 3)).astype(F)
    moments = Moments.of(x, (1, 3), mask=np.array([True, True, True, False])[:, None, None, None])
    assert moments.mean.shape == moments.count.shape == moments.variance_error.shape == (1, 2, 1, 3)
    assert (moments.count == 15).all()
    assert moments.mean.ravel() == pytest.approx(x[:3].astype(np.float64).mean(axis=(0, 2)).ravel())


FORMS: dict[Form, Callable[..., Array]] = {
    Form.CENTRED: lambda x, m, s, beta: (x - m) * s + beta,
    Form.AFFINE: lambda x, m, s, beta: x * s + (beta - m * s),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1e-3])
@pytest.mark.parametrize("n", [1, 2, 8, 12, 60])
def test_outputs_by_float32_moments_are_within_their_bound(form: Form, epsilon: float, n: int) -> None:
    seen = np.zeros(0)
    for order in ORDERS:
        x = batch(n, n, 600)
        rng = np.random.default_rng(n)
        gamma, beta = (rng.standard_normal(600).astype(F) for _ in range(2))
        mean = order(x) / F(n)
        slope = gamma / np.sqrt(order(np.square(x - mean)) / F(n) + F(epsilon))
        y = FORMS[form](x, mean, slope, beta)
        ratio = _ratio(x, y, gamma, beta, epsilon, form)
        assert (ratio <= 1).all()
        seen = np.concatenate([seen, ratio.ravel()])
    if n > 1:  # of a single value the centred form gives beta exactly
        assert np.median(seen) > 1e-3
        assert seen.max() > 0.2


@pytest.mark.parametrize("form", FORMS)
def test_normalising_by_the_unbiased_variance_is_beyond_the_bound(form: Form) -> None:
    x = batch(5, 8, 300, mean_per_sigma=(-3, 2))
    one, zero = np.ones(300, F), np.zeros(300, F)
    mean = x.mean(axis=0)
    y = FORMS[form](x, mean, one / np.sqrt(x.var(axis=0, ddof=1) + F(1e-12)), zero)
    assert np.median(_ratio(x, y, one, zero, 1e-12, form).max(axis=0)) > 100


def _ratio(x: Array, y: Array, gamma: Array, beta: Array, epsilon: float, form: Form) -> Float64:
    moments = Moments.of(x, (1,))
    none = np.full(gamma.shape, np.nan)
    stored = Parameters(gamma.astype(np.float64), beta.astype(np.float64), none, none, float(F(epsilon)))
    used = moments.parameters(stored)
    expected = normalise(used, x, axis=(1,))
    p, size = np.abs((x - used.mean) * used.slope), np.abs(x.astype(np.float64))
    (allowed,) = output_allowances(moments, stored, form, "float32", "float32")
    return np.asarray(np.abs(y - expected) / allowed.at(p, size, np.abs(expected)))
