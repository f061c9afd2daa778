"""Each linear operation of exports, recomputed from the model's numbers on the input that the runtime gave it.

    python benchmarks/local_proof.py

ResNet50, MobileNetV2, EfficientNetB0, a U-Net and four trained samples, as float32, float16, dynamic range, int8 and
int16x8 TFLite on LiteRT's built-in kernels, and as float32 and int8 ONNX (QLinearConv) on ONNX Runtime. Per file: how
many operations were matched with a kernel of the model, their errors as parts of the derived bound (worst, median), for
whole numbers the error of the runtime in output steps (worst, median, and as part of its bound), how far the stored
weights are from the model's in steps, the largest share of outputs that saturate (in ONNX relu and relu6 are the range
of a QLinearConv: what they take away counts there), and the processor time of the recomputation.

BLAS runs on one thread: where other work keeps the processors busy, threads that wait for each other cost ten times as
much.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import onnx_operations
import tflite_operations
from proof_models import NETWORKS, cached, exports
from tflite_operations import Linear

from bninspect.arithmetic.kernels import (
    Dense,
    Exact,
    Weights,
    convolve,
    expect_steps,
    expect_sum,
    multiply,
    own_step,
    quantised_bound,
    steps_off,
    with_own_range,
)

_HALF = 2.0**-11
"""Unit roundoff of float16."""


@dataclass
class Row:
    """What was seen of one file."""

    operations: int = 0
    matched: int = 0
    ratios: list[float] = field(default_factory=list)
    """Worst error of each operation over its bound, from the model's numbers."""
    steps: list[float] = field(default_factory=list)
    """Worst error of each quantised operation, in output steps, from the file's numbers."""
    step_ratios: list[float] = field(default_factory=list)
    weights_off: float = 0.0
    saturated: float = 0.0
    seconds: float = 0.0


def kernels(numbers: Any) -> list[dict[str, Any]]:
    """Return the kernels of the model that proof_models.py wrote."""
    count = len({key.partition(":")[0] for key in numbers.files if ":" in key})
    parts = ("weights", "bias", "relative", "bias_bound")
    return [{part: numbers[f"{number}:{part}"] for part in parts} for number in range(count)]


