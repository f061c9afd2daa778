"""Pooling and means, recomputed in float64.

The maximum of a window is exact. An average of n numbers is their sum in any order, divided by n or multiplied by a
rounded 1/n: gamma_(n+2) sum|x|/n, the case of a convolution with the weights 1/n (rounding.py).

Traps: TensorFlow, TFLite and XNNPACK divide by the places inside the input; ONNX and torch may count the padding
(`count_include_pad`), but never what ceil_mode adds beyond it. A maximum over padding only sees the input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels.places import BLOCK, Budget, Places, choose
from bninspect.arithmetic.kernels.products import Exact, largest
from bninspect.arithmetic.kernels.window import Indices, Lengths, Mask, Window
from bninspect.errors import BninspectError
from bninspect.records import Array


@dataclass(frozen=True)
class Pooling:
    """What a pooling is asked for."""

    window: Window
    average: bool
    """An average, or else a maximum."""
    ceil: bool = False
    counts_padding: bool = False
    """Whether an average divides by the places of the padding too."""
    channel_axis: int = -1

    def outputs(self, lengths: Lengths) -> Lengths:
        """Return the spatial lengths of the output for those of the input."""
        return self.window.outputs(lengths, ceil=self.ceil)


def pool(operation: Pooling, x: Array, *, budget: Budget | None = None) -> Exact:
    """Return the exact maxima or averages of x, rows for the places that were computed.

    Args:
        operation: what is asked for.
        x: (batch, *spatial, channels) or (batch, channels, *spatial), floats or integers.
        budget: above it a sample of places is computed.

    Returns:
        `magnitude` is the average of |x|, 0 for a maximum, which a kernel returns as it is: judge it with `==`.

    Raises:
        BninspectError: x does not fit the window.
    """
    last = np.moveaxis(x, operation.channel_axis, -1)
    if last.ndim != len(operation.window.size) + 2 or not last.size:
        raise BninspectError(f"an input of shape {x.shape} for a window over {len(operation.window.size)} axes")
    lengths, channels = last.shape[1:-1], last.shape[-1]
    outputs, taps = operation.outputs(lengths), operation.window.taps
    places = choose(
        (last.shape[0], *outputs),
        terms=taps,
        channels=channels,
        budget=budget or Budget(),
        channel_axis=operation.channel_axis,
    )
    flat = last.reshape(-1, channels)
    value, magnitude = (np.zeros((places.rows.size, channels)) for _ in range(2))
    step = max(1, BLOCK // (taps * channels))
    with np.errstate(all="ignore"):
        for start in range(0, places.rows.size, step):
            rows = places.rows[start : start + step]
            indices, inside = operation.window.reads(lengths, outputs, rows)
            block = np.take(flat, indices, axis=0).astype(np.float64)
            found = slice(start, start + rows.size)
            if operation.average:
                block[~inside] = 0.0
                count = _counts(operation, lengths, outputs, rows, inside)[:, np.newaxis]
                value[found] = block.sum(axis=1) / count
                magnitude[found] = np.abs(block).sum(axis=1) / count
            else:
                block[~inside] = -np.inf
                value[found] = block.max(axis=1)
    return _exact(value, magnitude, taps if operation.average else 0, largest(x), places)


def _counts(operation: Pooling, lengths: Lengths, outputs: Lengths, rows: Indices, inside: Mask) -> Float64:
    """Return by what each average is divided."""
    if not operation.counts_padding:
        return np.asarray(inside.sum(axis=1), np.float64)
    # The same window over an input that has the padding in it.
    padded = tuple(n + low + high for n, (low, high) in zip(lengths, operation.window.padding, strict=True))
    window = Window.of(operation.window.size, stride=operation.window.stride, dilation=operation.window.dilation)
    return np.asarray(window.reads(padded, outputs, rows)[1].sum(axis=1), np.float64)


def mean(x: Array, axes: tuple[int, ...]) -> Exact:
    """Return the exact mean of x over some axes, one row per place that remains, with one channel.

    Args:
        x: any shape, floats or integers.
        axes: that are averaged over, each 0 <= axis < x.ndim.

    Returns:
        Rows in the row-major order of the axes that remain: `places.pick(y[..., np.newaxis])` of an output without
        the averaged axes.

    Raises:
        BninspectError: there are no such axes, or nothing to average.
    """
    if not axes or len(set(axes)) != len(axes) or not all(0 <= axis < x.ndim for axis in axes) or not x.size:
        raise BninspectError(f"an array of shape {x.shape} has no mean over the axes {axes}")
    terms = int(np.prod([x.shape[axis] for axis in axes]))
    kept = tuple(n for axis, n in enumerate(x.shape) if axis not in axes)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        value = np.mean(wide, axis=axes).reshape(-1, 1)
        size = np.mean(np.abs(wide, out=wide), axis=axes).reshape(-1, 1)
    places = Places(kept, np.arange(value.shape[0], dtype=np.int64))
    return _exact(value, size, terms, largest(x), places)


def _exact(value: Float64, magnitude: Float64, terms: int, reach: float, places: Places) -> Exact:
    none = np.zeros_like(value)
    return Exact(value, magnitude, none, terms, reach, np.ones(value.shape[1]), places)
