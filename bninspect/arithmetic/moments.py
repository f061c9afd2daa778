"""How far the moments of a batch, what they normalise, and the moving update of a correct kernel may be off.

Continues bounds.py, in its notation. Of the n values x of one channel, m is the mean, v the biased variance (divided
by n), A the mean of |x|, and q = v + m^2 the mean of x^2.

Sums. n numbers that are added in any order (one after the other, in blocks, as a tree, by several threads, with or
without fused multiply-add) are off by at most (n - 1)u times the sum of their magnitudes: Higham, section 4.2, and
Jeannerod and Rump, Improved error bounds for inner products in floating-point arithmetic, SIAM J. Matrix Anal. Appl.
34 (2013), who show that nothing of second order is missing. The order of a kernel is nobody's promise (Eigen's trees
have leaves of 1024, oneDNN adds in blocks), so n stands here, and not log2(n): a large batch is judged mildly.
What is to be told apart must therefore be shown on a small one.

- m. Dividing by n costs 3u (n, 1/n and the product may all be rounded): d = u * [(n - 1)A + 3|m|].
- v in two passes. x - m' costs u, which the square doubles, the square u, the sum (n - 1)u, dividing 3u; and the mean
  of (x - m')^2 is v + (m - m')^2 exactly. So v is off by (n + 5)u * (v + d^2) + d^2: no cancellation, however large
  m is.
- v as E[x^2] - E[x]^2, which is how `synchronized=True` computes it. The mean of x^2 is off by (n + 3)u * q, the
  square of m' by (2|m| + d)d + u(|m| + d)^2, the difference by another u: it loses all digits where m^2 exceeds v by
  1/(nu). Cutting it off at zero takes it nearer to v.

Keras 3 divides masked sums by n + 1e-7, which costs 1e-7/n of both. Reading x, subtracting, squaring, adding and
dividing may each flush to zero, which costs `tiny` of bounds.py each time.

The output. A kernel normalises with m' and v', and of the output with those it is off by what bounds.py says. If v'
is off by at most e, v' + epsilon lies between max(v - e, 0) + epsilon and v + e + epsilon. Let f be by how much
1/sqrt of either differs from r at most. Then the output is off by |gamma| * (|x - m| + d) * f + |a|d more, which is
linear in |p| again: the coefficient is f/r, the constant |gamma| * d * (f + r).

The update, momentum*old + (1 - momentum)*b. There are three ways to write it: as it stands (Keras 3), as
old - (old - b)*decay (tf_keras), and with momentum found as 1 - factor in float32 (the fused kernel). Counted
together: u * [(1 + |momentum| + 2|1 - momentum|)|old| + 5|1 - momentum||b| + |new|], the five for factor, Bessel's
quotient and their products, and |1 - momentum| times what b is off. tf_keras rounds decay to float32 even where it
computes in float64: there the reference does, too.

The float64 reference does the same sums, so all of this happens once more with u = 2^-53.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bninspect.arithmetic.bounds import Allowance, allowances, precision
from bninspect.arithmetic.formula import Float64, Parameters, batch_moments, moving_update, unbiased
from bninspect.arithmetic.rounding import rounded
from bninspect.records import Array, Estimator, Form

MASK_SLACK = 1e-7
"""What Keras 3 adds to the number of unmasked values before it divides by it: its `backend.epsilon()`."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and biased variance of each channel of a batch, and by how much a kernel's may differ; NaN: no promise."""

    count: Float64
    """Values of each channel."""
    mean: Float64
    variance: Float64
    mean_error: Float64
    variance_error: Float64

    @classmethod
    def of(
        cls,
        x: Array,
        axis: tuple[int, ...],
        *,
        mask: Array | None = None,
        one_pass: bool = False,
        arithmetic: str = "float32",
    ) -> Moments:
        """Take the moments of x over all axes but `axis`, in the shape of the parameters.

        Args:
            x: the batch.
            axis: axes of x that the parameters run along.
            mask: true where a value counts, of a shape that broadcasts against x.
            one_pass: whether the kernel computes the variance as E[x^2] - E[x]^2.
            arithmetic: type in which it computes.
        """
        kernel = precision(arithmetic)
        u, tiny = kernel.unit + precision("float64").unit, kernel.tiny
        where = None if mask is None else np.broadcast_to(mask, x.shape)
        mean, variance = batch_moments(x, axis, where=where)
        others = tuple(a for a in range(x.ndim) if a not in axis)
        n = _count(x.shape, axis, where).reshape(mean.shape)
        with np.errstate(all="ignore"):
            counted: Any = True if where is None else where
            magnitude = np.sum(np.abs(x), axis=others, dtype=np.float64, where=counted).reshape(mean.shape) / n
            slack = 0.0 if mask is None else MASK_SLACK / n
            size = np.abs(mean)
            d = (u * ((n - 1) * magnitude + 3 * size)) * (1 + 64 * u) + slack * size + 4 * tiny
            if one_pass:
                q = variance + np.square(mean)
                e = ((n + 3) * u + slack) * q + (2 * size + d) * d + u * np.square(size + d)
                e = e * (1 + 64 * u) + u * variance
            else:
                off = np.square(d)
                e = ((n + 5) * u * (1 + 64 * u) + slack) * (variance + off) + off
            e = e + 8 * tiny * (1 + np.sqrt(variance) + d + size)
            # Sums that the type cannot hold become infinite somewhere on the way, and nobody can say where.
            largest = (variance + np.square(size)) * n if one_pass else np.maximum(magnitude, variance + d * d) * n
            known = largest < kernel.largest  # not of a channel without values, which has NaN
        return cls(n, mean, variance, np.where(known, d, np.nan), np.where(known, e, np.nan))

    def kept(self, estimator: Estimator, epsilon: float) -> tuple[Float64, Float64]:
        """Return the variance that is averaged by this estimator, and by how much a kernel's may differ."""
        ddof = {Estimator.BIASED: 0.0, Estimator.UNBIASED: 1.0, Estimator.OVERCORRECTED: 1.0 + epsilon}[estimator]
        return unbiased(self.variance, self.count, ddof=ddof), unbiased(self.variance_error, self.count, ddof=ddof)

    def parameters(self, stored: Parameters) -> Parameters:
        """Return what normalises the batch: gamma, beta and epsilon of its layer, and its own mean and variance."""
        return Parameters(stored.gamma, stored.beta, self.mean, self.variance, stored.epsilon)


