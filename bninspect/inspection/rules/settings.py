"""Rules on the settings of a layer: momentum, epsilon, and how it is called."""

from __future__ import annotations

import numpy as np

from bninspect.arithmetic import conventions
from bninspect.inspection.rules import inference_words
from bninspect.inspection.rules.columns import listed, values, where
from bninspect.records import BatchNorm, Finding, Severity, Statistics
from bninspect.safe_text import printable

VISIBLE, MATTERS = 1e-4, 0.01
"""Relative changes of a scale from which on a clamped epsilon is a note, and a warning."""


def momentum_of_other_convention(layer: BatchNorm) -> Finding | None:
    """BN120: the momentum is that of the other convention.

    Keras, ONNX and Flax multiply the old value by momentum, 0.99 or 0.9; PyTorch and cuDNN multiply the new one, 0.1.
    A momentum of 0.1 in a Keras model makes the moving statistics follow the last few batches. Inference does not use
    it, but the statistics that further training leaves are noise.

    What to do: use 1 - momentum, and compute the statistics again.

    Severity: warning.
    """
    momentum = layer.momentum
    if momentum is None or 0.5 <= momentum <= 1:
        return None
    if not 0 <= momentum <= 1:
        message = f"momentum is {momentum:g}, which is not between 0 and 1: the moving statistics diverge"
    else:
        message = f"momentum is {momentum:g}: the last batch alone makes up {1 - momentum:.0%} of the moving statistics"
    return Finding(
        "BN120",
        Severity.WARNING,
        message,
        {"momentum": momentum},
        "PyTorch and cuDNN state the share of the new value: use 1 - momentum here" if 0 < momentum < 1 else "",
    )


def unknown_epsilon(layer: BatchNorm) -> Finding | None:
    """BN121: the file does not state epsilon.

    Files of weights alone do not. Frameworks differ in their default, 0.001 in Keras and 0.00001 in PyTorch, ONNX and
    Flax, and an attribute that is left out of a graph means 0.0001 to TensorFlow, 0.00001 to ONNX and CoreML.

    What to do: give it with --epsilon, from the code or the file that built the model.

    Severity: note.
    """
    if layer.epsilon is not None or layer.statistics is Statistics.FOLDED:
        return None
    return Finding(
        "BN121",
        Severity.NOTE,
        "the file does not state epsilon",
        {},
        f"--epsilon '{printable(layer.name)}=VALUE': the default of Keras is 0.001, of PyTorch, ONNX and Flax 1e-05",
    )


def clamped_epsilon(layer: BatchNorm) -> Finding | None:
    """BN122: epsilon is smaller than what TensorFlow up to 2.11 can use.

    tf.nn.fused_batch_norm raised epsilon to 0.00001001 without a word, and other kernels of the same version did not:
    a model with a smaller epsilon computes something else in its 4-D layers there, and in SavedModels and frozen
    graphs that were written there. A note where that changes a scale by more than 0.01 %, a warning from 1 % on.

    What to do: train with an epsilon of at least 0.00001001.

    Source: tensorflow/python/ops/nn_impl.py up to 2.11; tensorflow#22985, tensorflow#37768.

    Severity: note, or warning from 1 % on.
    """
    epsilon, variance = layer.epsilon, values(layer.moving_variance)
    # 1e-5, the default of half the frameworks, differs by a thousandth of itself: that is nobody's problem.
    if epsilon is None or not 0 <= epsilon < 1e-5:
        return None
    with np.errstate(all="ignore"):
        change = 1 - np.sqrt((variance + epsilon) / (variance + conventions.CLAMP))
    channels = where((change > VISIBLE) & (variance >= 0))
    if not channels.size:
        return None
    most = float(change[channels].max())
    return Finding(
        "BN122",
        Severity.WARNING if most > MATTERS else Severity.NOTE,
        f"TensorFlow up to 2.11 raises epsilon {epsilon:g} to 1.001e-05, which changes scales by up to {most:.2%}",
        {"epsilon": epsilon, "channels": listed(channels), "count": int(channels.size), "change": most},
        "use an epsilon of at least 1.001e-05, or deploy on TensorFlow 2.12 and later",
    )


