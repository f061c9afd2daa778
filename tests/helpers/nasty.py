"""Batch-norm layers and inputs on which rounding hurts the most, to hold kernels against their bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bninspect.records import BatchNorm

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPSILONS = (0.0, 1e-12, 1e-6, 1e-5, 1e-3, 1e-2)


@dataclass(frozen=True)
class Domain:
    """Powers of ten between which the numbers of a layer lie."""

    sigma: tuple[float, float] = (-6, 4)
    mean_per_sigma: tuple[float, float] = (-3, 7)
    variance_per_sigma_squared: tuple[float, float] = (-2, 2)
    gamma: tuple[float, float] = (-8, 3)


WIDE = Domain()
WIDEST = replace(WIDE, mean_per_sigma=(-3, 15))
"""For float64, in which the mean may be larger still."""
FLOAT16 = Domain((-4, 2), (-3, 2.5), (-2, 2), (-4, 4.5))
"""Inputs stay within float16; outputs may overflow."""


def layer(
    rng: np.random.Generator, epsilon: float, channels: int, dtype: str = "float32", domain: Domain = WIDE
) -> BatchNorm:
    """Return a layer whose beta is random in half of the channels.

    In the others beta cancels something: the intercept, the output at some x, or the output to almost nothing.
    """
    sigma = 10.0 ** rng.uniform(*domain.sigma, channels)
    mean = _signs(rng, channels) * sigma * 10.0 ** rng.uniform(*domain.mean_per_sigma, channels)
    variance = sigma**2 * 10.0 ** rng.uniform(*domain.variance_per_sigma_squared, channels)
    gamma = _signs(rng, channels) * 10.0 ** rng.uniform(*domain.gamma, channels)
    gamma, mean, variance = (_within(each, dtype) for each in (gamma, mean, variance))
    slope = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    beta = np.select(
        [np.arange(channels) % 6 == k for k in range(6)],
        [
            rng.standard_normal(channels) * np.abs(gamma),
            rng.standard_normal(channels) * 10.0 ** rng.uniform(-8, 3, channels),
            np.zeros(channels),
            mean * slope,
            rng.standard_normal(channels) * sigma * slope,
            -2 * sigma * slope,
        ],
    )
    return BatchNorm("nasty", gamma, _within(beta, dtype), mean, variance, epsilon, axis=(-1,), dtype=dtype)


def inputs(rng: np.random.Generator, norm: BatchNorm, points: int, dtype: str = "float32") -> NDArray[Any]:
    """Return x of shape (points, channels) around the means, at them, next to them, at the zero of y and far away."""
    mean, variance, gamma, beta = (
        np.asarray(each, np.float64) for each in (norm.moving_mean, norm.moving_variance, norm.gamma, norm.beta)
    )
    deviation = np.sqrt(variance + (norm.epsilon or 0.0))
    x = mean + deviation * rng.standard_normal((points, mean.size)) * rng.choice([0.01, 1.0, 3.0], (points, 1))
    x[0] = mean
    x[1] = mean + 8 * deviation
    x[2] = mean - 8 * deviation
    x[3] = mean - beta * deviation / gamma
    x[4] = 0.0
    x[5] = mean * (1 + 2.0**-23)
    x[6] = 1e-40
    x[7] = 2 * mean
    return _within(x, dtype)


def _within(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Round to `dtype` without overflow."""
    largest = float(np.finfo(dtype).max)
    return np.asarray(np.clip(array, -largest, largest), dtype)


def _signs(rng: np.random.Generator, count: int) -> NDArray[Any]:
    return np.asarray(rng.choice([-1.0, 1.0], count))
