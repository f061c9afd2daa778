"""What one training step makes of a batch: its moments, what normalises it, and what each framework will store."""

from __future__ import annotations

import numpy as np

from bninspect.arithmetic.conventions import CONVENTIONS
from bninspect.arithmetic.formula import Float64, batch_moments, moving_update, unbiased
from bninspect.errors import UsageError
from bninspect.records import Array, BatchNorm, Estimator
from bninspect.records.explained import Stored, TrainingStep

SHOWN = 8
"""Channels that are shown."""


def of_layer(x: Array, axis: tuple[int, ...], layer: BatchNorm | None, channel: int | None) -> TrainingStep:
    """Return what one training step of a layer, or of a new one, stores: of a channel, or the first ones. As `step`."""
    return step(
        x,
        axis,
        moving_mean=layer.moving_mean if layer else None,
        moving_variance=layer.moving_variance if layer else None,
        momentum=layer.momentum if layer else None,
        epsilon=layer.epsilon if layer else None,
        channels=None if channel is None else (channel,),
    )


def step(
    x: Array,
    axis: tuple[int, ...],
    *,
    moving_mean: Array | None = None,
    moving_variance: Array | None = None,
    momentum: float | None = None,
    epsilon: float | None = None,
    channels: tuple[int, ...] | None = None,
) -> TrainingStep:
    """Return what one training step on the batch x stores.

    Args:
        x: the batch, any shape.
        axis: axes of x that the parameters run along, each 0 <= axis < x.ndim.
        moving_mean: before the step, one value per channel; 0 without it.
        moving_variance: before the step; 1 without it.
        momentum: share of the old value; each framework's default without it.
        epsilon: of the layer, which Keras 2.1.6 to 2.3.1 used in its correction; their default without it.
        channels: to show; the first eight without it.

    Raises:
        UsageError: x is empty or holds no numbers, or the lengths do not agree.
    """
    if not x.size or x.dtype.kind not in "fiu":
        raise UsageError(f"a batch of shape {x.shape} and type {x.dtype} has no moments")
    mean, variance = (moment.ravel() for moment in batch_moments(x, axis))
    before = [
        np.full(mean.shape, start) if array is None else np.asarray(array, np.float64).ravel()
        for array, start in ((moving_mean, 0.0), (moving_variance, 1.0))
    ]
    if any(array.size != mean.size for array in before):
        raise UsageError(
            f"the batch has {mean.size} channels, the layer {before[0].size}",
            hint="pass --axis, the axis of the channels",
        )
    chosen = tuple(range(min(mean.size, SHOWN))) if channels is None else channels
    if any(not 0 <= channel < mean.size for channel in chosen):
        raise UsageError(f"the batch has the channels 0 to {mean.size - 1}")
    n = x.size // mean.size
    picked = list(chosen)
    shown = [array[picked] for array in (mean, variance, *before)]
    return TrainingStep(
        shape=x.shape,
        axis=axis,
        over=tuple(a for a in range(x.ndim) if a not in axis),
        n=n,
        channels=chosen,
        mean=_listed(shown[0]),
        biased=_listed(shown[1]),
        unbiased=_listed(unbiased(shown[1], n)),
        moving_mean=_listed(shown[2]),
        moving_variance=_listed(shown[3]),
        stored=_stored(shown[0], shown[1], n, shown[2], shown[3], momentum, epsilon),
    )


def _stored(
    mean: Float64,
    variance: Float64,
    n: int,
    moving_mean: Float64,
    moving_variance: Float64,
    momentum: float | None,
    epsilon: float | None,
) -> tuple[Stored, ...]:
    rows = []
    for convention in CONVENTIONS:
        share = convention.momentum if momentum is None else momentum
        eps = epsilon if epsilon is not None else convention.epsilon or 0.0
        ddof = {Estimator.BIASED: 0.0, Estimator.UNBIASED: 1.0, Estimator.OVERCORRECTED: 1.0 + eps}
        factor = None if convention.stored is None else float(unbiased(np.ones(()), n, ddof=ddof[convention.stored]))
        known = share is not None and factor is not None
        rows.append(
            Stored(
                framework=convention.framework,
                momentum=share,
                written=convention.written,
                epsilon=convention.epsilon,
                estimator="" if convention.stored is None else convention.stored.value,
                factor=factor,
                mean=() if share is None else _listed(moving_update(moving_mean, mean, share)),
                variance=_listed(moving_update(moving_variance, variance * (factor or 1.0), share or 0.0))
                if known
                else (),
                single=convention.single if n == 1 else "",
            )
        )
    return tuple(rows)


def _listed(values: Float64) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