def output_allowances(
    moments: Moments, stored: Parameters, form: Form, arithmetic: str, output: str
) -> tuple[Allowance, ...]:
    """Return the allowances of which the largest is the bound of an output normalised by the moments of its batch.

    Args:
        moments: of the batch, in the arithmetic of the kernel.
        stored: the layer's gamma, beta and epsilon, the latter rounded to the arithmetic.
        form: order of operations of the kernel.
        arithmetic: type in which it computes.
        output: type to which it rounds its result.
    """
    d, e = moments.mean_error, moments.variance_error
    cast = 0.0 if output == arithmetic else precision(output).unit
    with np.errstate(all="ignore"):
        gamma, size = np.abs(stored.gamma), np.abs(moments.mean) + d
        least = np.maximum(moments.variance - e, 0.0)
        # The largest slope, mean and intercept that the kernel may have: bounds.py takes only their magnitudes.
        extreme = Parameters(gamma, np.abs(stored.beta), -size, least, stored.epsilon)
        root, highest = moments.parameters(stored).root, np.sqrt(moments.variance + e + stored.epsilon)
        share = (1 + cast) * np.maximum(root / extreme.root - 1, 1 - root / highest)
        constant = (1 + cast + share) * gamma * d / root
        return tuple(
            Allowance(
                on_p=allowance.on_p * (1 + share) + allowance.on_y * share + share,
                on_x=allowance.on_x,
                on_y=allowance.on_y,
                constant=allowance.constant + (allowance.on_p + allowance.on_y + 1) * constant,
            )
            for allowance in allowances(extreme, form, arithmetic, output)
        )


def updated(
    old: Array,
    batch: Float64,
    error: Float64,
    momentum: float,
    *,
    arithmetic: str = "float32",
    kept: str = "float32",
    decay: str = "float32",
) -> tuple[Float64, Float64]:
    """Return a moving statistic after one training step, and by how much a correct kernel's may differ.

    Args:
        old: the statistic before the step.
        batch: that of the batch.
        error: by how much the kernel's may differ from it.
        momentum: share of the old value.
        arithmetic: type in which the kernel computes.
        kept: type in which the statistic is kept.
        decay: type to which the kernel rounds 1 - momentum.
    """
    kernel, target = precision(arithmetic), precision(kept)
    if precision(decay).unit > kernel.unit:
        momentum = 1.0 - rounded(1.0 - momentum, decay)
    u = kernel.unit + precision("float64").unit
    before, share = old.astype(np.float64), abs(1.0 - momentum)
    with np.errstate(all="ignore"):
        new = moving_update(before, batch, momentum)
        bound = u * ((1 + abs(momentum) + 2 * share) * np.abs(before) + 5 * share * np.abs(batch) + np.abs(new))
        bound = bound * (1 + 64 * u) + share * error * (1 + 8 * u) + 8 * kernel.tiny
        if kept != arithmetic:
            bound = bound * (1 + target.unit) + target.unit * np.abs(new) + target.tiny
    return np.asarray(new), np.asarray(bound)


def _count(shape: tuple[int, ...], axis: tuple[int, ...], where: Array | None) -> Float64:
    """Return the number of values of each channel, of the shape of x along `axis`."""
    lengths = tuple(shape[a] for a in sorted(axis))
    if where is None:
        return np.full(lengths, math.prod(shape) / max(1, math.prod(lengths)))
    others = tuple(a for a in range(len(shape)) if a not in axis)
    return np.asarray(np.count_nonzero(where, axis=others), np.float64)
