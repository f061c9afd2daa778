"""Runs an ONNX model in ONNX Runtime, not optimised, and hands out each linear operation with all of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tflite_operations import Linear, Tensor

from bninspect.arithmetic.kernels import NONE, Convolution, Grid, Requantisation, Window, same
from bninspect.records.graph import transposed

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "QGemm")


def operations(path: Path, x: Any) -> Iterator[Linear]:
    """Run a file on x, and return its linear operations whose weights are constants."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in LINEAR]
    wanted = {name for node in nodes for name in (node.input[0], node.output[0])} - {model.graph.input[0].name}
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    start = model.graph.input[0].name
    values = dict(zip(sorted(wanted), session.run(sorted(wanted), {start: x}), strict=True)) | {start: x} | constants
    for node in nodes:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if (
            linear := _linear(node.op_type, list(node.input), node.output[0], attributes, values, constants)
        ) is not None:
            yield linear


def _linear(
    kind: str, names: list[str], output: str, attributes: Mapping[str, Any], values: Any, constants: Any
) -> Linear | None:
    if kind.startswith("Q"):
        x, weights = (_whole(values, names[at : at + 3]) for at in (0, 3))
        at = 7 if kind == "QGemm" else 6
        y = _whole(values, [output, *names[at : at + 2]])
        bias_at = 6 if kind == "QGemm" else 8
        bias = names[bias_at] if len(names) > bias_at and kind != "QLinearMatMul" else ""
        is_constant = names[3] in constants
    else:
        x, weights, y = (Tensor(values.get(name), None) for name in (*names[:2], output))
        bias = names[2] if len(names) > 2 else ""
        is_constant = names[1] in constants
    if not is_constant:
        return None
    added = Tensor(values[bias], None) if bias else None
    if "Conv" in kind:
        return _convolution(kind, attributes, x, weights, added, y)
    stored = weights.values.T if attributes.get("transB") else weights.values
    if stored.ndim != 2:
        return None
    return Linear(kind, None, NONE, x, Tensor(stored[np.newaxis], weights.grid), added, y, Requantisation.FLOAT)


def _whole(values: Any, names: list[str]) -> Tensor:
    """Return a quantised tensor from the names of its numbers, step and zero point."""
    numbers, step, zero = (values[name] for name in names)
    return Tensor(numbers, Grid.of(numbers.dtype.name, np.squeeze(step), np.squeeze(zero)))


def _convolution(
    kind: str, attributes: Mapping[str, Any], x: Tensor, weights: Tensor, bias: Tensor | None, y: Tensor
) -> Linear:
    size = weights.values.shape[2:]
    rank, groups = len(size), attributes.get("group", 1)
    stride, dilation = (tuple(attributes.get(name, (1,) * rank)) for name in ("strides", "dilations"))
    pads = attributes.get("pads", (0,) * 2 * rank)
    padding = tuple(zip(pads[:rank], pads[rank:], strict=True))
    way = attributes.get("auto_pad", b"NOTSET").decode()
    if way.startswith("SAME"):
        lengths = (y if kind == "ConvTranspose" else x).values.shape[2:]
        padding = same(lengths, size, stride, dilation, lower=way == "SAME_LOWER")
    window, extra = Window(size, stride, padding, dilation), None
    if kind == "ConvTranspose":
        plain = window.transposed_outputs(x.values.shape[2:])
        extra = tuple(n - m for n, m in zip(y.values.shape[2:], plain, strict=True))
        ordered = transposed(weights.values, groups)
    else:
        outputs, each = weights.values.shape[:2]
        ordered = weights.values.reshape(outputs, each, -1).transpose(2, 1, 0)
    asked = Convolution(window, groups, kind == "ConvTranspose", extra, channel_axis=1)
    return Linear(kind, asked, NONE, x, Tensor(ordered, weights.grid), bias, y, Requantisation.FLOAT)
