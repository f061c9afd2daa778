"""Quantised kernels are within half a step and what is derived for each, and a wrong one is not.

`python -m pytest -s` prints the worst errors, in output steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import quantised_runs

from bninspect.arithmetic.kernels import (
    NONE,
    RELU6,
    Activation,
    Convolution,
    Dense,
    Pooling,
    Requantisation,
    Steps,
    Weights,
    Window,
    add_steps,
    convolve,
    expect_steps,
    mean,
    mean_steps,
    multiply,
    multiply_batches,
    multiply_steps,
    pool,
    rescale_steps,
    same,
)

pytestmark = pytest.mark.tensorflow

SHAPE = (2, 9, 11, 6)
RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 3, 6, 5)).astype(np.float32)
B = RNG.standard_normal(12).astype(np.float32)
DENSE = RNG.standard_normal((66, 7)).astype(np.float32)
WORST: dict[tuple[str, str], tuple[float, float]] = {}


@pytest.fixture(scope="module", autouse=True)
def _show() -> Iterator[None]:
    yield
    for (case, run), (off, worst) in sorted(WORST.items()):
        print(f"\n{case:14} {run:12} {off:8.4f} steps, {worst:.4f} of the bound", end="")


def _functions() -> dict[str, Callable[[Any], Any]]:
    import tensorflow as tf

    nn = tf.nn
    return {
        "conv": lambda x: nn.relu6(nn.conv2d(x, W, (2, 2), "SAME") + B[:5]),
        "dilated": lambda x: nn.relu(nn.conv2d(x, W, 1, "VALID", dilations=2) + B[:5]),
        "depthwise": lambda x: nn.depthwise_conv2d(x, W[..., :2], (1, 1, 1, 1), "SAME") + B,
        "transposed": lambda x: nn.conv2d_transpose(x, np.swapaxes(W, -1, -2), (2, 18, 22, 5), 2, "SAME") + B[:5],
        "dense": lambda x: tf.matmul(tf.reshape(x, (-1, 66)), DENSE) + B[:7],
        "x @ x": lambda x: tf.matmul(x, x, transpose_b=True),
        "x * x": lambda x: x * x,
        "x * c": lambda x: x * B[:6],
        "x + y": lambda x: x + 3 * x[:, ::-1],
        "x - y": lambda x: x - 0.1 * x[:, ::-1],
        "x + c": lambda x: nn.relu6(x + B[:6]),
        "mean": lambda x: tf.reduce_mean(x, (1, 2)),
        "mean of rows": lambda x: tf.reduce_mean(x, (2,)),
        "mean of all": lambda x: tf.reduce_mean(x, (0, 1, 2, 3)),
        "channel mean": lambda x: tf.reduce_mean(x, (3,)),
        "average": lambda x: nn.avg_pool2d(x, 3, 2, "SAME"),
        "maximum": lambda x: nn.max_pool2d(x, 3, 2, "SAME"),
        "concatenation": lambda x: tf.concat([x, 2 * x], -1),
    }


ACTIVATIONS = {"conv": RELU6, "dilated": Activation("relu"), "x + c": RELU6}
OPERATIONS = {
    "conv": Convolution(Window((3, 3), (2, 2), same((9, 11), (3, 3), (2, 2)), (1, 1))),
    "dilated": Convolution(Window.of((3, 3), dilation=(2, 2))),
    "depthwise": Convolution(Window.of((3, 3), padding=((1, 1), (1, 1))), 6),
    "transposed": Convolution(
        Window((3, 3), (2, 2), same((18, 22), (3, 3), (2, 2)), (1, 1)), transposed=True, output_padding=(0, 0)
    ),
}
OPERATIONS["transposed"] = Convolution(
    OPERATIONS["transposed"].window,
    transposed=True,
    output_padding=tuple(n - m for n, m in zip((18, 22), OPERATIONS["transposed"].outputs((9, 11)), strict=True)),
)


def _steps(done: Any, case: str, kernel: Requantisation) -> tuple[Steps, Any]:
    """Return what an operation should return, and what it did, from its tensors alone."""
    activation = ACTIVATIONS.get(case, NONE)
    inputs, y = [each for each in done.inputs if each is not None], done.output
    step = float(y.grid.step)
    match done.name:
        case "CONV_2D" | "DEPTHWISE_CONV_2D" | "TRANSPOSE_CONV":
            x, w, b = (inputs[2], inputs[1], inputs[3]) if done.name == "TRANSPOSE_CONV" else inputs
            wide = w.q.astype(np.float64)
            first = wide if done.name == "DEPTHWISE_CONV_2D" else np.moveaxis(wide, 0, -1)
            values = first.reshape(9, -1, b.q.size) - w.grid.zero
            exact = convolve(OPERATIONS[case], x.q, Weights.of(values, b.q), zero=int(x.grid.zero))
            m = x.grid.step * w.grid.step / step
            return expect_steps(exact, m, y.grid, kernel, activation), exact.places.pick(y.q)
        case "FULLY_CONNECTED":
            x, w, b = inputs
            exact = multiply(Dense(), x.q, Weights.of((w.q.T - w.grid.zero)[np.newaxis], b.q), zero=int(x.grid.zero))
            return expect_steps(exact, x.grid.step * w.grid.step / step, y.grid, kernel), exact.places.pick(y.q)
        case "BATCH_MATMUL":
            a, b = inputs
            exact = multiply_batches(a.shifted, np.swapaxes(b.shifted, -1, -2))
            m = a.grid.step * b.grid.step / step
            return expect_steps(exact, m, y.grid, kernel), exact.places.pick(y.q)
        case "MUL":
            a, b = inputs
            m = float(a.grid.step * b.grid.step / step)
            return multiply_steps(a.shifted, b.shifted, m, y.grid, kernel, activation), y.q
        case "ADD" | "SUB":
            a, b = inputs
            sign = 1 if done.name == "ADD" else -1
            options = {"a_step": float(a.grid.step), "b_step": float(b.grid.step), "output": y.grid, "kernel": kernel}
            return add_steps(a.shifted, sign * b.shifted, **options, activation=activation), y.q
        case "MEAN":
            x, axes = inputs
            exact = mean(x.shifted, tuple(axes.q.tolist()))
            return mean_steps(exact, x.grid, y.grid, kernel), exact.places.pick(y.q[..., np.newaxis])
        case "AVERAGE_POOL_2D" | "MAX_POOL_2D":
            x = inputs[0]
            window = Window((3, 3), (2, 2), same((9, 11), (3, 3), (2, 2)), (1, 1))
            pooling = Pooling(window, average=done.name == "AVERAGE_POOL_2D")
            exact = pool(pooling, x.shifted)
            return rescale_steps(exact, float(x.grid.step) / step, y.grid, kernel), exact.places.pick(y.q)
        case "QUANTIZE" | "CONCATENATION":
            joined = np.concatenate([each.shifted * float(each.grid.step) / step for each in inputs], -1)
            exact = mean(joined[..., np.newaxis], (4,))
            return rescale_steps(exact, 1.0, y.grid, kernel), exact.places.pick(y.q[..., np.newaxis])
    raise AssertionError(done.name)


CASES = [
    *OPERATIONS,
    "dense", "x @ x", "x * x", "x * c", "x + y", "x - y", "x + c", "mean", "average", "maximum", "concatenation",
]  # fmt: skip
RUNS = ("int8", "per tensor", "int16x8", "XNNPACK")
SEVERAL = {"dense", "x + y", "x - y", "concatenation"}
SILENT = {"RESHAPE", "STRIDED_SLICE", "REVERSE_V2", "TRANSPOSE"}


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, bool, bool], bytes]:
    return {}


@pytest.mark.parametrize(
    ("case", "run"),
    # What XNNPACK computes between is not to be had: models of one operation.
    [(case, run) for case in CASES for run in RUNS if run != "XNNPACK" or case not in SEVERAL],
)
def test_litert_is_within_half_a_step_and_what_is_derived(case: str, run: str) -> None:
    rng = np.random.default_rng(len(case))
    samples = [rng.standard_normal(SHAPE).astype(np.float32) for _ in range(4)]
    options = {"int16": run == "int16x8", "per_tensor": run == "per tensor"}
    model = quantised_runs.quantised_model(_functions()[case], samples, **options)
    delegated = run == "XNNPACK" and case not in {"x @ x", "mean of rows", "mean of all", "channel mean"}
    kernel = {"int16x8": Requantisation.FIXED16}.get(run, Requantisation.FIXED)
    kernel = Requantisation.FLOAT if delegated else kernel
    done = quantised_runs.run(model, quantised_runs.random_input(model, rng), xnnpack=run == "XNNPACK")
    judged = [each for each in done if each.name not in SILENT]
    assert judged
    assert run != "XNNPACK" or len(done) == 1
    for each in judged:
        steps, q = _steps(each, case, kernel)
        worst = float(steps.off(q).max()), steps.worst(q)
        WORST[f"{case}: {each.name}"[:30], run] = worst
        assert worst[1] <= 1.0
