"""Writes the models and exports that local_proof.py holds against each other into a cache folder, once.

    python benchmarks/proof_models.py CACHE ResNet50

converts a network with random batch norms (ResNet50, MobileNetV2, EfficientNetB0, a U-Net) or a trained sample of
sample_models in each of KINDS and ONNX_KINDS. Beside them stands the network itself, if it is not a sample.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20240229
SAMPLES = ("keras2_digits.h5", "keras3_digits.keras", "keras3_nested.keras", "keras3_partial.keras")
NETWORKS = ("ResNet50", "MobileNetV2", "EfficientNetB0", "U-Net", *SAMPLES)
KINDS = ("float32", "float16", "dynamic", "int8", "int16x8")
ONNX_KINDS = ("float32", "int8")
_SAMPLES = Path(__file__).parent.parent / "sample_models"


def cached(cache: Path, network: str) -> Path:
    """Return the folder of a network's models in `cache`; a child process makes what is missing."""
    folder = cache / "proof" / network
    if not all(path.exists() for path in exports(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        print(f"converting {network} ...", flush=True)
        subprocess.run([sys.executable, __file__, str(folder), network], check=True, stderr=subprocess.DEVNULL)
    return folder


def source(folder: Path) -> Path:
    """Return the path of a network."""
    return _SAMPLES / folder.name if folder.name in SAMPLES else folder / "model.keras"


def exports(folder: Path) -> list[Path]:
    """Return the paths of a network's exports."""
    return [folder / f"{kind}.tflite" for kind in KINDS] + [folder / f"{kind}.onnx" for kind in ONNX_KINDS]


def build(network: str) -> Any:
    """Return a Keras model: of keras.applications or the U-Net with random batch norms, or a trained sample."""
    import keras

    if network in SAMPLES:
        return keras.models.load_model(_SAMPLES / network, compile=False)
    keras.utils.set_random_seed(SEED)
    model = _u_net() if network == "U-Net" else getattr(keras.applications, network)(weights=None)
    generator = np.random.default_rng(SEED)
    for layer in _layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            gamma, beta = generator.uniform(0.2, 0.8, shape), generator.normal(0, 0.1, shape)
            mean, variance = generator.normal(0, 0.2, shape), generator.uniform(0.2, 2, shape)
            layer.set_weights([gamma, beta, mean, variance])
        if isinstance(layer, keras.layers.Normalization):  # whose tensors tf2onnx takes for inputs
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    return model


def _u_net() -> Any:
    """Return Ronneberger's U-Net, 128x128, with batch norms, transposed convolutions and a bridge of 256 channels."""
    import keras

    layers = keras.layers

    def block(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    start = x = keras.Input((128, 128, 3))
    skipped = []
    for filters in (32, 64, 128):
        x = block(x, filters)
        skipped.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, 256)
    for filters, skip in zip((128, 64, 32), reversed(skipped), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = block(layers.Concatenate()([layers.ReLU()(x), skip]), filters)
    return keras.Model(start, layers.Conv2D(2, 1)(x))


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield getattr(layer, "layer", layer)  # of TimeDistributed


def inputs(model: Any, network: str, count: int) -> list[Any]:
    """Return `count` inputs of a batch of one, seeded."""
    generator = np.random.default_rng(SEED + 1)
    shape = (1, *model.inputs[0].shape[1:])
    if network == "EfficientNetB0":  # which has the rescaling of pixels inside
        return [generator.uniform(0, 255, shape).astype(np.float32) for _ in range(count)]
    return [generator.standard_normal(shape).astype(np.float32) for _ in range(count)]


def convert(model: Any, kind: str, samples: list[Any]) -> bytes:
    """Return a model as TFLite has it, in one of KINDS."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    call = tf.function(lambda x: model(x, training=False))
    concrete = call.get_concrete_function(tf.TensorSpec(samples[0].shape, tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(concrete)])
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind.startswith("int"):
        sets = tf.lite.OpsSet
        wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS_INT8 if kind == "int8" else wide]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bytes(converter.convert())


def convert_to_onnx(model: Any, folder: Path, samples: list[Any]) -> None:
    """Write a model as tf2onnx has it, and what ONNX Runtime's quantisation makes of that, per channel."""
    import tensorflow as tf
    import tf2onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    # With a batch of one tf2onnx 1.17 writes the scale of a batch norm as the alpha of a Gemm, which nothing loads.
    taken = [tf.TensorSpec((None, *samples[0].shape[1:]), tf.float32, name="x")]
    call = tf.function(lambda x: model(x, training=False), input_signature=taken)
    plain, unfinished = folder / "float32.onnx", folder / "unfinished.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf2onnx.convert.from_function(call, input_signature=taken, opset=15, output_path=str(unfinished))
        unfinished.rename(plain)

        class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is Any to mypy
            def __init__(self) -> None:
                self.left = iter(samples)

            def get_next(self) -> dict[str, Any] | None:
                return next(({"x": sample} for sample in self.left), None)

        quantize_static(
            str(plain),
            str(unfinished),
            Reader(),
            quant_format=QuantFormat.QOperator,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    unfinished.rename(folder / "int8.onnx")


def main() -> None:
    """Convert one network in every kind."""
    folder, network = Path(sys.argv[1]), sys.argv[2]
    model = build(network)
    if network not in SAMPLES:
        model.save(source(folder))
    samples = inputs(model, network, 8)
    for kind in KINDS:
        if not (target := folder / f"{kind}.tflite").exists():
            unfinished = target.with_suffix(".unfinished")
            unfinished.write_bytes(convert(model, kind, samples))
            unfinished.rename(target)
    if not (folder / "int8.onnx").exists():
        convert_to_onnx(model, folder, samples)


if __name__ == "__main__":
    main()
