"""Sums of products in float64, with what bounds their rounding: the core of every linear operation.

Of y = sum W x + B three sums are needed: the value, its magnitude S = sum |W||x| + |B|, and what inexact weights cost,
sum |x||dW| + |dB|. The first two are matrix products of BLAS over the gathered inputs of a block of places. The third
is one only if a bound is given for each weight: where |dW| <= r|W| + d, with d one number per channel, it is at most
r * sum |W||x| + d * sum |x|, of which nothing but the sum of a row is new.

The reference has an error of its own: gamma_n of float64 times S, 2^-29 of that of a float32 kernel, which `rounding`
adds.

Magnitudes of float32 inputs are summed in float32, which costs half as much, and are raised to what they are at least:
all their terms are positive. With both factors rounded to float32, each product and each addition rounded in any order,
the sum is at least (1 - gamma_(n+2)) times the exact one, less 2^-126 for each weight, product and input that was
flushed to zero. They only bound errors, so that a part of 2^-12 more or less is nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels.places import BLOCK, Places
from bninspect.errors import BninspectError
from bninspect.records import Array

_MOST_OFF = 0.1
"""Largest (n + 2)u up to which magnitudes are summed in float32."""
Gather = Callable[[int, int], Array]
"""From the first place and the one behind the last to their inputs, `wide`, shape (places, taps, inputs)."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The numbers of a linear operation, and by how much each may be off in the file that is judged.

    The shapes are those of `records.graph`: weights (taps, inputs per group, outputs), the outputs of group g from
    g * outputs / groups on, its inputs from g * inputs / groups on; biases (outputs,).
    """

    values: Float64
    bias: Float64
    bound: Float64
    """Of each weight, or (outputs,) where it is the same for all weights of an output."""
    bias_bound: Float64
    relative: float = 0.0
    """Part of itself that a weight may be off beside its bound."""

    @classmethod
    def of(
        cls,
        values: Array,
        bias: Array | None = None,
        *,
        bound: Array | None = None,
        bias_bound: Array | None = None,
        relative: float = 0.0,
    ) -> Weights:
        """Return the numbers in float64: no bias is one of zeros, no bound means that the file holds these numbers.

        A bound of shape (outputs,) is one for all weights of an output.

        Raises:
            BninspectError: the shapes do not agree.
        """
        if values.ndim != 3:
            raise BninspectError(f"weights of shape {values.shape} are not (taps, inputs per group, outputs)")
        outputs = values.shape[2]
        own, off, bias_off = (
            np.zeros(outputs) if one is None else one.astype(np.float64) for one in (bias, bound, bias_bound)
        )
        made = cls(values.astype(np.float64, copy=False), own, off, bias_off, relative)
        fits = made.bias.shape == made.bias_bound.shape == (outputs,)
        if not fits or made.bound.shape not in {(outputs,), values.shape}:
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
    sums = absolute.sum(axis=(0, 1))
    factor, of_each = _arrange(weights.values, groups), weights.bound.ndim == 3
    bounds = _arrange(weights.bound, groups) if of_each else None
    sizes = _Sizes(_arrange(absolute, groups), groups, weights.terms, sums, reach)
    step = max(1, BLOCK // max(1, weights.terms * groups))
    with np.errstate(all="ignore"):
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            block = gather(rows.start, rows.stop)
            value[rows] = _multiply(block.astype(np.float64, copy=False), factor, groups)
            value[rows] += weights.bias
            np.abs(block, out=block)
            sizes.multiply(block, out=magnitude[rows])
            inexact[rows] = weights.relative * magnitude[rows] + weights.bias_bound
            if bounds is not None:
                inexact[rows] += _multiply(block.astype(np.float64, copy=False), bounds, groups)
            elif weights.bound.any():
                inexact[rows] += _sum_inputs(block, groups, outputs) * weights.bound
            magnitude[rows] += np.abs(weights.bias)
    off = weights.bound.sum(axis=(0, 1)) if of_each else weights.terms * weights.bound
    return Exact(value, magnitude, inexact, weights.terms, reach, sums * (1 + weights.relative) + off, places)


class _Sizes:
    """Multiplies |x| by |W|: in float32 where the inputs are and nothing overflows, raised to what it is at least."""

    def __init__(self, factor: Float64, groups: int, terms: int, sums: Float64, reach: float) -> None:
        self._factor = factor
        self._groups = groups
        kind = precision("float32")
        off = (terms + 2) * kind.unit
        fits = off <= _MOST_OFF and reach * sums.max(initial=0.0) < kind.largest / 2
        self._narrow = factor.astype(np.float32) if fits else None
        self._least = 1 - off / (1 - off)
        self._flushed = kind.tiny * (terms * (reach + 1) + sums)

    def multiply(self, block: Array, out: Float64) -> None:
        """Write sum |x||W| of each output, or somewhat more, to `out`."""
        if block.dtype == np.float32 and self._narrow is not None:
            out[...] = _multiply(block, self._narrow, self._groups)
            out /= self._least
            out += self._flushed
        else:
            out[...] = _multiply(block.astype(np.float64, copy=False), self._factor, self._groups)


def wide(inputs: Array) -> Array:
    """Return inputs in the type that they are multiplied in: float32 if that is what they are, else float64.

    Gathered ones are a copy already, which is worked in.
    """
    return inputs if inputs.dtype == np.float32 else inputs.astype(np.float64)


def _sum_inputs(block: Array, groups: int, outputs: int) -> Float64:
    """Return the sums of all inputs that each output takes: (places, outputs), or (places, 1)."""
    count, taps, inputs = block.shape
    split = block.reshape(count, taps, groups, inputs // groups)
    sums = split.sum(axis=(1, 3), dtype=np.float64)
    return sums if groups == 1 else np.repeat(sums, outputs // groups, axis=1)


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


def _multiply(block: Array, factor: Array, groups: int) -> Array:
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
