"""Mean and spread of each channel in each sample: what every statistic of a whole data set is made from.

A sample is reduced by itself, in an order that its shape alone decides, in float64. What other samples there are, in
which order and in how many batches, can therefore not change a bit of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bninspect.arithmetic.formula import Float64
    from bninspect.records import Array

_PIECE = 1 << 16
"""Elements that are worked on at a time: half a megabyte, which stays in the cache."""
_ROW = 256
"""Elements from which on a row is long enough for NumPy's inner loop."""


@dataclass(frozen=True, eq=False)
class MomentsOfSamples:
    """Moments of a batch, sample by sample. Arrays are float64."""

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
        return _of_planes(x.reshape(samples, x.shape[1], -1)[:counted])
    table = _rows(x, axis, samples)[:counted]
    if mask is not None:
        return _masked(table, _rows(np.broadcast_to(mask, x.shape), axis, samples)[:counted])
    samples = len(table)
    size = table.shape[1] * table.shape[2]
    means, spreads = np.empty((2, samples, table.shape[2]))
    step = max(1, _PIECE // max(1, size))
    with np.errstate(all="ignore"):
        for start in range(0, samples, step):
            part = slice(start, start + step)
            means[part], spreads[part] = _reduced(table[part])
    return MomentsOfSamples(np.full(samples, float(table.shape[1])), means, spreads)


def _of_planes(planes: Array) -> MomentsOfSamples:
    """Return the moments of (samples, channels, values): to turn them would take longer than to add them up."""
    samples, channels, values = planes.shape
    means, spreads = np.empty((2, samples, channels))
    step = max(1, _PIECE // (channels * values))
    with np.errstate(all="ignore"):
        for start in range(0, samples, step):
            part = slice(start, start + step)
            wide = planes[part].astype(np.float64, order="C")
            means[part] = np.add.reduce(wide, axis=2) / values
            wide -= means[part][:, :, np.newaxis]
            np.square(wide, out=wide)
            spreads[part] = np.add.reduce(wide, axis=2) / values
    return MomentsOfSamples(np.full(samples, float(values)), means, spreads)


def _rows(x: Array, axis: tuple[int, ...], samples: int) -> Array:
    """Return x as (samples, values, channels); no copy where the channels come last."""
    others = [a for a in range(1, x.ndim) if a not in axis]
    order = [0, *others, *sorted(axis)]
    channels = int(np.prod([x.shape[a] for a in axis]))
    return x.transpose(order).reshape(samples, -1, channels)


def _reduced(table: Array) -> tuple[Float64, Float64]:
    """Return mean and spread of each sample and channel of (samples, values, channels)."""
    values = table.shape[1]
    if values == 1:
        return table[:, 0].astype(np.float64), np.zeros((len(table), table.shape[2]))
    wide = np.array(table, np.float64, order="C")
    means = _sums(wide) / values
    wide -= means[:, np.newaxis]
    np.square(wide, out=wide)
    return means, _sums(wide) / values


def _sums(wide: Float64) -> Float64:
    """Return the sums over the middle axis: long rows are added up first, then folded."""
    samples, values, channels = wide.shape
    fold = max(1, _ROW // channels)
    whole = values - values % fold
    if fold == 1 or not whole:
        return np.asarray(np.add.reduce(wide, axis=1))
    rows = wide[:, :whole].reshape(samples, -1, fold * channels)
    sums = np.add.reduce(np.add.reduce(rows, axis=1).reshape(samples, fold, channels), axis=1)
    return np.asarray(sums + np.add.reduce(wide[:, whole:], axis=1))


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
