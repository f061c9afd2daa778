"""Whether the stored statistics of a layer are those of data, in standard errors and in size.

Under the hypothesis that the model has settled and that the data is of the kind that it was trained on, a stored mean
is an exponential average of batch means. With m the share of the new value in a step, B samples in a batch and s the
standard deviation of the means of single samples, its variance is s^2/B * m/(2 - m); the mean of n samples of the data
adds s^2/n. The same holds for the variance, with the standard deviation of the mean squares of single samples. Several
things make real statistics differ a little more (what a net has learnt by heart, augmentation and dropout in training,
weights that moved until the end), so that a layer differs only if a channel is off by more standard errors than
accident gives *and* by an effect that is larger than is allowed, for certain.

A batch variance is the variance of all less that of the batch mean, s^2/B, and some frameworks store it times
n/(n - 1). Everything between these is right: no departure is counted within. So it is with a layer that is called
several times: its training averages the variances of the calls, without that of their means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from bninspect.arithmetic import channel_strips
from bninspect.records import Array, BatchNorm, DataFit, Departure

if TYPE_CHECKING:
    from bninspect.arithmetic.formula import Float64
    from bninspect.statistics.population import Population

LEAST_CRITICAL = 4.0
"""Standard errors that are never enough, however few channels there are."""
LEVEL = 0.01
"""Chance that a model which fits has a channel beyond the critical number of standard errors."""
SURE = 2.0
"""Standard errors by which an effect must be beyond the tolerance: little data exaggerates effects."""
DETECTABLE = 0.5
"""Shift of a mean, in deviations, that data must be able to show before anything can be said to fit."""
BATCHES = (8, 512)
"""Batch sizes between which those of most trainings lie."""
MOMENTUM = 0.99


@dataclass(frozen=True)
class Trained:
    """What is known of the training that made the statistics."""

    batch: int
    assumed: bool
    """Whether the batch size is a guess."""


@dataclass(frozen=True, eq=False)
class _Channels:
    """What is held against each other: arrays of shape (channels,), float64."""

    effect: Float64
    """Signed."""
    own: Float64
    """Standard error that the data has, in the unit of the difference."""
    trained: Float64
    """Standard error of the stored statistic for batches of a single sample."""
    difference: Float64
    """In the unit of the errors."""

    def z(self, batch: int) -> Float64:
        """Return the standard errors that each channel is off."""
        with np.errstate(all="ignore"):
            error = np.sqrt(np.square(self.own) + np.square(self.trained) / batch)
            return np.where(self.difference == 0, 0.0, np.abs(self.difference) / error)

    def beyond(self, batch: int, critical: float, tolerance: float) -> Array:
        """Return the channels that are off by no accident, and whose effect is beyond the tolerance for certain."""
        z = self.z(batch)
        with np.errstate(all="ignore"):
            least = np.abs(self.effect) * np.maximum(1 - SURE / z, 0.0)
        return np.asarray((z > critical) & ~(least <= tolerance))


def critical(channels: int, samples: int) -> float:
    """Return the standard errors beyond which a difference is not chance.

    Args:
        channels: of all layers that are tested, mean and variance each.
        samples: of the data: few of them tell their own scatter badly, so that Student's distribution holds. Its
            quantile is expanded in 1/degrees of freedom: Abramowitz and Stegun, 26.7.5.
    """
    z = max(LEAST_CRITICAL, NormalDist().inv_cdf(1 - LEVEL / (4 * max(1, channels))))
    free = max(1, samples - 1)
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)


def judge(layer: BatchNorm, found: Population, training: Trained, critical: float, tolerance: float) -> DataFit:
    """Return whether the stored statistics of a layer are those of data.

    Args:
        layer: as its file states it, with statistics.
        found: in the data.
        training: what is known of it.
        critical: standard errors, of `critical`.
        tolerance: largest effect that does not count.
    """
    mean, variance = _compared(layer, found, training.batch)
    parts = (mean, variance)

    def beyond(batch: int) -> list[Array]:
        return [part.beyond(batch, critical, tolerance) for part in parts]

    off = beyond(training.batch)
    # If another batch size would change the verdict, the size of the effect decides.
    flips = training.assumed and len({any(one.any() for one in beyond(batch)) for batch in BATCHES}) > 1
    if flips:
        off = beyond(max(BATCHES))
    small = any(((part.z(training.batch) > critical) & ~one).any() for part, one in zip(parts, off, strict=True))
    resolution = _resolution(layer, mean, critical)
    differs = any(one.any() for one in off)
    enough = found.samples > 1 and resolution <= DETECTABLE
    return DataFit(
        verdict="differs" if differs and found.samples > 1 else "fits" if enough else "unverified",
        samples=found.samples,
        values=found.count,
        mean=_departure(mean, off[0], layer.moving_mean, found.mean, training.batch),
        variance=_departure(variance, off[1], layer.moving_variance, found.variance, training.batch),
        critical=critical,
        tolerance=tolerance,
        resolution=_finite(resolution) if found.samples > 1 else None,
        needed=0 if enough else _needed(found.samples, resolution),
        momentum=_momentum(layer),
        momentum_assumed=layer.momentum is None,
        flips=flips,
        small=small and not differs,
    )


def _momentum(layer: BatchNorm) -> float:
    return MOMENTUM if layer.momentum is None else layer.momentum


def _compared(layer: BatchNorm, found: Population, batch: int) -> tuple[_Channels, _Channels]:
    """Return mean and variance of the file beside those of the data."""
    stored_mean, stored = (np.asarray(one, np.float64).ravel() for one in (layer.moving_mean, layer.moving_variance))
    share = 1.0 - min(max(_momentum(layer), 0.0), 1.0)
    averaged = math.sqrt(share / (2 - share))
    epsilon = layer.epsilon or 0.0
    with np.errstate(all="ignore"):
        last, between = _of_calls(found, share)
        difference = np.clip(stored_mean, np.minimum(found.mean, last), np.maximum(found.mean, last)) - stored_mean
        lowest = np.maximum(found.variance - between - np.square(found.scatter_of_mean) / batch, 0.0)
        highest = found.variance * (found.count / max(1, found.count - 1))
        nearest = np.clip(stored, lowest, highest)
        # Under the hypothesis samples scatter as the stored variance says. A few without the rare large ones have
        # a small variance and a small scatter, and would seem to be certain of it.
        wider = np.sqrt(np.maximum(stored / found.variance, 1.0))
        wider[~np.isfinite(wider)] = 1.0
        # All equal, as where an activation is at its limit, they do not scatter at all. And the squares of two are
        # equal always: they scatter at least as those of a normal distribution do.
        of_mean = np.where(found.variance == 0, np.sqrt(stored), found.scatter_of_mean * wider)
        of_variance = np.maximum(found.scatter_of_variance * np.square(wider), math.sqrt(2) * np.square(of_mean))
        root = math.sqrt(max(1, found.samples))
        return (
            _Channels(difference / np.sqrt(stored + epsilon), of_mean / root, of_mean * averaged, difference),
            _Channels(
                np.log((nearest + epsilon) / (stored + epsilon)),
                of_variance / root,
                of_variance * averaged,
                nearest - stored,
            ),
        )


def _of_calls(found: Population, share: float) -> tuple[Float64, Float64]:
    """Return the mean that averaging call after call comes to, and the variance of the means of the calls.

    The last call of a step counts most: what is stored is updated behind each.
    """
    if found.calls is None:
        return found.mean, np.zeros_like(found.mean)
    weights = (1 - share) ** np.arange(len(found.calls) - 1, -1, -1.0)
    return np.average(found.calls, axis=0, weights=weights), np.var(found.calls, axis=0)


def _resolution(layer: BatchNorm, mean: _Channels, critical: float) -> float:
    """Return the smallest shift of a mean, in deviations, that the data shows in the median channel."""
    stored = np.asarray(layer.moving_variance, np.float64).ravel()
    with np.errstate(all="ignore"):
        shifts = critical * mean.own / np.sqrt(stored + (layer.epsilon or 0.0))
    finite = shifts[np.isfinite(shifts)]
    return float(np.median(finite)) if finite.size else math.inf


def _needed(samples: int, resolution: float) -> int:
    """Return how many samples would show what must be shown."""
    if samples < 2 or not math.isfinite(resolution):
        return 32
    return max(samples + 1, math.ceil(samples * (resolution / DETECTABLE) ** 2))


def _departure(part: _Channels, off: Array, stored: Array | None, measured: Float64, batch: int) -> Departure:
    z, size = part.z(batch), np.abs(part.effect)
    # A channel that is beyond both limits comes first: a larger effect of an accident is of no interest.
    known = np.where(np.isnan(size), np.inf, size)
    worst = int(np.argmax(np.where(off | ~off.any(), known, -1.0)))
    return Departure(
        z=_finite(z.max()),
        z_median=_finite(np.median(z)),
        effect=_finite(size[worst]),
        effect_median=_finite(np.median(size)),
        channel=worst,
        stored=_finite(np.asarray(stored).ravel()[worst]),
        measured=_finite(measured[worst]),
        beyond=int(off.sum()),
        quantiles=tuple(map(_finite, np.quantile(part.effect, (0, 0.25, 0.5, 0.75, 1)))),
        effects=channel_strips.peaks(known),
    )


def _finite(value: float | np.floating[Any]) -> float | None:
    return float(value) if math.isfinite(value) else None
