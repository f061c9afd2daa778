"""Inputs that try every channel of one layer: its middle, its usual range, and far beyond; and batches to train on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bninspect.records import Array

POINTS = 64
"""Values for each channel."""
PIECE = 2**24
"""Values that one call of a layer gets at most, unless its channels are more: a probe is not as large as its layer."""

_NEAR = np.concatenate([np.linspace(-8.0, 8.0, 49), [-1e-3, 1e-3, 1e-6]])
_LARGEST = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.4e38, "float64": 1.7e308}
_FAR = np.array([s * 10.0**e for e in (2, 3, 4, 6, 8, 10) for s in (-1, 1)])


def points(
    parameters: Mapping[str, Array], epsilon: float, axis: tuple[int, ...], rank: int, dtype: str
) -> Iterator[Array]:
    """Yield the input that probes a layer, in pieces of bounded size.

    Each channel gets `POINTS` values: an even grid to 8 deviations either side, its mean exactly and as good as
    exactly, and up to 1e10 deviations as far as input and output stay finite in `dtype`. A deviation is
    sqrt(variance + epsilon), hence also something for a channel whose variance is zero.

    Args:
        parameters: by standard name, of shape (C,), or of full rank for a layer over several axes.
        epsilon: of the layer.
        axis: the axes of the input that the parameters run along, 0 <= axis < rank.
        rank: of the input.
        dtype: float16, bfloat16, float32 or float64, of input and output.

    Yields:
        float64, together of length `POINTS` along the first axis that is not in `axis`, and 1 along the others of them.
        Values fit `dtype` in range; the caller rounds them to it.
    """
    with np.errstate(all="ignore"):
        mean, deviation, gamma, beta = _scales(parameters, epsilon, axis, rank)
        limit = (_LARGEST[dtype] / 4 - np.abs(beta)) / np.abs(gamma)  # beyond it y would overflow
        limit = np.clip(np.where(np.isnan(limit), 0.0, limit), 0.0, None)
    free = next((index for index in range(rank) if index not in axis), None)
    steps = np.concatenate([_NEAR, _FAR])[: 1 if free is None else POINTS]
    channels = np.broadcast(mean, deviation, limit).size
    together = most_values(channels) // max(1, channels)
    for start in range(0, steps.size, together):
        shape = [1] * rank
        if free is not None:
            shape[free] = -1
        piece = steps[start : start + together].reshape(shape)
        with np.errstate(all="ignore"):
            x: Array = np.clip(mean + np.clip(piece, -limit, limit) * deviation, -_LARGEST[dtype], _LARGEST[dtype])
        yield x


def most_values(channels: int) -> int:
    """Return how many values a piece of the input of a layer holds at most."""
    return channels * min(POINTS, max(1, PIECE // max(1, channels)))


@np.errstate(all="ignore")
def batch(
    parameters: Mapping[str, Array],
    epsilon: float,
    axis: tuple[int, ...],
    rank: int,
    dtype: str,
    *,
    seed: int = 0,
    single: bool = False,
) -> Array:
    """Return a batch on which a training step shows what it does.

    Each channel gets 12 random values around its moving mean plus one deviation, spread twice as wide as its moving
    variance: few, so that n and n - 1 differ by more than any rounding, and other than what is stored, so that an
    update is seen.

    Args:
        parameters: as of `points`.
        epsilon: as of `points`.
        axis: as of `points`.
        rank: as of `points`.
        dtype: as of `points`.
        seed: of the random values.
        single: give each channel one value instead.

    Returns:
        float64, of differing lengths along the axes that are not in `axis`. Values fit `dtype` in range.
    """
    mean, deviation, _, _ = _scales(parameters, epsilon, axis, rank)
    free = [index for index in range(rank) if index not in axis]
    lengths = {1: (12,), 2: (4, 3)}.get(len(free), (3, 2, 2))
    shape = list(np.broadcast_shapes(mean.shape, deviation.shape, (1,) * rank))
    for one, length in zip(free, () if single else lengths, strict=False):
        shape[one] = length
    values = np.random.default_rng(seed).standard_normal(shape)
    # Squares of the values are summed up, in float32 at least.
    largest = min(_LARGEST[dtype], _LARGEST["float64" if dtype == "float64" else "float32"] ** 0.5 / 64)
    x: Array = np.clip(mean + deviation * (1.0 + 2.0 * values), -largest, largest)
    return x


def _scales(
    parameters: Mapping[str, Array], epsilon: float, axis: tuple[int, ...], rank: int
) -> tuple[Array, Array, Array, Array]:
    """Return mean, deviation, gamma and beta of each channel; finite values take the place of others."""
    mean, variance, gamma, beta = (
        _along(parameters.get(name), axis, rank, default)
        for name, default in (("moving_mean", 0.0), ("moving_variance", 1.0), ("gamma", 1.0), ("beta", 0.0))
    )
    deviation = np.sqrt(np.abs(variance + epsilon))
    deviation = np.where(np.isfinite(deviation) & (deviation > 0), deviation, 1.0)
    return np.where(np.isfinite(mean), mean, 0.0), deviation, gamma, beta


def _along(values: Array | None, axis: tuple[int, ...], rank: int, default: float) -> Array:
    """Return parameters in float64, of a shape that broadcasts against an input of this rank."""
    if values is None:
        return np.full((1,) * rank, default)
    if values.ndim == rank and len(axis) > 1:
        return values.astype(np.float64)
    shape = [1] * rank
    shape[axis[0]] = values.size
    return values.astype(np.float64).reshape(shape)
