"""The converters that converters.py measures: where each runs, what it takes, and what runs what it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["keras", "torch"]
KERAS: tuple[Family, ...] = ("keras",)
TORCH: tuple[Family, ...] = ("torch",)
BOTH = KERAS + TORCH


@dataclass(frozen=True)
class Converter:
    """A converter, or one way to use it."""

    name: str
    package: str
    """What its version is of."""
    environment: str
    families: tuple[Family, ...]
    runtime: str
    """Runs what it writes; empty if nothing here does."""
    kind: str = "float32"
    """What its roundings are of: a key of converter_patterns.UNITS."""
    takes: str = ""
    """The converter whose files it takes, where it is not the model itself."""


def _of_onnx(name: str, package: str, kind: str = "float32") -> Converter:
    return Converter(name, package, "onnx", BOTH, "onnxruntime", kind, "onnx")


CONVERTERS = (
    Converter("tflite-float32", "tensorflow", "tensorflow", KERAS, "litert"),
    Converter("tflite-float16", "tensorflow", "tensorflow", KERAS, "litert", "halves"),
    Converter("tflite-dynamic", "tensorflow", "tensorflow", KERAS, "litert", "int8"),
    Converter("tflite-int8", "tensorflow", "tensorflow", KERAS, "litert", "int8"),
    Converter("tflite-int16x8", "tensorflow", "tensorflow", KERAS, "litert", "int8"),
    Converter("keras-litert", "keras", "tensorflow", KERAS, "litert"),
    Converter("keras-saved-model", "keras", "tensorflow", KERAS, "savedmodel"),
    Converter("keras-onnx", "keras", "tensorflow", KERAS, "onnxruntime"),
    Converter("keras-openvino", "keras", "tensorflow", KERAS, "openvino"),
    Converter("tf2onnx", "tf2onnx", "tensorflow", KERAS, "onnxruntime"),
    Converter("tfjs-layers", "tensorflowjs", "tensorflowjs", KERAS, ""),
    Converter("torch-onnx-plain", "torch", "torch", TORCH, "onnxruntime"),
    Converter("torch-onnx-old", "torch", "torch", TORCH, "onnxruntime"),
    Converter("torch-onnx-new", "torch", "torch", TORCH, "onnxruntime"),
    Converter("torch-fx-fuse", "torch", "torch", TORCH, "torch"),
    Converter("torch-jit-freeze", "torch", "torch", TORCH, "torch"),
    Converter("torch-jit-optimize", "torch", "torch", TORCH, "torch"),
    Converter("litert-torch", "litert-torch", "litert-torch", TORCH, "litert"),
    Converter("onnx2tf", "onnx2tf", "onnx2tf", TORCH, "litert", takes="torch-onnx-plain"),
    Converter("onnx2tf-float16", "onnx2tf", "onnx2tf", TORCH, "litert", "halves", "torch-onnx-plain"),
    Converter("pnnx", "pnnx", "ncnn", TORCH, "ncnn"),
    Converter("pnnx-float16", "pnnx", "ncnn", TORCH, "ncnn", "halves"),
    Converter("coreml", "coremltools", "coremltools", TORCH, ""),
    Converter("openvino", "openvino", "openvino", BOTH, "openvino"),
    Converter("openvino-float16", "openvino", "openvino", BOTH, "openvino", "halves"),
    Converter("openvino-int8", "nncf", "openvino", BOTH, "openvino", "int8"),
    _of_onnx("onnxsim", "onnxsim"),
    _of_onnx("onnxslim", "onnxslim"),
    _of_onnx("onnxoptimizer", "onnxoptimizer"),
    _of_onnx("onnxscript", "onnxscript"),
    _of_onnx("ort-basic", "onnxruntime"),
    _of_onnx("ort-extended", "onnxruntime"),
    _of_onnx("ort-all", "onnxruntime"),
    _of_onnx("ort-dynamic", "onnxruntime", "int8"),
    _of_onnx("ort-qdq", "onnxruntime", "int8"),
    _of_onnx("ort-qoperator", "onnxruntime", "int8"),
)
BY_NAME = {converter.name: converter for converter in CONVERTERS}
RUNS_IN = {
    "litert": "tensorflow",
    "savedmodel": "tensorflow",
    "onnxruntime": "onnx",
    "torch": "torch",
    "openvino": "openvino",
    "ncnn": "ncnn",
}
"""The environment of each runtime."""


def taken(converter: Converter, family: Family) -> str:
    """Return the converter whose file another takes for a family; empty if it takes the model."""
    if converter.takes == "onnx":
        return "tf2onnx" if family == "keras" else "torch-onnx-plain"
    return converter.takes
