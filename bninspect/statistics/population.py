"""The moments of everything that arrived at a batch norm, and how its samples scatter around them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from bninspect.statistics.exact_sums import ExactSums, product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bninspect.arithmetic.formula import Float64
    from bninspect.statistics.sample_moments import MomentsOfSamples

_KEPT = 1 << 19
"""Numbers that are kept before they are added: blocks of many rows are cheaper."""
_WEIGHTS = 4
"""Different numbers of values that samples may have before each is multiplied by its own."""


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


class Census:
    """Takes in batches, in any order, and returns the moments of all: bit for bit the same for any order.

    Mean and variance are made from exact sums of what `sample_moments` says of each sample, and rounded once, at the
    end. The scatter, which only a test needs, is merged as it comes (Chan, Golub and LeVeque, Algorithms for computing
    the sample variance, The American Statistician 37 (1983)): its last bits depend on the order.

    Args:
        channels: of the layer.
    """

    def __init__(self, channels: int) -> None:
        self.samples = 0
        self._count = 0
        self._channels = channels
        self._sums: dict[float, _Sums] = {}
        """By the number of values that each sample has, or 1 where a sample has been multiplied by its own."""
        self._kept: list[MomentsOfSamples] = []
        self._size = 0
        self._scatter = _Scatter(channels)

    def add(self, moments: MomentsOfSamples) -> None:
        """Take in the samples of one batch."""
        if not len(moments.counts):
            return
        self.samples += len(moments.counts)
        self._count += int(moments.counts.sum())
        self._scatter.add(moments)
        self._kept.append(moments)
        self._size += moments.means.size
        if self._size >= _KEPT:
            self._flush()

    def _flush(self) -> None:
        if not self._kept:
            return
        counts = np.concatenate([moments.counts for moments in self._kept])
        means, spreads = (np.concatenate([getattr(m, name) for m in self._kept]) for name in ("means", "spreads"))
        self._kept, self._size = [], 0
        equal = bool((counts == counts[0]).all()) and (counts[0] in self._sums or len(self._sums) < _WEIGHTS)
        sums = self._sums.setdefault(float(counts[0]) if equal else 1.0, _Sums(self._channels))
        sums.add(means, spreads, None if equal else counts[:, np.newaxis])

    def result(self) -> Population:
        """Return the moments of all samples so far; there must be one at least."""
        self._flush()
        count = self._count
        mean, variance = np.empty((2, self._channels))
        weighted = [(Fraction(weight), list(sums.totals())) for weight, sums in self._sums.items()]
        for channel in range(self._channels):
            total, square = (sum(weight * sums[channel][i] for weight, sums in weighted) / count for i in (0, 1))
            mean[channel], variance[channel] = float(total), float(square - total * total)
        finite = np.logical_and.reduce([sums.finite for sums in self._sums.values()])
        mean, variance = np.where(finite, mean, np.nan), np.where(finite, variance, np.nan)
        of_mean, of_variance = self._scatter.deviations(mean)
        return Population(self.samples, count, mean, variance, of_mean, of_variance, bool(finite.all()))


class _Sums:
    """Exact sums over samples: of their means, and of their mean squares."""

    def __init__(self, channels: int) -> None:
        self._means, self._squares = ExactSums(channels), ExactSums(channels)

    def add(self, means: Float64, spreads: Float64, counts: Float64 | None) -> None:
        """Add samples, each as often as it has values, if `counts` says how many, of shape (samples, 1)."""
        with np.errstate(all="ignore"):
            for sums, parts in ((self._means, (means,)), (self._squares, (*product(means, means), spreads))):
                for part in parts:
                    for term in (part,) if counts is None else product(part, counts):
                        sums.add(term)

    @property
    def finite(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Channels in which every value was finite."""
        return self._means.finite & self._squares.finite

    def totals(self) -> Iterator[tuple[Fraction, Fraction]]:
        """Yield the two sums of each channel."""
        return zip(self._means.totals(), self._squares.totals(), strict=True)


class _Scatter:
    """How mean and second moment vary from sample to sample, in deviations from the first batch's mean."""

    def __init__(self, channels: int) -> None:
        self._samples = 0
        self._origin: Float64 | None = None
        self._means = np.zeros((2, channels))
        # Sums of squares and products of deviations: first, first and second, second moment.
        self._products = np.zeros((3, channels))

    def add(self, moments: MomentsOfSamples) -> None:
        with np.errstate(all="ignore"):
            if self._origin is None:
                self._origin = moments.means.mean(axis=0)
            first = moments.means - self._origin
            both = np.stack([first, moments.spreads + np.square(first)])
            n, total = len(first), self._samples + len(first)
            means = both.mean(axis=1)
            off = both - means[:, np.newaxis]
            apart = means - self._means
            weight = self._samples * n / total
            for place, (i, j) in enumerate(((0, 0), (0, 1), (1, 1))):
                self._products[place] += (off[i] * off[j]).sum(axis=0) + weight * apart[i] * apart[j]
            self._means += apart * (n / total)
            self._samples = total

    def deviations(self, mean: Float64) -> tuple[Float64, Float64]:
        """Return the standard deviations of the sample means, and of mean squares about `mean`."""
        free = max(1, self._samples - 1)
        origin = np.zeros_like(mean) if self._origin is None else self._origin
        with np.errstate(all="ignore"):
            first, both, second = self._products / free
            shift = mean - origin
            # (x - mean)^2 = second moment about the origin - 2 * shift * first + a constant.
            about = second - 4 * shift * both + 4 * np.square(shift) * first
            return np.sqrt(first), np.sqrt(np.maximum(about, 0.0))
