"""Rules on what the file holds: numbers that no training gives, arrays that are not there or do not fit."""

from __future__ import annotations

import numpy as np

from bninspect.inspection.rules.columns import counted, listed, values, where
from bninspect.records import BatchNorm, Finding, Severity, Statistics


def nonfinite_parameter(layer: BatchNorm) -> Finding | None:
    """BN101: a stored parameter is NaN or infinite.

    Every output of such a channel is NaN, or, worse, constant: an infinite variance gives a scale of zero, and the
    channel answers beta whatever it is asked. Training diverged, or a conversion to float16 overflowed.

    What to do: restore the last checkpoint before the divergence, or convert from the float32 model.

    Severity: error.
    """
    bad = {name: where(~np.isfinite(array)) for name, array in layer.arrays.items()}
    bad = {name: channels for name, channels in bad.items() if channels.size}
    if not bad:
        return None
    name, channels = next(iter(bad.items()))
    value = np.ravel(layer.arrays[name])[channels[0]]
    return Finding(
        "BN101",
        Severity.ERROR,
        f"{name} is not finite in {counted(channels)}: channel {channels[0]} holds {value}",
        {"arrays": {name: listed(channels) for name, channels in bad.items()}},
        "restore a checkpoint from before the divergence, or convert again from the float32 model",
    )


def negative_variance(layer: BatchNorm) -> Finding | None:
    """BN102: a stored variance is negative.

    No variance is. Between minus epsilon and zero it silently amplifies the channel, below it gives NaN. It comes from
    E[x^2] - E[x]^2 computed in float32 for a mean far from zero, from arrays that were read in a wrong order, or from
    a file that stores the logarithm of the deviation (DL4J).

    What to do: recompute the statistics with a two-pass variance, or check the order of the arrays.

    Severity: error.
    """
    variance = values(layer.moving_variance)
    channels = where(variance < 0)
    if not channels.size:
        return None
    return Finding(
        "BN102",
        Severity.ERROR,
        f"moving_variance is negative in {counted(channels)}: channel {channels[0]} holds {variance[channels[0]]:g}",
        {"channels": listed(channels), "count": int(channels.size), "minimum": float(variance[channels].min())},
        "recompute the statistics in two passes, or check the order in which the arrays were written",
    )


def missing_parameter(layer: BatchNorm) -> Finding | None:
    """BN103: the file should hold a parameter and does not.

    The configuration says that the layer has it, or every batch norm has it (moving_mean, moving_variance), but the
    data is not there: the file was half-written, or edited. Converters that fold mean and variance into gamma and beta
    leave none out: there is nothing to miss, nor is there in a layer that normalises by the statistics of its input or
    by what the graph computes.

    What to do: save the model again.

    Severity: error.
    """
    kept = layer.statistics is Statistics.MOVING
    scaled = layer.statistics in {Statistics.MOVING, Statistics.FOLDED}
    expected = {
        "gamma": scaled and layer.scale,
        "beta": scaled and layer.center,
        "moving_mean": kept,
        "moving_variance": kept,
    }
    missing = [name for name, there in expected.items() if there and getattr(layer, name) is None]
    if not missing:
        return None
    return Finding(
        "BN103",
        Severity.ERROR,
        f"the file does not hold {', '.join(missing)}",
        {"arrays": missing},
        "save the model again: this file is half-written or edited",
    )


def contradicting_parameter(layer: BatchNorm) -> Finding | None:
    """BN104: the file holds a gamma or a beta that the configuration says the layer does not have.

    Keras stores a list of arrays in which gamma and beta are left out when scale or center is false. An array more
    than that shifts the rest: whoever loads by position takes beta for gamma, or gamma for the mean, without an error
    where the lengths agree.

    What to do: find out whether configuration and weights are of the same model, and save them together again.

    Severity: error.
    """
    expected = {"gamma": layer.scale, "beta": layer.center}
    extra = [name for name, there in expected.items() if there is False and getattr(layer, name) is not None]
    if not extra:
        return None
    options = {"gamma": "scale", "beta": "center"}
    said = " and ".join(f"{name} although {options[name]} is false" for name in extra)
    return Finding(
        "BN104",
        Severity.ERROR,
        f"the file holds {said}",
        {"arrays": extra},
        "check that configuration and weights are of the same model, and save them together again",
    )


def differing_shapes(layer: BatchNorm) -> Finding | None:
    """BN105: the parameters of a layer differ in shape.

    They hold one number per channel each, so their lengths must be equal. Arrays of several layers were mixed up, or
    some of them were pruned and others not.

    What to do: look at the shapes, and write the arrays of this layer together again.

    Severity: error.
    """
    shapes = {name: list(array.shape) for name, array in layer.arrays.items()}
    if len({tuple(shape) for shape in shapes.values()}) < 2:
        return None
    said = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    return Finding(
        "BN105",
        Severity.ERROR,
        f"the parameters differ in shape: {said}",
        {"shapes": shapes},
        "write the arrays of this layer together again: they are of several layers or of several prunings",
    )


def no_denominator(layer: BatchNorm) -> Finding | None:
    """BN106: variance and epsilon are both zero, or epsilon is negative.

    Then nothing keeps the denominator sqrt(variance + epsilon) from zero. What comes out depends on the runtime:
    TensorFlow's fused kernel returns infinity, tf.nn.batch_normalization and PyTorch NaN, ncnn divides by 0.0001.
    Subnormal numbers, below 1.2e-38, count as zero: kernels flush them.

    What to do: set the epsilon that the model was trained with.

    Source: measured with TensorFlow 2.21 and torch 2.13; ncnn, src/layer/batchnorm.cpp.

    Severity: error.
    """
    variance = values(layer.moving_variance)
    if layer.moving_variance is None or layer.epsilon is None:
        return None
    smallest = float(np.finfo(np.float32).smallest_normal)
    channels = where((variance >= 0) & (np.maximum(variance, 0) + layer.epsilon < smallest))
    if not channels.size and layer.epsilon >= 0:
        return None
    place = f"in {counted(channels)}" if channels.size else "in no channel yet, but epsilon is negative"
    return Finding(
        "BN106",
        Severity.ERROR,
        f"variance + epsilon is not above zero {place}: epsilon is {layer.epsilon:g}",
        {"channels": listed(channels), "count": int(channels.size), "epsilon": layer.epsilon},
        "set the epsilon that the model was trained with",
    )
