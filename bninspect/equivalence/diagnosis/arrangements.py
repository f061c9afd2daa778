"""A kernel whose numbers are all there and in another order, as ports by hand write it.

Frameworks store the axes of a kernel in different orders: PyTorch (outputs, inputs, height, width), Keras (height,
width, inputs, outputs). Whoever exchanges two axes too many, or reshapes where axes have to be exchanged, gets a kernel
of the right shape. It is named only where every number of it then fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bninspect.records import Array
from bninspect.records.graph import Kernel


def arrangements(kernel: Kernel) -> Iterator[tuple[str, Kernel]]:
    """Yield what was done to the order of a kernel's weights in words, and the kernel that comes of it."""
    for sentence, weights in _orders(kernel.weights, kernel.groups):
        if not np.array_equal(weights, kernel.weights):
            yield sentence, replace(kernel, weights=np.ascontiguousarray(weights))


def _orders(weights: Array, groups: int) -> Iterator[tuple[str, Array]]:
    taps, inputs, outputs = weights.shape
    side = math.isqrt(taps)
    square = side > 1 and side * side == taps
    if square:
        # Of a kernel of nine in a row, too; there it fits nothing.
        turned = weights.reshape(side, side, inputs, outputs).swapaxes(0, 1).reshape(weights.shape)
        yield "its kernel is transposed: height and width are exchanged", turned
    if groups <= 1 and inputs == outputs > 1:
        yield "its kernel is transposed: inputs and outputs are exchanged", weights.swapaxes(1, 2)
        if square:
            yield "its kernel is transposed: all of its axes are in reverse order", turned.swapaxes(1, 2)
    if taps > 1:
        yield "its kernel is turned by half a turn: a convolution flips it and a correlation does not", weights[::-1]
    reshaped = "its kernel was reshaped where its axes have to be exchanged"
    yield reshaped, weights.transpose(2, 1, 0).reshape(weights.shape)
    yield reshaped, weights.reshape(outputs, inputs, taps).transpose(2, 1, 0)
