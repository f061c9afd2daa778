"""Mean and spread of each channel in each sample: what every statistic of a whole data set is made from.

A sample is reduced by itself, in an order that its shape alone decides, in float64. What other samples there are, in
which order and in how many batches, can therefore not change a bit of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bninspect.records import Array
from bninspect.statistics.scratch import scratch

if TYPE_CHECKING:
    from bninspect.arithmetic.formula import Float64

_PIECE = 1 << 17
"""Elements that are worked on at a time: a megabyte, which stays in the second cache of most processors."""
_BLAS = 1 << 13
"""Elements that BLAS adds up at a time: so few are not divided among threads, which would be another order."""
_CLOSE = 2.0**-16
"""Part of the square of a mean that a spread must be, for the difference of two sums to have digits enough."""
_ONES = np.ones(_BLAS)


@dataclass(frozen=True, eq=False)
class MomentsOfSamples:
    """Moments of a batch, sample by sample. Arrays are float64, and valid until this thread asks for the next."""

    counts: Float64
    """Values of each channel of a sample, shape (samples,)."""
    means: Float64
    """Shape (samples, channels)."""
    spreads: Float64
    """Mean squared deviation from the sample's own mean, shape (samples, channels)."""


def of_batch(
    x: Array, axis: tuple[int, ...], samples: int, mask: Array | None = None, counted: int | None = None
) -> MomentsOfSamples:
    """Return the moments of each sample of a batch; a sample of which a mask lets nothing through is left out.

    Args:
        x: what arrives at a batch norm, any shape, with the samples along its first axis. Where that is longer than
            `samples`, as in a layer that is applied to every step of a sequence, each has an equal part of it.
        axis: axes of x that the parameters run along, none of them the first.
        samples: number of samples in the batch.
        mask: true where a value counts, of a shape that broadcasts against x.
        counted: how many of the samples, the first ones, are looked at; all without it.

    Raises:
        ValueError: the first axis of x does not hold equal parts for all samples, or is one of `axis`.
    """
    if 0 in axis or x.ndim == 0 or not samples or x.shape[0] % samples:
        raise ValueError(f"{x.shape} is not a batch of {samples} samples with channels along {axis}")
    if mask is None and axis == (1,) and x.ndim > 2 and len(x) == samples and x.size:
        # To turn them would take longer than to add them up.
        return _moments(x.reshape(samples, x.shape[1], -1)[:counted], 2, _sums_of_planes)
    table = _rows(x, axis, samples)[:counted]
    if mask is not None:
        return _masked(table, _rows(np.broadcast_to(mask, x.shape), axis, samples)[:counted])
    if table.shape[1] == 1:
        means, spreads = scratch("moments", (2, len(table), table.shape[2]))
        means[:], spreads[:] = table[:, 0], 0.0
        return MomentsOfSamples(np.ones(len(table)), means, spreads)
    return _moments(table, 1, _sums)


def _moments(x: Array, axis: int, sums: Callable[[Float64], Float64]) -> MomentsOfSamples:
    """Return the moments over an axis of x, a few samples at a time."""
    means, spreads = scratch("moments", (2, len(x), x.shape[3 - axis]))
    step = max(1, _PIECE // max(1, x[:1].size))
    with np.errstate(all="ignore"):
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            mean, spread = _of_deviations(x[part], axis, sums, None)
            # The mean takes digits of the mean square away: where it takes many, deviations are added up instead.
            close = spread < _CLOSE * np.square(mean)
            if close.any():
                where = np.flatnonzero(close.any(axis=1))
                some = x[part][where]
                better = _of_deviations(some, axis, sums, some.take([0], axis=axis).astype(np.float64))
                for found, other in zip((mean, spread), better, strict=True):
                    found[where] = np.where(close[where], other, found[where])
            means[part], spreads[part] = mean, np.maximum(spread, 0.0)
    return MomentsOfSamples(np.full(len(x), float(x.shape[axis])), means, spreads)


def _of_deviations(
    x: Array, axis: int, sums: Callable[[Float64], Float64], origin: Float64 | None
) -> tuple[Float64, Float64]:
    """Return mean and spread of each sample and channel by the sums of values, less `origin` if given, and of squares.

    With the first value as the origin little cancels: no value of n is more than sqrt(n) deviations from the mean
    (Chan, Golub and LeVeque, Algorithms for computing the sample variance, The American Statistician 37 (1983), 3).
    """
    values = x.shape[axis]
    length = max(1, min(values, _BLAS, _PIECE // max(1, x.shape[3 - axis])))
    total, square = np.zeros((2, len(x), x.shape[3 - axis]))
    for start in range(0, values, length):
        piece = x[:, start : start + length] if axis == 1 else x[:, :, start : start + length]
        wide = scratch("wide", piece.shape)
        np.copyto(wide, piece)
        if origin is not None:
            wide -= origin
        total += sums(wide)
        square += sums(np.square(wide, out=wide))
    total /= values
    mean = total if origin is None else total + origin.squeeze(axis)
    return mean, square / values - np.square(total)


def _rows(x: Array, axis: tuple[int, ...], samples: int) -> Array:
    """Return x as (samples, values, channels); no copy where the channels come last."""
    others = [a for a in range(1, x.ndim) if a not in axis]
    order = [0, *others, *sorted(axis)]
    channels = int(np.prod([x.shape[a] for a in axis]))
    return x.transpose(order).reshape(samples, -1, channels)


def _sums(wide: Float64) -> Float64:
    """Return the sums over the middle axis, of so many rows at a time as BLAS adds up in one thread."""
    samples, values, channels = wide.shape
    rows = min(values, max(1, _BLAS // max(1, channels)))
    whole = values - values % rows
    blocks = wide[:, :whole].reshape(samples, -1, rows, channels)
    sums = np.matmul(_ONES[:rows], blocks).sum(axis=1)
    return np.asarray(sums + np.matmul(_ONES[: values - whole], wide[:, whole:]) if whole < values else sums)


def _sums_of_planes(wide: Float64) -> Float64:
    """Return the sums over the last axis, of so many channels at a time."""
    samples, channels, values = wide.shape
    rows = min(channels, max(1, _BLAS // values))
    whole = channels - channels % rows
    ones = _ONES[:values]
    sums = np.matmul(wide[:, :whole].reshape(samples, -1, rows, values), ones).reshape(samples, whole)
    return sums if whole == channels else np.concatenate([sums, np.matmul(wide[:, whole:], ones)], axis=1)


def _masked(table: Array, mask: Array) -> MomentsOfSamples:
    """Return the moments of what a mask lets through; it is the same for all channels."""
    counting = mask[:, :, 0]
    counts = counting.sum(axis=1).astype(np.float64)
    kept = counts > 0
    table, counting, counts = table[kept], counting[kept, :, np.newaxis], counts[kept]
    wide = np.where(counting, table.astype(np.float64), 0.0)
    means = _sums(wide) / counts[:, np.newaxis]
    wide = np.where(counting, np.square(wide - means[:, np.newaxis]), 0.0)
    return MomentsOfSamples(counts, means, _sums(wide) / counts[:, np.newaxis])
