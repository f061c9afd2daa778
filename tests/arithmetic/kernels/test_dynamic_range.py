"""Dynamic-range and float16 models of LiteRT: whole-number or half weights, inputs quantised by their own range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import kernel_runs

from bninspect.arithmetic.kernels import (
    Convolution,
    Weights,
    Window,
    convolve,
    expect_sum,
    multiply,
    own_step,
    same,
    with_own_range,
)

pytestmark = pytest.mark.tensorflow

RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 3, 40, 24)).astype(np.float32)
DEEP = RNG.standard_normal((5, 5, 120, 1)).astype(np.float32)
DENSE = RNG.standard_normal((320, 24)).astype(np.float32)
B = RNG.standard_normal(120).astype(np.float32)


def _functions() -> dict[str, Any]:
    import tensorflow as tf

    return {
        "conv": lambda x: tf.nn.conv2d(x[..., :40], W, (2, 2), "SAME") + B[:24],
        "depthwise": lambda x: tf.nn.depthwise_conv2d(x, DEEP, (1, 1, 1, 1), "SAME") + B,
        "dense": lambda x: tf.matmul(tf.reshape(x, (-1, 320)), DENSE) + B[:24],
    }


def _model(case: str, *, half: bool = False) -> bytes:
    import tensorflow as tf

    def set_up(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if half:
            converter.target_spec.supported_types = [tf.float16]

    shape = (2, 9, 11, 40) if case == "conv" else (2, 8, 10, 120 if case == "depthwise" else 32)
    return kernel_runs.litert_model(_functions()[case], shape, set_up=set_up)


def _operation(case: str) -> tuple[Convolution, Any, Any]:
    if case == "conv":
        window = Window((3, 3), (2, 2), same((9, 11), (3, 3), (2, 2)), (1, 1))
        return Convolution(window), W.reshape(9, 40, 24), B[:24]
    return Convolution(Window.of((5, 5), padding=((2, 2), (2, 2))), 120), DEEP.reshape(25, 1, 120), B


@pytest.mark.parametrize("xnnpack", [False, True])
@pytest.mark.parametrize("case", ["conv", "depthwise", "dense"])
def test_dynamic_range_models_stay_within_the_bound(case: str, xnnpack: bool) -> None:
    model = _model(case)
    rng = np.random.default_rng(1)
    shape = kernel_runs.litert_interpreter(model).get_input_details()[0]["shape"]
    x = (rng.standard_normal(shape) + 0.3).astype(np.float32)
    x[1] *= 10  # each batch has its own range
    y = kernel_runs.litert_run(model, x, xnnpack=xnnpack)
    weight = _weights_of(model)
    axes: tuple[int, ...]
    if case == "dense":
        rows = x.reshape(-1, 320)
        weights = Weights.of(DENSE[np.newaxis], B[:24], bound=_half_step(weight, DENSE[np.newaxis]))
        exact, axes, data = multiply(rows, weights), (1,), rows
    else:
        operation, w, b = _operation(case)
        exact = convolve(operation, x, Weights.of(w, b, bound=_half_step(weight, w)))
        axes, data = (1, 2, 3), x
    step = np.maximum(*(own_step(data, axes, symmetric=each)[..., 0] for each in (True, False)))
    expected = expect_sum(with_own_range(exact, step))
    actual = exact.places.pick(y)
    print(f"\n{case:10} {'XNNPACK' if xnnpack else 'LiteRT':8} {expected.worst(actual):.3f}", end="")
    assert 0.02 < expected.worst(actual) <= 1.0
    # The numbers of one batch beside the range of the other, and weights that are off by a tenth.
    assert expect_sum(exact).worst(actual * np.float32(1.1)) > 1.0
    assert expected.worst(actual * np.float32(1.2) + np.float32(0.2) * np.abs(actual).max()) > 1.0


def _weights_of(model: bytes) -> Any:
    """Return what the file's whole numbers mean, outputs last or first as the file has them, and their steps."""
    interpreter = kernel_runs.litert_interpreter(model)
    for detail in interpreter.get_tensor_details():
        if detail["dtype"] is np.int8 and len(detail["shape"]) > 1:
            return detail["quantization_parameters"]["scales"].astype(np.float64)
    raise AssertionError("no weights of int8")


def _half_step(steps: Any, like: Any) -> Any:
    return np.broadcast_to(0.5 * steps, like.shape) + 2.0**-22 * np.abs(like)


@pytest.mark.parametrize("xnnpack", [False, True])
@pytest.mark.parametrize("case", ["conv", "depthwise", "dense"])
def test_float16_weights_are_the_float_case_with_half_a_step_of_float16(case: str, xnnpack: bool) -> None:
    model = _model(case, half=True)
    rng = np.random.default_rng(1)
    shape = kernel_runs.litert_interpreter(model).get_input_details()[0]["shape"]
    x = rng.standard_normal(shape).astype(np.float32)
    y = kernel_runs.litert_run(model, x, xnnpack=xnnpack)

    def exact(bound: float) -> Any:
        if case == "dense":
            off = bound * np.abs(DENSE[np.newaxis]), bound * np.abs(B[:24])
            return multiply(x, Weights.of(DENSE[np.newaxis], B[:24], bound=off[0], bias_bound=off[1]))
        operation, w, b = _operation(case)
        return convolve(operation, x, Weights.of(w, b, bound=bound * np.abs(w), bias_bound=bound * np.abs(b)))

    if case == "dense":
        x = x.reshape(-1, 320)
    half, full = exact(2.0**-11), exact(0.0)
    actual = half.places.pick(y)
    assert 0.02 < expect_sum(half).worst(actual) <= 1.0
    assert expect_sum(full).worst(actual) > 1.0


def test_the_own_range_of_an_input_includes_zero_unless_it_is_symmetric() -> None:
    x = np.array([[4.0, 6.0], [-1.0, 3.0], [-5.0, -2.0]])
    each = own_step(x, (1,), symmetric=False).ravel()
    np.testing.assert_allclose(each, np.array([6.0, 4.0, 5.0]) / 255, rtol=1e-4)
    assert (each >= np.array([6.0, 4.0, 5.0]) / 255).all()
    np.testing.assert_allclose(own_step(x, (0, 1), symmetric=True), 6 / 127, rtol=1e-4)


@pytest.mark.parametrize("shift", [-3.0, 0.0, 0.7, 5.0])
def test_inputs_quantised_by_the_range_of_all(shift: float) -> None:
    """Of DynamicQuantizeLinear: half a step, at the ends of the range and behind a rounded zero point too."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((30, 64)) + shift).astype(np.float32)
    w, b = rng.integers(-128, 128, (64, 9)).astype(np.int8), rng.standard_normal(9).astype(np.float32)
    node = kernel_runs.onnx_node("DynamicQuantizeMatMul", ["x", "w", "ws", "wz", "b"], "com.microsoft")
    y = kernel_runs.onnx_run(
        [node], {"x": x}, {"w": w, "ws": np.array([0.02], np.float32), "wz": np.zeros(1, np.int8), "b": b}
    )
    exact = multiply(x, Weights.of(w[np.newaxis] * float(np.float32(0.02)), b))
    step = own_step(x, (0, 1), symmetric=False)[..., 0]
    assert 0.05 < expect_sum(with_own_range(exact, step)).worst(y) <= 1.0
    assert expect_sum(exact).worst(y) > 1.0
    assert expect_sum(with_own_range(exact, step)).worst(y + np.float32(0.5) * y.std()) > 1.0
