"""Rules on what training left in the moving statistics, and in gamma."""

from __future__ import annotations

import numpy as np

from bninspect.inspection.rules.columns import counted, listed, numbers, values, where
from bninspect.records import BatchNorm, Finding, Severity

_UNIT = 2.0**-24
_SMALLEST = float(np.finfo(np.float32).smallest_normal)

_LEAST_EPSILON = 1e-12
"""The smallest epsilon in use, where the file states none."""

_USUAL_EPSILON = 1e-5
"""The smallest that is a default: of PyTorch, ONNX and Flax, whose weights alone state none."""

LEAST_START = 0.01
"""Share of the initial statistics from which on they have seen too few updates."""

LEAST_NOISE = 0.01
"""Relative error of variance + epsilon from which on the noise of a one-pass variance matters."""

NOISY = 64
"""Rounding errors of a one-pass variance that a variance is less than where it may be noise."""

DEAD = 1e-3
"""Gammas below this switch their channel off."""


def zero_variance(layer: BatchNorm) -> Finding | None:
    """BN110: the variance of a channel is zero, or too small to be felt beside epsilon.

    Its input was constant over the whole training, typically after a ReLU that never fires, or the variance
    underflowed in float16. An average that only decays sticks near the smallest number of its type, at 1e-36 or so: a
    variance counts as zero where variance + epsilon rounds to epsilon in float32. Epsilon alone sets the scale,
    gamma / sqrt(epsilon): 32 * gamma in Keras and 316 * gamma in PyTorch. That does no harm as long as the input stays
    constant, and amplifies whatever a quantised or converted model makes of it.

    What to do: prune such channels, or see that the runtime uses the epsilon of this model.

    Severity: note.
    """
    variance = values(layer.moving_variance)
    epsilon = _LEAST_EPSILON if layer.epsilon is None else layer.epsilon
    channels = where((variance >= 0) & (variance < max(_SMALLEST, epsilon * _UNIT / 2)))
    if not channels.size:
        return None
    return Finding(
        "BN110",
        Severity.NOTE,
        f"the variance is zero, or nothing beside epsilon, in {counted(channels)}: epsilon alone sets the scale",
        {"channels": listed(channels), "count": int(channels.size)},
        "their input never varied in training: prune them, or see that the runtime uses this epsilon",
    )


def never_updated(layer: BatchNorm) -> Finding | None:
    """BN111: gamma or beta are trained, but mean and variance are still 0 and 1.

    The updates of the moving statistics never ran: UPDATE_OPS was not run (TensorFlow 1), a custom training loop calls
    the model without `training=True`, or the statistics were not loaded. At inference the layer does not normalise.
    It is right only where the statistics were folded into gamma and beta on purpose, as in Caffe2's AffineChannel.

    What to do: run the training data through the model in training mode, and save it again.

    Source: tensorflow#11965, tensorflow#32864; Goyal et al. 2017, and Detectron2's FrozenBatchNorm2d.

    Severity: warning.
    """
    if not _initial_statistics(layer) or _initial_affine(layer):
        return None
    return Finding(
        "BN111",
        Severity.WARNING,
        "moving_mean is 0 and moving_variance is 1 in every channel, although gamma or beta are trained",
        {"channels": layer.channels},
        "the moving statistics were never updated or not loaded: run data through in training mode, and save again",
    )


def untrained(layer: BatchNorm) -> Finding | None:
    """BN112: every parameter of the layer has the value it had before training.

    Then a test on this layer shows little: mean, variance, gamma and beta may be left out or exchanged without any
    difference. The layer is of a model that was never trained, or its weights were not loaded.

    What to do: nothing, if the model is meant to be untrained.

    Severity: note.
    """
    if not _initial_statistics(layer) or not _initial_affine(layer):
        return None
    return Finding(
        "BN112",
        Severity.NOTE,
        "the parameters are those of an untrained layer",
        {"channels": layer.channels},
        "load the trained weights; a model that was never trained proves little about its conversion",
    )


def _initial_statistics(layer: BatchNorm) -> bool:
    mean, variance = values(layer.moving_mean), values(layer.moving_variance)
    return mean.size > 0 < variance.size and not mean.any() and bool((variance == 1).all())


def _initial_affine(layer: BatchNorm) -> bool:
    return bool((values(layer.gamma) == 1).all()) and not values(layer.beta).any()


