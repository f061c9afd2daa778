"""Models for fleet.py that really differ: in format, architecture, width and weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = Path(__file__).parents[1] / "sample_models"
H5 = ("keras3_digits.h5", "keras2_digits.h5", "keras2_nested.h5", "keras2_shared.h5")


def write_models(folder: Path, count: int) -> dict[str, int]:
    """Write so many models. Return how many there are of each ending."""
    folder.mkdir(parents=True)
    for number in range(count):
        ways = (_keras, _safetensors, _onnx)
        ways[number % len(ways)](folder / f"m{number:05}", np.random.default_rng(number))
    endings = [path.suffix for path in folder.iterdir()]
    return {ending: endings.count(ending) for ending in sorted(set(endings))}


def write_runnable(folder: Path, count: int, ends: Mapping[int, str] | None = None) -> dict[str, int]:
    """Write so many small models that run quickly: by Keras 3, Keras 2 and ONNX Runtime. Return as `write_models`.

    Args:
        folder: is made.
        count: how many.
        ends: what the last batch norm of a model is called, by its number: such a model is one of Keras 2.
    """
    import keras
    import tf_keras

    folder.mkdir(parents=True)
    ends = ends or {}
    for number in range(count):
        place, random = folder / f"m{number:05}", np.random.default_rng(number)
        if number in ends:
            _built(tf_keras, place, random, ends[number])
        elif number % 3 == 0:
            _onnx(place, random)
        else:
            _built((keras, tf_keras)[number % 3 - 1], place, random, "bn_last")
    endings = [path.suffix for path in folder.iterdir()]
    return {ending: endings.count(ending) for ending in sorted(set(endings))}


def _built(keras: Any, place: Path, random: np.random.Generator, last: str) -> None:
    """Build a net of random width and depth, with random statistics, and save it as HDF5."""
    import contextlib

    keras.backend.clear_session()
    widths = [int(width) for width in random.integers(4, 65, random.integers(1, 5))]
    layers: list[Any] = [keras.layers.Input((8, 8, 3))]
    for layer, width in enumerate(widths):
        layers.append(keras.layers.Conv2D(width, int(random.choice([1, 3])), padding="same", name=f"conv{layer}"))
        name = last if layer == len(widths) - 1 else f"bn{layer}"
        epsilon = float(random.choice([1e-3, 1e-5]))
        layers += [keras.layers.BatchNormalization(epsilon=epsilon, name=name), keras.layers.ReLU(name=f"relu{layer}")]
    model = keras.Sequential(layers)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = _norm(random, layer.get_weights()[0].size).values()
            layer.set_weights(list(values))
    with contextlib.redirect_stderr(None):  # that HDF5 is legacy
        model.save(place.with_suffix(".h5"))


def _keras(place: Path, random: np.random.Generator) -> None:
    """Write a trained sample with other statistics and weights."""
    import h5py

    target = place.with_suffix(".h5")
    shutil.copy(SAMPLES / H5[random.integers(len(H5))], target)
    with h5py.File(target, "r+") as file:

        def change(_: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset) and found.dtype.kind == "f" and found.size > 1:
                found[...] = found[...] * random.uniform(0.8, 1.25, found.shape).astype(found.dtype)

        file.visititems(change)


def _widths(random: np.random.Generator) -> list[int]:
    return [int(width) for width in random.integers(4, 129, random.integers(2, 24))]


def _norm(random: np.random.Generator, width: int) -> dict[str, Any]:
    values = {
        "weight": random.normal(1, 0.2, width),
        "bias": random.normal(0, 0.3, width),
        "running_mean": random.normal(0, 1, width),
        "running_var": random.uniform(0.2, 3, width),
    }
    return {name: array.astype(np.float32) for name, array in values.items()}


def _safetensors(place: Path, random: np.random.Generator) -> None:
    header: dict[str, Any] = {}
    data = bytearray()
    for layer, width in enumerate(_widths(random)):
        arrays = {f"blocks.{layer}.conv.weight": random.normal(0, 0.1, (width, 3, 3, 3)).astype(np.float32)}
        arrays |= {f"blocks.{layer}.bn.{name}": array for name, array in _norm(random, width).items()}
        for name, array in arrays.items():
            end = len(data) + array.nbytes
            header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), end]}
            data += array.tobytes()
    text = json.dumps(header).encode()
    place.with_suffix(".safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


def _onnx(place: Path, random: np.random.Generator) -> None:
    import onnx
    from onnx import helper, numpy_helper

    nodes, constants = [], []
    channels, last = 3, "x"
    for layer, width in enumerate(_widths(random)):
        kernel = random.normal(0, 0.2, (width, channels, 1, 1)).astype(np.float32)
        given = [f"{name}{layer}" for name in ("weight", "bias", "running_mean", "running_var")]
        constants.append(numpy_helper.from_array(kernel, f"kernel{layer}"))
        norm = _norm(random, width).values()
        constants += [numpy_helper.from_array(array, name) for name, array in zip(given, norm, strict=True)]
        nodes.append(helper.make_node("Conv", [last, f"kernel{layer}"], [f"c{layer}"], name=f"conv{layer}"))
        inputs = [f"c{layer}", *given]
        epsilon = float(random.choice([1e-3, 1e-5]))
        nodes.append(helper.make_node("BatchNormalization", inputs, [f"y{layer}"], name=f"bn{layer}", epsilon=epsilon))
        channels, last = width, f"y{layer}"
    number = onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, number, [1, size, 8, 8]) for name, size in (("x", 3), (last, channels))]
    graph = helper.make_graph(nodes, "m", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    place.with_suffix(".onnx").write_bytes(model.SerializeToString())
