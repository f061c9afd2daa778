"""How far a kernel of quantised numbers may be from what whole numbers say exactly.

The sums of whole numbers are exact. What is left is one real number per output, t = m * accumulator + zero, that a
kernel rounds to a whole one: it is off by half a step, and by an error e_m of its own multiplication by m. Per kernel,
v = |t - zero| in output steps:

- FIXED, LiteRT's built-in int8 and uint8 kernels: m = M * 2^e with M in [1/2, 1) rounded to 31 bits, 2^-31 v. For e < 0
  the product is rounded twice: first to 2^e output steps, half of which is 2^(e-1), then to whole ones. Where the step
  of a dense layer or of uint8 is multiplied in float32 first, 2^-24 v; it is allowed for everywhere.
- FIXED16, LiteRT's built-in int16x8 kernels: M has 15 bits (16 less one for rounding, saturated at 0x7fff): 2^-15 v,
  which is up to one step more at v = 32767; rounded once.
- FLOAT, MLAS: the accumulator is converted to float32 (u), m is a product and a quotient of float32 steps (2u), their
  product is rounded (u): 4u v, before the zero point is added, which is exact.

An addition brings both of its inputs to one step first. LiteRT's built-in kernels shift them left by 20 bits (15 for
int16), bring each to twice the larger step with a 31-bit multiplier, add, and bring the sum to the output's step: an
input is rounded twice on the way, by at most one unit of 2 max(s_a, s_b) / 2^20 together, and 2^-31 of itself; the sum
as in FIXED. XNNPACK and MLAS: 2^-20 of each input, and float32.

Not covered: MLAS kernels of unsigned inputs and signed weights on processors without VNNI, which saturate sums of two
products in 16 bits (ONNX Runtime's `reduce_range` is there for them).

Clipping (the type's range, relu6) is monotone, so that clipping before rounding is within the same half step.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64

_U = precision("float32").unit


class Requantisation(StrEnum):
    """How a kernel brings sums of whole numbers to the step of its output."""

    FIXED = "31-bit multiplier, rounded twice"
    FIXED16 = "15-bit multiplier"
    FLOAT = "float32 multiplier"


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


def addition_error(kernel: Requantisation, coarsest: Float64, size: Float64) -> Float64:
    """Return by how many output steps an addition may be off beyond half a one.

    Args:
        kernel: of the operation.
        coarsest: the larger step of the two that are added, in output steps.
        size: sum of the sizes of both, in output steps.
    """
    if kernel is Requantisation.FLOAT:
        return np.asarray((2.0**-20 + 4 * _U) * size)
    unit = np.asarray(2 * coarsest / 2.0 ** (15 if kernel is Requantisation.FIXED16 else 20))
    return np.asarray(2 * unit + 2.0**-30 * size + multiplication_error(Requantisation.FIXED, unit, size))
