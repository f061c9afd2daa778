"""The arithmetic of folding, against convolutions that NumPy computes one product at a time."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.layers import frozen, layer
from hypothesis import given
from hypothesis import strategies as st

from bninspect.arithmetic.formula import Float64, Parameters, normalise
from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.equivalence import folding
from bninspect.equivalence.folding import ChannelMap
from bninspect.equivalence.pairing import source_norms
from bninspect.equivalence.pairing.fits import factor_between
from bninspect.equivalence.pairing.pair import pair
from bninspect.records import Array, BatchNorm, graph
from bninspect.records.graph import Kernel

SEEDS = st.integers(0, 2**32 - 1)


def _norm(generator: np.random.Generator, channels: int) -> BatchNorm:
    sign = np.where(generator.integers(0, 2, channels) == 0, -1.0, 1.0)
    return layer(
        gamma=frozen(generator.uniform(0.5, 2, channels) * sign),
        beta=frozen(generator.normal(size=channels)),
        moving_mean=frozen(generator.normal(size=channels) * 3),
        moving_variance=frozen(10 ** generator.uniform(-5, 2, channels)),
        epsilon=1e-3,
    )


def _apply(weights: Float64, bias: Float64, groups: int, x: Float64) -> Float64:
    """Apply one place of an operation to x of shape (taps, inputs), output by output, as its groups say."""
    taps, inputs, outputs = weights.shape
    y = bias.copy()
    for o in range(outputs):
        first = o // (outputs // groups) * inputs
        for tap in range(taps):
            for i in range(inputs):
                y[o] += weights[tap, i, o] * x[tap, first + i]
    return y


@given(SEEDS, st.sampled_from([(1, 3, 4, 1), (4, 2, 6, 3), (9, 1, 6, 3), (2, 1, 4, 4)]))
def test_folded_operation_computes_the_same(seed: int, shape: tuple[int, int, int, int]) -> None:
    taps, inputs, outputs, groups = shape
    generator = np.random.default_rng(seed)
    kernel = Kernel(generator.normal(size=(taps, inputs, outputs)), generator.normal(size=outputs), groups)
    x = generator.normal(size=(taps, inputs * groups))
    plain = folding.plain(kernel)
    y = _apply(plain.weights, plain.bias, groups, x)
    after = _norm(generator, outputs)
    folded = folding.behind(plain, folding.affine(after))
    expected = normalise(after, y, axis=(0,))
    np.testing.assert_allclose(_apply(folded.weights, folded.bias, groups, x), expected, rtol=1e-9, atol=1e-9)
    front = _norm(generator, inputs * groups)
    folded = folding.before(plain, folding.affine(front), groups)
    inside = normalise(front, x, axis=(1,))
    expected = _apply(plain.weights, plain.bias, groups, inside)
    np.testing.assert_allclose(_apply(folded.weights, folded.bias, groups, x), expected, rtol=1e-8, atol=1e-8)


def _as_a_converter_does(kernel: Kernel, norm: BatchNorm, order: int) -> tuple[Array, Array]:
    """Fold in float32, in one of the orders that converters have."""
    one = np.float32(1)
    gamma, beta, mean, variance = (np.asarray(array, np.float32) for array in norm.arrays.values())
    root = np.sqrt(variance + np.float32(norm.epsilon or 0))
    scale = gamma / root if order == 0 else gamma * (one / root)
    bias = np.float32(0) if kernel.bias is None else kernel.bias
    if order == 2:
        return kernel.weights * scale, bias * scale + (beta - mean * scale)
    return kernel.weights * scale, (bias - mean) * scale + beta


@given(SEEDS, st.integers(0, 2), st.booleans())
def test_every_order_of_a_float32_fold_is_within_the_bound(seed: int, order: int, biased: bool) -> None:
    generator = np.random.default_rng(seed)
    weights = (generator.normal(size=(9, 4, 8)) * 10 ** generator.uniform(-6, 3, 8)).astype(np.float32)
    bias = generator.normal(size=8).astype(np.float32) if biased else None
    norm = _norm(generator, 8)
    kernel = Kernel(weights, bias)
    right = folding.behind(folding.plain(kernel), folding.affine(norm))
    weights, shift = _as_a_converter_does(kernel, norm, order)
    assert folding.fits(weights, right.weights, right.weight_bound)
    assert folding.fits(shift, right.bias, right.bias_bound)


def test_the_bound_is_not_wide() -> None:
    """Half a thousandth of a thousandth off is seen, in the weights and in the bias."""
    generator = np.random.default_rng(3)
    kernel = Kernel(generator.normal(size=(9, 4, 8)).astype(np.float32), np.ones(8, np.float32))
    right = folding.behind(folding.plain(kernel), folding.affine(_norm(generator, 8)))
    assert not folding.fits(right.weights * (1 + 1e-6), right.weights, right.weight_bound)
    assert (right.bias_bound <= 1e-6 * (np.abs(right.bias) + 200)).all()


def test_nan_fits_nothing() -> None:
    ones, nan = np.ones(3), np.full(3, np.nan)
    for actual, expected, bound in ((nan, ones, ones), (ones, nan, ones), (ones, ones, nan), (nan, nan, nan)):
        assert not folding.fits(actual, expected, bound)
    assert not folding.fits(np.ones(2), ones, ones)
    assert folding.fits(ones, ones, ones)


@given(st.integers(0, 2**32), st.floats(1e-6, 1e-2), st.floats(1e-6, 1e-1), st.floats(1e-3, 1e3))
def test_places_that_were_looked_for_in_float32_are_right(seed: int, of_x: float, of_w: float, size: float) -> None:
    """As TensorFlow's converter does for int16 activations, whose biases are millions of steps."""
    bias = (np.random.default_rng(seed).standard_normal(50) * size).astype(np.float32)
    step = np.float32(of_x) * np.float32(of_w)
    places = np.rint(bias * (np.float32(1) / step))
    stored = Kernel(np.ones((1, 1, 50)), places.astype(np.float64) * step, bias_step=np.full(50, step))
    within = folding.as_stored(folding.plain(Kernel(np.ones((1, 1, 50)), bias)), stored)
    assert stored.bias is not None
    assert folding.fits(stored.bias, within.bias, within.bias_bound)
    assert not folding.fits(stored.bias + 1.1 * step + 5e-7 * np.abs(bias), within.bias, within.bias_bound)


