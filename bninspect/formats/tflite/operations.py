"""What a TFLite graph computes, operation by operation: kernels in our order, how they move, what is quantised.

Fields of the operators' options: tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bninspect.formats import bodies, channel_chains
from bninspect.formats.channel_chains import RELUS, Piece
from bninspect.formats.tflite import dilated
from bninspect.formats.tflite.graph import affine_maps
from bninspect.formats.tflite.model import Operator, Subgraph, TfliteTensor
from bninspect.records import Array
from bninspect.records import graph as network
from bninspect.records.graph import Geometry, Kernel, Network, Node, Quantisation, Value

if TYPE_CHECKING:
    from bninspect.formats.encodings.flatbuffer import FlatTable

_FLOATS = ("float16", "float32")
_PASSING = {
    **dict.fromkeys(("reshape", "squeeze", "expand dims"), "reshape"),
    **dict.fromkeys(("quantize", "dequantize"), "identity"),
    "transpose": "transpose",
    "cast": "cast",
}
_LINEAR = {
    "conv": (0, 1, 2),
    "conv 3d": (0, 1, 2),
    "depthwise conv": (0, 1, 2),
    "fully connected": (0, 1, 2),
    "batch matmul": (0, 1, 2),
    "transpose conv": (2, 1, 3),
}
"""Where input, weights and bias are among an operator's inputs."""
_PIECES = ("add", "sub", "mul", "div")
_SAME = 0
"""Padding of the schema."""


def read(graph: Subgraph) -> Network:
    """Return what a graph computes."""
    names = {f"operator {affine.first.index}": name for name, affine in affine_maps(graph)}
    nodes = channel_chains.join(_nodes(graph), (output.label for output in graph.outputs))
    nodes = [replace(node, layer=names.get(node.name, node.layer)) if node.layer else node for node in nodes]
    # Converters join the names of all that they made an operation of; the first is that of what comes out of it.
    tensors = {
        output.label: output.name.partition(";")[0] for operator in graph.operators for output in operator.outputs
    }
    nodes = [replace(node, tensor=tensors.get(node.outputs[0], "") if node.outputs else "") for node in nodes]
    whole = _quantised(graph)
    return Network(
        tuple(Value(source.label, source.signature, source.dtype) for source in graph.inputs),
        tuple(Value(output.label, output.signature, output.dtype) for output in graph.outputs),
        tuple(nodes),
        whole,
        {
            operator.outputs[0].label: whole[taken.label]
            for operator in graph.operators
            if operator.operation == "dequantize" and operator.outputs
            if (taken := operator.takes(0)) is not None and taken.label in whole
        },
        fixed_point=True,
    )


def _inside(operator: Operator, graph: Subgraph) -> Iterator[str]:
    """Yield the operations in the graphs that an operator runs, at any depth."""
    waiting, seen = list(operator.graphs), set[int]()
    while waiting:
        place = waiting.pop()
        if place in seen or not 0 < place <= len(graph.others):
            continue
        seen.add(place)
        for inner in graph.others[place - 1].operators:
            yield inner.operation
            waiting += inner.graphs


def _nodes(graph: Subgraph) -> Iterator[Node]:
    spelt_out = dilated.find(graph.operators, graph.outputs)
    for operator in graph.operators:
        whole = spelt_out.get(operator.index)
        node = _node(operator if whole is None else whole.convolution)
        if whole is None or node.geometry is None:
            yield replace(_node(operator), within=bodies.held(operator.operation, _inside(operator, graph)))
        elif operator is whole.behind:
            yield whole.node(node)


def _quantised(graph: Subgraph) -> dict[str, Quantisation]:
    tensors = {
        source.label: source
        for operator in graph.operators
        for source in (*operator.inputs, *operator.outputs)
        if source
    }
    tensors |= {source.label: source for source in (*graph.inputs, *graph.outputs)}
    return {
        label: Quantisation(one.scales, one.zeros if one.zeros.size else np.zeros(1, np.int64), one.dtype, one.axis)
        for label, one in tensors.items()
        if one.scales.size and not one.is_constant and one.dtype.startswith(("int", "uint"))
    }