def batch_statistics(layer: BatchNorm) -> Finding | None:
    """BN123: the layer normalises by the statistics of its input at inference too.

    The output for one sample then depends on what else is in the batch, and a batch of one loses its content. The
    layer is called with training=True (Keras 2), its graph node has is_training, which is the default of TensorFlow's
    raw op and of TF-Slim, or it is in mode 1 or 2 of Keras 1. PyTorch exports such a layer, to ONNX with training_mode
    or as means of its input, without model.eval(), and whenever it was built with track_running_stats=False. The moving
    statistics in the file, if there are any, are not used, and so cannot be verified.

    What to do: build the inference model with training=False, or export it after model.eval(); with
    track_running_stats=False there is nothing to export.

    Source: measured with tf_keras 2.21, whose predict() even changes the moving statistics of such a layer.

    Severity: warning.
    """
    if layer.statistics not in {Statistics.BATCH, Statistics.SAMPLE}:
        return None
    what = "each sample" if layer.statistics is Statistics.SAMPLE else "the batch"
    return Finding(
        "BN123",
        Severity.WARNING,
        f"it normalises by the statistics of {what} at inference too, not by the moving ones",
        {"statistics": layer.statistics.value},
        inference_words.hint("", layer.class_name),
    )


def wired_training(layer: BatchNorm) -> Finding | None:
    """BN124: the configuration hard-wires training=True, which callers and frameworks read differently.

    The same file predicts with the moving statistics in Keras 3 and with those of the batch in tf_keras, while in both
    `model(x)`, the exported SavedModel and the ONNX and TFLite files made from it use those of the batch. Loading the
    model in the other Keras, calling it otherwise or exporting it therefore changes what it computes. `verify` leaves
    such a layer unverified: that `predict()` follows the formula says nothing of the others.

    The argument need not be the layer's own. Keras 3 hands it on to every layer that is called later: a dropout with
    training=True, or an image layer such as Resizing or RandomFlip, for which it is the default, is enough. A note
    names the layer that it comes from.

    What to do: build the inference model without the argument, or save
    `keras.Model(model.input, model(model.input, training=False))`, which computes the same however it is called.

    Source: measured with Keras 3.15 and tf_keras 2.21; keras/src/models/functional.py.

    Severity: warning.
    """
    if not layer.wired:
        return None
    return Finding(
        "BN124",
        Severity.WARNING,
        "training=True is hard-wired: predict() normalises by the moving statistics, model(x) and exports by the batch",
        {},
        "build the inference model without training=True, or keras.Model(m.input, m(m.input, training=False)) of it",
    )


def virtual_batch_axis(layer: BatchNorm) -> Finding | None:
    """BN125: the layer was built with virtual_batch_size, and its stored axis is off by one.

    tf_keras reshapes the parameters of such a layer to full rank and counts the axis of the virtual batches in the
    axis that it saves. The saved configuration cannot be built again: it names an axis that the input does not have.

    What to do: set the axis back by one in the configuration, or build the layer without virtual_batch_size.

    Source: measured with tf_keras 2.21; tensorflow#56556.

    Severity: warning.
    """
    arrays = layer.arrays.values()
    if layer.axis is None or len(layer.axis) != 1 or not arrays or any(array.ndim < 3 for array in arrays):
        return None
    rank = next(iter(arrays)).ndim
    return Finding(
        "BN125",
        Severity.WARNING,
        f"axis {layer.axis[0]} with parameters of rank {rank}: built with virtual_batch_size, its axis is off by one",
        {"axis": layer.axis[0], "rank": rank},
        "set the axis back by one in the configuration, or build the layer without virtual_batch_size",
    )
