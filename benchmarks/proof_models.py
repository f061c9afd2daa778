"""Writes the exports that local_proof.py recomputes into a cache folder, once, with the numbers behind them.

    python benchmarks/proof_models.py CACHE ResNet50

converts a network with random batch norms (ResNet50, MobileNetV2, EfficientNetB0, a U-Net) or a trained sample of
sample_models in each of KINDS and ONNX_KINDS. Beside them stands numbers.npz: the weights of every kernel, as they are
and with the batch norm behind it folded in, in float64, by how much float32 may be off of them, and the input of the
proof.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.arithmetic.bounds import RSQRT

SEED = 20240229
SAMPLES = ("keras2_digits.h5", "keras3_digits.keras", "keras3_nested.keras", "keras3_partial.keras")
NETWORKS = ("ResNet50", "MobileNetV2", "EfficientNetB0", "U-Net", *SAMPLES)
KINDS = ("float32", "float16", "dynamic", "int8", "int16x8")
ONNX_KINDS = ("float32", "int8")
_U = 2.0**-24


def cached(cache: Path, network: str) -> Path:
    """Return the folder of a network's models in `cache`; a child process makes what is missing."""
    folder = cache / "proof" / network
    if not all(path.exists() for path in exports(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        print(f"converting {network} ...", flush=True)
        subprocess.run([sys.executable, __file__, str(folder), network], check=True, stderr=subprocess.DEVNULL)
    return folder


def exports(folder: Path) -> list[Path]:
    """Return the paths of a network's exports."""
    return [folder / f"{kind}.tflite" for kind in KINDS] + [folder / f"{kind}.onnx" for kind in ONNX_KINDS]


def build(network: str) -> Any:
    """Return a Keras model: of keras.applications or the U-Net with random batch norms, or a trained sample."""
    import keras

    if network in SAMPLES:
        path = Path(__file__).parent.parent / "sample_models" / network
        return keras.models.load_model(path, compile=False)
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


def kernels(model: Any) -> Iterator[dict[str, Any]]:
    """Return weights (taps, inputs per group, outputs), bias and bounds of each kernel, as it is and folded."""
    import keras

    layers = list(_layers(model))
    norms = {}
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer._inbound_nodes:  # noqa: SLF001 - not wrapped
            norms[layer.input._keras_history.operation] = layer  # noqa: SLF001
    linear = tuple(getattr(keras.layers, name) for name in ("Dense", "Conv2D", "DepthwiseConv2D", "Conv2DTranspose"))
    for layer in layers:
        if not isinstance(layer, linear):
            continue
        kernel, *rest = (np.asarray(each, np.float64) for each in layer.get_weights())
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            weights = kernel.reshape(-1, 1, kernel.shape[2] * kernel.shape[3])
        elif isinstance(layer, keras.layers.Conv2DTranspose):
            weights = kernel.transpose(0, 1, 3, 2).reshape(-1, kernel.shape[3], kernel.shape[2])
        else:
            weights = kernel.reshape(-1, *kernel.shape[-2:])
        bias = rest[0] if rest else np.zeros(weights.shape[2])
        yield _folded(weights, bias, None)
        if layer in norms and layer.activation is keras.activations.linear:
            yield _folded(weights, bias, norms[layer])


def _folded(weights: Any, bias: Any, norm: Any) -> dict[str, Any]:
    """Return the numbers that a converter should write, and bounds: `relative` to the weights, and of the bias."""
    if norm is None:
        return {"weights": weights, "bias": bias, "relative": _U, "bias_bound": _U * np.abs(bias)}
    channels = bias.size
    mean, variance = (np.asarray(a, np.float64) for a in (norm.moving_mean, norm.moving_variance))
    gamma = np.asarray(norm.gamma, np.float64) if norm.scale else np.ones(channels)
    beta = np.asarray(norm.beta, np.float64) if norm.center else np.zeros(channels)
    a = gamma / np.sqrt(variance + np.float64(np.float32(norm.epsilon)))
    terms = np.abs(bias * a) + np.abs(mean * a) + np.abs(beta)
    return {
        "weights": weights * a,
        "bias": (bias - mean) * a + beta,
        "relative": (RSQRT + 4) * _U,
        "bias_bound": (RSQRT + 6) * _U * terms,
    }


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
    arrays: dict[str, Any] = {}
    for number, kernel in enumerate(kernels(model)):
        arrays |= {f"{number}:{name}": np.asarray(value) for name, value in kernel.items()}
    samples = inputs(model, network, 9)
    np.savez(folder / "numbers.npz", x=samples[-1], **arrays)
    for kind in KINDS:
        if not (target := folder / f"{kind}.tflite").exists():
            unfinished = target.with_suffix(".unfinished")
            unfinished.write_bytes(convert(model, kind, samples[:-1]))
            unfinished.rename(target)
    if not (folder / "int8.onnx").exists():
        convert_to_onnx(model, folder, samples[:-1])


if __name__ == "__main__":
    main()
