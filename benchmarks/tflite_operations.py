"""Runs a TFLite model on LiteRT's built-in kernels and hands out each linear operation with all of its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.arithmetic.kernels import NONE, Activation, Convolution, Grid, Requantisation, Window, same

ACTIVATIONS = {
    0: NONE,
    1: Activation("relu"),
    2: Activation("relu_n1_to_1"),
    3: Activation("relu6"),
    4: Activation("tanh"),
}
LINEAR = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor after the run, and what its whole numbers mean; None for floats."""

    values: Any
    grid: Grid | None


@dataclass(frozen=True, eq=False)
class Linear:
    """A convolution (or, without one, a dense layer) of the file."""

    kind: str
    asked: Convolution | None
    activation: Activation
    x: Tensor
    weights: Tensor
    """(taps, inputs per group, outputs)."""
    bias: Tensor | None
    y: Tensor
    requantisation: Requantisation


def operations(path: Path, x: Any) -> Iterator[Linear]:
    """Run a file on x, and return its linear operations."""
    from ai_edge_litert import interpreter as litert
    from tensorflow.lite.python import schema_py_generated as schema

    content = path.read_bytes()
    interpreter = litert.Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    graph = schema.Model.GetRootAsModel(content, 0).Subgraphs(0)
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}

    def tensor(index: int) -> Tensor:
        values = np.array(interpreter.get_tensor(index))
        parameters = details[index]["quantization_parameters"]
        kind = values.dtype.name
        if not parameters["scales"].size or kind not in {"int8", "uint8", "int16", "int32"}:
            return Tensor(values, None)
        return Tensor(values, Grid.of(kind, np.squeeze(parameters["scales"]), np.squeeze(parameters["zero_points"])))

    for number, each in enumerate(interpreter._get_ops_details()):  # noqa: SLF001 - there is no public list
        if each["op_name"] not in LINEAR:
            continue
        places = [int(index) for index in each["inputs"]]
        order = (2, 1, 3) if each["op_name"] == "TRANSPOSE_CONV" else (0, 1, 2)
        data, weights = tensor(places[order[0]]), tensor(places[order[1]])
        bias = tensor(places[order[2]]) if len(places) > order[2] and places[order[2]] >= 0 else None
        y = tensor(int(each["outputs"][0]))
        options = graph.Operators(number).BuiltinOptions()
        yield _linear(schema, each["op_name"], options, data, weights, bias, y)


def _linear(schema: Any, kind: str, table: Any, x: Tensor, weights: Tensor, bias: Tensor | None, y: Tensor) -> Linear:
    name = {
        "CONV_2D": "Conv2DOptions",
        "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
        "TRANSPOSE_CONV": "TransposeConvOptions",
        "FULLY_CONNECTED": "FullyConnectedOptions",
    }[kind]
    options = getattr(schema, name)()
    options.Init(table.Bytes, table.Pos)
    stored = weights.values
    way = Requantisation.FIXED16 if y.values.dtype == np.int16 else Requantisation.FIXED
    activation = ACTIVATIONS[options.FusedActivationFunction()]
    if kind == "FULLY_CONNECTED":
        return Linear(kind, None, activation, x, Tensor(stored.T[np.newaxis], weights.grid), bias, y, way)
    size = stored.shape[1:3]
    stride = options.StrideH(), options.StrideW()
    transposed = kind == "TRANSPOSE_CONV"
    dilation = (1, 1) if transposed else (options.DilationHFactor(), options.DilationWFactor())
    lengths = (y if transposed else x).values.shape[1:3]
    padding = same(lengths, size, stride, dilation) if options.Padding() == schema.Padding.SAME else ((0, 0), (0, 0))
    window = Window(size, stride, padding, dilation)
    outputs = y.values.shape[3]
    if kind == "DEPTHWISE_CONV_2D":
        ordered, groups = stored.reshape(-1, 1, outputs), x.values.shape[3]
    else:
        ordered = np.moveaxis(stored, 0, -1).reshape(-1, stored.shape[3], outputs)
        groups = x.values.shape[3] // stored.shape[3]
    extra = None
    if transposed:
        plain = window.transposed_outputs(x.values.shape[1:3])
        extra = tuple(n - m for n, m in zip(lengths, plain, strict=True))
    return Linear(
        kind, Convolution(window, groups, transposed, extra), activation, x, Tensor(ordered, weights.grid), bias, y, way
    )
