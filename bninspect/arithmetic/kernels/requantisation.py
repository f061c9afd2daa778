"""Quantised operations: what the file's whole numbers say exactly, and how far a right kernel may be from it.

The sums of whole numbers are exact. What is left is one real number per output, t = m * accumulator + zero, that a
kernel rounds to a whole one: it is off by half a step, and by an error e_m of its own multiplication by m. Per kernel,
v = |t - zero| in output steps:

- FIXED, LiteRT's built-in int8 and uint8 kernels: m = M * 2^e with M in [1/2, 1) rounded to 31 bits, 2^-31 v. For e < 0
  the product is rounded twice: first to 2^e output steps, half of which is 2^(e-1), then to whole ones. Where the step
  of a dense layer or of uint8 is multiplied in float32 first, 2^-24 v; it is allowed for everywhere.
- FIXED16, LiteRT's built-in int16x8 kernels: M has 15 bits (16 less one for rounding, saturated at 0x7fff): 2^-15 v,
  which is up to one step more at v = 32767; rounded once.
- FLOAT, XNNPACK and MLAS: the accumulator is converted to float32 (u), m is a product and a quotient of float32 steps
  (2u), their product is rounded (u): 4u v, before the zero point is added, which is exact.
- QDQ, an ONNX graph that is not optimised: float32 throughout, then divided by the output's step, v u more. Its sums
  are those of `expect_sum`.

Element-wise operations have their inputs scaled first: see quantised.py.

Not covered: MLAS kernels of unsigned inputs and signed weights on processors without VNNI, which saturate sums of two
products in 16 bits (ONNX Runtime's `reduce_range` is there for them).

Clipping (the type's range, relu6) is monotone, so that clipping before rounding is within the same half step.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels.activation import NONE, Activation
from bninspect.arithmetic.kernels.expectation import Expected
from bninspect.arithmetic.kernels.grid import Grid
from bninspect.arithmetic.kernels.products import Exact
from bninspect.arithmetic.kernels.rounding import ratio
from bninspect.records import Array

_U = precision("float32").unit
_HALF = 0.5 * (1 + 2.0**-40)
"""Half a step, and what float64 may be off in computing it."""


class Requantisation(StrEnum):
    """How a kernel brings sums of whole numbers to the step of its output."""

    FIXED = "31-bit multiplier, rounded twice"
    FIXED16 = "15-bit multiplier"
    FLOAT = "float32 multiplier"
    QDQ = "dequantised to float32"


@dataclass(frozen=True, eq=False)
class Steps:
    """Outputs as positions in steps of their grid."""

    value: Float64
    """Exact positions, clipped to the range of the type and of the activation."""
    bound: Float64
    """In steps: half a step and the kernel's own error."""
    saturated: Float64
    """By how many steps the exact position, behind the activation, is outside the range of the type; 0 inside."""

    def off(self, q: Array) -> Float64:
        """Return by how many steps each output is off."""
        return np.abs(q.astype(np.float64) - self.value)

    def ratios(self, q: Array) -> Float64:
        """Return how many bounds each output is off, infinite where it cannot be said; <= 1 is agreement."""
        return ratio(q.astype(np.float64), self.value, self.bound)

    def worst(self, q: Array) -> float:
        """Return the largest ratio, 0 if there are no elements."""
        return float(self.ratios(q).max(initial=0.0))

    @property
    def saturated_share(self) -> float:
        """How many of the outputs lose more than rounding to the ends of the range of the type."""
        return float(np.mean(self.saturated > self.bound)) if self.saturated.size else 0.0


def multiplication_error(kernel: Requantisation, multiplier: Float64, size: Float64) -> Float64:
    """Return e_m, in output steps.

    Args:
        kernel: of the operation.
        multiplier: m, one for all or (channels,).
        size: v = |m * accumulator|, (..., channels).
    """
    match kernel:
        case Requantisation.FIXED:
            exponent = np.frexp(multiplier)[1]
            twice = np.where(exponent < 0, np.ldexp(0.5, np.minimum(exponent, 0)), 0.0)
            return np.asarray((2.0**-31 + _U) * size + twice)
        case Requantisation.FIXED16:
            return np.asarray((2.0**-15 + _U) * size)
        case Requantisation.FLOAT:
            return np.asarray(4 * _U * (1 + 4 * _U) * size)
        case Requantisation.QDQ:
            return np.asarray(2 * _U * size)


def expect_steps(
    exact: Exact,
    multiplier: Array | float,
    output: Grid,
    kernel: Requantisation,
    activation: Activation = NONE,
) -> Steps:
    """Return what a quantised operation is expected to return, rows of `exact.places`, in steps of its output.

    Args:
        exact: sums of whole numbers: `convolve` or `multiply` of q_x with its zero point, and of the weights q_w with
            theirs subtracted, the bias as it is stored.
        multiplier: s_x * s_w / s_y in float64, one for all or (channels,).
        output: grid of y.
        kernel: that computed it.
        activation: fused into the operation, one that clips.
    """
    m = np.asarray(multiplier, np.float64)
    with np.errstate(all="ignore"):
        steps = exact.value * m
        return on_grid(steps, multiplication_error(kernel, m, np.abs(steps)), output, activation)


def on_grid(steps: Float64, error: Float64, output: Grid, activation: Activation = NONE) -> Steps:
    """Return positions from real outputs in steps, the zero point not yet added, and a kernel's error in steps."""
    low, high = output.limits(activation)
    first, last = (end / output.step + output.zero for end in activation.limits)
    position = np.clip(steps + output.zero, first, last)  # what an activation takes away is not saturation
    outside = np.maximum(output.low - position, position - output.high)
    return Steps(np.clip(position, low, high), _HALF + error, np.asarray(np.maximum(outside, 0.0)))


def quantise(expected: Expected, output: Grid) -> Steps:
    """Return what QuantizeLinear behind a float operation is expected to return: half a step, and the float bound."""
    with np.errstate(all="ignore"):
        steps = expected.value / output.step
        error = expected.bound / output.step + 2 * _U * (np.abs(steps) + expected.bound / output.step)
        return on_grid(steps, error, output)


def quantised_bound(exact: Exact, output: Grid, kernel_error: Float64 | float = 0.0) -> Float64:
    """Return by how much a quantised operation may be off what the model says, in the units of its output.

    Args:
        exact: of the model's weights W on the file's own dequantised x, with the bounds dW + s_w / 2 and
            dB + s_x * s_w / 2: |x| times what the weights lost to rounding is in `inexact`.
        output: grid of y.
        kernel_error: e_m, in output steps.

    Returns:
        sum |x| (s_w/2 + dW) + s_x s_w / 2 + dB + s_y (1/2 + e_m): what quantisation costs here.
    """
    return np.asarray(exact.inexact + output.step * (_HALF + kernel_error))
