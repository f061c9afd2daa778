"""TensorFlow's converter to TFLite in five kinds, Keras' own export, and tf2onnx."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from converter_cells import Cell


def _model(cell: Cell) -> Any:
    """Return the model, loaded from its file."""
    if (path := cell.source / "model.h5").exists():
        import tf_keras

        return tf_keras.models.load_model(path, compile=False)
    import keras

    model = keras.models.load_model(cell.source / "model.keras", compile=False)
    model(np.load(cell.source / "expected.npz")["x"])  # Keras exports no model to ONNX that was never called
    return model


def _tflite(cell: Cell) -> str:
    model, kind = _model(cell), cell.converter.name.removeprefix("tflite-")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if (cell.source / "model.h5").exists():  # of Keras 2, which that does not take
        converter = tf.lite.TFLiteConverter.from_saved_model(str(cell.source / "saved_model"))
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind.startswith("int"):
        every = np.load(cell.source / "expected.npz")["every"]
        sets = tf.lite.OpsSet
        wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.representative_dataset = lambda: ([sample[None]] for sample in every)
        converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS_INT8 if kind == "int8" else wide]
    (cell.folder / "model.tflite").write_bytes(converter.convert())
    return "model.tflite"


def _export(cell: Cell) -> str:
    model = _model(cell)
    formats = {
        "keras-litert": ("litert", "model.tflite"),
        "keras-saved-model": ("tf_saved_model", "saved_model"),
        "keras-onnx": ("onnx", "model.onnx"),
        "keras-openvino": ("openvino", "model.xml"),
    }
    kind, name = formats[cell.converter.name]
    if (cell.source / "model.h5").exists():
        raise NotImplementedError("a model of Keras 2 has no such export")
    model.export(str(cell.folder / name), format=kind, verbose=False)
    return name


def _tf2onnx(cell: Cell) -> str:
    import tf2onnx

    model = _model(cell)
    taken = [tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32, name="x")]
    call = tf.function(lambda x: model(x, training=False), input_signature=taken)
    path = cell.folder / "model.onnx"
    tf2onnx.convert.from_function(call, input_signature=taken, opset=17, output_path=str(path))
    return path.name


CONVERTERS = {
    **{f"tflite-{kind}": _tflite for kind in ("float32", "float16", "dynamic", "int8", "int16x8")},
    **{f"keras-{kind}": _export for kind in ("litert", "saved-model", "onnx", "openvino")},
    "tf2onnx": _tf2onnx,
}
