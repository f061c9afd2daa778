"""Is y affine in x, channel by channel? Slope and intercept by least squares, with error bars that are certain.

At inference a channel's output is slope * x + intercept, so a call tells two numbers per channel and no more. What is
not affine is an activation, a quantisation, or statistics of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bninspect.arithmetic.bounds import Allowance, precision
from bninspect.arithmetic.formula import Float64, Parameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bninspect.causes.predict import View
    from bninspect.causes.samples import Sample

Total: TypeAlias = Callable[[Float64], Float64]
"""Sums the values of each channel's elements."""


@dataclass(frozen=True, eq=False)
class Lines:
    """The line through the elements of each channel; NaN for channels without two different x."""

    slope: Float64
    intercept: Float64
    slope_error: Float64
    intercept_error: Float64
    affine: NDArray[np.bool_]
    """Whether all elements of the channel lie on its line, as far as rounding allows to say."""


def lines(view: View) -> Lines:
    """Return the lines of a view; elements that are not finite are left out."""
    sample = view.sample
    kept = np.isfinite(sample.x) & np.isfinite(sample.y)
    x, y, channel = sample.x[kept], sample.y[kept], view.channel[kept]
    channels = int(np.prod([sample.shape[a] for a in sample.axis]))

    def total(values: Float64) -> Float64:
        return np.bincount(channel, values, channels).astype(np.float64, copy=False)

    none = np.zeros(x.shape)
    most = float(np.nan_to_num(np.abs(view.column("beta")), nan=0.0, posinf=0.0).max(initial=0.0))
    with np.errstate(all="ignore"):
        size = np.sqrt(total(np.square(y)) / total(np.ones(y.shape)))
        slope, intercept, _, _ = _fit(x, y, 1.0 / (np.square(y) + np.square(size[channel]) + 1e-300), channel, total)
        # Whatever mean and beta make up the intercept: |p| <= |y| + |beta|, |mean * slope| <= |intercept| + |beta|.
        a, c = slope[channel], np.abs(intercept[channel])
        error = errors(sample, x=x, y=y, slope=a, p=np.abs(y) + most, beta=none + most, shift=c + most)
        slope, intercept, by_slope, by_intercept = _fit(x, y, 1.0 / np.square(error), channel, total)
        slope_error = total(np.abs(by_slope) * error)
        intercept_error = total(np.abs(by_intercept) * error)
        distance = np.abs(y - slope[channel] * x - intercept[channel])
        room = error + slope_error[channel] * np.abs(x) + intercept_error[channel]
        off = total((~(distance <= room)).astype(np.float64)) > 0
    return Lines(slope, intercept, slope_error, intercept_error, ~off & np.isfinite(slope))


def errors(
    sample: Sample, *, x: Float64, y: Float64, slope: Float64, p: Float64, beta: Float64, shift: Float64
) -> Float64:
    """Return by how much elements may be off of whose arithmetic only magnitudes are known.

    Args:
        sample: says how the kernel computes.
        x: input.
        y: output.
        slope: gamma / denominator.
        p: (x - mean) * slope, or more.
        beta: beta, or more.
        shift: mean * slope, or more.
    """
    none = np.zeros(x.shape)
    x, y, p, beta, shift = (np.abs(each) for each in (x, y, p, beta, shift))
    with np.errstate(all="ignore"):
        parameters = Parameters(slope, beta, none, none + 1.0, 0.0)
        parts = [
            Allowance.of(parameters, form, sample.arithmetic, sample.output).at(p, x, y + 2 * shift)
            for form in sample.forms
        ]
        # A parameter that was changed is rounded once more.
        return np.asarray(np.maximum.reduce(parts) + precision(sample.arithmetic).unit * (beta + shift))


def _fit(
    x: Float64, y: Float64, weight: Float64, channel: NDArray[np.int64], total: Total
) -> tuple[Float64, Float64, Float64, Float64]:
    """Return slope and intercept of each channel, and their derivatives by the y of each element."""
    sums = total(weight)
    middle = total(weight * x) / sums
    aside = x - middle[channel]
    spread = total(weight * np.square(aside))
    # A spread that is rounding noise of x itself is none.
    spread = np.where(spread > 1e-26 * total(weight * np.square(x)), spread, np.nan)
    by_slope = weight * aside / spread[channel]
    slope = total(by_slope * y)
    by_intercept = weight / sums[channel] - middle[channel] * by_slope
    return slope, total(by_intercept * y), by_slope, by_intercept
