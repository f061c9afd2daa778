"""How far a right kernel may be from the exact value: forward bounds for sums of products in any order.

A kernel computes sum w'x' + b' of n products in a type of unit roundoff u. Each product is rounded once and passes
through at most n additions, whatever their order, the one of the bias included; alpha and beta of a Gemm cost one
rounding more: so the result is sum w'x'(1 + e) with |e| <= gamma_(n+2) = (n+2)u / (1 - (n+2)u) (Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 3.1; fused multiply-adds round less). With

    w' = W + dW,  b' = B + dB,  S = sum |W||x| + |B|,  D = sum |dW||x| + |dB|

the error is at most

    D + gamma (S + D)

and nothing is neglected. Near zero every operand, product and partial sum is off by `tiny` more (bounds.py: subnormal
numbers are flushed, or lose digits): tiny * (sum |W| + n max|x| + 2n + 2), twice, which covers that these errors are
rounded too. A result that is rounded to an output type is off by u_out |y| and tiny_out more.

Measured for float16 and bfloat16 (tests/arithmetic/kernels/test_narrow_kernels.py, a million elements each): torch 2.13
and ONNX Runtime 1.31 sum in float32 and round once, worst ratio 0.997, except that torch rounds partial sums to
bfloat16 in transposed convolutions where oneDNN is off (1.007 seen): those are not covered.

Not covered: kernels that are not sums of products of W and x (Winograd, FFT, Strassen), and sums so long that n u > 0.1
(float16 accumulators beyond 200 terms): of those nothing is promised, the bound is NaN.

The law of Higham and Mary (SIAM J. Sci. Comput. 41(5), 2019) has sqrt(n) where this has n; it holds for random
roundings with high probability, so it is not judged by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels.products import Exact

_MOST = 0.1
"""Largest n*u of which a bound is given."""


@dataclass(frozen=True)
class Arithmetic:
    """The types that a kernel declares: names of `bounds.PRECISIONS`."""

    accumulator: str = "float32"
    """In which products are formed and summed."""
    output: str | None = None
    """To which the result is rounded; None for the accumulator's."""

    @property
    def result(self) -> str:
        """Type of the result."""
        return self.output or self.accumulator


FLOAT32 = Arithmetic()
FLOAT64 = Arithmetic("float64")
FLOAT16 = Arithmetic("float32", "float16")
"""Tensors of float16, sums in float32, one rounding at the end: ONNX Runtime and torch on processors."""


def gamma(count: int, u: float) -> float:
    """Return Higham's gamma_count = count*u / (1 - count*u), NaN where count*u is above 0.1."""
    product = count * u
    return product / (1 - product) if product <= _MOST else float("nan")


def sum_bound(exact: Exact, arithmetic: Arithmetic = FLOAT32) -> Float64:
    """Return by how much a sum of products may be off before activation and output rounding, (places, channels).

    NaN where nothing can be promised: too many terms, or numbers that are not finite.
    """
    kernel, reference = precision(arithmetic.accumulator), precision("float64")
    n = exact.terms
    growth = gamma(n + 2, kernel.unit) + gamma(n + 2, reference.unit)
    with np.errstate(all="ignore"):
        bound = exact.magnitude + exact.inexact
        bound *= growth
        bound += exact.inexact
        bound += 2 * kernel.tiny * (exact.weight + n * (exact.reach + kernel.tiny) + 2 * n + 3)
    return np.where(np.isfinite(bound), bound, np.nan)


def rounded_bound(bound: Float64, value: Float64, arithmetic: Arithmetic = FLOAT32) -> Float64:
    """Return `bound` of `value` widened by the rounding of the result to the output type, if it is another one."""
    if arithmetic.result == arithmetic.accumulator:
        return bound
    target = precision(arithmetic.result)
    with np.errstate(all="ignore"):
        return np.asarray(bound * (1 + target.unit) + target.unit * np.abs(value) + target.tiny)


def ratio(actual: Float64, expected: Float64, bound: Float64) -> Float64:
    """Return |actual - expected| / bound of each element: infinite where it cannot be said. Agreement is <= 1."""
    with np.errstate(all="ignore"):
        error = np.abs(actual.astype(np.float64) - expected)
        found = np.where((bound == 0) & (error == 0), 0.0, error / bound)
    return np.where(np.isnan(found), np.inf, found)
