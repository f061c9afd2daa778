"""How near right kernels of every precision come to their bounds, on a million elements each.

    python benchmarks/kernel_bounds.py

prints the last table of docs/explanation/bounds.md. What is not installed is left out and said. Layers and inputs are
those of tests/helpers: means up to 10^7 deviations from zero, products that cancel.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from helpers import kernel_runs, nasty, nasty_sums

from bninspect.arithmetic import bounds, kernels
from bninspect.arithmetic.formula import Parameters, normalise
from bninspect.arithmetic.kernels import Arithmetic, Convolution, Exact, Expected, Places, Weights, Window
from bninspect.arithmetic.rounding import narrowed
from bninspect.records import BatchNorm, Form

Array = NDArray[Any]
CHANNELS, POINTS = 510, 420
CONVOLVED = Convolution(Window.of((3, 3), padding=((1, 1), (1, 1))))
SHAPES = {27: ((2, 80, 80, 3), 80), 1152: ((4, 16, 16, 128), 1024)}
"""Input and outputs of the convolutions, by how many products an element is a sum of."""
NORM, CONVOLUTION, DENSE = "batch norm", "convolution 3x3", "dense"


@dataclass(frozen=True)
class Kernel:
    """A way to have an operation computed, and what it declares."""

    runtime: str
    package: str
    operation: str
    precision: str
    """In words."""
    run: Callable[..., Array]
    stored: str = "float32"
    """Type of what goes in and comes out."""
    rounded: str = ""
    """Type to which what goes in is rounded on the way, and what comes out."""
    sums: str = "float32"
    """Type in which it sums."""
    forms: tuple[Form, ...] = ()
    """Of a batch norm, in which order it computes; none where the bound is that of rounded operands."""


def _torch(kind: str) -> Callable[..., Array]:
    def run(x: Array, *arrays: Array, epsilon: float | None = None) -> Array:
        import torch

        taken, *others = (torch.from_numpy(np.ascontiguousarray(one)).to(getattr(torch, kind)) for one in (x, *arrays))
        if epsilon is None:
            made = torch.nn.functional.linear(taken, others[0].T, others[1])
        else:
            gamma, beta, mean, variance = others
            made = torch.nn.functional.batch_norm(taken, mean, variance, gamma, beta, eps=epsilon)
        return np.asarray(made.float().numpy())

    return run


def _onnx(x: Array, *arrays: Array, epsilon: float | None = None) -> Array:
    arrays = tuple(one.astype(x.dtype) for one in arrays)
    if epsilon is None:
        constants = dict(zip("wb", arrays, strict=True))
        return np.asarray(kernel_runs.onnx_run([kernel_runs.onnx_node("Gemm", [*"xwb"])], {"x": x}, constants))
    node = kernel_runs.onnx_node("BatchNormalization", [*"xgbmv"], epsilon=epsilon)
    return np.asarray(kernel_runs.onnx_run([node], {"x": x}, dict(zip("gbmv", arrays, strict=True))))


def _openvino(hint: str) -> Callable[..., Array]:
    def run(x: Array, *arrays: Array, epsilon: float | None = None, padded: bool = False) -> Array:
        import openvino as ov
        from openvino import opset15 as ops

        taken = ops.parameter(x.shape, np.float32, "x")
        if padded:
            w, b = arrays
            made = ops.convolution(taken, np.ascontiguousarray(w.transpose(3, 2, 0, 1)), [1, 1], [1, 1], [1, 1], [1, 1])
            made = ops.add(made, b.reshape(1, -1, 1, 1))
        elif epsilon is None:
            made = ops.add(ops.matmul(taken, arrays[0], transpose_a=False, transpose_b=False), arrays[1])
        else:
            made = ops.batch_norm_inference(taken, *map(ops.constant, arrays), epsilon)
        model = ov.Model([made], [taken], "one")
        options = {"INFERENCE_PRECISION_HINT": hint, "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        compiled = ov.Core().compile_model(model, "CPU", options)
        return np.array(compiled([x])[0])

    return run


def _ncnn(*options: str) -> Callable[..., Array]:
    def run(x: Array, *arrays: Array, epsilon: float | None = None, padded: bool = False) -> Array:
        if padded:
            w, b = arrays
            line = f"Convolution l 1 1 x y 0={b.size} 1=3 4=1 5=1 6={w.size}"
            stored = bytes(4) + w.transpose(3, 2, 0, 1).tobytes() + b.tobytes()
            return np.concatenate([_ncnn_layer(line, stored, one, options)[None] for one in x])
        if epsilon is None:
            w, b = arrays
            line = f"InnerProduct l 1 1 x y 0={b.size} 1=1 2={w.size}"
            return _ncnn_layer(line, bytes(4) + w.T.tobytes() + b.tobytes(), x, options)
        gamma, beta, mean, variance = arrays
        line = f"BatchNorm l 1 1 x y 0={gamma.size} 1={epsilon:.9e}"
        stored = b"".join(one.tobytes() for one in (gamma, mean, variance, beta))
        return _ncnn_layer(line, stored, np.ascontiguousarray(x.T)[:, None], options)[:, 0].T

    return run


def _ncnn_layer(line: str, stored: bytes, x: Array, options: tuple[str, ...]) -> Array:
    import ncnn

    net = ncnn.Net()
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, name in options)
    net.opt.use_winograd_convolution = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l.param"
        path.write_text(f"7767517\n2 2\nInput x 0 1 x\n{line}\n", "ascii")
        path.with_suffix(".bin").write_bytes(stored)
        if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
            raise RuntimeError(f"ncnn does not load {line}")
        extractor = net.create_extractor()
        own = np.array(x, np.float32, order="C")  # a Mat of an array does not keep that alive
        extractor.input("x", ncnn.Mat(own).clone())
        return np.array(extractor.extract("y")[1])


_AFFINE, _FOLDED, _ANY = (Form.AFFINE,), (Form.FOLDED,), (Form.CENTRED, Form.AFFINE)
_FP16, _BF16 = ("use_fp16_packed", "use_fp16_storage"), ("use_bf16_storage",)


def every() -> Iterator[Kernel]:
    """Yield the kernels."""
    for operation in (NORM, CONVOLUTION, DENSE):
        for kind in ("float32", "float16"):
            yield Kernel("ONNX Runtime", "onnxruntime", operation, kind, _onnx, kind, forms=_AFFINE)
        for kind in ("float32", "float16", "bfloat16"):
            yield Kernel("PyTorch", "torch", operation, kind, _torch(kind), kind, forms=_ANY)
    ways = (
        ("OpenVINO", "openvino", "f32", _openvino("f32"), ""),
        ("OpenVINO", "openvino", "f16 hint", _openvino("f16"), "float16"),
        ("OpenVINO", "openvino", "bf16 hint", _openvino("bf16"), "bfloat16"),
        ("ncnn", "ncnn", "float32", _ncnn(), ""),
        ("ncnn", "ncnn", "fp16 storage", _ncnn(*_FP16), "float16"),
        ("ncnn", "ncnn", "bf16 storage", _ncnn(*_BF16), "bfloat16"),
    )
    for runtime, package, words, run, rounded in ways:
        for operation in (NORM, CONVOLUTION, DENSE):
            sums, forms = "float16" if words == "f16 hint" else "float32", _FOLDED if package == "ncnn" else _AFFINE
            yield Kernel(runtime, package, operation, words, run, "float32", rounded, sums, () if rounded else forms)


def results(kernel: Kernel) -> Iterator[tuple[str, Expected, Array]]:
    """Yield what a kernel is expected to return and what it does, with the number of products of an element."""
    kind = kernel.rounded or kernel.stored
    rng = np.random.default_rng(0)
    if kernel.operation == NORM:
        for epsilon in nasty.EPSILONS[1:] if kind == "float16" else nasty.EPSILONS:
            yield ("", *_norm(kernel, nasty.layer(rng, epsilon, CHANNELS, "float32", _domain(kind)), rng))
        return
    sizes = SHAPES if kernel.operation == CONVOLUTION else {100: ((3400, 100), 300), 4096: ((3400, 4096), 300)}
    for terms, (shape, outputs) in sizes.items():
        square = (3, 3) if kernel.operation == CONVOLUTION else ()
        decades = 1.0 if kind == "float16" else 3.0
        w, b = (nasty_sums.numbers(rng, one, decades) for one in ((*square, shape[-1], outputs), (outputs,)))
        x = nasty_sums.cancelling(nasty_sums.numbers(rng, shape, decades), w)
        x, w, b = (_rounded(one, kernel.stored) for one in (x, w, b))
        part = _part(kernel)
        weights = Weights.of(
            w.reshape(-1, *w.shape[-2:]), b, relative=part, bias_bound=part * np.abs(b, dtype=np.float64)
        )
        if kernel.operation == DENSE:
            exact = kernels.multiply(x.astype(np.float32), weights)
            y = kernel.run(x, w, b)
        else:
            exact = kernels.convolve(CONVOLVED, x.astype(np.float32), weights)
            y = exact.places.pick(_convolved(kernel, x, w, b))
        yield str(terms), kernels.expect_sum(exact, arithmetic=Arithmetic(kernel.sums, kind)), y


def _part(kernel: Kernel) -> float:
    """Return by how much of itself a product is off whose factors are rounded: (1 + v)^2 - 1."""
    return (1 + bounds.precision(kernel.rounded).unit) ** 2 - 1 if kernel.rounded else 0.0


def _convolved(kernel: Kernel, x: Array, w: Array, b: Array) -> Array:
    if kernel.runtime == "PyTorch":
        return np.asarray(kernel_runs.torch_convolve(CONVOLVED, x, w, b, kind=kernel.stored))
    if kernel.runtime == "ONNX Runtime":
        return np.asarray(kernel_runs.onnx_convolve(CONVOLVED, x, w, b))
    return np.moveaxis(kernel.run(np.ascontiguousarray(np.moveaxis(x, -1, 1)), w, b, padded=True), 1, -1)


def _domain(kind: str) -> nasty.Domain:
    return nasty.FLOAT16 if kind == "float16" else nasty.WIDE


def _rounded(values: Array, kind: str) -> Array:
    """Return numbers that a type holds, in an array that does."""
    if kind == "bfloat16":
        return narrowed(values.astype(np.float64), kind).astype(np.float32)
    with np.errstate(over="ignore"):
        return values.astype(kind)


def _norm(kernel: Kernel, layer: BatchNorm, rng: np.random.Generator) -> tuple[Expected, Array]:
    x = _rounded(nasty.inputs(rng, layer, POINTS), kernel.stored)
    arrays = [np.asarray(one) for one in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)]
    if kernel.stored != "float32":  # then the parameters are of that type as well
        arrays = [_rounded(one, kernel.stored).astype(np.float32) for one in arrays]
        gamma, beta, mean, variance = arrays
        layer = replace(layer, gamma=gamma, beta=beta, moving_mean=mean, moving_variance=variance)
    parameters = Parameters.of(layer, "float32")
    wide = x.astype(np.float64)
    expected = normalise(parameters, wide, axis=(1,))
    y = kernel.run(x, *arrays, epsilon=layer.epsilon)
    if kernel.forms:
        how: dict[str, Any] = {"axis": (1,), "output": kernel.stored}
        each = [bounds.bound(parameters, wide, expected, form=one, **how) for one in kernel.forms]
        return Expected(expected, np.maximum.reduce(each)), y
    scale = parameters.slope.reshape(-1)
    with np.errstate(all="ignore"):
        size = np.abs(wide * scale) + np.abs(parameters.mean.reshape(-1) * scale) + np.abs(parameters.beta.reshape(-1))
    places = Places(x.shape[:1], np.arange(len(x)), 1)
    tiny = bounds.precision(kernel.rounded).tiny
    inexact = _part(kernel) * size + tiny * (np.abs(scale) + np.abs(wide) + 1)
    exact = Exact(expected, size, inexact, int(bounds.RSQRT) + 4, float(np.abs(wide).max()), np.abs(scale), places)
    return kernels.expect_sum(exact, arithmetic=Arithmetic("float32", kernel.rounded)), y


def row(kernel: Kernel) -> str:
    """Return what was seen of a kernel, as a line of the table."""
    elements = violations = 0
    worst: dict[str, float] = {}
    for terms, expected, y in results(kernel):
        largest = bounds.precision(kernel.rounded or kernel.stored).largest
        with np.errstate(all="ignore"):
            # Where a bound is promised and nothing overflows.
            counts = np.isfinite(expected.bound) & (np.abs(expected.value) + expected.bound < largest)
            ratios = expected.ratios(y)[counts]
        elements, violations = elements + ratios.size, violations + int(np.count_nonzero(~(ratios <= 1.0)))
        if not ratios.size:
            continue
        worst[terms] = max(worst.get(terms, 0.0), float(ratios.max(initial=0.0)))
    said = ", ".join(f"{ratio:.3g}{f' at n = {terms}' if terms else ''}" for terms, ratio in worst.items())
    version = importlib.metadata.version(kernel.package).partition("+")[0]
    cells = (
        f"{kernel.runtime} {version}",
        kernel.operation,
        kernel.precision,
        f"{elements:,}",
        f"{violations:,}",
        said,
    )
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print the table, as Markdown. Returns 1 if a kernel is beyond its bound."""
    print("| runtime | operation | precision | elements | beyond the bound | worst, of the bound |")
    print("|---" * 6 + "|")
    absent, wrong = set(), False
    for kernel in every():
        try:
            importlib.metadata.version(kernel.package)
        except importlib.metadata.PackageNotFoundError:
            absent.add(kernel.package)
            continue
        line = row(kernel)
        wrong |= line.split(" | ")[4] != "0"
        print(line, flush=True)
    if absent:
        print(f"\nNot installed: {', '.join(sorted(absent))}.")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