def variance_below_epsilon(layer: BatchNorm) -> Finding | None:
    """BN113: in some channels the variance is smaller than epsilon.

    There epsilon, not the variance, sets the scale: this model depends on its epsilon, and a runtime with another one
    (0.001 in Keras, 0.00001 in PyTorch and ONNX) computes something else, by a factor of up to ten.

    What to do: hand epsilon on with the parameters, and verify the export.

    Severity: note.
    """
    variance = values(layer.moving_variance)
    if layer.epsilon is None:
        return None
    channels = where((variance >= 0) & (variance < layer.epsilon))
    if not channels.size:
        return None
    return Finding(
        "BN113",
        Severity.NOTE,
        f"variance below epsilon in {counted(channels)}: any other epsilon changes this model",
        {"channels": listed(channels), "count": int(channels.size), "minimum": float(variance[channels].min())},
        "hand epsilon on with the parameters",
    )


def few_updates(layer: BatchNorm) -> Finding | None:
    """BN114: the moving statistics still hold much of the values they started with.

    After k updates a moving average holds momentum^k of its start. A channel whose input is constantly zero shows k:
    its mean is 0 and its variance is exactly momentum^k. Where that is more than 1 %, all channels of the layer are
    off by it: their means are too near to 0, and their variances too near to 1.

    What to do: train on, lower the momentum, or compute the statistics again over the training data.

    Source: the update moving = momentum * moving + (1 - momentum) * batch, from 0 and 1.

    Severity: warning.
    """
    mean, variance, momentum = values(layer.moving_mean), values(layer.moving_variance), layer.momentum
    if momentum is None or mean.shape != variance.shape or not 0 < momentum < 1:
        return None
    channels = where((mean == 0) & (variance > _SMALLEST) & (variance < 1))
    if not channels.size:
        return None
    exact = np.log(variance[channels]) / np.log(momentum)
    updates = np.rint(exact)
    # Each update rounds the product once, in float32.
    off = (updates + 2) * 2 * _UNIT / -np.log(momentum)
    k = int(updates.max())
    if not (np.abs(exact - updates) <= off).all() or momentum**k < LEAST_START:
        return None
    return Finding(
        "BN114",
        Severity.WARNING,
        f"the moving statistics have seen {k} updates, and hold {momentum**k:.0%} of their initial values",
        {"channels": listed(channels), "updates": k, "momentum": momentum, "share": momentum**k},
        "train on, lower the momentum, or compute the statistics again over the training data",
    )


def noise_variance(layer: BatchNorm) -> Finding | None:
    """BN115: the mean is so much larger than the deviation that the variance may be rounding noise.

    Many kernels compute the variance as E[x^2] - E[x]^2 in float32 (XLA, Flax, synchronised batch norm of Keras). The
    squares cancel, and what is left is uncertain by about 2^-24 * mean^2: for a true variance of 1 and a mean of
    10000, such kernels stored anything between 0 and 120. Reported where this uncertainty is more than 1 % of
    variance + epsilon, and more than a 64th of the variance. Where the file states no epsilon, 1e-5 is taken.

    What to do: compute the statistics again in two passes, or centre what goes into this layer.

    Source: measured with XLA in TensorFlow 2.21, Keras 3.15 (synchronized=True) and Flax 0.12.

    Severity: warning.
    """
    found = numbers(layer, _USUAL_EPSILON)
    if found is None:
        return None
    noise = _UNIT * np.square(found.mean)
    with np.errstate(all="ignore"):
        share = noise / np.square(found.root)
    channels = where((found.variance >= 0) & (found.variance < NOISY * noise) & (share > LEAST_NOISE))
    if not channels.size:
        return None
    worst = int(channels[share[channels].argmax()])
    return Finding(
        "BN115",
        Severity.WARNING,
        f"the variance may be rounding noise of E[x^2] - E[x]^2 in {counted(channels)}: channel {worst} has mean "
        f"{found.mean[worst]:g} and variance {found.variance[worst]:g}, uncertain by {noise[worst]:.2g}",
        {"channels": listed(channels), "count": int(channels.size), "uncertainty": float(share[worst])},
        "compute the statistics again in two passes, or centre what goes into this layer",
    )


def dead_channels(layer: BatchNorm) -> Finding | None:
    """BN116: gamma is so small that the channel answers beta whatever it is asked.

    Such channels cost time and say nothing; mean, variance and epsilon may be wrong in them without anyone noticing.

    What to do: prune them: add beta to the bias of what follows.

    Severity: note.
    """
    gamma = values(layer.gamma)
    channels = where(np.abs(gamma) < DEAD)
    if not channels.size:
        return None
    return Finding(
        "BN116",
        Severity.NOTE,
        f"gamma is below {DEAD:g} in {counted(channels)} of {gamma.size}: they answer beta whatever goes in",
        {"channels": listed(channels), "count": int(channels.size)},
        "prune them: add beta to the bias of what follows",
    )