def _node(operator: Operator) -> Node:
    kernel = _kernel(operator) if operator.operation in _LINEAR else None
    if kernel is not None:
        return kernel
    piece = _piece(operator) if operator.operation in _PIECES else None
    if piece is not None:
        return piece
    order = operator.takes(1) if operator.operation == "transpose" else None
    return Node(
        f"operator {operator.index}",
        _PASSING.get(operator.operation, operator.operation),
        tuple(source.label for source in operator.inputs if source is not None and not source.is_constant),
        tuple(output.label for output in operator.outputs),
        activation=operator.activation,
        limits=RELUS.get(operator.operation) or RELUS.get(operator.activation),
        setting=_setting(operator),
        order=tuple(int(axis) for axis in order.stored) if order is not None and order.is_constant else (),
        constants=_rounded(operator),
        window=_window(operator),
    )


def _window(operator: Operator) -> tuple[int, ...]:
    """Return height and width of the windows of an average pool."""
    if operator.operation != "average pool" or operator.options is None:
        return ()
    return tuple(max(int(operator.options.number(field, "i")), 1) for field in (4, 3))


def _rounded(operator: Operator) -> str:
    """Return the coarsest type of the constants of an operator; empty if some are whole numbers, or there are none."""
    kinds = {source.dtype for source in operator.inputs if source is not None and source.is_constant}
    return next((kind for kind in _FLOATS if kind in kinds), "") if kinds <= {*_FLOATS} else ""


def _setting(operator: Operator) -> str:
    """Return along which axis a softmax, which TFLite has along the last alone, or the largest of several is taken."""
    if operator.operation == "softmax":
        beta = float(operator.options.number(0, "f")) if operator.options is not None else 0.0
        return "axis -1" if beta == 1.0 else f"axis -1, beta {beta:g}"
    if operator.operation == "logistic":
        return "elementwise"
    x, axis = operator.takes(0), operator.takes(1)
    if operator.operation != "arg max" or x is None or axis is None or not axis.is_constant or axis.stored.size != 1:
        return ""
    return f"axis {int(axis.stored.reshape(-1)[0]) % max(len(x.shape), 1) - len(x.shape)}"


def _piece(operator: Operator) -> Node | None:
    """Return an operator that combines a value with a number per channel; None if it is another one."""
    taken = [tensor for tensor in operator.inputs if tensor is not None]
    constants = [tensor for tensor in taken if tensor.is_constant]
    if len(taken) != 2 or len(constants) != 1 or not operator.outputs or constants[0].dtype == "unknown":
        return None
    constant = constants[0]
    moving = taken[1] if taken[0] is constant else taken[0]
    if constant.stored.dtype.kind != "f" and not constant.scales.size:
        return None
    quantised = constant.stored.dtype.kind != "f"
    return channel_chains.scale_and_shift(
        Piece(
            f"operator {operator.index}",
            operator.operation,
            moving.label,
            operator.outputs[0].label,
            constant.values,
            taken[0] is constant,
            "float32" if quantised else constant.dtype,
            constant.scales if quantised else None,
            RELUS.get(operator.activation),
            operator.activation,
        )
    )


def _kernel(operator: Operator) -> Node | None:
    """Return a linear operation; None if its constants are computed, which makes it any other operation."""
    x, weights, bias = (operator.takes(place) for place in _LINEAR[operator.operation])
    if x is None or weights is None or not weights.is_constant or weights.dtype == "unknown":
        return None
    if bias is not None and not bias.is_constant:
        return None
    found = _numbers(operator, x, weights)
    if found is None:
        return None
    kind, numbers, groups, size = found
    return Node(
        f"operator {operator.index}",
        kind,
        (x.label,),
        tuple(output.label for output in operator.outputs),
        _assembled(numbers, groups, weights, bias),
        activation=operator.activation,
        padded=bool(size) and operator.options is not None and int(operator.options.number(0, "b")) == _SAME,
        geometry=_geometry(operator, size),
        limits=RELUS.get(operator.activation),
        quantises_input=network.EACH_SAMPLE if weights.stored.dtype.kind != "f" and x.dtype == "float32" else "",
    )


