"""What a file says, as a report shows it: of a layer its settings, and the distribution of each parameter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bninspect.arithmetic import channel_strips
from bninspect.arithmetic.rounding import widened
from bninspect.records import (
    Array,
    BatchNorm,
    Checkpoint,
    Comparison,
    Distribution,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Status,
)

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 24
_HALF_OF_ALL = float(np.finfo(np.float64).max) / 2


def model(checkpoint: Checkpoint) -> ModelReport:
    """Return the report of a file in which no layer has been looked at yet."""
    return ModelReport(
        path=checkpoint.path,
        sha256=checkpoint.sha256,
        bytes=checkpoint.bytes,
        format=checkpoint.format,
        writer=checkpoint.writer,
        status=Status.ERROR if checkpoint.unread else Status.EMPTY,
        notes=checkpoint.notes,
        unread=checkpoint.unread,
        version=checkpoint.version,
        bytes_read=checkpoint.bytes_read,
    )


def describe(
    layer: BatchNorm,
    findings: tuple[Finding, ...],
    status: LayerStatus | None = None,
    reason: str = "",
    comparisons: tuple[Comparison, ...] = (),
    *,
    brief: bool = False,
) -> LayerReport:
    """Return the report of one layer; `brief`, of each parameter only its extremes."""
    axis = layer.axis[0] if layer.axis is not None and len(layer.axis) == 1 else layer.axis
    return LayerReport(
        name=layer.name,
        location=layer.location,
        channels=layer.channels,
        axis=axis,
        epsilon=layer.epsilon,
        epsilon_source=layer.epsilon_source,
        momentum=layer.momentum,
        dtype=layer.dtype,
        scale=layer.scale if layer.scale is not None else layer.gamma is not None,
        center=layer.center if layer.center is not None else layer.beta is not None,
        class_name=layer.class_name,
        statistics=layer.statistics,
        status=status,
        reason=reason,
        comparisons=comparisons,
        findings=findings,
        parameters={
            name: extremes(array) if brief else distribution(array, logarithmic=name == "moving_variance")
            for name, array in layer.arrays.items()
        },
        slopes=slopes(layer, brief=brief),
        notes=layer.notes,
    )


def slopes(layer: BatchNorm, *, brief: bool = False) -> Distribution | None:
    """Return by what each channel multiplies its input, of either sign: |gamma| / sqrt(moving_variance + epsilon).

    None without a variance and an epsilon. Where their sum is not above zero, the slope is not finite.
    """
    if layer.moving_variance is None or layer.epsilon is None:
        return None
    with np.errstate(all="ignore"):
        inverse = 1 / np.sqrt(widened(layer.moving_variance).ravel() + layer.epsilon)
        gamma = 1.0 if layer.gamma is None else np.abs(widened(layer.gamma).ravel())
        values = gamma * inverse
    outer = extremes(values)
    finite = values[np.isfinite(values)]
    return outer if brief or not finite.size else replace(outer, quantiles=_quantiles(finite))


def extremes(array: Array) -> Distribution:
    """Return the smallest and the largest finite value of an array of any shape, and nothing else of it."""
    finite = np.isfinite(array)
    count = int(finite.sum())
    if not count:
        return Distribution(None, (), None, int(array.size), ())
    values = array if count == array.size else array[finite]
    return Distribution(float(values.min()), (), float(values.max()), int(array.size) - count, ())


def distribution(array: Array, *, logarithmic: bool = False) -> Distribution:
    """Return extremes, quantiles, a histogram and the strip of an array of any shape.

    Args:
        array: the values, in the order of the channels.
        logarithmic: whether to add a histogram of the logarithms of the values above zero.
    """
    values = widened(array).ravel()
    strip = channel_strips.strip(values)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Distribution(None, (None,) * len(_QUANTILES), None, int(values.size), (), strip)
    positive = finite[finite > 0] if logarithmic else finite[:0]
    return Distribution(
        float(finite.min()),
        _quantiles(finite),
        float(finite.max()),
        int(values.size - finite.size),
        _histogram(finite),
        strip,
        float(positive.min()) if positive.size else None,
        _histogram(np.log(positive)) if positive.size else (),
    )


def _quantiles(values: Array) -> tuple[float, ...]:
    scale = 2.0 if values.max() / 2 - values.min() / 2 > _HALF_OF_ALL else 1.0
    ordered = np.sort(values) / scale
    places = np.array(_QUANTILES) * (values.size - 1)
    # As np.quantile, which takes ten times as long for arrays of this size.
    return tuple((np.interp(places, np.arange(values.size), ordered) * scale).tolist())


def _histogram(values: Array) -> tuple[int, ...]:
    """Count in equal bins. np.histogram raises for neighbouring numbers, and for a range that float64 cannot hold."""
    low, half = values.min() / 2, values.max() / 2 - values.min() / 2
    share = (values / 2 - low) / half if half > 0 else np.full(values.size, 0.5)
    bins = np.minimum((share * _BINS).astype(int), _BINS - 1)
    return tuple(int(count) for count in np.bincount(bins, minlength=_BINS))
