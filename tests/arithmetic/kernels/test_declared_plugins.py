"""A float32 file that OpenVINO and ncnn compute in a narrower type: within the bound that the declared type has.

A million nasty elements per kernel and type, the kernel alone in its model. The bounds are derived (rounding.py):
operands and result are rounded to the type, sums are in float32. That the plug-ins do no worse is measured here.
`python -m pytest -s` prints the worst ratios.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import nasty_sums

from bninspect.arithmetic.kernels import (
    BFLOAT16_OPERANDS,
    FLOAT16_OPERANDS,
    FLOAT32,
    Arithmetic,
    Convolution,
    Dense,
    Exact,
    Weights,
    Window,
    convolve,
    expect_sum,
    multiply,
)

KINDS = {"float16": FLOAT16_OPERANDS, "bfloat16": BFLOAT16_OPERANDS}
SAME3 = Window.of((3, 3), padding=((1, 1), (1, 1)))
CASES: dict[str, tuple[Convolution | Dense, tuple[int, ...], tuple[int, ...]]] = {
    "3x3, n 27": (Convolution(SAME3, channel_axis=1), (1, 3, 112, 112), (80, 3, 3, 3)),
    "3x3, n 1152": (Convolution(SAME3, channel_axis=1), (1, 128, 160, 200), (32, 128, 3, 3)),
    "depthwise, n 9": (Convolution(SAME3, 96, channel_axis=1), (1, 96, 104, 104), (96, 1, 3, 3)),
    "dense, n 100": (Dense(), (3400, 100), (300, 100)),
}
WORST: dict[tuple[str, str, str], float] = {}


@pytest.fixture(scope="module", autouse=True)
def _show() -> Iterator[None]:
    yield
    for (case, kind, run), worst in sorted(WORST.items()):
        print(f"\n{case:16} {kind:10} {run:20} {worst:.4g}", end="")


def _numbers(case: str) -> tuple[Any, Any, Exact]:
    """Return input, weights as they are stored and the exact result."""
    operation, shape, kernel = CASES[case]
    rng = np.random.default_rng(len(case))
    x, w = (nasty_sums.numbers(rng, each, 1.0) for each in (shape, kernel))
    if isinstance(operation, Dense):
        return x, w, multiply(operation, x, Weights.of(w.T[np.newaxis]))
    flat = w.reshape(*kernel[:2], -1).transpose(2, 1, 0)
    return x, w, convolve(operation, x, Weights.of(flat))


def _keep(case: str, kind: str, run: str, exact: Exact, y: Any) -> None:
    rows = exact.places.pick(y)
    assert rows.size > 1_000_000 - 10_000
    WORST[case, kind, run] = expect_sum(exact, arithmetic=KINDS[kind]).worst(rows)
    WORST[case, "float32", f"{run}, {kind}"] = expect_sum(exact, arithmetic=FLOAT32).worst(rows)
    assert 0 < WORST[case, kind, run] <= 1.0


@pytest.mark.parametrize("case", CASES)
def test_openvino_in_bfloat16(case: str) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed: pip install 'bninspect[openvino]'")
    core = openvino.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    from openvino import opset15 as ops

    x, w, exact = _numbers(case)
    entry = ops.parameter(x.shape, openvino.Type(np.dtype(np.float32)))
    if w.ndim == 2:
        made = ops.matmul(entry, ops.constant(w), False, True)
    elif w.shape[1] == 1:
        made = ops.group_convolution(entry, ops.constant(w[:, np.newaxis]), [1, 1], [1, 1], [1, 1], [1, 1])
    else:
        made = ops.convolution(entry, ops.constant(w), [1, 1], [1, 1], [1, 1], [1, 1])
    compiled = core.compile_model(openvino.Model([made], [entry], "one"), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    _keep(case, "bfloat16", "OpenVINO", exact, np.array(compiled([x])[0]))
    # It is no kernel of float32: the bound of that type is not enough. Those of ncnn may be, whatever they are allowed.
    assert WORST[case, "float32", "OpenVINO, bfloat16"] > 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_ncnn_with_narrow_storage(case: str, kind: str, tmp_path: Path) -> None:
    ncnn = pytest.importorskip("ncnn", reason="ncnn is not installed: pip install 'bninspect[ncnn]'")
    arithmetic: Arithmetic = KINDS[kind]
    x, w, exact = _numbers(case)
    net = ncnn.Net()
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(net.opt, name, kind == "float16" and name != "use_fp16_arithmetic")
    net.opt.use_bf16_storage = kind == "bfloat16"
    net.opt.use_winograd_convolution = False
    if w.ndim == 2:
        line = f"InnerProduct k 1 1 x y 0={w.shape[0]} 1=0 2={w.size}"
    elif w.shape[1] == 1:
        line = f"ConvolutionDepthWise k 1 1 x y 0={w.shape[0]} 1=3 4=1 5=0 6={w.size} 7={w.shape[0]}"
    else:
        line = f"Convolution k 1 1 x y 0={w.shape[0]} 1=3 4=1 5=0 6={w.size}"
    path = tmp_path / "one.param"
    path.write_text(f"7767517\n2 2\nInput x 0 1 x\n{line}\n")
    path.with_suffix(".bin").write_bytes(b"\0\0\0\0" + w.astype("<f4").tobytes())
    assert net.load_param(str(path)) == 0
    assert net.load_model(str(path.with_suffix(".bin"))) == 0
    extractor = net.create_extractor()
    extractor.input("x", ncnn.Mat(np.ascontiguousarray(x if w.ndim == 2 else x[0])).clone())
    status, value = extractor.extract("y")
    assert status == 0
    y = np.array(value)
    assert arithmetic.operands == kind
    _keep(case, kind, "ncnn", exact, y if w.ndim == 2 else y[np.newaxis])