def _numbers(
    operator: Operator, x: TfliteTensor, weights: TfliteTensor
) -> tuple[str, Array, int, tuple[int, ...]] | None:
    """Return kind, weights in our order, groups and places of a kernel; None if it is not one of ours."""
    values = weights.values
    if operator.operation == "depthwise conv":  # (1, height, width, outputs)
        return network.DEPTHWISE, values.reshape(-1, 1, values.shape[-1]), x.shape[-1], values.shape[1:3]
    if operator.operation == "fully connected":  # (outputs, inputs)
        return network.DENSE, network.dense(values.T), 1, ()
    if operator.operation == "batch matmul":
        swapped = operator.options is not None and bool(operator.options.number(1, "?"))
        turned = operator.options is not None and bool(operator.options.number(0, "?"))
        matrix = (
            values.reshape(values.shape[-2:])
            if values.ndim >= 2 and values.size == np.prod(values.shape[-2:])
            else None
        )
        if matrix is None or turned:
            return None
        return network.DENSE, network.dense(matrix.T if swapped else matrix), 1, ()
    if operator.operation == "conv 3d":  # (depth, height, width, inputs, outputs)
        return network.CONVOLUTION, values.reshape(-1, *values.shape[-2:]), 1, values.shape[:3]
    # (outputs, height, width, inputs per group)
    kind = network.CONVOLUTION if operator.operation == "conv" else network.TRANSPOSED
    groups = x.shape[-1] // values.shape[-1] if x.shape and values.ndim == 4 and values.shape[-1] else 1
    return kind, network.convolution(np.moveaxis(values, -1, 1)), max(groups, 1), values.shape[1:3]


_STRIDES = {"conv": (2, 1), "depthwise conv": (2, 1), "transpose conv": (2, 1), "conv 3d": (1, 3, 2)}
_DILATIONS = {"conv": (5, 4), "depthwise conv": (6, 5), "conv 3d": (5, 7, 6)}
"""Fields of stride and dilation, in the order of the axes."""


def _geometry(operator: Operator, size: tuple[int, ...]) -> Geometry | None:
    if not size:
        return Geometry()
    options = operator.options
    if options is None:
        return None
    return Geometry(
        tuple(int(one) for one in size),
        tuple(max(int(options.number(field, "i")), 1) for field in _STRIDES[operator.operation]),
        "same" if int(options.number(0, "b")) == _SAME else ((0, 0),) * len(size),
        tuple(_stated(options, field) for field in _DILATIONS.get(operator.operation, ())) or (1,) * len(size),
    )


def _stated(options: FlatTable, field: int) -> int:
    """Return a dilation, which is 1 where it is left out."""
    return int(options.number(field, "i")) if options.has(field) else 1


def _assembled(numbers: Array, groups: int, weights: TfliteTensor, bias: TfliteTensor | None) -> Kernel:
    outputs = numbers.shape[2]
    step = np.broadcast_to(weights.scales, (outputs,)) if weights.scales.size in {1, outputs} else None
    quantised = weights.stored.dtype.kind != "f"
    units = bias is not None and bias.scales.size in {1, outputs} and bias.stored.dtype.kind != "f"
    return Kernel(
        numbers,
        None if bias is None else np.broadcast_to(bias.values.reshape(-1), (outputs,)),
        max(groups, 1),
        "float32" if quantised else weights.dtype,
        step if quantised else None,
        np.broadcast_to(bias.scales, (outputs,)) if bias is not None and units else None,
    )
