"""A batch norm folded into a linear operation, in float64, and by how much a right one may be off in a file.

A batch norm is y = a*x + c per channel, a = gamma / sqrt(variance + epsilon), c = beta - mean*a. Behind a linear
operation with weights W and bias b it gives the weights W*a and the bias (b - mean)*a + beta. In front of one it gives
the weights W*a, a along the inputs, and the bias b + sum(W*c), provided that no zero padding comes between.

Converters compute that in float32 (or round to it), in an order of their own. With the slope off by (RSQRT + 2)u as in
bounds.py, a weight is off by (RSQRT + 3)u of itself. A folded bias is a sum of b*a, mean*a and beta, whose products are
off by (RSQRT + 3)u each and whose sums by at most 3u of all of them: (RSQRT + 6)u * (|b*a| + |mean*a| + |beta|). A bias
in which n products are summed is off by n*u more. Products of errors are covered by the factor 1 + 64u. Weights that
were then rounded to float16 are off by its unit more. Quantised ones are by half a step and 3u of themselves: whoever
quantises looks for the nearest whole number in float32, where the step may be a product of two, its reciprocal is
rounded, and so is what is multiplied by that (a bias of 1,169,304 steps was seen 0.601 of one off). A file that
computes in half precision may have been folded in it, as torch exports a model of halves, and so may a model that does,
whatever the file then keeps: then each of these roundings is one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from bninspect.arithmetic.bounds import PRECISIONS, RSQRT, precision
from bninspect.arithmetic.formula import Float64, Parameters
from bninspect.arithmetic.rounding import narrowed
from bninspect.records import Array, BatchNorm
from bninspect.records.graph import Kernel

U = precision("float32").unit
_SECOND = 1 + 64 * U
_WEIGHT = (RSQRT + 3) * U * _SECOND
_BIAS = (RSQRT + 6) * U * _SECOND
_PLACED = 3 * U * _SECOND
_TINY = precision("float32").tiny
_PIECE = 1 << 15
"""Numbers that are computed and compared at once: 256 KiB of each kind."""
_MOST_PLACES = 256
"""Steps that 8 bits tell apart, the coarsest weights whose steps are rounded to anything but float32."""


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """A batch norm as what it does to a channel: `scale * x + shift`."""

    scale: Float64
    shift: Float64
    mean: Float64
    beta: Float64

    @classmethod
    def of(cls, parameters: Parameters) -> ChannelMap:
        """Return what a batch norm does, from its parameters of any shape, channel by channel."""
        slope, intercept = parameters.slope.reshape(-1), parameters.intercept.reshape(-1)
        return cls(slope, intercept, parameters.mean.reshape(-1), parameters.beta.reshape(-1))

    def behind(self, bias: Float64) -> ChannelMap:
        """Return what it does to the sum of its input and a bias, as a batch norm of the input alone."""
        return replace(self, shift=self.shift + self.scale * bias, beta=self.beta + self.scale * bias)


def affine(layer: BatchNorm) -> ChannelMap:
    """Return what a stored layer does. Raises as `Parameters.of`."""
    return ChannelMap.of(Parameters.of(layer))


_ONE = np.ones((1, 1))


@dataclass(frozen=True, eq=False)
class FoldedKernel:
    """The weights and bias that a linear operation should have, and by how much each may be off.

    Weights are kept as the model holds them, with what each is multiplied by, and computed when they are asked for: in
    float64, with a bound for each, they would be four times the size of the model.
    """

    own: Array
    """Weights of the model, (taps, inputs, outputs), as it holds them."""
    bias: Float64
    """(outputs,)."""
    relative: float
    """Part of itself that a weight may be off."""
    absolute: Float64
    """By how much more it may be off, (outputs,) or of each weight."""
    bias_bound: Float64
    """(outputs,)."""
    factor: Float64 = field(default_factory=lambda: _ONE)
    """What the weights are multiplied by, (inputs or 1, outputs or 1)."""
    unit: float = U
    """Of the type in which the model computes the operation: folding may have been done in it."""

    @property
    def tiny(self) -> float:
        """By how much a number may be off near zero in the type of `unit`."""
        return max(_TINY, *(kind.tiny for kind in PRECISIONS.values() if kind.unit == self.unit))

    @property
    def weights(self) -> Float64:
        """The weights, (taps, inputs, outputs), computed each time."""
        with np.errstate(all="ignore"):
            return np.asarray(np.multiply(self.own, self.factor, dtype=np.float64))

    @property
    def weight_bound(self) -> Float64:
        """By how much each weight may be off, (taps, inputs, outputs)."""
        return self.bound_of(self.weights)

    def bound_of(self, weights: Float64) -> Float64:
        """Return by how much weights may be off that are those of this kernel."""
        with np.errstate(all="ignore"):
            bound = np.abs(weights)
            bound *= self.relative
            bound += self.absolute
        return bound

    def pieces(self) -> Iterator[tuple[int, slice, Float64, Float64]]:
        """Yield weights and bounds in pieces that fit the cache: the tap, the inputs, and (inputs, outputs) of each."""
        taps, inputs, outputs = self.own.shape
        step = max(1, _PIECE // max(1, outputs))
        for tap in range(taps):
            for start in range(0, inputs, step):
                rows = slice(start, min(start + step, inputs))
                with np.errstate(all="ignore"):
                    weights = self.own[tap, rows].astype(np.float64)
                    weights *= self.factor[rows] if len(self.factor) > 1 else self.factor
                    bound = np.abs(weights)
                    bound *= self.relative
                    bound += self.absolute if self.absolute.ndim == 1 else self.absolute[tap, rows]
                yield tap, rows, weights, bound

    def with_weights(self, other: FoldedKernel) -> FoldedKernel:
        """Return this bias with the weights of another kernel."""
        return replace(self, own=other.own, factor=other.factor, relative=other.relative, absolute=other.absolute)

    def reordered(self, rows: Array) -> FoldedKernel:
        """Return the same for inputs in another order."""
        factor = self.factor[rows] if len(self.factor) > 1 else self.factor
        absolute = self.absolute if self.absolute.ndim == 1 else self.absolute[:, rows]
        return replace(self, own=self.own[:, rows], factor=factor, absolute=absolute)

    @property
    def is_finite(self) -> bool:
        """Whether every number is one; nothing can be compared with what is not."""
        return bool(np.isfinite(self.weights).all() and np.isfinite(self.bias).all())


def plain(kernel: Kernel) -> FoldedKernel:
    """Return a linear operation as it is: a converter copies it, as it is stored or as it is computed with."""
    bias = zero_bias(kernel)
    absolute, bias_bound = np.full(bias.shape, _TINY), U * np.abs(bias) + _TINY
    if not kernel.narrow:
        return FoldedKernel(kernel.weights, bias, U, absolute, bias_bound)
    weights = kernel.weights.astype(np.float64)
    return FoldedKernel(
        kernel.weights,
        bias,
        U,
        absolute + _unrounded(weights, kernel.dtype),
        bias_bound + _unrounded(bias, kernel.dtype),
        unit=precision(kernel.dtype).unit,
    )


def _unrounded(numbers: Float64, dtype: str) -> Float64:
    """Return by how much numbers differ from themselves in a coarser type: nothing where they are of it already."""
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(narrowed(numbers, dtype) - numbers) * _SECOND)


def behind(kernel: FoldedKernel, norm: ChannelMap) -> FoldedKernel:
    """Return an operation with the batch norm behind it folded in."""
    with np.errstate(all="ignore"):
        a = norm.scale
        bias = (kernel.bias - norm.mean) * a + norm.beta
        terms = np.abs(kernel.bias * a) + np.abs(norm.mean * a) + np.abs(norm.beta)
        coarser = kernel.unit / U
        return FoldedKernel(
            kernel.own,
            bias,
            kernel.relative + coarser * _WEIGHT,
            np.abs(a) * kernel.absolute + kernel.tiny,
            np.abs(a) * kernel.bias_bound + coarser * _BIAS * terms + kernel.tiny,
            kernel.factor * a,
            kernel.unit,
        )


def before(kernel: FoldedKernel, norm: ChannelMap, groups: int) -> FoldedKernel:
    """Return an operation with the batch norm in front of it folded in."""
    weights = kernel.weights
    taps, inputs, outputs = weights.shape
    # Of group g the outputs g * outputs / groups and on read the inputs g * inputs and on.
    channel = np.arange(inputs)[:, np.newaxis] + np.arange(outputs) // (outputs // groups) * inputs
    with np.errstate(all="ignore"):
        a, c = norm.scale[channel], norm.shift[channel]
        added = weights * c
        terms = np.abs(added).sum(axis=(0, 1)) + np.abs(kernel.bias)
        inexact = np.abs(weights) * (np.abs(norm.mean * norm.scale) + np.abs(norm.beta))[channel]
        coarser = kernel.unit / U
        rounded = (taps * inputs + 2) * U * terms + _BIAS * inexact.sum(axis=(0, 1))
        return FoldedKernel(
            kernel.own,
            kernel.bias + added.sum(axis=(0, 1)),
            kernel.relative + coarser * _WEIGHT,
            np.abs(a).max(axis=0) * kernel.absolute + kernel.tiny,
            kernel.bias_bound + coarser * rounded + kernel.tiny,
            kernel.factor * a,
            kernel.unit,
        )


def as_stored(folded: FoldedKernel, export: Kernel) -> FoldedKernel:
    """Return `folded` with its bounds widened to the type and the quantisation of the export's numbers."""
    relative, absolute, bias = folded.relative, folded.absolute, folded.bias_bound
    if export.dtype != "float32":
        kind = precision(export.dtype)
        if export.narrow:
            # The same roundings as in the type of the model, each of the coarser one.
            coarser = max(1.0, kind.unit / folded.unit)
            relative, absolute, bias = relative * coarser, absolute * coarser, bias * coarser
        if export.apart is not None:
            relative += (1 + kind.unit) * kind.unit
            absolute = absolute + (1 + kind.unit) * kind.tiny * np.abs(export.apart)
        relative, absolute = relative + kind.unit, absolute + kind.tiny
        bias = bias + kind.unit * np.abs(folded.bias) + kind.tiny
    if export.flushed:
        absolute = absolute + np.where(export.weights == 0, export.flushed, 0.0)
    if export.weight_step is not None:
        relative += _PLACED
        absolute = absolute + 0.5 * export.weight_step.astype(np.float64) * _SECOND
        absolute = absolute + _of_step(export, export.weight_step)
    if export.bias_step is not None:
        bias = bias + 0.5 * export.bias_step.astype(np.float64) * _SECOND + _PLACED * np.abs(folded.bias)
    return replace(folded, relative=relative, absolute=absolute, bias_bound=bias)


