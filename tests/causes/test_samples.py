"""What is kept of a call, what is known of it when numbers are typed, and what several calls say together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.layers import layer
from helpers.wrong_kernels import KERNELS, Numbers, float16, norm, right
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect import causes
from bninspect.arithmetic.bounds import bound
from bninspect.arithmetic.formula import Parameters, normalise
from bninspect.arithmetic.rounding import nicest
from bninspect.causes import samples
from bninspect.causes.lines import lines
from bninspect.causes.predict import View
from bninspect.errors import BninspectError
from bninspect.records import Array, BatchNorm, Form, Observation
from bninspect.runtimes.probe import points


def numbers(channels: int) -> Numbers:
    random = np.random.default_rng(channels)
    gamma = random.uniform(0.5, 2, channels) * random.choice([-1, 1], channels)
    beta, mean = random.normal(size=(2, channels))
    variance = random.uniform(0.01, 3, channels)
    variance[-1] = 1e-5  # tells close epsilons apart
    g, b, m, v = (each.astype(np.float32) for each in (gamma, beta, mean, variance))
    return Numbers(g, b, m, v, 1e-3)


def stored(n: Numbers) -> BatchNorm:
    return BatchNorm("bn", n.gamma, n.beta, n.mean, n.variance, n.epsilon)


def call(n: Numbers, x: Array, y: Array, observed: str = "in-model", axis: int = -1) -> Observation:
    return Observation("bn", observed, x, y.astype(np.float32), (axis % x.ndim,))


def test_a_sample_of_a_large_call_has_every_channel_its_extremes_and_its_worst_element() -> None:
    n = numbers(40)
    x = np.random.default_rng(0).normal(size=(2, 50, 60, 40)).astype(np.float32)
    y = right(x, n)
    y[1, 17, 23, 11] += 0.5
    y[0, 3, 4, 39] = np.nan
    of = causes.sample(stored(n), call(n, x, y))
    assert x.size > samples.LARGEST
    assert of.flat.size <= samples.LARGEST
    channel = of.along((3,))
    flat = set(of.flat.tolist())
    for c in range(40):
        kept = of.x[channel == c]
        assert kept.size >= 1000
        assert kept.min() == x[..., c].min()
        assert kept.max() == x[..., c].max()
    assert np.ravel_multi_index((1, 17, 23, 11), x.shape) in flat
    assert np.ravel_multi_index((0, 3, 4, 39), x.shape) in flat
    np.testing.assert_array_equal(of.x, x.ravel()[of.flat])
    np.testing.assert_array_equal(of.y, y.ravel()[of.flat])


def test_statistics_are_those_of_the_whole_call_and_not_of_the_sample() -> None:
    n = numbers(16)
    x = np.random.default_rng(0).normal(size=(3, 60, 50, 16)).astype(np.float32) * 3 + 1
    of = causes.sample(stored(n), call(n, x, right(x, n)))
    n_, h, w, c = of.coordinates
    np.testing.assert_allclose(of.moments["batch"].mean, x.mean(axis=(0, 1, 2), dtype=float)[c])
    np.testing.assert_allclose(of.moments["instance"].variance, x.var(axis=(1, 2), dtype=float)[n_, c])
    np.testing.assert_allclose(of.moments["position"].mean, x.mean(axis=3, dtype=float)[n_, h, w])
    np.testing.assert_allclose(of.moments["layer"].variance, x.var(axis=(1, 2, 3), dtype=float)[n_])
    grouped = x.reshape(3, 60, 50, 4, 4).mean(axis=(1, 2, 4), dtype=float)
    np.testing.assert_allclose(of.moments["group 4"].mean, grouped[n_, c // 4])
    assert {name: one.n for name, one in of.moments.items()} == {
        "batch": 9000,
        "instance": 3000,
        "layer": 48000,
        "position": 16,
        "group 2": 24000,
        "group 4": 12000,
        "group 8": 6000,
    }


def test_groups_of_channels_that_come_first() -> None:
    n = numbers(8)
    x = np.random.default_rng(0).normal(size=(3, 8, 5, 4)).astype(np.float32)
    split = x.reshape(3, 4, 2, 5, 4)
    mean, variance = (
        np.broadcast_to(each, split.shape).reshape(x.shape)
        for each in (split.mean(axis=(2, 3, 4), keepdims=True), split.var(axis=(2, 3, 4), keepdims=True))
    )
    g, b = n.gamma.reshape(8, 1, 1), n.beta.reshape(8, 1, 1)
    found = causes.explain(
        stored(n), [causes.sample(stored(n), call(n, x, norm(x, g, b, mean, variance, 1e-3), axis=1))]
    )
    assert [cause.name for cause in found.causes] == ["group=4"]


def test_nothing_to_explain_is_an_error() -> None:
    n = numbers(4)
    x = np.zeros((2, 4), np.float32)
    with pytest.raises(BninspectError, match="nothing to explain"):
        causes.sample(stored(n), call(n, x, x[:1]))
    with pytest.raises(BninspectError, match="nothing to explain"):
        causes.explain(stored(n), [])
    with pytest.raises(BninspectError, match="4 channels"):
        causes.explain(stored(numbers(5)), [causes.sample(stored(n), call(n, x, x))])


def test_nan_agrees_with_nothing() -> None:
    n = numbers(4)
    x = np.ones((5, 4), np.float32)
    for of in (n, replace(n, variance=-1 - n.variance)):  # also where the formula itself gives NaN
        layer = stored(of)
        found = causes.explain(layer, [causes.sample(layer, call(of, x, np.full(x.shape, np.nan, np.float32)))])
        assert not found.matches
        assert found.causes == ()
        assert found.remarks == ("no output is a finite number: NaN and infinity explain nothing",)


def test_nan_that_both_sides_have_does_not_hide_a_cause() -> None:
    n = numbers(6)
    n.variance[2] = -3
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        y = KERNELS["gamma-ignored"](x, n)
    found = causes.explain(stored(n), [causes.sample(stored(n), call(n, x, y))])
    assert [cause.name for cause in found.causes] == ["gamma-ignored"]
    with np.errstate(invalid="ignore"):
        right_ = causes.explain(stored(n), [causes.sample(stored(n), call(n, x, right(x, n)))])
    assert not right_.matches
    assert right_.causes == ()
    assert right_.remarks == ("every output that is a number is right; 40 are not numbers, in channel 2",)


@pytest.mark.parametrize(("bounds", "explained"), [(0.9, True), (1.1, False)])
def test_a_cause_must_be_within_its_bound_everywhere(bounds: float, explained: bool) -> None:
    n = numbers(6)
    layer = stored(replace(n, epsilon=0.1))
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    y = normalise(stored(n), x, axis=(1,))
    limit = bound(Parameters.of(stored(n)), x, y, form=Form.CENTRED, axis=(1,))
    y[7, 3] += bounds * limit[7, 3]
    observation = Observation("bn", "given", x, y, (1,), form=Form.CENTRED)
    found = causes.explain(layer, [causes.sample(layer, observation)])
    assert [cause.name for cause in found.causes] == (["epsilon=0.001"] if explained else [])


def test_a_number_that_one_channel_gives_alone_is_no_cause() -> None:
    found = {}
    for channels in (1, 2):
        n = numbers(channels)
        x = np.random.default_rng(0).normal(size=(40, channels)).astype(np.float32)
        y = norm(x, n.gamma, n.beta, n.mean, n.variance * np.float32(300), n.epsilon)
        found[channels] = causes.explain(stored(n), [causes.sample(stored(n), call(n, x, y))]).causes
    assert found[1] == ()
    assert [cause.name for cause in found[2]] == ["variance-factor=300"]


def test_two_calls_separate_what_one_cannot() -> None:
    n = numbers(6)
    layer = stored(n)
    small = np.random.default_rng(0).uniform(-1, 1, size=(1, 4, 4, 6)).astype(np.float32) * np.sqrt(n.variance) + n.mean
    one = causes.sample(layer, call(n, small, KERNELS["relu6-after"](small, n)))
    tied = causes.explain(layer, [one]).causes
    assert [(cause.name, cause.ties) for cause in tied] == [
        ("relu-after", ("relu6-after",)),
        ("relu6-after", ("relu-after",)),
    ]
    assert {cause.separated_by for cause in tied} == {"an output above 6"}
    large = 100 * small
    two = causes.sample(layer, call(n, large, KERNELS["relu6-after"](large, n), "probed"))
    assert [cause.name for cause in causes.explain(layer, [one, two]).causes] == ["relu6-after"]


@pytest.mark.parametrize(
    "name", ["epsilon=1e-05", "divided-by-variance", "gamma-ignored", "mean-added", "epsilon=0.0005"]
)
def test_a_probe_that_reaches_far_out_is_explained_too(name: str) -> None:
    n = numbers(6)
    layer = stored(n)
    near = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype(np.float32)
    far = next(points(layer.arrays, 1e-3, (3,), 4, "float32")).astype(np.float32)
    assert np.abs(far).max() > 1e9
    found = causes.explain(
        layer,
        [
            causes.sample(layer, call(n, x, KERNELS[name](x, n), kind))
            for x, kind in ((near, "in-model"), (far, "probed"))
        ],
    )
    assert [cause.name for cause in found.causes] == [name]


def test_float16_is_named_although_it_overflows_on_a_probe() -> None:
    n = numbers(6)
    layer = stored(n)
    near = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype(np.float32)
    far = next(points(layer.arrays, 1e-3, (3,), 4, "float32")).astype(np.float32)
    with np.errstate(over="ignore"):
        ys = [KERNELS["arithmetic=float16"](x, n) for x in (near, far)]
    assert not np.isfinite(ys[1]).all()
    found = causes.explain(layer, [causes.sample(layer, call(n, x, y)) for x, y in zip((near, far), ys, strict=True)])
    assert [cause.name for cause in found.causes] == ["arithmetic=float16"]
    assert float16(ys[0]).tolist() == ys[0].tolist()


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_error_bars_of_a_line_hold(seed: int, size: float, affine: bool) -> None:
    random = np.random.default_rng(seed)
    n = replace(numbers(5), mean=(random.normal(size=5) * size).astype(np.float32))
    x = (n.mean + random.normal(size=(int(random.integers(2, 30)), 5))).astype(np.float32)
    scale = n.gamma / np.sqrt(n.variance + np.float32(1e-3))
    y = x * scale + (n.beta - n.mean * scale) if affine else right(x, n)
    of = replace(causes.sample(stored(n), call(n, x, y)), forms=(Form.CENTRED, Form.AFFINE))
    arrays = {"gamma": n.gamma, "beta": n.beta, "mean": n.mean, "variance": n.variance}
    found = lines(View(of, {k: v.astype(np.float64) for k, v in arrays.items()}, 1e-3, of.along((1,))))  # type: ignore[misc]
    slope = n.gamma.astype(float) / np.sqrt(n.variance.astype(float) + float(np.float32(1e-3)))
    intercept = n.beta - n.mean * slope
    measured = np.isfinite(found.slope)
    assert measured.any() or size > 1e4  # so far out, all x of a channel may be one float32
    assert (np.abs(found.slope - slope) <= found.slope_error)[measured].all()
    assert (np.abs(found.intercept - intercept) <= found.intercept_error)[measured].all()
    assert found.affine[measured].all()


@given(st.floats(1e-12, 1e12), st.floats(1e-9, 0.5))
def test_the_nicest_number_is_in_its_interval_and_has_no_needless_digit(middle: float, width: float) -> None:
    low, high = middle * (1 - width), middle * (1 + width)
    chosen = nicest(low, high)
    assert low <= chosen <= high
    digits = len(f"{chosen:e}".partition("e")[0].replace(".", "").rstrip("0"))
    assert digits <= 2 + int(np.ceil(-np.log10(width)))


def test_typed_parameters_are_known_to_half_a_digit() -> None:
    stored_ = layer(
        gamma=np.array([1.234]),
        beta=np.array([0.0]),
        moving_mean=np.array([0.5678]),
        moving_variance=np.array([0.9876]),
    )
    y = 1.2343 * (2.5 - 0.56776) / np.sqrt(0.98764 + 1e-3)
    plain = causes.Sample((1, 1), (1,), np.array([0]), np.array([2.5]), np.array([y]), (Form.CENTRED,))
    assert not causes.explain(stored_, [plain]).matches
    half = {"gamma": np.array([5e-4]), "mean": np.array([5e-5]), "variance": np.array([5e-5]), "y": np.array([5e-6])}
    assert causes.explain(stored_, [replace(plain, half_digits=half)]).matches
    other = replace(plain, y=plain.y * 1.001, half_digits=half)
    assert not causes.explain(stored_, [other]).matches
