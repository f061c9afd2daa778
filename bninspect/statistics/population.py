"""The moments of everything that arrived at a batch norm, and how its samples scatter around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bninspect.statistics.exact_sums import SPLITTING, ExactSums, FixedPoint, product, two_sum, weighted
from bninspect.statistics.scratch import scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bninspect.arithmetic.formula import Float64
    from bninspect.statistics.sample_moments import MomentsOfSamples

Finite: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
"""Of each channel whether all is finite."""

_KEPT = 1 << 15
"""Numbers that are kept before they are added: in blocks of many rows, which stay in the cache."""
_LEAST = 32
"""Samples that are kept at least."""
_WEIGHTS = 4
"""Different numbers of values that samples may have before each is multiplied by its own."""
_WEIGHT = 1 << 30
"""Most values of a sample by which digits can be multiplied."""


@dataclass(frozen=True, eq=False)
class Population:
    """Moments of all samples. Arrays are float64 of shape (channels,)."""

    samples: int
    count: int
    """Values of each channel."""
    mean: Float64
    variance: Float64
    """Biased: divided by the number of values."""
    scatter_of_mean: Float64
    """Standard deviation of the means of single samples."""
    scatter_of_variance: Float64
    """Standard deviation, from sample to sample, of the mean squared deviation from the mean of all."""
    finite: bool
    """Whether every value was finite."""
    calls: Float64 | None = None
    """Means of the calls of a layer that is called more than once, in their order, shape (calls, channels)."""


class Census:
    """Takes in batches, in any order, and returns the moments of all: bit for bit the same for any order.

    Mean and variance are made from exact sums of what `sample_moments` says of each sample. The scatter, which only a
    test needs, is added up in float64: its last bits depend on the order.

    Args:
        channels: of the layer.
    """

    def __init__(self, channels: int) -> None:
        self.samples = 0
        self.values = 0
        """Of each channel."""
        self._channels = channels
        self._sums: dict[float, _Sums] = {}
        """By the number of values that each sample has, or 1 where a sample has been multiplied by its own."""
        self._kept = _Waiting(channels)
        self.scatter = _Scatter(channels)

    def add(self, moments: MomentsOfSamples) -> None:
        """Take in the samples of one batch."""
        self.samples += len(moments.counts)
        self.values += int(moments.counts.sum())
        start = 0
        while start < len(moments.counts):
            start += self._kept.add(moments, start)
            if self._kept.full:
                self._flush()

    def _flush(self) -> None:
        counts, means, spreads = self._kept.taken()
        if not len(counts):
            return
        self.scatter.add(means, spreads)
        equal = bool((counts == counts[0]).all()) and counts[0] < _WEIGHT
        equal = equal and (counts[0] in self._sums or len(self._sums) < _WEIGHTS)
        sums = self._sums.setdefault(float(counts[0]) if equal else 1.0, _Sums(self._channels))
        sums.add(means, spreads, None if equal else counts[:, np.newaxis])

    def weighted(self) -> Sequence[tuple[int, _Sums]]:
        """Return the exact sums, and by what each counts."""
        self._flush()
        return [(int(weight), sums) for weight, sums in self._sums.items()]


def pooled(calls: Sequence[Census]) -> Population:
    """Return the moments of what arrived in all calls of a layer, of the same samples; there must be one at least."""
    count = sum(census.values for census in calls)
    mean, variance, finite = _of([part for census in calls for part in census.weighted()], count)
    if len(calls) == 1:
        scatter = calls[0].scatter.deviations(mean)
        of_calls = None
    else:
        means = [_of(census.weighted(), census.values)[0] for census in calls]
        scatters = [census.scatter.deviations(of_call) for census, of_call in zip(calls, means, strict=True)]
        of_means, of_variances = zip(*scatters, strict=True)
        scatter = _root_mean_square(of_means), _root_mean_square(of_variances)
        of_calls = np.stack(means)
    samples = max(census.samples for census in calls)
    return Population(samples, count, mean, variance, *scatter, bool(finite.all()), of_calls)


def _of(parts: Sequence[tuple[int, _Sums]], count: int) -> tuple[Float64, Float64, Finite]:
    """Return mean and variance of exact sums, NaN in channels where not every value was finite, and which were."""
    means = weighted([(weight, sums.means.totals()) for weight, sums in parts])
    squares = weighted([(weight, sums.squares.totals()) for weight, sums in parts])
    mean, variance = _moments(means, squares, count)
    finite = np.logical_and.reduce([sums.finite for _, sums in parts])
    return np.where(finite, mean, np.nan), np.where(finite, variance, np.nan), finite


def _root_mean_square(parts: Sequence[Float64]) -> Float64:
    return np.asarray(np.sqrt(np.mean(np.square(np.stack(parts)), axis=0)))


class _Waiting:
    """Samples that have not been added yet."""

    def __init__(self, channels: int) -> None:
        rows = max(_LEAST, _KEPT // max(1, channels))
        self._counts, self._moments = np.empty(rows), np.empty((2, rows, channels))
        self._rows = 0

    def add(self, moments: MomentsOfSamples, start: int) -> int:
        """Keep samples from a place on, as many as there is room for, and return how many."""
        here = slice(self._rows, self._rows + len(moments.counts) - start)
        taken = len(self._counts[here])
        there = slice(start, start + taken)
        self._counts[here] = moments.counts[there]
        self._moments[0, here], self._moments[1, here] = moments.means[there], moments.spreads[there]
        self._rows += taken
        return taken

    @property
    def full(self) -> bool:
        """Whether there is no room left."""
        return self._rows == len(self._counts)

    def taken(self) -> tuple[Float64, Float64, Float64]:
        """Return counts, means and spreads of what was kept; it is valid until the next is kept."""
        rows, self._rows = self._rows, 0
        return self._counts[:rows], self._moments[0, :rows], self._moments[1, :rows]


def _moments(means: FixedPoint, squares: FixedPoint, count: int) -> tuple[Float64, Float64]:
    """Return mean and variance of exact sums of values and of their squares, rounded once: all is in two float64s."""
    mean, mean_rest = _divided(*means.rounded(), count)
    square, square_rest = _divided(*squares.rounded(), count)
    with np.errstate(all="ignore"):
        of_mean, of_mean_rest = product(mean, mean)
        variance, rest = two_sum(square, -of_mean)
        rest += square_rest - of_mean_rest - 2 * mean * mean_rest
        return mean, np.maximum(variance + rest, 0.0)


def _divided(total: Float64, rest: Float64, count: int) -> tuple[Float64, Float64]:
    """Return a sum divided by a count, and what the rounding left out."""
    with np.errstate(all="ignore"):
        quotient = total / count
        back, back_rest = product(quotient, np.full_like(quotient, count))
        return two_sum(quotient, (((total - back) - back_rest) + rest) / count)


class _Sums:
    """Exact sums over samples: of their means, and of their mean squares."""

    def __init__(self, channels: int) -> None:
        self.means, self.squares = ExactSums(channels), ExactSums(channels)

    def add(self, means: Float64, spreads: Float64, counts: Float64 | None) -> None:
        """Add samples, each as often as it has values, if `counts` says how many, of shape (samples, 1)."""
        with np.errstate(all="ignore"):
            # The square of the upper half is exact. The rest is 2**-25 of it at most, and what rounding leaves out
            # of that is of no account.
            square, rest = self._square(means)
            rest += spreads
            for sums, parts in ((self.means, (means,)), (self.squares, (square, rest))):
                for part in parts:
                    for term in (part,) if counts is None else product(part, counts):
                        sums.add(term)

    @staticmethod
    def _square(means: Float64) -> tuple[Float64, Float64]:
        """Return what is exact of the squares, and the rest of them. Dekker's halves, as `exact_sums.product`."""
        high, low = (scratch(name, means.shape) for name in ("high", "low"))
        np.multiply(means, SPLITTING, out=low)
        np.subtract(low, means, out=high)
        np.subtract(low, high, out=high)
        np.subtract(means, high, out=low)
        rest = np.multiply(high, 2, out=scratch("square", means.shape))
        rest += low
        rest *= low
        return np.square(high, out=high), rest

    @property
    def finite(self) -> Finite:
        """Channels in which every value was finite."""
        return self.means.finite & self.squares.finite