def _of_step(export: Kernel, step: Array) -> Float64:
    """Return what looking for places costs, and rounding the steps themselves, beyond half of one.

    OpenVINO's FakeQuantize finds places up to 256, from the low end of a range, with four roundings: 6e-5 steps in
    float32 (1.9e-5 seen in 2,048,000 weights of NNCF), half a step in float16, in which a graph of halves is quantised
    (0.147 seen). A weight of q steps is off by q times what the step is off, its unit or, near zero, `tiny`.
    """
    kind, wide = precision(export.step_dtype), np.abs(step.astype(np.float64))
    looking = 4 * _MOST_PLACES * precision(export.counted).unit * wide if export.counted else np.zeros_like(wide)
    if export.step_dtype == "float32":
        return looking
    with np.errstate(all="ignore"):
        size = np.where(wide > 0, np.abs(export.weights) / wide, _MOST_PLACES) + 0.5
        return np.asarray(size * (kind.unit * wide + kind.tiny) + looking)


def rounded(norm: ChannelMap, folded: FoldedKernel, dtype: str) -> FoldedKernel:
    """Return a batch norm that survives with parameters rounded to a coarse type: each of the four is off by its unit.

    The slope by that of gamma and half that of the variance, the shift by that of beta, of the mean, and of the slope.
    """
    if precision(dtype).unit <= U:
        return folded
    unit, tiny = precision(dtype).unit, precision(dtype).tiny
    with np.errstate(all="ignore"):
        terms = np.abs(norm.beta) + 3 * np.abs(norm.mean * norm.scale)
        return replace(
            folded,
            relative=folded.relative + 2 * unit,
            absolute=folded.absolute + tiny,
            bias_bound=folded.bias_bound + unit * _SECOND * terms + tiny,
        )


def zero_bias(kernel: Kernel) -> Float64:
    """Return the bias of an operation in float64, zeros if it has none."""
    return np.zeros(kernel.outputs) if kernel.bias is None else kernel.bias.astype(np.float64)


def fits_weights(actual: Array, folded: FoldedKernel) -> bool:
    """Return whether every weight is finite and within its bound, in the shape of the weights."""
    return actual.shape == folded.own.shape and all(
        fits(actual[tap, rows], weights, bound) for tap, rows, weights, bound in folded.pieces()
    )


def fits(actual: Array, expected: Float64, bound: Float64) -> bool:
    """Return whether every number is finite and within its bound."""
    with np.errstate(all="ignore"):
        return actual.shape == expected.shape and bool((np.abs(actual - expected) <= bound).all())
