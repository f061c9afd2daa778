"""What counts as agreement, and that judging in pieces is the same as comparing whole arrays."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bninspect.arithmetic import channel_strips, chunks
from bninspect.arithmetic.bounds import PRECISIONS, bound
from bninspect.arithmetic.compare import compare, judge, merge
from bninspect.arithmetic.formula import Parameters, normalise
from bninspect.errors import BninspectError, UsageError
from bninspect.records import BatchNorm, Channel, Comparison, Form, Observation

if TYPE_CHECKING:
    from collections.abc import Sequence


INFINITY = math.inf
NAN = math.nan


def parameters_of(channels: int) -> Parameters:
    return Parameters(np.ones(channels), np.zeros(channels), np.zeros(channels), np.ones(channels), 1e-3)


def compared(
    expected: Sequence[float], actual: Sequence[float], allowed: Sequence[float] | float, output: str = "float32"
) -> Comparison:
    """Compare one row with one channel per element."""
    y = np.array([expected])
    count = y.size
    return compare(
        y,
        np.array([actual], PRECISIONS[output].container),
        np.broadcast_to(np.asarray(allowed, np.float64), y.shape),
        x=np.arange(count, dtype=np.float32).reshape(1, count),
        parameters=parameters_of(count),
        axis=(1,),
        output=output,
    )


def test_equal_numbers_agree() -> None:
    comparison = compared([1.0, -2.0], [1.0, -2.0], 1e-7)

    assert comparison.agrees
    assert (comparison.elements, comparison.violations, comparison.nonfinite) == (2, 0, 0)
    assert (comparison.ratio, comparison.max_abs, comparison.max_ulp) == (0.0, 0.0, 0.0)
    assert comparison.channels == ()
    assert (comparison.observed, comparison.reference, comparison.calls) == ("in-model", "formula", 1)


def test_a_number_at_its_bound_agrees_and_one_beyond_does_not() -> None:
    at = compared([1.0, 2.0], [1.0, 2.25], 0.25)
    beyond = compared([1.0, 2.0], [1.0, 2.25], math.nextafter(0.25, 0))

    assert at.agrees
    assert at.ratio == 1.0
    assert not beyond.agrees
    assert beyond.violations == 1
    assert beyond.ratio is not None
    assert beyond.ratio > 1.0
    assert beyond.channels == (1,)


def test_the_worst_element_is_the_one_that_is_the_most_bounds_away() -> None:
    comparison = compared([10.0, 20.0, 30.0], [10.5, 20.25, 30.0], [1.0, 0.25, 1.0])

    assert comparison.ratio == 1.0
    assert comparison.max_abs == 0.5
    assert comparison.worst is not None
    assert comparison.worst.index == (0, 1)
    assert comparison.worst.channel == 1
    assert (comparison.worst.x, comparison.worst.expected, comparison.worst.actual) == (1.0, 20.0, 20.25)
    assert comparison.worst.bound == 0.25
    assert (comparison.worst.gamma, comparison.worst.beta, comparison.worst.moving_mean) == (1.0, 0.0, 0.0)
    assert (comparison.worst.moving_variance, comparison.worst.epsilon) == (1.0, 1e-3)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (NAN, NAN),
        (NAN, 1.0),
        (1.0, NAN),
        (1.0, INFINITY),
        (INFINITY, 1.0),
        (INFINITY, -INFINITY),
        (1e39, -INFINITY),
        (-1e39, INFINITY),
        (INFINITY, NAN),
        (3e38, INFINITY),
    ],
)
def test_what_is_not_finite_is_a_violation(expected: float, actual: float) -> None:
    comparison = compared([1.0, expected, 2.0], [1.0, actual, 2.0], 1e-6)

    assert not comparison.agrees
    assert comparison.violations == 1
    assert comparison.nonfinite == 1
    assert comparison.ratio is None
    assert comparison.max_abs == 0.0
    assert comparison.channels == (1,)
    assert comparison.worst is not None
    assert comparison.worst.channel == 1
    for shown, number in ((comparison.worst.expected, expected), (comparison.worst.actual, actual)):
        assert shown == (number if math.isfinite(number) else None)


@pytest.mark.parametrize(
    ("output", "expected", "allowed"),
    [
        ("float32", 1e39, 1e32),
        ("float32", -1e39, 1e32),
        ("float32", 3.4028235e38, 1e33),
        ("float16", 65520.0, 65520 * 2.0**-11 + 1e-3),
        ("float16", -70000.0, 34.2),
        ("bfloat16", 3.4e38, 3.4e38 * 2.0**-8),
        ("float64", INFINITY, INFINITY),
    ],
)
def test_an_overflow_is_no_violation(output: str, expected: float, allowed: float) -> None:
    actual = math.copysign(INFINITY, expected)
    comparison = compared([1.0, expected], [1.0, actual], [1.0, allowed], output)

    assert comparison.agrees
    assert comparison.nonfinite == 1
    assert comparison.ratio == 0.0


@pytest.mark.parametrize(
    ("output", "expected", "allowed"),
    [
        ("float16", 65000.0, 31.8),
        ("float16", 65500.0, 65500 * 2.0**-11 + 1e-3),
        ("float32", 3.3e38, 1e32),
        ("bfloat16", 3.38e38, 3.38e38 * 2.0**-9),
        ("float32", 1e39, NAN),
    ],
)
def test_infinity_for_a_number_that_the_output_can_hold_is_a_violation(
    output: str, expected: float, allowed: float
) -> None:
    assert compared([1.0, expected], [1.0, INFINITY], [1.0, allowed], output).violations == 1


def test_overflow_alone_is_not_agreement() -> None:
    comparison = compared([1e39, -1e39], [INFINITY, -INFINITY], 1e32)

    assert comparison.violations == 0
    assert comparison.ratio is None
    assert comparison.worst is None
    assert not comparison.agrees


@pytest.mark.parametrize("allowed", [NAN, 0.0, -1.0, INFINITY, -INFINITY])
@pytest.mark.parametrize("actual", [2.0, 2.5])
def test_without_a_bound_nothing_agrees(allowed: float, actual: float) -> None:
    comparison = compared([1.0, 2.0], [1.0, actual], [1.0, allowed])

    assert not comparison.agrees
    assert comparison.violations == 1
    assert comparison.nonfinite == 0
    assert comparison.ratio is None
    assert comparison.channels == (1,)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (4, 0, 3)])
def test_nothing_is_not_agreement(shape: tuple[int, ...]) -> None:
    nothing, axis = np.zeros(shape), (len(shape) - 1,)
    layer = norm_of(np.random.default_rng(0), (shape[-1],))
    whole = compare(
        nothing,
        nothing.astype(np.float32),
        nothing,
        x=nothing,
        parameters=parameters_of(shape[-1]),
        axis=axis,
    )
    judged = judge(Observation("bn", "in-model", nothing, nothing.astype(np.float32), axis), layer)

    for comparison in (whole, judged):
        assert comparison.elements == 0
        assert comparison.ratio is None
        assert not comparison.agrees


def test_channels_are_named_worst_first_and_at_most_16() -> None:
    expected = np.zeros(40)
    actual = np.array([0.5 if i % 2 else 1.5 + i for i in range(40)])
    comparison = compared(list(expected), list(actual), 1.0)

    assert comparison.violations == 20
    assert comparison.channels == tuple(range(38, 6, -2))


def test_a_channel_that_is_not_finite_is_worse_than_any_other() -> None:
    comparison = compared([0.0, 0.0, 0.0], [1e30, NAN, 5.0], 1.0)

    assert comparison.channels == (1, 0, 2)
    assert comparison.ratio is None
    assert comparison.max_abs == pytest.approx(1e30)


@pytest.mark.parametrize("output", PRECISIONS)
@settings(deadline=None)
@given(expected=st.floats(-1e4, 1e4), steps=st.integers(0, 5))
def test_distances_in_units_in_the_last_place(output: str, expected: float, steps: int) -> None:
    kind = PRECISIONS[output]
    held = np.array([expected], kind.container)
    if output == "bfloat16":
        held = (held.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    value = float(held[0])
    exponent = max(math.frexp(value)[1] - 1, kind.lowest) if value else kind.lowest
    unit = math.ldexp(1.0, exponent - kind.digits + 1)

    # Towards zero, where the steps are as small or smaller, so that the type holds the number.
    comparison = compared([value], [value - math.copysign(steps * unit, value)], 1e6, output)

    assert comparison.max_ulp == steps
    if output != "bfloat16":
        assert unit == float(np.spacing(np.abs(held))[0])


def test_distances_that_are_no_number_are_cut_off() -> None:
    comparison = compared([0.0], [1e300], 1e-300, "float64")

    assert comparison.ratio == comparison.max_ulp == np.finfo(np.float64).max


@pytest.mark.parametrize("wrong", ["expected", "actual", "bound", "x"])
def test_shapes_must_be_equal(wrong: str) -> None:
    shapes = dict.fromkeys(("expected", "actual", "bound", "x"), (2, 3)) | {wrong: (1, 3)}
    expected, allowed, x = (np.zeros(shapes[name]) for name in ("expected", "bound", "x"))
    actual = np.zeros(shapes["actual"], np.float32)

    with pytest.raises(BninspectError, match="shape"):
        compare(expected, actual, allowed, x=x, parameters=parameters_of(3), axis=(1,))


@pytest.mark.parametrize(
    ("dtype", "output"),
    [("float64", "float32"), ("float32", "float64"), ("float32", "float16"), ("int32", "float32"), ("O", "float32")],
)
def test_types_must_be_what_was_said(dtype: str, output: str) -> None:
    y = np.zeros((2, 3), dtype)
    observation = Observation("bn", "in-model", np.zeros((2, 3), np.float32), y, (1,), output=output)

    with pytest.raises(BninspectError, match=output):
        judge(observation, norm_of(np.random.default_rng(0), (3,)))


# Judging in pieces


def norm_of(rng: np.random.Generator, shape: tuple[int, ...]) -> BatchNorm:
    g, b, m = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    return BatchNorm("bn", g, b, m, rng.uniform(0.1, 3.0, shape).astype(np.float32), 1e-3)


@dataclass(frozen=True)
class Call:
    shape: tuple[int, ...]
    axis: tuple[int, ...]
    form: Form
    output: str


@st.composite
def calls(draw: st.DrawFn) -> Call:
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=7))
    axis = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1, max_size=3))
    return Call(shape, tuple(sorted(axis)), draw(st.sampled_from(Form)), draw(st.sampled_from(list(PRECISIONS))))


def observe(rng: np.random.Generator, call: Call) -> tuple[Observation, BatchNorm]:
    """Return a layer and a call of it with a kernel that rounds once."""
    lengths = tuple(n if a in call.axis else 1 for a, n in enumerate(call.shape))
    norm = norm_of(rng, lengths if len(call.axis) > 1 else (call.shape[call.axis[0]],))
    kind = PRECISIONS[call.output].container
    x = (3 * rng.standard_normal(call.shape)).astype(kind)
    arithmetic = "float64" if call.output == "float64" else "float32"
    with np.errstate(over="ignore"):
        y = normalise(norm, x, axis=call.axis, arithmetic=arithmetic).astype(kind)
    return Observation("bn", "probed", x, y, call.axis, arithmetic, call.output, call.form), norm


def plainly(observation: Observation, norm: BatchNorm) -> Comparison:
    """Compare by the public functions one after the other, on whole arrays."""
    arithmetic, axis = observation.arithmetic, observation.axis
    parameters = Parameters.of(norm, arithmetic)
    expected = normalise(parameters, observation.x, axis=axis, arithmetic=arithmetic)
    allowed = bound(
        parameters,
        observation.x,
        expected,
        form=observation.form,
        axis=axis,
        arithmetic=arithmetic,
        output=observation.output,
    )
    return compare(
        expected,
        observation.y,
        allowed,
        x=observation.x,
        parameters=parameters,
        axis=axis,
        output=observation.output,
        observed=observation.observed,
    )


def one_by_one(observation: Observation, norm: BatchNorm) -> dict[str, Any]:
    """Compare element by element in Python, by the rules alone."""
    arithmetic, axis, kind = observation.arithmetic, observation.axis, PRECISIONS[observation.output]
    parameters = Parameters.of(norm, arithmetic)
    expected = normalise(parameters, observation.x, axis=axis, arithmetic=arithmetic)
    allowed = bound(
        parameters,
        observation.x,
        expected,
        form=observation.form,
        axis=axis,
        arithmetic=arithmetic,
        output=observation.output,
    )
    violations, nonfinite, ratios, distances, unmeasured = 0, 0, [], [], False
    severity: dict[int, float] = {}
    lengths = [observation.x.shape[a] for a in axis]
    largest = [0.0] * math.prod(lengths)
    for index in np.ndindex(observation.x.shape):
        want, got, may = float(expected[index]), float(observation.y[index]), float(allowed[index])
        ratio = INFINITY
        channel = int(np.ravel_multi_index([index[a] for a in axis], lengths))
        finite = math.isfinite(want) and math.isfinite(got)
        nonfinite += not finite
        if finite:
            distances.append(abs(got - want))
        if finite and 0 < may < INFINITY:
            ratio = abs(got - want) / may
            ratios.append(ratio)
        elif math.isinf(got) and want * got > 0 and abs(want) + may > kind.largest * (1 + kind.unit):
            continue
        else:
            unmeasured = True
        largest[channel] = max(largest[channel], ratio)
        if not ratio <= 1.0:
            violations += 1
            severity[channel] = max(ratio, severity.get(channel, 0.0))
    return {
        "elements": observation.x.size,
        "violations": violations,
        "nonfinite": nonfinite,
        "ratio": None if unmeasured else max(ratios, default=None),
        "max_abs": max(distances, default=None),
        "channels": tuple(sorted(severity, key=lambda channel: (-severity[channel], channel))[:16]),
        "channel_ratios": channel_strips.peaks(np.array(largest)),
        "worst_channels": tuple(
            detailed(channel, largest[channel], parameters)
            for channel in sorted(range(len(largest)), key=lambda channel: -largest[channel])[:8]
        ),
    }


def detailed(channel: int, ratio: float, parameters: Parameters) -> Channel:
    stored = (parameters.gamma, parameters.beta, parameters.mean, parameters.variance)
    numbers = (float(array.ravel()[channel]) for array in stored)
    return Channel(channel, ratio if math.isfinite(ratio) else None, *numbers)


def damage(rng: np.random.Generator, observation: Observation, norm: BatchNorm) -> tuple[Observation, BatchNorm]:
    """Put something wrong into a call, or nothing."""
    x, y = observation.x.copy(), observation.y.copy()
    for array in (x, y):
        if rng.random() < 0.4:
            for wrong in rng.choice([NAN, INFINITY, -INFINITY, 1e4, 0.0], 3):
                array.reshape(-1)[rng.integers(array.size)] = wrong
    if rng.random() < 0.3:
        norm = replace(norm, epsilon=1e-2)
    if rng.random() < 0.3:
        assert norm.moving_variance is not None
        variance = norm.moving_variance.copy()
        variance.reshape(-1)[rng.integers(variance.size)] = -1.0
        norm = replace(norm, moving_variance=variance)
    return replace(observation, x=x, y=y), norm


def same(a: Comparison, b: Comparison) -> bool:
    return repr(a) == repr(b)


@settings(max_examples=300, deadline=None)
@given(
    call=calls(),
    seed=st.integers(0, 2**32 - 1),
    piece=st.sampled_from([1, 5, 16, 64, 8192]),
    row=st.sampled_from([1, 8, 1024]),
    neighbours=st.sampled_from([1, 3, 16]),
)
def test_judging_in_pieces_is_comparing_whole_arrays(
    call: Call, seed: int, piece: int, row: int, neighbours: int
) -> None:
    """Bit for bit, wherever the pieces are cut and whatever is wrong; and both are what the rules say."""
    rng = np.random.default_rng(seed)
    observation, norm = damage(rng, *observe(rng, call))
    row = min(row, piece)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "PIECE", piece)
        patch.setattr(chunks, "ROW", row)
        patch.setattr(chunks, "NEIGHBOURS", neighbours)
        judged = judge(observation, norm)

    whole = plainly(observation, norm)
    assert same(judged, whole)
    for name, value in one_by_one(observation, norm).items():
        assert getattr(whole, name) == value, name


@pytest.mark.parametrize("shape", [(3, 50, 60, 7), (1, 3000), (2, 20000), (5, 40, 50, 64), (20000, 1)])
@pytest.mark.parametrize("place", ["last", "first"])
@pytest.mark.parametrize("output", ["float32", "float16"])
def test_judging_activations_of_real_size(shape: tuple[int, ...], place: str, output: str) -> None:
    rng = np.random.default_rng(3)
    axis = len(shape) - 1 if place == "last" else min(1, len(shape) - 1)
    observation, norm = observe(rng, Call(shape, (axis,), Form.UNKNOWN, output))
    good = judge(observation, norm)
    y = observation.y.copy()
    index = tuple(n - 1 - n // 3 for n in shape)
    y[index] += 1
    bad = judge(replace(observation, y=y), norm)

    assert good.agrees
    assert same(good, plainly(observation, norm))
    assert same(bad, plainly(replace(observation, y=y), norm))
    assert bad.violations == 1
    assert bad.channels == (index[axis],)
    assert bad.worst is not None
    assert bad.worst.index == index


def test_arrays_in_any_memory_order_are_judged_alike() -> None:
    rng = np.random.default_rng(4)
    observation, norm = observe(rng, Call((4, 6, 5, 3), (3,), Form.AFFINE, "float32"))
    x, y = observation.x, observation.y
    for change in (
        np.asfortranarray,
        lambda each: each[::-1][::-1],
        lambda each: each.astype(each.dtype.newbyteorder()),
    ):
        other = replace(observation, x=change(x), y=change(y))
        assert same(judge(other, norm), judge(observation, norm))


def test_a_tolerance_takes_the_place_of_the_bound() -> None:
    rng = np.random.default_rng(5)
    observation, norm = observe(rng, Call((8, 4), (1,), Form.AFFINE, "float32"))
    observation = replace(observation, y=observation.y * np.float32(1.001))

    assert not judge(observation, norm).agrees
    assert judge(observation, norm, tolerance=(2e-3, 1e-6)).agrees
    assert not judge(observation, norm, tolerance=(5e-4, 1e-6)).agrees
    assert judge(replace(observation, y=observation.y * NAN), norm, tolerance=(1.0, 1e9)).violations == 32


def test_a_layer_with_a_negative_variance_never_agrees() -> None:
    rng = np.random.default_rng(6)
    observation, norm = observe(rng, Call((8, 4), (1,), Form.AFFINE, "float32"))
    assert norm.moving_variance is not None
    norm = replace(norm, moving_variance=np.where(np.arange(4) == 2, np.float32(-1), norm.moving_variance))
    y = normalise(norm, observation.x, axis=(1,)).astype(np.float32)

    comparison = judge(replace(observation, y=y), norm)

    assert comparison.violations == comparison.nonfinite == 8
    assert comparison.channels == (2,)
    assert comparison.worst is not None
    assert comparison.worst.moving_variance == -1.0


def test_a_layer_without_epsilon_is_not_judged() -> None:
    observation, norm = observe(np.random.default_rng(7), Call((8, 4), (1,), Form.AFFINE, "float32"))

    with pytest.raises(UsageError, match="epsilon"):
        judge(observation, replace(norm, epsilon=None))


def test_parameters_of_another_layer_are_not_stretched() -> None:
    observation, _ = observe(np.random.default_rng(8), Call((8, 4), (1,), Form.AFFINE, "float32"))

    with pytest.raises(BninspectError, match="do not fit"):
        judge(observation, norm_of(np.random.default_rng(8), (1,)))


# Joining


@settings(max_examples=150, deadline=None)
@given(call=calls(), seed=st.integers(0, 2**32 - 1), cut=st.floats(0, 1))
def test_joined_parts_are_the_whole(call: Call, seed: int, cut: float) -> None:
    call = replace(call, shape=(9, *call.shape), axis=tuple(a + 1 for a in call.axis))
    rng = np.random.default_rng(seed)
    observation, norm = observe(rng, call)
    observation, norm = damage(rng, observation, norm)
    at = 1 + int(cut * 7)
    first, second = (
        judge(replace(observation, x=observation.x[part], y=observation.y[part]), norm)
        for part in (slice(0, at), slice(at, 9))
    )

    joined, whole = merge(first, second), judge(observation, norm)

    for field in dataclasses.fields(Comparison):
        if field.name not in {"worst", "channels", "calls"}:
            assert getattr(joined, field.name) == getattr(whole, field.name), field.name
    assert joined.calls == 2
    assert joined.agrees == whole.agrees
    assert bool(joined.channels) == bool(whole.channels)
    if len(whole.channels) < 16:
        assert set(joined.channels) == set(whole.channels)
    if whole.ratio is not None:
        assert joined.worst is not None
        assert whole.worst is not None
        assert joined.worst.expected == whole.worst.expected


def test_a_violation_without_a_ratio_is_worse_than_any_ratio() -> None:
    broken, far, fine = compared([1.0], [NAN], 1.0), compared([1.0], [1e30], 1.0), compared([1.0], [1.0], 1.0)

    for joined in (merge(broken, far), merge(far, broken), merge(merge(fine, broken), far)):
        assert joined.ratio is None
        assert joined.worst == broken.worst
        assert joined.max_abs == far.max_abs
        assert not joined.agrees


def test_joining_with_a_call_of_nothing_changes_no_number() -> None:
    fine = compared([1.0], [1.0], 1.0)
    nothing = replace(fine, elements=0, ratio=None, max_abs=None, max_ulp=None, worst=None)

    assert merge(nothing, fine) == merge(fine, nothing) == replace(fine, calls=2)
    assert not merge(nothing, nothing).agrees


def test_overflow_in_one_call_leaves_the_ratio_of_the_other() -> None:
    overflow, fine = compared([1e39], [INFINITY], 1e32), compared([1.0], [1.5], 1.0)

    joined = merge(overflow, fine)

    assert joined.ratio == 0.5
    assert joined.nonfinite == 1
    assert joined.agrees


def test_observations_of_different_kinds_are_not_joined() -> None:
    fine = compared([1.0], [1.0], 1.0)

    with pytest.raises(BninspectError, match="probed"):
        merge(fine, replace(fine, observed="probed"))
    with pytest.raises(BninspectError, match="onnx"):
        merge(fine, replace(fine, reference="onnx"))