def test_quantised_and_rounded_numbers_have_a_wider_bound() -> None:
    kernel = Kernel(np.ones((1, 1, 2)), np.zeros(2))
    folded = folding.plain(kernel)
    step = np.array([0.5, 0.25])
    stored = Kernel(np.ones((1, 1, 2)), np.zeros(2), weight_step=step, bias_step=step / 2)
    wide = folding.as_stored(folded, stored)
    np.testing.assert_allclose(wide.weight_bound.ravel(), step / 2, rtol=1e-5)
    np.testing.assert_allclose(wide.bias_bound, step / 4, rtol=1e-5)
    half = folding.as_stored(folded, Kernel(np.ones((1, 1, 2)), dtype="float16"))
    np.testing.assert_allclose(half.weight_bound, 2**-11, rtol=1e-3)


def test_bias_in_front_is_taken_along() -> None:
    norm = folding.affine(layer())
    bias = np.array([1.0, -2, 0.5])
    x = np.array([0.3, 7, -1])
    moved = norm.behind(bias)
    np.testing.assert_allclose(moved.scale * x + moved.shift, norm.scale * (x + bias) + norm.shift)


def test_folded_statistics_are_scale_and_shift() -> None:
    from bninspect.records import Statistics

    of = layer(moving_mean=None, moving_variance=None, epsilon=None, statistics=Statistics.FOLDED)
    found = folding.affine(of)
    np.testing.assert_array_equal(found.scale, of.arrays["gamma"])
    np.testing.assert_array_equal(found.shift, of.arrays["beta"])
    assert norm_kernel(of) is not None
    assert ChannelMap.of(Parameters.of(of)).mean.tolist() == [0, 0, 0]


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_transposed_weights_keep_their_groups(groups: int) -> None:
    """Each stored (input, output of its group) is where the group, the input in it and the output of all say."""
    stored = np.arange(6 * 4 * 5, dtype=np.float64).reshape(6, 4, 5)
    weights = graph.transposed(stored, groups)
    assert weights.shape == (5, 6 // groups, 4 * groups)
    for i in range(6):
        group, inside = divmod(i, 6 // groups)
        for o in range(4):
            np.testing.assert_array_equal(weights[:, inside, group * 4 + o], stored[i, o])


def test_batch_norm_over_several_axes_does_not_fold_into_the_convolution_in_front_of_it() -> None:
    generator = np.random.default_rng(0)
    kernel = Kernel(generator.normal(size=(9, 3, 6)))
    nodes = (
        graph.Node("conv", "convolution", ("x",), ("h",), kernel),
        graph.Node("bn", graph.BATCH_NORM, ("h",), ("y",), layer="bn"),
    )
    network = graph.Network((), (), nodes)
    for channels, folds in ((6, True), (48, False)):
        found = source_norms.norms(network, {"bn": _norm(generator, channels)})
        assert (found[0].kernel is nodes[0]) is folds
        assert pair(found, network, network).missing == found


@given(SEEDS)
def test_a_model_of_halves_may_be_folded_in_half_precision_and_no_coarser(seed: int) -> None:
    """Whatever the file keeps: W*a of a slope rounded to float16 is right, of one off by a hundredth is not."""
    generator = np.random.default_rng(seed)
    own = ChannelMap.of(Parameters.of(_norm(generator, 4)))
    weights = generator.normal(size=(9, 3, 4)).astype(np.float16)
    exact, narrow = Kernel(weights), Kernel(weights, dtype="float16", narrow=True)
    in_half = weights.astype(np.float64) * own.scale.astype(np.float16).astype(np.float64)
    for factor, right in ((1.0, True), (1.01, False)):
        folded = folding.behind(folding.plain(narrow), own)
        assert folding.fits(in_half * factor, folded.weights, folded.weight_bound) is right
    folded = folding.behind(folding.plain(exact), own)
    assert not folding.fits(in_half, folded.weights, folded.weight_bound)


def test_a_copy_is_as_stored_or_as_computed_with() -> None:
    """Mixed precision keeps float32 and multiplies by halves: either is a copy; a model of halves has but one."""
    weights = np.random.default_rng(0).normal(size=(9, 3, 4)).astype(np.float32)
    halves = weights.astype(np.float16).astype(np.float32)
    plain = folding.plain(Kernel(weights, dtype="float16", narrow=True))
    assert folding.fits(weights, plain.weights, plain.weight_bound)
    assert folding.fits(halves, plain.weights, plain.weight_bound)
    assert not folding.fits(halves * np.float32(1.0001), plain.weights, plain.weight_bound)
    plain = folding.plain(Kernel(halves, dtype="float16", narrow=True))
    assert not folding.fits(weights, plain.weights, plain.weight_bound)


def test_the_number_that_quantised_weights_are_multiplied_by_leaves_each_within_half_a_step() -> None:
    """Of least squares it does not for some: these are quantised to 8 bits of 0.05 times what they were."""
    generator = np.random.default_rng(13)
    own = generator.normal(size=(9, 4, 6))
    stored = np.rint(own * 0.05 / 0.02) * 0.02
    factor = factor_between(own, stored, np.full(own.shape, 0.010001))
    assert (np.abs(stored - factor * own) <= 0.010001).all()
    assert np.isnan(factor_between(np.zeros((1, 1, 2)), np.ones((1, 1, 2)), np.zeros((1, 1, 2))))
