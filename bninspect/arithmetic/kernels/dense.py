"""Dense layers, recomputed in float64."""

from __future__ import annotations

import numpy as np

from bninspect.arithmetic.kernels.places import Budget, choose
from bninspect.arithmetic.kernels.products import Exact, Weights, largest, sum_products, wide
from bninspect.errors import BninspectError
from bninspect.records import Array


def multiply(x: Array, weights: Weights, *, budget: Budget | None = None) -> Exact:
    """Return the exact `sum x W + b` of each row of x, its magnitude, and what inexact weights cost.

    Args:
        x: (..., inputs), floats or integers.
        weights: (1, inputs, outputs), whatever the file stores.
        budget: above it a sample of rows is computed.

    Returns:
        Rows for the places (...) that were computed; those of TFLite's FULLY_CONNECTED, whose output may keep the axes
        of its input or not, are in the same order.

    Raises:
        BninspectError: the shapes do not fit each other.
    """
    if x.ndim < 1 or weights.taps != 1 or x.shape[-1] != weights.inputs or x.size == 0:
        raise BninspectError(f"an input of shape {x.shape} does not fit weights of shape {weights.values.shape}")
    flat = x.reshape(-1, weights.inputs)
    places = choose(x.shape[:-1], terms=weights.terms, channels=weights.outputs, budget=budget or Budget())

    def gather(start: int, stop: int) -> Array:
        return wide(flat[places.rows[start:stop], np.newaxis])

    return sum_products(gather, places, weights, 1, largest(x))
