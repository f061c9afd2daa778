"""Sums of products in float64, with what bounds their rounding: the core of every linear operation.

Of y = sum W x + B three sums are needed: the value, its magnitude S = sum |W||x| + |B|, and what inexact weights cost,
sum |x||dW| + |dB|. Each is a matrix product of BLAS over the gathered inputs of a block of places.

The reference has an error of its own: gamma_n of float64 times S, 2^-29 of that of a float32 kernel, which `rounding`
adds. Whole numbers (quantised operations) are exact while S is below 2^53.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels.places import BLOCK, Places
from bninspect.errors import BninspectError
from bninspect.records import Array

Gather = Callable[[int, int], Float64]
"""From the first place and the one behind the last to their inputs, float64, shape (places, taps, inputs)."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The numbers of a linear operation, and by how much each may be off in the file that is judged.

    The shapes are those of `records.graph`: weights (taps, inputs per group, outputs), the outputs of group g from
    g * outputs / groups on, its inputs from g * inputs / groups on; biases (outputs,).
    """

    values: Float64
    bias: Float64
    bound: Float64
    bias_bound: Float64

    @classmethod
    def of(
        cls, values: Array, bias: Array | None = None, *, bound: Array | None = None, bias_bound: Array | None = None
    ) -> Weights:
        """Return the numbers in float64: no bias is one of zeros, no bound means that the file holds these numbers.

        Raises:
            BninspectError: the shapes do not agree.
        """
        if values.ndim != 3:
            raise BninspectError(f"weights of shape {values.shape} are not (taps, inputs per group, outputs)")
        outputs = values.shape[2]
        made = cls(
            values.astype(np.float64),
            np.zeros(outputs) if bias is None else bias.astype(np.float64),
            np.zeros(values.shape) if bound is None else bound.astype(np.float64),
            np.zeros(outputs) if bias_bound is None else bias_bound.astype(np.float64),
        )
        if made.bias.shape != (outputs,) or made.bias_bound.shape != (outputs,) or made.bound.shape != values.shape:
            raise BninspectError(f"biases or bounds do not fit weights of shape {values.shape}")
        return made

    @property
    def taps(self) -> int:
        """Number of places of the kernel."""
        return int(self.values.shape[0])

    @property
    def inputs(self) -> int:
        """Inputs per group."""
        return int(self.values.shape[1])

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return int(self.values.shape[2])

    @property
    def terms(self) -> int:
        """Products summed per output element."""
        return self.taps * self.inputs


@dataclass(frozen=True, eq=False)
class Exact:
    """What an operation makes of its input in exact arithmetic, before any activation: one row per place."""

    value: Float64
    """(places, channels)."""
    magnitude: Float64
    """S = sum |W||x| + |B|, (places, channels)."""
    inexact: Float64
    """What the inexact numbers of the file may cost: sum |x||dW| + |dB|, (places, channels)."""
    terms: int
    """Products summed per element."""
    reach: float
    """Largest finite |x|."""
    weight: Float64
    """sum |W| + |dW| per channel, (channels,)."""
    places: Places

    def scaled(self, factor: float) -> Exact:
        """Return the same of the sums times a constant."""
        by = abs(factor)
        return replace(
            self,
            value=self.value * factor,
            magnitude=self.magnitude * by,
            inexact=self.inexact * by,
            weight=self.weight * by,
        )


def sum_products(gather: Gather, places: Places, weights: Weights, groups: int, reach: float) -> Exact:
    """Return the sums of products over the gathered inputs.

    Args:
        gather: returns the inputs of a range of rows of `places`.
        places: to be computed.
        weights: of the operation.
        groups: of its channels.
        reach: largest finite |x|.

    Returns:
        The exact results. Memory beyond them: about 4 * BLOCK * 8 bytes, or one place and the weights three times.
    """
    count, outputs = places.rows.size, weights.outputs
    value, magnitude, inexact = (np.empty((count, outputs)) for _ in range(3))
    absolute = np.abs(weights.values)
    factors = [_arrange(each, groups) for each in (weights.values, absolute, weights.bound)]
    exact_weights = not weights.bound.any()
    step = max(1, BLOCK // max(1, weights.terms * groups))
    with np.errstate(all="ignore"):
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            block = gather(rows.start, rows.stop)
            value[rows] = _multiply(block, factors[0], groups) + weights.bias
            np.abs(block, out=block)
            magnitude[rows] = _multiply(block, factors[1], groups) + np.abs(weights.bias)
            inexact[rows] = weights.bias_bound
            if not exact_weights:
                inexact[rows] += _multiply(block, factors[2], groups)
    return Exact(value, magnitude, inexact, weights.terms, reach, (absolute + weights.bound).sum(axis=(0, 1)), places)


def largest(x: Array) -> float:
    """Return the largest finite |x|, 0 if there is none."""
    with np.errstate(all="ignore"):
        finite = x[np.isfinite(x)] if x.dtype.kind == "f" else x
        return float(max(abs(float(finite.max())), abs(float(finite.min())))) if finite.size else 0.0


def _arrange(weights: Float64, groups: int) -> Float64:
    """Return weights (taps, inputs, outputs) as a matrix per group: (groups, taps * inputs, outputs per group)."""
    taps, inputs, outputs = weights.shape
    if inputs == 1 and groups > 1:
        return weights.reshape(taps, groups, outputs // groups)
    split = weights.reshape(taps * inputs, groups, outputs // groups)
    return np.ascontiguousarray(split.transpose(1, 0, 2))


def _multiply(block: Float64, factor: Float64, groups: int) -> Float64:
    """Return the products of inputs (places, taps, inputs) with arranged weights: (places, outputs)."""
    count, taps, inputs = block.shape
    if groups == 1:
        return np.asarray(block.reshape(count, taps * inputs) @ factor[0])
    if inputs == groups:  # depthwise: no matrix product, one sum over the taps per channel
        total = block[:, 0, :, np.newaxis] * factor[0]
        for tap in range(1, taps):
            total += block[:, tap, :, np.newaxis] * factor[tap]
        return np.asarray(total.reshape(count, -1))
    split = block.reshape(count, taps, groups, inputs // groups).transpose(2, 0, 1, 3)
    product = np.matmul(split.reshape(groups, count, -1), factor)
    return np.asarray(product.transpose(1, 0, 2).reshape(count, -1))