class _Scatter:
    """How mean and second moment vary from sample to sample: sums of squares and products of deviations.

    Deviations are from the means of the first block (Chan, Golub and LeVeque, Algorithms for computing the sample
    variance, The American Statistician 37 (1983), section 3: shifted data).
    """

    def __init__(self, channels: int) -> None:
        self._samples = 0
        self._origin: tuple[Float64, Float64] | None = None
        # Sums of first and second moment, of their squares and of their product.
        self._sums = np.zeros((5, channels))

    def add(self, means: Float64, spreads: Float64) -> None:
        """Take in samples, shape (samples, channels)."""
        first, second, both = (scratch(name, means.shape) for name in ("first", "second", "both"))
        with np.errstate(all="ignore"):
            origin = means.mean(axis=0) if self._origin is None else self._origin[0]
            np.subtract(means, origin, out=first)
            np.square(first, out=second)
            second += spreads
            self._origin = (origin, second.mean(axis=0)) if self._origin is None else self._origin
            second -= self._origin[1]
            self._sums[0] += first.sum(axis=0)
            self._sums[1] += second.sum(axis=0)
            for place, (one, other) in enumerate(((first, first), (first, second), (second, second)), start=2):
                self._sums[place] += np.multiply(one, other, out=both).sum(axis=0)
        self._samples += len(means)

    def deviations(self, mean: Float64) -> tuple[Float64, Float64]:
        """Return the standard deviations of the sample means, and of mean squares about `mean`."""
        free = max(1, self._samples - 1)
        origin = np.zeros_like(mean) if self._origin is None else self._origin[0]
        with np.errstate(all="ignore"):
            of_first, of_second, *products = self._sums
            pairs = ((of_first, of_first), (of_first, of_second), (of_second, of_second))
            first, both, second = (
                (total - a * b / self._samples) / free for total, (a, b) in zip(products, pairs, strict=True)
            )
            shift = mean - origin
            # (x - mean)^2 = second moment about the origin - 2 * shift * first + a constant.
            about = second - 4 * shift * both + 4 * np.square(shift) * first
            return np.sqrt(np.maximum(first, 0.0)), np.sqrt(np.maximum(about, 0.0))
