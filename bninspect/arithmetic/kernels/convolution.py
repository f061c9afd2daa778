"""Convolutions of any rank, grouped, depthwise, dilated or transposed, recomputed in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.kernels.places import Budget, choose
from bninspect.arithmetic.kernels.products import Exact, Weights, largest, sum_products, wide
from bninspect.arithmetic.kernels.window import Lengths, Window
from bninspect.errors import BninspectError
from bninspect.records import Array


@dataclass(frozen=True)
class Convolution:
    """What a convolution is asked for, whatever framework wrote it. Weights are a matter of `Weights`."""

    window: Window
    groups: int = 1
    """As many as inputs: depthwise. Output channel o belongs to group o // (outputs / groups)."""
    transposed: bool = False
    output_padding: Lengths | None = None
    """Places that a transposed convolution adds at the end of each axis; they may see taps or only the bias."""
    channel_axis: int = -1
    """Of input and output: -1 behind the spatial axes (TensorFlow, TFLite), 1 in front of them (ONNX, torch)."""

    def outputs(self, lengths: Lengths) -> Lengths:
        """Return the spatial lengths of the output for those of the input."""
        if self.transposed:
            return self.window.transposed_outputs(lengths, self.output_padding)
        return self.window.outputs(lengths)


def convolve(operation: Convolution, x: Array, weights: Weights, *, budget: Budget | None = None) -> Exact:
    """Return the exact convolution of x, its magnitude, and what inexact weights may cost.

    Args:
        operation: what is asked for.
        x: (batch, *spatial, channels) or (batch, channels, *spatial), floats or integers.
        weights: (taps, inputs per group, outputs), the taps in the row-major order of the window.
        budget: above it a sample of places is computed.

    Returns:
        Rows for the places that were computed. Memory: the results, blocks of BLOCK numbers, and one copy of x in its
        own type where the channels are not the last axis.

    Raises:
        BninspectError: the shapes do not fit each other.
    """
    last = np.moveaxis(x, operation.channel_axis, -1)
    _require_fit(operation, last.shape, weights)
    lengths, inputs = last.shape[1:-1], last.shape[-1]
    outputs = operation.outputs(lengths)
    places = choose(
        (last.shape[0], *outputs),
        terms=weights.terms,
        channels=weights.outputs,
        budget=budget or Budget(),
        channel_axis=operation.channel_axis,
    )
    flat = last.reshape(-1, inputs)

    def gather(start: int, stop: int) -> Array:
        indices, inside = operation.window.reads(
            lengths, outputs, places.rows[start:stop], transposed=operation.transposed
        )
        block = wide(np.take(flat, indices, axis=0))
        if not inside.all():
            block[~inside] = 0.0
        return block

    return sum_products(gather, places, weights, operation.groups, largest(x))


def _require_fit(operation: Convolution, shape: Lengths, weights: Weights) -> None:
    rank, groups = len(operation.window.size), operation.groups
    if len(shape) != rank + 2:
        raise BninspectError(f"an input of rank {len(shape)} for a convolution over {rank} axes")
    if weights.taps != operation.window.taps:
        raise BninspectError(f"weights of {weights.taps} taps for a window of size {operation.window.size}")
    if groups < 1 or weights.outputs % groups or shape[-1] != weights.inputs * groups:
        raise BninspectError(
            f"{shape[-1]} inputs and {weights.outputs} outputs in {groups} groups for weights of shape "
            f"{weights.values.shape}"
        )
    if 0 in shape or not weights.terms:
        raise BninspectError(f"an input of shape {shape} holds nothing to convolve")
