"""Inputs that try every channel of one layer: its middle, its usual range, and far beyond."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bninspect.records import Array

POINTS = 64
"""Values for each channel."""

_NEAR = np.concatenate([np.linspace(-8.0, 8.0, 49), [-1e-3, 1e-3, 1e-6]])
_LARGEST = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.4e38, "float64": 1.7e308}
_FAR = np.array([s * 10.0**e for e in (2, 3, 4, 6, 8, 10) for s in (-1, 1)])


@np.errstate(all="ignore")
def points(parameters: Mapping[str, Array], epsilon: float, axis: tuple[int, ...], rank: int, dtype: str) -> Array:
    """Return the input that probes a layer.

    Each channel gets `POINTS` values: an even grid to 8 deviations either side, its mean exactly and as good as
    exactly, and up to 1e10 deviations as far as input and output stay finite in `dtype`. A deviation is
    sqrt(variance + epsilon), hence also something for a channel whose variance is zero.

    Args:
        parameters: by standard name, of shape (C,), or of full rank for a layer over several axes.
        epsilon: of the layer.
        axis: the axes of the input that the parameters run along, 0 <= axis < rank.
        rank: of the input.
        dtype: float16, bfloat16, float32 or float64, of input and output.

    Returns:
        float64, of length `POINTS` along the first axis that is not in `axis`, and 1 along the others of them. Values
        fit `dtype` in range; the caller rounds them to it.
    """
    mean, variance, gamma, beta = (
        _along(parameters.get(name), axis, rank, default)
        for name, default in (("moving_mean", 0.0), ("moving_variance", 1.0), ("gamma", 1.0), ("beta", 0.0))
    )
    deviation = np.sqrt(np.abs(variance + epsilon))
    deviation = np.where(np.isfinite(deviation) & (deviation > 0), deviation, 1.0)
    mean = np.where(np.isfinite(mean), mean, 0.0)
    limit = (_LARGEST[dtype] / 4 - np.abs(beta)) / np.abs(gamma)  # beyond it y would overflow
    limit = np.clip(np.where(np.isnan(limit), 0.0, limit), 0.0, None)
    free = next((one for one in range(rank) if one not in axis), None)
    shape = [1] * rank
    if free is not None:
        shape[free] = POINTS
    steps = np.concatenate([_NEAR, _FAR])[: 1 if free is None else POINTS].reshape(shape)
    x: Array = np.clip(mean + np.clip(steps, -limit, limit) * deviation, -_LARGEST[dtype], _LARGEST[dtype])
    return x


def _along(values: Array | None, axis: tuple[int, ...], rank: int, default: float) -> Array:
    """Return parameters in float64, of a shape that broadcasts against an input of this rank."""
    if values is None:
        return np.full((1,) * rank, default)
    if values.ndim == rank and len(axis) > 1:
        return values.astype(np.float64)
    shape = [1] * rank
    shape[axis[0]] = values.size
    return values.astype(np.float64).reshape(shape)
