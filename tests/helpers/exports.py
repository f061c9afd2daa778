"""Exports for tests: real models converted to TFLite and ONNX, and files in which single numbers were changed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bninspect import formats
from bninspect.equivalence import task
from bninspect.formats.tflite import model as tflite
from bninspect.records import Array, Cause, Counterpart, LayerStatus, ModelReport
from bninspect.settings import Settings

ONNX = pytest.mark.skipif(
    find_spec("tf2onnx") is None or find_spec("onnxruntime") is None,
    reason="tf2onnx and onnxruntime are not installed: pip install tf2onnx 'bninspect[onnx]'",
)
FORMATS = [pytest.param("tflite"), pytest.param("onnx", marks=ONNX)]


def convert(built: Any, path: Path, **options: Any) -> Path:
    """Convert a Keras model with TensorFlow's TFLite converter."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(built)
    for name, value in options.items():
        setattr(converter.target_spec if name == "supported_types" else converter, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.write_bytes(converter.convert())
    return path


def converted(built: Any, folder: Path, form: str, **options: Any) -> Path:
    """Convert a Keras model with TensorFlow's TFLite converter or with tf2onnx, whose options may be given."""
    if form == "tflite":
        return convert(built, folder / "m.tflite")
    import tensorflow as tf
    import tf2onnx

    taken = [
        tf.TensorSpec((None, *one.shape[1:]), tf.float32, name=f"x{n}" if n else "x")
        for n, one in enumerate(built.inputs)
    ]
    function = tf.function(lambda *x: built(x if len(x) > 1 else x[0], training=False), input_signature=taken)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = str(folder / "m.onnx")
        tf2onnx.convert.from_function(function, input_signature=taken, opset=15, output_path=target, **options)
    return folder / "m.onnx"


def save(built: Any, path: Path) -> Path:
    """Save a Keras model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built.save(path)
    return path


def randomise(built: Any, seed: int = 1) -> Any:
    """Give every layer random weights; batch norms positive variances, some of them small, and gammas of both signs."""
    generator = np.random.default_rng(seed)
    for layer in built.layers:
        weights = layer.get_weights()
        if hasattr(layer, "moving_variance"):
            count = weights[0].size
            gamma = generator.uniform(0.5, 1.5, count) * np.where(np.arange(count) % 3 == 1, -1, 1)
            variance = generator.uniform(0.05, 2, count)
            variance[0] = 2e-4
            beta, mean = generator.normal(size=count), generator.normal(size=count) / 2
            layer.set_weights([*[gamma] * bool(layer.scale), *[beta] * bool(layer.center), mean, variance])
        else:
            layer.set_weights([generator.normal(size=one.shape) / 2 for one in weights])
    return built


def patched(path: Path, target: Path, changes: Mapping[tuple[int, str], Callable[[Array], Array]]) -> Path:
    """Copy a TFLite file with new numbers in some constants.

    Args:
        path: the file.
        target: the copy.
        changes: for the place of a linear operation among those of the graph, and `weights` or `bias`, what makes the
            new numbers of the old ones, in the order of the file.
    """
    data = path.read_bytes()
    base = np.frombuffer(data, np.uint8)
    start = base.__array_interface__["data"][0]
    graph = tflite.parse(data)
    kinds = {"conv": (1, 2), "depthwise conv": (1, 2), "fully connected": (1, 2), "transpose conv": (1, 3)}
    linear = [one for one in graph.operators if one.operation in kinds]
    new: list[tuple[int, bytes]] = []
    for (place, which), change in changes.items():
        tensor = linear[place].takes(kinds[linear[place].operation][which == "bias"])
        assert tensor is not None
        offset = tensor.data.__array_interface__["data"][0] - start
        values = np.asarray(change(tensor.stored.copy()), tensor.stored.dtype)
        assert values.shape == tensor.shape
        new.append((offset, values.tobytes()))
    whole = data
    for offset, content in new:
        whole = whole[:offset] + content + whole[offset + len(content) :]
    target.write_bytes(whole)
    return target


def held(source: Path, export: Path, **settings: Any) -> ModelReport:
    """Return what `verify SOURCE --against EXPORT` reports, computed in this process."""
    return task.compare(formats.read(source), formats.read(export), Settings(**settings)).model


def counterparts(model: ModelReport) -> dict[str, Counterpart]:
    return {layer.name: layer.counterpart for layer in model.layers if layer.counterpart is not None}


def statuses(model: ModelReport) -> dict[str, LayerStatus]:
    return {name: one.status for name, one in counterparts(model).items()}


def causes(model: ModelReport, layer: str) -> list[Cause]:
    explanation = counterparts(model)[layer].explanation
    return [] if explanation is None else list(explanation.causes)
