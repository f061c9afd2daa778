"""The numbers of a layer as rules look at them, and the words for the channels that they find."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.rounding import widened
from bninspect.records import Array, BatchNorm

SHOWN = 16
"""Channels that the evidence of a finding lists."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """The parameters of each channel in float64, and what the formula makes of them."""

    gamma: Float64
    beta: Float64
    mean: Float64
    variance: Float64
    root: Float64
    """sqrt(variance + epsilon)."""
    scale: Float64
    shift: Float64


@lru_cache(maxsize=4)  # several rules ask for the same layer, one after the other
def numbers(layer: BatchNorm, epsilon: float | None = None) -> Numbers | None:
    """Return the numbers of a layer; None where something that they need is missing or does not fit.

    Args:
        layer: whose arrays may be of any shape.
        epsilon: to use where the file states none.
    """
    epsilon = layer.epsilon if layer.epsilon is not None else epsilon
    mean, variance = layer.moving_mean, layer.moving_variance
    if mean is None or variance is None or epsilon is None or layer.undecided is not None:
        return None
    gamma = np.ones(mean.shape) if layer.gamma is None else layer.gamma
    beta = np.zeros(mean.shape) if layer.beta is None else layer.beta
    if not gamma.shape == beta.shape == mean.shape == variance.shape or not mean.size:
        return None
    g, b, m, v = (widened(each).ravel() for each in (gamma, beta, mean, variance))
    with np.errstate(all="ignore"):
        root = np.sqrt(v + epsilon)
        scale = g / root
        return Numbers(g, b, m, v, root, scale, b - m * scale)


def values(array: Array | None) -> Float64:
    """Return an array flattened and in float64; no numbers if there is none."""
    return np.empty(0) if array is None else widened(array).ravel()


def where(found: Array) -> Array:
    """Return the channels for which it is so: np.flatnonzero, which for arrays of this size takes thrice as long."""
    return found.ravel().nonzero()[0]


def counted(channels: Array) -> str:
    """Return `1 channel` or `3 channels`."""
    return "1 channel" if channels.size == 1 else f"{channels.size} channels"


def listed(channels: Array) -> list[int]:
    """Return the first channels as a list for the evidence of a finding."""
    return [int(channel) for channel in channels[:SHOWN]]
