"""The bounds against kernels that are simulated operation by operation, at their worst, and against figures by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext

import ml_dtypes
import numpy as np
import pytest
from helpers import nasty
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.bounds import PRECISIONS, Allowance, allowances, bound, precision
from bninspect.arithmetic.formula import Float64, Parameters, normalise
from bninspect.errors import BninspectError, UsageError
from bninspect.records import Array, BatchNorm, Form

FORMS = (Form.CENTRED, Form.AFFINE, Form.FOLDED)
TYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}


def simulate(
    norm: BatchNorm, x: Array, form: Form, arithmetic: str, output: str, *, flush: bool, bias: float
) -> Float64:
    """Compute a layer one rounded operation at a time, as a kernel of this form would, and return it in float64.

    `flush` sets subnormal numbers to zero before and after every operation. `bias` is the error of the reciprocal
    square root in units of the arithmetic's roundoff, before it is itself rounded.
    """
    kind = TYPES[arithmetic]
    tiny = 2.0 ** PRECISIONS[arithmetic].lowest

    def fl(value: Array) -> Array:
        rounded = np.asarray(value).astype(kind)
        return np.where(np.abs(rounded.astype(np.float64)) < tiny, kind.type(0), rounded) if flush else rounded

    def op(function: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
        # Rounding to 53 digits before 24 or fewer changes no sum or product: 53 >= 2 * 24 + 2 (S. Figueroa, "When is
        # double rounding innocuous?", ACM SIGNUM Newsletter 30(3), 1995).
        if arithmetic == "float64":
            return fl(function(a, b))
        return fl(function(a.astype(np.float64), b.astype(np.float64)))

    gamma, beta, mean, variance = (fl(np.asarray(each)) for each in norm.arrays.values())
    x, epsilon = fl(x), fl(np.array(norm.epsilon))
    with np.errstate(all="ignore"):
        root = 1 / np.sqrt(op(np.add, variance, epsilon).astype(np.float64))
        inverse = fl(root * (1 + bias * PRECISIONS[arithmetic].unit))
        a = op(np.multiply, inverse, gamma)
        if form is Form.CENTRED:
            y = op(np.add, op(np.multiply, op(np.subtract, x, mean), a), beta)
        else:
            c = op(np.subtract, beta, op(np.multiply, mean, a))
            if form is Form.FOLDED:
                other = fl(root * (1 - bias * PRECISIONS[arithmetic].unit))
                a = op(np.multiply, other, gamma)
            y = op(np.add, op(np.multiply, x, a), c)
        return y.astype(TYPES[output]).astype(np.float64)


def largest_ratio(norm: BatchNorm, x: Array, y: Float64, form: Form, arithmetic: str, output: str) -> float:
    parameters = Parameters.of(norm, arithmetic)
    expected = normalise(parameters, x, axis=(1,))
    allowed = bound(parameters, x, expected, form=form, axis=(1,), arithmetic=arithmetic, output=output)
    inside = np.isfinite(y) & (np.abs(expected) + allowed < PRECISIONS[output].largest)
    assert np.isfinite(allowed[inside]).all()
    assert (allowed[inside] > 0).all()
    assert inside.mean() > 0.5
    return float((np.abs(y - expected)[inside] / allowed[inside]).max())


CASES = [
    ("float32", "float32"),
    ("float32", "float16"),
    ("float32", "bfloat16"),
    ("float64", "float64"),
    ("float64", "float32"),
    ("float16", "float16"),
    ("bfloat16", "bfloat16"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("arithmetic", "output"), CASES)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    epsilon=st.sampled_from(nasty.EPSILONS[1:]),
    bias=st.floats(-3, 3),
    flush=st.booleans(),
)
def test_simulated_kernels_stay_within_their_bounds(
    form: Form, arithmetic: str, output: str, seed: int, epsilon: float, bias: float, flush: bool
) -> None:
    rng = np.random.default_rng(seed)
    half = "float16" in {arithmetic, output}
    domain = nasty.FLOAT16 if half else nasty.WIDE
    stored = "float64" if arithmetic == "float64" else "float32"
    if arithmetic == "float16":
        stored, flush, epsilon = "float16", False, max(epsilon, 1e-5)
    norm = nasty.layer(rng, epsilon, 96, stored, domain)
    x = nasty.inputs(rng, norm, 48, "float16" if half else stored)
    if arithmetic == "bfloat16":
        g, b, m, v = (_narrow(each) for each in norm.arrays.values())
        norm = replace(norm, gamma=g, beta=b, moving_mean=m, moving_variance=v)
        x = _narrow(x)

    y = simulate(norm, x, form, arithmetic, output, flush=flush, bias=bias)

    assert largest_ratio(norm, x, y, form, arithmetic, output) <= 1.0


def _narrow(array: Array) -> Array:
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


singles = st.floats(-(2.0**60), 2.0**60, width=32)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=300, deadline=None)
@given(
    gamma=singles,
    beta=singles,
    mean=singles,
    variance=st.floats(0, 2.0**60, width=32),
    epsilon=st.sampled_from([0.0, 1e-38, 1e-37, 3e-37, 1e-30, 1e-12, 1e-3]),
    x=singles,
    flush=st.booleans(),
)
def test_numbers_of_any_magnitude(
    form: Form, gamma: float, beta: float, mean: float, variance: float, epsilon: float, x: float, flush: bool
) -> None:
    """Subnormal numbers above all: where they are flushed, relative errors say nothing."""
    norm = single(gamma, beta, mean, variance, epsilon)
    inputs = np.array([[x]], np.float32)

    y = simulate(norm, inputs, form, "float32", "float32", flush=flush, bias=3.0)
    parameters = Parameters.of(norm)
    expected = normalise(parameters, inputs, axis=(1,))
    allowed = bound(parameters, inputs, expected, form=form, axis=(1,))

    if np.isfinite(y).all() and np.isfinite(allowed).all():
        assert abs(y - expected) <= allowed


def single(
    gamma: float = 1.0, beta: float = 0.0, mean: float = 0.0, variance: float = 1.0, epsilon: float = 0.0
) -> BatchNorm:
    g, b, m, v = (np.array([each], np.float32) for each in (gamma, beta, mean, variance))
    return BatchNorm("bn", g, b, m, v, epsilon)


def bound_at(norm: BatchNorm, x: float, form: Form, arithmetic: str = "float32", output: str = "float32") -> float:
    parameters = Parameters.of(norm, arithmetic)
    inputs = np.array([[x]])
    expected = normalise(parameters, inputs, axis=(1,))
    found = bound(parameters, inputs, expected, form=form, axis=(1,), arithmetic=arithmetic, output=output)
    return float(found[0, 0])


@pytest.mark.parametrize(
    ("norm", "x", "form", "units"),
    [
        (single(), 1.0, Form.CENTRED, 8 + 1),
        (single(), 1.0, Form.AFFINE, 6 + 1 + 1),
        (single(), 1.0, Form.FOLDED, 7 + 1),
        # a = 2, p = -4, c = -1, y = 1
        (single(2.0, 5.0, 3.0), 1.0, Form.CENTRED, 8 * 4 + 1),
        (single(2.0, 5.0, 3.0), 1.0, Form.AFFINE, 6 * 4 + 2 * (1 + 3) + 1 + 1),
        (single(2.0, 5.0, 3.0), 1.0, Form.FOLDED, 7 * 2 * (1 + 3) + 1 + 1),
        (single(2.0, 5.0, 3.0), 1.0, Form.UNKNOWN, 6 * 4 + 2 * (1 + 3) + 1 + 1),
        (single(2.0), 1.0, Form.UNKNOWN, 8 * 2 + 2),
        # At the mean the centred form has nothing but the rounding of beta.
        (single(2.0, 5.0, 1e4), 1e4, Form.CENTRED, 5),
    ],
)
def test_bounds_by_hand(norm: BatchNorm, x: float, form: Form, units: int) -> None:
    assert bound_at(norm, x, form) == pytest.approx(units * 2.0**-24, rel=1e-5)
    # Of float64 arithmetic the reference has a share: 6|p| + |y|.
    product = abs(float(norm.gamma[0]) * (x - float(norm.moving_mean[0])))  # type: ignore[index]
    y = abs(float(normalise(norm, np.array([x]), axis=(0,))[0]))
    assert bound_at(norm, x, form, "float64", "float64") == pytest.approx(
        (units + 6 * product + y) * 2.0**-53, rel=1e-5, abs=0
    )


def test_a_narrower_output_adds_its_own_rounding() -> None:
    norm = single(2.0, 5.0, 3.0)
    inner = bound_at(norm, 1.0, Form.CENTRED)

    half = bound_at(norm, 1.0, Form.CENTRED, "float32", "float16")
    brain = bound_at(norm, 1.0, Form.CENTRED, "float32", "bfloat16")

    assert half == pytest.approx(inner * (1 + 2.0**-11) + 2.0**-11 * 1.0 + 2.0**-25, rel=1e-12)
    assert brain == pytest.approx(inner * (1 + 2.0**-8) + 2.0**-8 * 1.0 + 2.0**-126, rel=1e-12)


@pytest.mark.parametrize(("mean", "published"), [(1e3, 1.8e-4), (1e4, 1.8e-3)])
def test_an_affine_kernel_may_lose_three_roundings_of_the_mean(mean: float, published: float) -> None:
    assert bound_at(single(mean=mean, epsilon=1e-3), mean + 1, Form.AFFINE) == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(
    ("norm", "why"),
    [
        (single(variance=0.0, epsilon=0.0), "zero"),
        (single(variance=-1e-3, epsilon=1e-3), "zero but for rounding"),
        (single(variance=-1.0, epsilon=1e-3), "negative"),
        (single(variance=1e-39, epsilon=0.0), "subnormal"),
        (single(variance=4e-38, epsilon=0.0), "nearly subnormal"),
        (single(variance=np.inf), "infinite"),
        (single(variance=np.nan), "not a number"),
        (single(gamma=np.inf), "gamma"),
        (single(beta=np.inf), "beta"),
        (single(beta=np.nan), "beta"),
        (single(mean=-np.inf), "mean"),
        (single(gamma=0.0, mean=np.inf), "mean without a slope"),
    ],
)
@pytest.mark.parametrize("form", Form)
def test_where_nothing_can_be_promised_there_is_no_bound(norm: BatchNorm, why: str, form: Form) -> None:
    if why == "zero but for rounding":
        norm = replace(norm, epsilon=-float(np.float32(-1e-3)))
    for output in PRECISIONS:
        assert np.isnan(bound_at(norm, 1.0, form, "float32", output)), why


def test_a_channel_without_a_bound_spoils_no_other() -> None:
    g, b, m = np.ones(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    parameters = Parameters.of(BatchNorm("bn", g, b, m, np.array([1.0, -1.0, 1.0], np.float32), 1e-3))
    x = np.ones((2, 3), np.float32)

    allowed = bound(parameters, x, normalise(parameters, x, axis=(1,)), form=Form.AFFINE, axis=(1,))

    assert np.isfinite(allowed).tolist() == [[True, False, True]] * 2


def test_a_small_negative_variance_has_a_bound() -> None:
    """It amplifies, but every kernel computes it alike: what is wrong with it is for a rule to say."""
    assert 0 < bound_at(single(variance=-5e-4, epsilon=1e-3), 1.0, Form.CENTRED) < 1e-4


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_an_unknown_form_allows_the_larger_of_both(seed: int) -> None:
    rng = np.random.default_rng(seed)
    norm = nasty.layer(rng, 1e-5, 12)
    x = nasty.inputs(rng, norm, 16)
    parameters = Parameters.of(norm)
    expected = normalise(parameters, x, axis=(1,))
    centred, affine, unknown = (
        bound(parameters, x, expected, form=form, axis=(1,)) for form in (Form.CENTRED, Form.AFFINE, Form.UNKNOWN)
    )

    np.testing.assert_array_equal(unknown, np.maximum(centred, affine))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_float64_kernels_against_60_digits(seed: int) -> None:
    """What remains of the bound after the reference's own share covers the kernel against the truth."""
    rng = np.random.default_rng(seed)
    norm = nasty.layer(rng, 1e-3, 8, "float64", nasty.WIDEST)
    x = nasty.inputs(rng, norm, 8, "float64")
    expected = normalise(norm, x, axis=(1,), arithmetic="float64")
    y = simulate(norm, x, Form.CENTRED, "float64", "float64", flush=False, bias=0.0)
    slope = Parameters.of(norm, "float64").slope
    with localcontext() as context:
        context.prec = 60
        for channel in range(8):
            g, b, m, v = (Decimal(float(each[channel])) for each in norm.arrays.values())
            root = (v + Decimal(float(norm.epsilon or 0.0))).sqrt()
            for point in range(8):
                exact = g * (Decimal(float(x[point, channel])) - m) / root + b
                p = abs(Decimal(float(slope[channel])) * (Decimal(float(x[point, channel])) - m))
                unit, least = Decimal(2) ** -53, Decimal(2) ** -1000
                share = unit * (6 * p + abs(exact)) * Decimal("1.000001") + least
                kernel = unit * (8 * p + abs(exact)) * Decimal("1.000001") + least
                assert abs(Decimal(float(expected[point, channel])) - exact) <= share
                assert abs(Decimal(float(y[point, channel])) - exact) <= kernel


