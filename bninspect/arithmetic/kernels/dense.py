"""Dense layers, Gemm and batched matrix products, recomputed in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.kernels.places import Budget, choose
from bninspect.arithmetic.kernels.products import Exact, Weights, largest, sum_products, wide
from bninspect.errors import BninspectError
from bninspect.records import Array


@dataclass(frozen=True)
class Dense:
    """What is asked of `alpha * x' W + beta * b`, where x' is x or its transpose.

    Gemm of ONNX has all of these; a dense layer of Keras, torch or TFLite none. Transposed weights are the caller's:
    `Weights` are (1, inputs, outputs), whatever the file stores.
    """

    alpha: float = 1.0
    beta: float = 1.0
    transpose_input: bool = False
    """Whether x is (inputs, rows), transA of Gemm."""


def multiply(operation: Dense, x: Array, weights: Weights, *, zero: int = 0, budget: Budget | None = None) -> Exact:
    """Return the exact `alpha * sum x W + beta * b` of each row of x, its magnitude, and what inexact weights cost.

    Args:
        operation: what is asked for.
        x: (..., inputs), or (inputs, rows) if it is to be transposed; floats or integers.
        weights: (1, inputs, outputs), and the bias before it is multiplied by beta.
        zero: subtracted from every x (a zero point).
        budget: above it a sample of rows is computed.

    Returns:
        Rows for the places (...) that were computed; those of TFLite's FULLY_CONNECTED, whose output may keep the axes
        of its input or not, are in the same order.

    Raises:
        BninspectError: the shapes do not fit each other.
    """
    if operation.transpose_input:
        if x.ndim != 2:
            raise BninspectError(f"an input of shape {x.shape} cannot be transposed by a Gemm")
        x = x.T
    if x.ndim < 1 or weights.taps != 1 or x.shape[-1] != weights.inputs or x.size == 0:
        raise BninspectError(f"an input of shape {x.shape} does not fit weights of shape {weights.values.shape}")
    scaled = Weights(
        weights.values * operation.alpha,
        weights.bias * operation.beta,
        weights.bound * abs(operation.alpha),
        weights.bias_bound * abs(operation.beta),
        weights.relative,
    )
    flat = x.reshape(-1, weights.inputs)
    places = choose(x.shape[:-1], terms=weights.terms, channels=weights.outputs, budget=budget or Budget())

    def gather(start: int, stop: int) -> Array:
        block = wide(flat[places.rows[start:stop], np.newaxis])
        if zero:
            block -= zero
        return block

    return sum_products(gather, places, scaled, 1, largest(x) + abs(zero))


def multiply_batches(a: Array, b: Array, *, budget: Budget | None = None) -> Exact:
    """Return the exact matrix products a @ b, where neither is constant, or the constant one has batches.

    Args:
        a: (..., rows, inputs), batches broadcast as by NumPy; floats or integers, zero points already subtracted.
        b: (..., inputs, outputs).
        budget: above it a sample of rows is computed.

    Returns:
        Rows for the places (..., rows). `weight` is the largest sum |b| over all batches, per output.

    Raises:
        BninspectError: the shapes do not fit each other.
    """
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2] or not a.size or not b.size:
        raise BninspectError(f"inputs of shapes {a.shape} and {b.shape} cannot be multiplied")
    try:
        batches = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise BninspectError(f"the batches of shapes {a.shape} and {b.shape} do not fit each other") from None
    rows, terms, outputs = a.shape[-2], a.shape[-1], b.shape[-1]
    left, right = np.broadcast_to(a, (*batches, rows, terms)), np.broadcast_to(b, (*batches, terms, outputs))
    places = choose((*batches, rows), terms=terms, channels=outputs, budget=budget or Budget())
    value, magnitude = np.empty((places.rows.size, outputs)), np.empty((places.rows.size, outputs))
    weight = np.zeros(outputs)
    batch, row = np.divmod(places.rows, rows)
    starts = np.flatnonzero(np.diff(batch, prepend=-1))
    with np.errstate(all="ignore"):
        for start, stop in zip(starts, [*starts[1:], batch.size], strict=True):
            where = np.unravel_index(batch[start], batches) if batches else ()
            x, w = left[where][row[start:stop]].astype(np.float64), right[where].astype(np.float64)
            value[start:stop] = x @ w
            np.abs(w, out=w)
            magnitude[start:stop] = np.abs(x) @ w
            np.maximum(weight, w.sum(axis=0), out=weight)
    return Exact(value, magnitude, np.zeros_like(value), terms, largest(a), weight, places)
