"""float16 and bfloat16: torch and ONNX Runtime compute in float32 and round once, on a million nasty elements each.

`python -m pytest -s` prints the worst ratios.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import kernel_runs, nasty_sums

from bninspect.arithmetic.kernels import (
    FLOAT16,
    Arithmetic,
    Convolution,
    Expected,
    Weights,
    Window,
    convolve,
    expect_sum,
    multiply,
)

torch = pytest.importorskip("torch")
KINDS = {"float16": FLOAT16, "bfloat16": Arithmetic("float32", "bfloat16")}
LARGEST = {"float16": 65504.0, "bfloat16": 3.3e38}
DECADES = {"float16": 1.0, "bfloat16": 3.0}
WORST: dict[tuple[str, str, str], float] = {}


@pytest.fixture(scope="module", autouse=True)
def _show() -> Iterator[None]:
    yield
    for (case, kind, run), worst in sorted(WORST.items()):
        print(f"\n{case:32} {kind:10} {run:14} {worst:.4f}", end="")


def _narrow(a: Any, kind: str) -> Any:
    return torch.from_numpy(np.ascontiguousarray(a, np.float32)).to(getattr(torch, kind))


def _rounded(a: Any, kind: str) -> Any:
    return _narrow(a, kind).float().numpy()


def _worst(expected: Expected, y: Any, kind: str) -> float:
    with np.errstate(invalid="ignore"):
        inside = np.isfinite(expected.bound) & (np.abs(expected.value) + expected.bound < LARGEST[kind])
    assert inside.mean() > 0.7
    return float(expected.ratios(y)[inside].max())


def _keep(case: str, kind: str, run: str, expected: Expected, y: Any) -> None:
    WORST[case, kind, run] = _worst(expected, y, kind)
    assert 0 < WORST[case, kind, run] <= 1.0
    # Two roundings more are seen: the bound is not vacuous.
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[kind]
    if WORST[case, kind, run] > 0.5:
        assert _worst(expected, np.asarray(y, np.float64) * (1 + 2 * unit), kind) > 1.0


SAME3 = Window.of((3, 3), padding=((1, 1), (1, 1)))
CASES: dict[str, tuple[Convolution, tuple[int, ...], tuple[int, ...]]] = {
    "3x3, n 27": (Convolution(SAME3), (2, 80, 80, 3), (3, 3, 3, 80)),
    "3x3, n 1152": (Convolution(SAME3), (4, 16, 16, 128), (3, 3, 128, 32)),
    "depthwise, n 9": (Convolution(SAME3, 96), (2, 72, 72, 96), (3, 3, 1, 96)),
    "grouped, n 72": (Convolution(SAME3, 4), (2, 40, 40, 32), (3, 3, 8, 32)),
    "transposed, n 144": (
        Convolution(Window.of((2, 2), stride=(2, 2)), transposed=True),
        (2, 20, 20, 36),
        (2, 2, 36, 32),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_convolutions_sum_in_float32(case: str, kind: str) -> None:
    operation, shape, kernel = CASES[case]
    rng = np.random.default_rng(len(case))
    x, w, b = (_rounded(nasty_sums.numbers(rng, s, DECADES[kind]), kind) for s in (shape, kernel, kernel[-1:]))
    if operation.groups == 1:
        x = _rounded(nasty_sums.cancelling(x, w), kind)
    exact = convolve(operation, x, Weights.of(w.reshape(-1, *kernel[-2:]), b))
    expected = expect_sum(exact, arithmetic=KINDS[kind])
    y = kernel_runs.torch_convolve(operation, x, w, b, kind=kind)
    _keep(case, kind, "torch", expected, exact.places.pick(y))
    if kind == "float16":
        half = [each.astype(np.float16) for each in (x, w, b)]
        y = kernel_runs.onnx_convolve(operation, *half)
        _keep(case, kind, "ONNX Runtime", expected, exact.places.pick(y))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [3, 100, 4096])
def test_dense_layers_sum_in_float32(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    x, w, b = (_rounded(nasty_sums.numbers(rng, s, DECADES[kind]), kind) for s in ((3400, n), (n, 300), (300,)))
    x = _rounded(nasty_sums.cancelling(x, w), kind)
    exact = multiply(x, Weights.of(w[np.newaxis], b))
    expected = expect_sum(exact, arithmetic=KINDS[kind])
    y = torch.nn.functional.linear(*(_narrow(a, kind) for a in (x, w.T, b))).float().numpy()
    _keep(f"dense, n {n}", kind, "torch", expected, y)
    if kind == "float16":
        constants = {"w": w.astype(np.float16), "b": b.astype(np.float16)}
        y = kernel_runs.onnx_run([kernel_runs.onnx_node("Gemm", [*"xwb"])], {"x": x.astype(np.float16)}, constants)
        _keep(f"dense, n {n}", kind, "ONNX Runtime", expected, y)
