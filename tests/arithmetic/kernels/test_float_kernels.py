"""Bounds of sums hold for the kernels of LiteRT, XNNPACK, ONNX Runtime and torch, and a wrong kernel is beyond them.

`python -m pytest -s` prints the worst ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import kernel_runs, nasty_sums

from bninspect.arithmetic.kernels import (
    Activation,
    Convolution,
    Weights,
    Window,
    convolve,
    expect_sum,
    multiply,
    same,
)

pytestmark = pytest.mark.tensorflow

Run = Callable[[Convolution, Any, Any, Any], Any]

RUNS: dict[str, Run] = {
    "LiteRT": kernel_runs.litert_convolve,
    "XNNPACK": lambda *case: kernel_runs.litert_convolve(*case, xnnpack=True),
    "ONNX Runtime": kernel_runs.onnx_convolve,
    "ONNX Runtime, optimised": lambda *case: kernel_runs.onnx_convolve(*case, optimised=True),
    "torch": kernel_runs.torch_convolve,
    "torch without oneDNN": lambda *case: kernel_runs.torch_convolve(*case, mkldnn=False),
}


def _padded(lengths: Any, size: Any, stride: Any, dilation: Any = (1, 1)) -> Window:
    return Window(size, stride, same(lengths, size, stride, dilation), dilation)


WIDE, DEEP = (24, 20), (8, 8)
CASES: dict[str, tuple[Convolution, tuple[int, ...], tuple[int, ...]]] = {
    "3x3, n 27": (Convolution(_padded(WIDE, (3, 3), (1, 1))), (2, *WIDE, 3), (3, 3, 3, 16)),
    "3x3, n 1152": (Convolution(_padded(DEEP, (3, 3), (1, 1))), (2, *DEEP, 128), (3, 3, 128, 32)),
    "1x1, n 512": (Convolution(Window.of((1, 1))), (2, *DEEP, 512), (1, 1, 512, 32)),
    "7x7 by 2, n 147": (Convolution(_padded(WIDE, (7, 7), (2, 2))), (2, *WIDE, 3), (7, 7, 3, 16)),
    "dilated, n 72": (Convolution(_padded(WIDE, (3, 3), (1, 1), (2, 2))), (2, *WIDE, 8), (3, 3, 8, 8)),
    "depthwise, n 9": (Convolution(_padded(WIDE, (3, 3), (1, 1)), 32), (2, *WIDE, 32), (3, 3, 1, 32)),
    "depthwise by 2 for 1, n 25": (Convolution(_padded(WIDE, (5, 5), (2, 2)), 16), (2, *WIDE, 16), (5, 5, 1, 32)),
    "grouped, n 72": (Convolution(_padded(WIDE, (3, 3), (1, 1)), 4), (2, *WIDE, 32), (3, 3, 8, 16)),
    "transposed by 2, n 144": (
        Convolution(Window.of((2, 2), stride=(2, 2)), transposed=True),
        (2, *DEEP, 36),
        (2, 2, 36, 16),
    ),
}
WORST: dict[tuple[str, str], float] = {}


@pytest.fixture(scope="module", autouse=True)
def _show() -> Iterator[None]:
    yield
    for (case, run), worst in sorted(WORST.items()):
        print(f"\n{case:28} {run:26} {worst:.3f}", end="")


def _numbers(case: str, decades: float = 2.0) -> tuple[Convolution, Any, Any, Any]:
    operation, shape, kernel = CASES[case]
    rng = np.random.default_rng(len(case))
    x, w = nasty_sums.numbers(rng, shape, decades), nasty_sums.numbers(rng, kernel, decades)
    if operation.groups == 1:
        x = nasty_sums.cancelling(x, w)
    return operation, x, w, nasty_sums.numbers(rng, kernel[-1:], decades)


def _exact(operation: Convolution, x: Any, w: Any, bias: Any) -> Any:
    return convolve(operation, x, Weights.of(w.reshape(-1, *w.shape[-2:]), bias))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("case", CASES)
def test_convolutions_stay_within_the_bound(case: str, run: str) -> None:
    numbers = _numbers(case)
    exact = _exact(*numbers)
    actual = exact.places.pick(RUNS[run](*numbers))
    WORST[case, run] = expect_sum(exact).worst(actual)
    assert 0 < WORST[case, run] <= 1.0


@pytest.mark.parametrize("case", CASES)
def test_a_convolution_that_is_almost_right_is_beyond_the_bound(case: str) -> None:
    operation, *numbers = _numbers(case, 0.5)
    x, w, bias = (np.abs(each) for each in numbers)  # no cancelling: |y| = S
    exact = _exact(operation, x, w, bias)
    expected = expect_sum(exact)
    barely = np.float64(1 + 2 * (exact.terms + 2) * 2.0**-24)
    for wrong in (
        _exact(operation, x, w.astype(np.float64) * barely, bias * barely),
        _exact(operation, x, w, np.where(np.arange(bias.size) == 3, 0, bias + 1)),
        _exact(operation, np.roll(x, 1, axis=1), w, bias),  # padded on the other side
        _exact(operation, x, w[..., ::-1], bias),
    ):
        assert expected.worst(wrong.value) > 1.0


@pytest.mark.parametrize("xnnpack", [False, True])
def test_numbers_close_to_zero_may_be_flushed(xnnpack: bool) -> None:
    rng = np.random.default_rng(9)
    x = (rng.standard_normal((1, 6, 6, 4)) * 1e-38).astype(np.float32)
    w = (rng.standard_normal((3, 3, 4, 8)) * 10.0 ** rng.uniform(-6, 6, (3, 3, 4, 8))).astype(np.float32)
    bias = (rng.standard_normal(8) * 1e-39).astype(np.float32)
    operation = Convolution(_padded((6, 6), (3, 3), (1, 1)))
    exact = _exact(operation, x, w, bias)
    actual = kernel_runs.litert_convolve(operation, x, w, bias, xnnpack=xnnpack)
    assert expect_sum(exact).worst(exact.places.pick(actual)) <= 1.0


@pytest.mark.parametrize("xnnpack", [False, True])
def test_an_activation_that_selects_does_not_widen_the_bound(xnnpack: bool) -> None:
    import tensorflow as tf

    operation, x, w, bias = _numbers("3x3, n 27", 1)
    call = lambda data: tf.nn.relu6(tf.nn.conv2d(data, w, 1, "SAME") + bias)  # noqa: E731
    actual = kernel_runs.litert_run(kernel_runs.litert_model(call, x.shape), x, xnnpack=xnnpack)
    exact, relu6 = _exact(operation, x, w, bias), Activation("clip", 0.0, 6.0)
    assert expect_sum(exact, relu6).worst(exact.places.pick(actual)) <= 1.0
    assert expect_sum(exact).worst(exact.places.pick(actual)) > 1.0
    assert expect_sum(exact, relu6).value.max() == 6.0


def _dense_runs(x: Any, w: Any, bias: Any) -> Iterator[tuple[str, Any]]:
    import tensorflow as tf
    import torch

    model = kernel_runs.litert_model(lambda data: tf.matmul(data, w) + bias, x.shape)
    yield "LiteRT", kernel_runs.litert_run(model, x)
    yield "XNNPACK", kernel_runs.litert_run(model, x, xnnpack=True)
    node = kernel_runs.onnx_node("Gemm", ["x", "w", "b"])
    yield "ONNX Runtime", kernel_runs.onnx_run([node], {"x": x}, {"w": w, "b": bias})
    yield "torch", torch.nn.functional.linear(*(torch.from_numpy(a) for a in (x, w.T.copy(), bias))).numpy()


@pytest.mark.parametrize("n", [3, 100, 4096])
def test_dense_layers_stay_within_the_bound(n: int) -> None:
    rng = np.random.default_rng(n)
    x, w = nasty_sums.numbers(rng, (33, n), 2), nasty_sums.numbers(rng, (n, 40), 2)
    x, bias = nasty_sums.cancelling(x, w), nasty_sums.numbers(rng, (40,), 2)
    exact = multiply(x, Weights.of(w[np.newaxis], bias))
    for run, actual in _dense_runs(x, w, bias):
        WORST[f"dense, n {n}", run] = expect_sum(exact).worst(exact.places.pick(actual))
        assert 0 < WORST[f"dense, n {n}", run] <= 1.0
    x = np.abs(x)
    right, wrong = (multiply(x, Weights.of(np.abs(w)[np.newaxis] * by)) for by in (1, 1 + 2 * (n + 2) * 2**-24))
    assert expect_sum(right).worst(wrong.value) > 1.0