def test_fixed_tolerances_are_those_of_numpy() -> None:
    parameters = Parameters.of(single(2.0, 5.0, 3.0))
    y = np.array([4.0, -4.0, 0.0])

    allowed = Allowance.fixed(parameters, rtol=1e-3, atol=1e-5).at(np.zeros(3), np.zeros(3), np.abs(y))

    np.testing.assert_allclose(allowed, 1e-5 + 1e-3 * np.abs(y), rtol=1e-15)
    assert Allowance.fixed(parameters, rtol=0.0, atol=0.0).constant[0] > 0
    assert np.isnan(Allowance.fixed(Parameters.of(single(mean=np.inf)), rtol=1.0, atol=1.0).constant[0])


@pytest.mark.parametrize(("rtol", "atol"), [(-1e-3, 0.0), (0.0, -1.0), (np.nan, 0.0), (0.0, np.inf)])
def test_senseless_tolerances_are_refused(rtol: float, atol: float) -> None:
    with pytest.raises(UsageError):
        Allowance.fixed(Parameters.of(single()), rtol=rtol, atol=atol)


def test_unknown_types_and_forms_are_refused() -> None:
    with pytest.raises(BninspectError, match="int8"):
        precision("int8")
    with pytest.raises(BninspectError, match="order of operations"):
        Allowance.of(Parameters.of(single()), Form.UNKNOWN, "float32", "float32")
    assert len(allowances(Parameters.of(single()), Form.UNKNOWN, "float32", "float32")) == 2


@pytest.mark.parametrize("name", PRECISIONS)
def test_types_are_what_numpy_says(name: str) -> None:
    info, kind = ml_dtypes.finfo(TYPES[name]), precision(name)

    assert kind.largest == float(info.max)
    assert 2.0**kind.lowest == float(info.smallest_normal)
    assert 2 * kind.unit == float(info.eps)
    assert np.dtype(kind.container).itemsize >= TYPES[name].itemsize