def matched(operation: Linear, candidates: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the kernel of the model that an operation holds: the nearest, if it is within a step."""
    grid, stored = operation.weights.grid, operation.weights.values
    actual = stored.astype(np.float64) if grid is None else grid.numbers(stored)
    near = [each for each in candidates if each["weights"].shape == actual.shape]
    if not near:
        return None
    best = min(near, key=lambda each: float(np.abs(each["weights"] - actual).max()))
    step = np.zeros(()) if grid is None else grid.step
    best = best | {"bound": best["relative"] * np.abs(best["weights"])}
    allowed = step + best["bound"] + 2 * _HALF * np.abs(best["weights"]) + 2.0**-24
    return best if bool((np.abs(best["weights"] - actual) <= allowed).all()) else None


def computed(operation: Linear, x: Any, weights: Weights, zero: int = 0) -> Exact:
    """Return the exact result of an operation."""
    if operation.asked is None:
        return multiply(Dense(), x.reshape(-1, weights.inputs), weights, zero=zero)
    return convolve(operation.asked, x, weights, zero=zero)


def rows_of(operation: Linear, exact: Exact) -> Any:
    """Return what the runtime made at the places that were recomputed."""
    y = operation.y.values
    return exact.places.pick(y.reshape(-1, y.shape[-1]) if operation.asked is None else y)


def prove(operation: Linear, kernel: dict[str, Any], row: Row) -> None:
    """Recompute one operation, and note what was seen."""
    if operation.x.grid is None:
        prove_float(operation, kernel, row)
    else:
        prove_whole(operation, kernel, row)


def prove_float(operation: Linear, kernel: dict[str, Any], row: Row) -> None:
    """Recompute an operation whose input is float32; its weights may be float16 or whole numbers."""
    grid, x = operation.weights.grid, operation.x.values
    bound, bias_bound = kernel["bound"], kernel["bias_bound"]
    if grid is not None:
        row.weights_off = max(row.weights_off, steps_off_of(operation, kernel))
        bound = bound + 0.5 * grid.step * (1 + 2.0**-20)
    elif np.array_equal(operation.weights.values.astype(np.float16), operation.weights.values):
        bound, bias_bound = bound + _HALF * np.abs(kernel["weights"]), bias_bound + _HALF * np.abs(kernel["bias"])
    exact = computed(operation, x, Weights.of(kernel["weights"], kernel["bias"], bound=bound, bias_bound=bias_bound))
    if grid is not None:  # LiteRT quantises the input of each row or batch, symmetrically or not
        data = x.reshape(-1, kernel["weights"].shape[1]) if operation.asked is None else x
        axes = tuple(range(1, data.ndim))
        step = np.maximum(*(own_step(data, axes, symmetric=way)[..., 0] for way in (True, False)))
        exact = with_own_range(exact, step)
    row.ratios.append(expect_sum(exact, operation.activation).worst(rows_of(operation, exact)))


def prove_whole(operation: Linear, kernel: dict[str, Any], row: Row) -> None:
    """Recompute an operation on whole numbers: from the file's, and from the model's."""
    x, weights, y = operation.x, operation.weights, operation.y
    assert x.grid is not None
    assert weights.grid is not None
    assert y.grid is not None
    row.weights_off = max(row.weights_off, steps_off_of(operation, kernel))
    bias = None if operation.bias is None else operation.bias.values
    whole = computed(operation, x.values, Weights.of(weights.values - weights.grid.zero, bias), int(x.grid.zero))
    multiplier = x.grid.step * weights.grid.step / y.grid.step
    steps = expect_steps(whole, multiplier, y.grid, operation.requantisation, operation.activation)
    actual = rows_of(operation, whole)
    row.steps.append(float(steps.off(actual).max()))
    row.step_ratios.append(steps.worst(actual))
    row.saturated = max(row.saturated, steps.saturated_share)
    half = 0.5 * (1 + 2.0**-20) * weights.grid.step
    model = Weights.of(
        kernel["weights"],
        kernel["bias"],
        bound=kernel["bound"] + half,
        bias_bound=kernel["bias_bound"] + half * x.grid.step,
    )
    exact = computed(operation, x.grid.numbers(x.values), model)
    low, high = (y.grid.step * (end - y.grid.zero) for end in y.grid.limits(operation.activation))
    off = np.abs(y.grid.numbers(actual) - np.clip(exact.value, low, high))
    row.ratios.append(float((off / quantised_bound(exact, y.grid, steps.bound - 0.5)).max()))


def steps_off_of(operation: Linear, kernel: dict[str, Any]) -> float:
    """Return by how many steps the stored weights are off at most."""
    grid = operation.weights.grid
    assert grid is not None
    return float(steps_off(kernel["weights"], kernel["bound"], operation.weights.values, grid).max())


def seen(path: Path, x: Any, candidates: list[dict[str, Any]]) -> Row:
    """Recompute a file, operation by operation."""
    row = Row()
    reader = onnx_operations if path.suffix == ".onnx" else tflite_operations
    for operation in reader.operations(path, x):
        row.operations += 1
        kernel = matched(operation, candidates)
        if kernel is not None:
            start = time.process_time()
            row.matched += 1
            if operation.kind.endswith("MatMul"):  # its bias is added by another operation
                kernel = kernel | {name: np.zeros_like(kernel["bias"]) for name in ("bias", "bias_bound")}
            prove(operation, kernel, row)
            row.seconds += time.process_time() - start
    return row


def main() -> None:
    """Print a line per file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(tempfile.gettempdir()) / "bninspect-benchmarks"
    parser.add_argument("--cache", type=Path, default=folder, help="folder for the models (%(default)s)")
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    options = parser.parse_args()
    print(f"{'':20} {'':14} {'matched':>9} {'worst':>7} {'median':>7} {'steps':>7} {'median':>7} {'of bound':>8}"
          f" {'weights':>8} {'saturated':>9} {'time':>7}")  # fmt: skip
    for network in options.networks:
        folder = cached(options.cache, network)
        numbers = np.load(folder / "numbers.npz")
        candidates = kernels(numbers)
        for path in exports(folder):
            row = seen(path, numbers["x"], candidates)
            line = f"{network:20} {path.name:14} {row.matched:4} / {row.operations:2}"
            line += f" {max(row.ratios, default=0):7.3f} {statistics.median(row.ratios or [0]):7.3f}"
            if row.steps:
                line += f" {max(row.steps):7.4f} {statistics.median(row.steps):7.4f} {max(row.step_ratios):8.4f}"
            else:
                line += " " * 24
            line += f" {row.weights_off:8.4f}" if row.weights_off else " " * 9
            line += f" {row.saturated:9.2%}" if row.steps else " " * 10
            print(f"{line} {row.seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
