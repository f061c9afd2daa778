"""Convolutions are exact: by loops over fractions, by torch in float64, and by what the shapes must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import naive_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.kernels import Budget, Convolution, Weights, Window, convolve, same
from bninspect.errors import BninspectError


@st.composite
def asked(draw: Any) -> tuple[Convolution, Any, Any, Any]:
    """Return a convolution, x, w (*size, inputs per group, outputs) and bias of small whole numbers."""
    rank = draw(st.integers(1, 3))
    small = st.integers(1, 3 if rank < 3 else 2)
    size, stride, dilation = (tuple(draw(small) for _ in range(rank)) for _ in range(3))
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank))
    groups, each, filters = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    transposed = draw(st.booleans())
    extra = tuple(draw(st.integers(0, s)) for s in stride) if transposed else None
    lengths = tuple(draw(st.integers((k - 1) * d + 1, (k - 1) * d + 3)) for k, d in zip(size, dilation, strict=True))
    first = draw(st.booleans())
    operation = Convolution(
        Window(size, stride, padding, dilation), groups, transposed, extra, channel_axis=1 if first else -1
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.integers(-9, 10, (draw(st.integers(1, 2)), *lengths, groups * each))
    w = rng.integers(-9, 10, (*size, each, groups * filters))
    return operation, x, w, rng.integers(-9, 10, groups * filters)


def _weights(w: Any, bias: Any = None) -> Weights:
    return Weights.of(w.reshape(-1, *w.shape[-2:]), bias)


@given(asked())
@settings(max_examples=150, deadline=None)
def test_a_convolution_is_what_its_definition_says(case: tuple[Convolution, Any, Any, Any]) -> None:
    operation, x, w, bias = case
    outputs = operation.outputs(x.shape[1:-1])
    if 0 in outputs:
        return
    parts = operation.window
    expected, magnitude = (
        naive_kernels.convolve(
            *numbers,
            stride=parts.stride,
            padding=parts.padding,
            dilation=parts.dilation,
            groups=operation.groups,
            outputs=outputs,
            transposed=operation.transposed,
        )
        for numbers in ((x, w, bias), (abs(x), abs(w), abs(bias)))
    )
    exact = convolve(operation, np.moveaxis(x, -1, operation.channel_axis), _weights(w, bias))
    y = np.moveaxis(expected, -1, operation.channel_axis)
    assert exact.places.pick(y).tolist() == exact.value.tolist()
    assert magnitude.reshape(exact.magnitude.shape).tolist() == exact.magnitude.tolist()
    assert exact.places.share == 1.0
    assert exact.terms == w[..., 0].size


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("groups", "each", "filters"), [(1, 5, 7), (4, 3, 2), (6, 1, 1), (6, 1, 3)])
def test_torch_in_float64_agrees(transposed: bool, groups: int, each: int, filters: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    x, bias = rng.standard_normal((2, groups * each, 11, 9)), rng.standard_normal(groups * filters)
    w = rng.standard_normal((3, 2, each, groups * filters))
    options = {"stride": (2, 3), "padding": (1, 0), "dilation": (1, 2), "groups": groups}
    window = Window((3, 2), (2, 3), ((1, 1), (0, 0)), (1, 2))
    if transposed:
        # torch stores (inputs, outputs per group, *size): split the outputs, and put the group in front of the inputs.
        stored = w.reshape(3, 2, each, groups, filters).transpose(3, 2, 4, 0, 1).reshape(groups * each, filters, 3, 2)
        run, options["output_padding"] = torch.nn.functional.conv_transpose2d, (1, 2)
    else:
        stored, run = w.transpose(3, 2, 0, 1), torch.nn.functional.conv2d
    y = run(torch.from_numpy(x), torch.from_numpy(stored.copy()), torch.from_numpy(bias), **options).numpy()
    operation = Convolution(window, groups, transposed, (1, 2) if transposed else None, channel_axis=1)
    exact = convolve(operation, x, _weights(w, bias))
    assert np.abs(exact.places.pick(y) - exact.value).max() < 1e-13


def test_what_inexact_weights_cost_is_the_worst_that_they_can_do() -> None:
    rng = np.random.default_rng(1)
    x, w, bias = rng.standard_normal((1, 6, 4)), rng.standard_normal((3, 2, 6)), rng.standard_normal(6)
    bound, bias_bound = np.abs(rng.standard_normal(w.shape)), np.abs(rng.standard_normal(6))
    operation = Convolution(Window.of((3,)), groups=2)
    exact = convolve(operation, x, Weights.of(w, bias, bound=bound, bias_bound=bias_bound))
    for row, channel in ((0, 0), (3, 5), (1, 2)):
        # Each weight moved to the end of its range that has the sign of what it multiplies.
        taken = x[0, row : row + 3, channel // 3 * 2 : channel // 3 * 2 + 2]
        moved, shifted = w.copy(), bias.copy()
        moved[:, :, channel] += np.sign(taken) * bound[:, :, channel]
        shifted[channel] += bias_bound[channel]
        other = convolve(operation, x, Weights.of(moved, shifted))
        assert other.value[row, channel] - exact.value[row, channel] == pytest.approx(exact.inexact[row, channel])


def test_a_sample_is_seeded_has_the_corners_and_the_numbers_of_the_whole() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 40, 50, 3)), rng.standard_normal((3, 3, 3, 4))
    operation = Convolution(Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)))
    whole = convolve(operation, x, _weights(w))
    part = convolve(operation, x, _weights(w), budget=Budget(products=100 * 27 * 4))
    again = convolve(operation, x, _weights(w), budget=Budget(products=100 * 27 * 4))
    other = convolve(operation, x, _weights(w), budget=Budget(products=100 * 27 * 4, seed=1))
    assert 90 <= part.places.rows.size <= 100
    assert part.places.share == part.places.rows.size / 4000
    assert (part.places.rows == again.places.rows).all()
    assert part.places.rows.tolist() != other.places.rows.tolist()
    assert {0, 49, 39 * 50, 40 * 50 - 1, 2000, 3999} <= set(part.places.rows.tolist())
    y = whole.value.reshape(2, 40, 50, 4)
    np.testing.assert_allclose(part.value, part.places.pick(y), rtol=0, atol=1e-13)


def test_the_corners_are_looked_at_even_without_a_budget() -> None:
    exact = convolve(Convolution(Window.of((1,))), np.ones((1, 9, 1)), _weights(np.ones((1, 1, 1))), budget=Budget(0))
    assert exact.places.rows.tolist() == [0, 8]


@pytest.mark.tensorflow
@pytest.mark.parametrize("lower", [False, True])
@given(n=st.integers(1, 20), k=st.integers(1, 5), stride=st.integers(1, 4), dilation=st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_same_has_the_length_and_the_place_of_the_odd_zero(
    lower: bool, n: int, k: int, stride: int, dilation: int
) -> None:
    import tensorflow as tf

    if stride > 1 and dilation > 1:
        return  # TensorFlow has no such convolution
    low, high = same((n,), (k,), (stride,), (dilation,), lower=lower)[0]
    window = Window((k,), (stride,), ((low, high),), (dilation,))
    assert window.outputs((n,)) == (-(-n // stride),)
    x, w = np.arange(1.0, n + 1).reshape(1, n, 1), np.arange(1.0, k + 1).reshape(k, 1, 1)
    if lower:  # SAME_LOWER is SAME of what is reversed, where a mirror image lands on the same places
        if (n - 1) % stride:
            return
        flipped = tf.nn.conv1d(x[:, ::-1], w[::-1], stride, "SAME", dilations=dilation).numpy()[:, ::-1]
        expected = flipped
    else:
        expected = tf.nn.conv1d(x, w, stride, "SAME", dilations=dilation).numpy()
    found = convolve(Convolution(window), x, Weights.of(w)).value
    assert found.ravel().tolist() == expected.ravel().tolist()


@pytest.mark.tensorflow
def test_same_of_a_transposed_convolution_is_that_of_its_output() -> None:
    import tensorflow as tf

    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((1, 4, 5, 3)), rng.standard_normal((3, 4, 2, 3))
    y = tf.nn.conv2d_transpose(x, w, (1, 8, 15, 2), (2, 3), "SAME").numpy()
    padding = same((8, 15), (3, 4), (2, 3))
    window = Window((3, 4), (2, 3), padding, (1, 1))
    short = window.transposed_outputs((4, 5))
    extra = (8 - short[0], 15 - short[1])
    operation = Convolution(window, transposed=True, output_padding=extra)
    exact = convolve(operation, x, _weights(w.transpose(0, 1, 3, 2)))
    assert np.abs(exact.places.pick(y) - exact.value).max() < 1e-14


def test_outputs_that_ceil_mode_adds_begin_inside_the_input() -> None:
    torch = pytest.importorskip("torch")
    for n in range(3, 12):
        for stride in (1, 2, 3, 4):
            for pad in (0, 1):
                y = torch.nn.functional.max_pool1d(torch.zeros(1, 1, n), 3, stride, pad, ceil_mode=True)
                assert Window((3,), (stride,), ((pad, pad),), (1,)).outputs((n,), ceil=True) == (y.shape[-1],)


@pytest.mark.parametrize(
    ("x", "w", "groups"),
    [((1, 5, 3), (3, 2, 4), 1), ((1, 5, 4), (3, 2, 5), 2), ((1, 5, 5, 2), (3, 2, 4), 1), ((0, 5, 2), (3, 2, 4), 1),
     ((1, 5, 2), (2, 2, 4), 1)],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(x: Any, w: Any, groups: int) -> None:
    with pytest.raises(BninspectError):
        convolve(Convolution(Window.of((3,)), groups), np.zeros(x), Weights.of(np.zeros(w)))


def test_a_window_that_contradicts_itself_is_refused() -> None:
    for parts in (((3,), (1, 1), ((0, 0),), (1,)), ((3,), (0,), ((0, 0),), (1,)), ((0,), (1,), ((0, 0),), (1,))):
        with pytest.raises(BninspectError):
            Window(*parts)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_part_of_the_weights_and_a_bound_for_each_output_are_one_for_each_weight(groups: int, kind: Any) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 7, 4)).astype(kind)
    w, bias, each = rng.standard_normal((3, 4 // groups, 8)), rng.standard_normal(8), np.abs(rng.standard_normal(8))
    operation = Convolution(Window.of((3,)), groups=groups)
    parts = convolve(operation, x, Weights.of(w, bias, relative=0.25, bound=each, bias_bound=each))
    whole = convolve(operation, x, Weights.of(w, bias, bound=0.25 * np.abs(w) + each, bias_bound=each))
    # Magnitudes of float32 are rounded upwards.
    np.testing.assert_allclose(parts.inexact, whole.inexact, rtol=1e-5 if kind is np.float32 else 1e-13)
    np.testing.assert_allclose(parts.weight, whole.weight, rtol=1e-13)
    assert (parts.inexact >= whole.inexact * (1 - 1e-13)).all()


@given(
    st.integers(0, 2**32),
    st.sampled_from([-149, -140, -126, -100, -20, 0, 60, 100, 126]),
    st.sampled_from([-149, -100, 0, 20]),
    st.sampled_from([1, 9, 300]),
)
@settings(max_examples=60, deadline=None)
def test_magnitudes_of_float32_are_at_least_the_exact_ones_and_hardly_more(
    seed: int, of_x: int, of_w: int, inputs: int
) -> None:
    rng = np.random.default_rng(seed)
    x = np.ldexp(rng.standard_normal((1, 3, inputs)) * rng.choice([1, 1, 2.0**-20], inputs), of_x).astype(np.float32)
    w = np.ldexp(rng.standard_normal((1, inputs, 2)), of_w)
    exact = convolve(Convolution(Window.of((1,))), x, _weights(w))
    # Two sums of float64 differ by far less than a rounding of float32.
    right = np.abs(x[0].astype(np.float64)) @ np.abs(w[0])
    flushed = 2.0**-126 * (inputs * (np.abs(x).max(initial=0).astype(np.float64) + 1) + np.abs(w).sum(axis=(0, 1)))
    assert (exact.magnitude >= right * (1 - 1e-12)).all()
    assert (exact.magnitude <= right * (1 + 2.5 * (inputs + 2) * 2.0**-24) + 2 * flushed).all()
