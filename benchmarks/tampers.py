"""Exports that are right and exports that were tampered with, of small random nets in every kind; prints the table.

    python benchmarks/tampers.py [--nets 6] [--kinds float32,int8 ...]

Each net is converted as it is, and once for each way to break it that TAMPERS lists, into each of KINDS. A right export
must not end as a mismatch; a tampered one must not pass. What passed, and what right export stayed unverified and why,
is listed below the table. With six nets there are more than 300 tampered exports.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bninspect import formats
from bninspect.conversion import task
from bninspect.errors import BninspectError
from bninspect.records import Status
from bninspect.settings import Settings

KINDS = ("float32", "float16", "dynamic", "int8", "int16x8", "onnx")
SIDE = 10


def net(seed: int, **changes: Any) -> Any:
    """Return a small net with every kind of layer that converters treat differently; `changes` break it."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(seed)
    most = changes.get("most", 6.0)
    x = inputs = layers.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, strides=changes.get("strides", 1), padding=changes.get("padding", "same"), name="conv")(x)
    x = layers.ReLU(most)(layers.BatchNormalization(name="bn1")(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="bn2")(x))
    pool = layers.AveragePooling2D if changes.get("average") else layers.MaxPooling2D
    y = pool(2)(y)
    z = layers.Conv2D(8, 1, name="pointwise")(y)
    z = layers.BatchNormalization(name="bn3")(z)
    y = y if changes.get("without_shortcut") else layers.Add()([y, z])
    y = layers.Activation(changes.get("activation", "relu"))(z if changes.get("without_shortcut") else y)
    y = layers.GlobalAveragePooling2D()(y)
    y = layers.Dense(6, activation="relu", name="hidden")(y)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(y))


def weighted(built: Any, seed: int) -> Any:
    """Give a net random weights of the size that training leaves, batch norms statistics of both signs of gamma."""
    generator = np.random.default_rng(seed)
    for layer in built.layers:
        weights = layer.get_weights()
        if hasattr(layer, "moving_variance"):
            count = weights[0].size
            gamma = generator.uniform(0.5, 1.5, count) * np.where(np.arange(count) % 3 == 1, -1, 1)
            spread = (
                generator.normal(0, 0.3, count),
                generator.normal(0, 0.3, count),
                generator.uniform(0.2, 2, count),
            )
            layer.set_weights([gamma, *spread])
        elif weights:
            fan = float(np.prod(weights[0].shape[:-1])) if layer.name != "depthwise" else 9.0
            scaled = [generator.normal(0, fan**-0.5, weights[0].shape)]
            layer.set_weights(scaled + [generator.normal(0, 0.2, one.shape) for one in weights[1:]])
    return built


def _changed(name: str, place: int, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def apply(built: Any) -> None:
        layer = built.get_layer(name)
        weights = layer.get_weights()
        weights[place] = change(weights[place])
        layer.set_weights(weights)

    return apply


def _one(factor: float) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values.reshape(-1)[np.abs(values).argmax()] *= factor
        return values

    return change


TAMPERS: Mapping[str, tuple[Mapping[str, Any], Callable[[Any], None] | None]] = {
    "head x 1.1": ({}, _changed("head", 0, lambda w: w * 1.1)),
    "head zeroed": ({}, _changed("head", 0, np.zeros_like)),
    "head negated": ({}, _changed("head", 0, np.negative)),
    "head, one weight x 1.5": ({}, _changed("head", 0, _one(1.5))),
    "hidden, classes exchanged": ({}, _changed("hidden", 0, lambda w: w[:, ::-1])),
    "conv kernel mirrored": ({}, _changed("conv", 0, lambda w: w[:, ::-1])),
    "gamma of one channel": ({}, _changed("bn1", 0, _one(1.3))),
    "variance of one channel": ({}, _changed("bn2", 3, _one(2.0))),
    "mean ignored": ({}, _changed("bn3", 2, np.zeros_like)),
    "conv bias dropped": ({}, _changed("conv", 1, np.zeros_like)),
    "another stride": ({"strides": 2}, None),
    "no padding": ({"padding": "valid"}, None),
    "relu for relu6": ({"most": None}, None),
    "average for largest": ({"average": True}, None),
    "shortcut left out": ({"without_shortcut": True}, None),
    "another activation": ({"activation": "tanh"}, None),
}


def convert(built: Any, kind: str, path: Path) -> Path:
    """Convert a net to one of KINDS."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "onnx":
            import tf2onnx

            spec = [tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="x")]
            function = tf.function(lambda x: built(x, training=False), input_signature=spec)
            tf2onnx.convert.from_function(function, input_signature=spec, opset=15, output_path=str(path))
            return path
        converter = tf.lite.TFLiteConverter.from_keras_model(built)
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind in {"int8", "int16x8"}:
            generator = np.random.default_rng(0)
            converter.representative_dataset = lambda: (
                [generator.normal(size=(1, SIDE, SIDE, 3)).astype(np.float32)] for _ in range(16)
            )
            wide = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [wide if kind == "int16x8" else tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        path.write_bytes(converter.convert())
    return path


def verdict(source: Path, export: Path) -> tuple[str, str]:
    """Return `pass`, `fail` or `error` for the export, and the reason of an error."""
    try:
        model = task.compare(formats.read(source), formats.read(export), Settings()).model
    except BninspectError as error:
        return Status.ERROR.value, str(error)
    reasons = [*(model.against.open if model.against else ()), *(one.reason for one in model.layers if one.reason)]
    return model.status.value, reasons[0] if reasons else ""


def main() -> None:
    """Make the exports, judge them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", type=int, default=6)
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    right: dict[str, Counter[str]] = {kind: Counter() for kind in options.kinds.split(",")}
    broken: dict[str, Counter[str]] = {kind: Counter() for kind in right}
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.nets):
            folder = Path(name)
            own = weighted(net(seed), seed)
            source = folder / f"{seed}.keras"
            own.save(source)
            for kind, seen in right.items():
                path = folder / f"export.{'onnx' if kind == 'onnx' else 'tflite'}"
                status, why = verdict(source, convert(own, kind, path))
                seen[status] += 1
                if status != Status.PASS.value:
                    lines.append(f"right {kind} {seed}: {status} {why}")
                for tamper, (changes, change) in TAMPERS.items():
                    wrong = weighted(net(seed, **changes), seed)
                    if change is not None:
                        change(wrong)
                    status, why = verdict(source, convert(wrong, kind, path))
                    broken[kind][status] += 1
                    if status != Status.FAIL.value:
                        lines.append(f"{tamper} {kind} {seed}: {status} {why}")
                print(f"{kind:8} net {seed}: right {dict(seen)}, tampered {dict(broken[kind])}", flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
