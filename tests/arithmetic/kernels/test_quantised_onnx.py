"""ONNX Runtime's quantised kernels: integers exactly, the others within half a step and what is derived."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import kernel_runs

from bninspect.arithmetic.kernels import (
    Convolution,
    Dense,
    Grid,
    Requantisation,
    Weights,
    Window,
    add_steps,
    convolve,
    expect_steps,
    expect_sum,
    mean,
    mean_steps,
    multiply,
    multiply_steps,
    own_step,
    pool,
    quantise,
    rescale_steps,
    with_own_range,
)
from bninspect.arithmetic.kernels.pooling import Pooling

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

FLOAT = Requantisation.FLOAT
WORST: dict[str, tuple[float, float]] = {}
KINDS = [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")]


@pytest.fixture(scope="module", autouse=True)
def _show() -> Iterator[None]:
    yield
    for case, (off, worst) in sorted(WORST.items()):
        print(f"\n{case:44} {off:8.4f} steps, {worst:.4f} of the bound", end="")


def _keep(case: str, steps: Any, q: Any) -> None:
    WORST[case] = float(steps.off(q).max()), steps.worst(q)
    assert WORST[case][1] <= 1.0
    other = q.astype(int) + np.where(q == q.max(), -1, 1)
    assert steps.worst(np.where(np.arange(q.size).reshape(q.shape) == q.size // 2, other, q)) > 1.0


def _integers(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Any:
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max + 1, shape).astype(kind)


def _grid(rng: np.random.Generator, kind: str, step: float) -> Grid:
    info = np.iinfo(kind)
    return Grid.of(kind, float(np.float32(step)), int(rng.integers(info.min + 60, info.max - 60)))


def _constants(prefix: str, grid: Grid, kind: str) -> dict[str, Any]:
    return {f"{prefix}s": np.float32(grid.step), f"{prefix}z": np.asarray(grid.zero).astype(kind)}


@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize(("kind", "weight_kind"), KINDS)
def test_qlinear_convolutions(kind: str, weight_kind: str, groups: int) -> None:
    rng = np.random.default_rng(groups)
    x, w = _integers(rng, kind, (2, 9, 11, 6)), _integers(rng, weight_kind, (9, 6 // groups, 12))
    b = rng.integers(-5000, 5000, 12).astype(np.int32)
    gx, gy = _grid(rng, kind, 0.03), _grid(rng, kind, 4.0 / groups**0.5)
    per_channel = weight_kind == "int8" and groups == 1
    steps = 10.0 ** rng.uniform(-2.3, -1.7, 12 if per_channel else ()).astype(np.float32)
    zero = 117 if weight_kind == "uint8" else 0
    gw = Grid.of(weight_kind, steps, zero)
    constants = {
        **_constants("x", gx, kind), **_constants("y", gy, kind), "b": b, "ws": steps,
        "wz": np.full(steps.shape, zero, weight_kind),
        "w": np.ascontiguousarray(np.moveaxis(w.reshape(3, 3, -1, 12), (-1, -2), (0, 1))),
    }  # fmt: skip
    node = kernel_runs.onnx_node(
        "QLinearConv",
        ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"],
        pads=[1, 0, 1, 1],
        strides=[2, 1],
        group=groups,
    )
    data = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    y = np.moveaxis(kernel_runs.onnx_run([node], {"x": data}, constants), 1, -1)
    operation = Convolution(Window.of((3, 3), stride=(2, 1), padding=((1, 1), (0, 1))), groups)
    exact = convolve(operation, x, Weights.of(w - gw.zero, b), zero=int(gx.zero))
    expected = expect_steps(exact, gx.step * gw.step / gy.step, gy, FLOAT)
    _keep(f"QLinearConv {kind} {weight_kind} {groups} groups", expected, exact.places.pick(y))


@pytest.mark.parametrize(("kind", "weight_kind"), KINDS)
def test_qlinear_products(kind: str, weight_kind: str) -> None:
    rng = np.random.default_rng(5)
    x, w = _integers(rng, kind, (40, 100)), _integers(rng, weight_kind, (1, 100, 30))
    gx, gy = _grid(rng, kind, 0.03), _grid(rng, kind, 9.0)
    gw = Grid.of(weight_kind, float(np.float32(0.01)), 117 if weight_kind == "uint8" else 0)
    constants = {**_constants("x", gx, kind), **_constants("w", gw, weight_kind), **_constants("y", gy, kind)}
    node = kernel_runs.onnx_node("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"])
    y = kernel_runs.onnx_run([node], {"x": x}, {**constants, "w": w[0]})
    exact = multiply(Dense(), x, Weights.of(w - gw.zero), zero=int(gx.zero))
    _keep(f"QLinearMatMul {kind} {weight_kind}", expect_steps(exact, gx.step * gw.step / gy.step, gy, FLOAT), y)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_element_wise_operations_of_the_microsoft_domain(kind: str) -> None:
    rng = np.random.default_rng(6)
    a, b = _integers(rng, kind, (2, 4, 5, 6)), _integers(rng, kind, (2, 4, 5, 6))
    ga, gb, gy = _grid(rng, kind, 0.03), _grid(rng, kind, 0.011), _grid(rng, kind, 0.05)
    constants = {**_constants("a", ga, kind), **_constants("b", gb, kind), **_constants("y", gy, kind)}
    shifted = a - ga.zero, b - gb.zero

    def run(name: str, inputs: str, **attributes: Any) -> Any:
        node = kernel_runs.onnx_node(name, inputs.split(), "com.microsoft", **attributes)
        used = {"a": a, "b": b} if "b" in inputs.split() else {"a": a}
        return kernel_runs.onnx_run([node], used, constants)

    options: dict[str, Any] = {"a_step": float(ga.step), "b_step": float(gb.step), "output": gy, "kernel": FLOAT}
    _keep(f"QLinearAdd {kind}", add_steps(*shifted, **options), run("QLinearAdd", "a as az b bs bz ys yz"))
    m = float(ga.step * gb.step / gy.step)
    _keep(f"QLinearMul {kind}", multiply_steps(*shifted, m, gy, FLOAT), run("QLinearMul", "a as az b bs bz ys yz"))
    exact = mean(shifted[0], (2, 3))
    y = run("QLinearGlobalAveragePool", "a as az ys yz", channels_last=0)
    _keep(f"QLinearGlobalAveragePool {kind}", mean_steps(exact, ga, gy, FLOAT), y.reshape(-1, 1))
    if kind == "uint8":
        pooling = Pooling(Window.of((2, 2)), average=True, channel_axis=1)
        whole = pool(pooling, shifted[0])
        y = whole.places.pick(run("QLinearAveragePool", "a as az ys yz", kernel_shape=[2, 2]))
        _keep(f"QLinearAveragePool {kind}", rescale_steps(whole, float(ga.step / gy.step), gy, FLOAT), y)
    y = run("QLinearConcat", "ys yz a as az b bs bz", axis=1)
    for part, grid, q in ((shifted[0], ga, y[:, :4]), (shifted[1], gb, y[:, 4:])):
        single = mean(part[..., np.newaxis], (4,))
        _keep(f"QLinearConcat {kind}", rescale_steps(single, float(grid.step / gy.step), gy, FLOAT), q.reshape(-1, 1))


@pytest.mark.parametrize("optimised", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_quantise_and_dequantise_around_a_convolution(kind: str, optimised: bool) -> None:
    rng = np.random.default_rng(8)
    x, w = _integers(rng, kind, (1, 8, 8, 5)), _integers(rng, "int8", (9, 5, 7))
    gx, gy, gw = _grid(rng, kind, 0.02), _grid(rng, kind, 3.0), Grid.of("int8", float(np.float32(0.0123)))
    b = rng.integers(-3000, 3000, 7).astype(np.int32)
    gb = Grid.of("int32", float(np.float32(gx.step) * np.float32(gw.step)))
    constants = {
        **_constants("x", gx, kind), **_constants("w", gw, "int8"), **_constants("y", gy, kind), "b": b,
        **_constants("b", gb, "int32"), "w": np.ascontiguousarray(np.moveaxis(w.reshape(3, 3, 5, 7), (-1, -2), (0, 1))),
    }  # fmt: skip
    nodes = [
        kernel_runs.onnx_node("DequantizeLinear", [name, f"{name}s", f"{name}z"], output=f"{name}f") for name in "xwb"
    ]
    nodes += [
        kernel_runs.onnx_node("Conv", ["xf", "wf", "bf"], output="yf"),
        kernel_runs.onnx_node("QuantizeLinear", ["yf", "ys", "yz"]),
    ]
    data = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    y = np.moveaxis(kernel_runs.onnx_run(nodes, {"x": data}, constants, optimised=optimised), 1, -1)
    operation = Convolution(Window.of((3, 3)))
    if optimised:
        exact = convolve(operation, x, Weights.of(w, b), zero=int(gx.zero))
        expected = expect_steps(exact, gx.step * gw.step / gy.step, gy, FLOAT)
    else:
        weights = Weights.of(*(n.astype(np.float32) for n in (gw.numbers(w), gb.numbers(b))))
        exact = convolve(operation, gx.numbers(x).astype(np.float32), weights)
        expected = quantise(expect_sum(exact), gy)
    _keep(f"QDQ {kind}, {'optimised' if optimised else 'plain'}", expected, exact.places.pick(y))


def test_integer_products_are_exact() -> None:
    rng = np.random.default_rng(4)
    x, w = _integers(rng, "uint8", (2, 5, 6, 3)), _integers(rng, "uint8", (9, 3, 4))
    stored = np.ascontiguousarray(np.moveaxis(w.reshape(3, 3, 3, 4), (-1, -2), (0, 1)))
    zeros = {"xz": np.uint8(100), "wz": np.uint8(120)}
    node = kernel_runs.onnx_node("ConvInteger", ["x", "w", "xz", "wz"], pads=[1, 1, 1, 1])
    data = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    y = np.moveaxis(kernel_runs.onnx_run([node], {"x": data}, {"w": stored, **zeros}), 1, -1)
    operation = Convolution(Window.of((3, 3), padding=((1, 1), (1, 1))))
    exact = convolve(operation, x, Weights.of(w.astype(int) - 120), zero=100)
    assert (exact.places.pick(y) == exact.value).all()
    rows = _integers(rng, "uint8", (7, 12))
    matrix = _integers(rng, "int8", (1, 12, 5))
    node = kernel_runs.onnx_node("MatMulInteger", ["x", "w", "xz"])
    y = kernel_runs.onnx_run([node], {"x": rows}, {"w": matrix[0], "xz": np.uint8(100)})
    assert (multiply(Dense(), rows, Weights.of(matrix), zero=100).value == y).all()


@pytest.mark.parametrize("shift", [-3.0, 0.0, 0.7, 5.0])
def test_inputs_quantised_by_their_own_range(shift: float) -> None:
    """Of DynamicQuantizeLinear: half a step, at the ends of the range and behind a rounded zero point too."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((30, 64)) + shift).astype(np.float32)
    w, b = _integers(rng, "int8", (1, 64, 9)), rng.standard_normal(9).astype(np.float32)
    gw = Grid.of("int8", float(np.float32(0.02)))
    node = kernel_runs.onnx_node("DynamicQuantizeMatMul", ["x", "w", "ws", "wz", "b"], "com.microsoft")
    y = kernel_runs.onnx_run(
        [node], {"x": x}, {"w": w[0], "ws": np.array([0.02], np.float32), "wz": np.zeros(1, np.int8), "b": b}
    )
    exact = multiply(Dense(), x, Weights.of(gw.numbers(w), b))
    step = own_step(x, (0, 1), symmetric=False)[..., 0]
    ratio = expect_sum(with_own_range(exact, step)).worst(y)
    WORST[f"DynamicQuantizeMatMul, mean {shift}"] = 0.0, ratio
    assert 0.05 < ratio <= 1.0
    assert expect_sum(exact).worst(y) > 1.0
    assert expect_sum(with_own_range(exact, step)).worst(y + np.float32(0.5) * y.std()) > 1.0
