"""What an IR computes: its net as a Network, with the Multiply and the Add behind a linear operation joined to it.

The converters fold a batch norm into a convolution, and leave one behind a dense layer as Multiply and Add, with the
bias of the dense layer taken into the Add: then neither says what the model says, and both together do.

Order of weights (docs.openvino.ai, operation sets): Convolution (outputs, inputs, places), GroupConvolution (groups,
outputs per group, inputs per group, places), ConvolutionBackpropData (inputs, outputs, places),
GroupConvolutionBackpropData (groups, inputs per group, outputs per group, places).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.errors import DamagedFile
from bninspect.formats.openvino import norms
from bninspect.formats.openvino.constants import IrConstant, IrConstants
from bninspect.formats.openvino.model import IrGraph, IrOperation
from bninspect.records import Array, Statistics
from bninspect.records import graph as network
from bninspect.records.graph import Kernel, Network, Node, Value
from bninspect.safe_text import printable

_PASSING = {
    **dict.fromkeys(("reshape", "squeeze", "unsqueeze"), "reshape"),
    "fakequantize": "identity",
    "transpose": "transpose",
    "convert": "cast",
}
_ACTIVATIONS = {"clamp": "clip", "swish": "silu", "hswish": "hardswish"}
_CONVOLUTIONS = ("convolution", "groupconvolution", "convolutionbackpropdata", "groupconvolutionbackpropdata")


def read(graph: IrGraph) -> Network:
    """Return what a graph computes."""
    constants, readers = IrConstants(graph), norms.taken_by(graph)
    linear, inside = _linear(graph, constants, readers)
    for found in norms.find(graph):
        if not inside.intersection(found.operations):
            linear[found.operations[0]] = _norm(found)
            inside.update(found.operations)
    nodes = []
    for operation in graph.operations:
        if operation.name in linear:
            nodes.append(linear[operation.name])
        elif operation.name not in inside and not constants.made(operation) and operation.kind not in _ENDS:
            nodes.append(_other(operation, constants))
    inputs = [Value(one.outputs[0], one.shapes[0], one.dtypes[0]) for one in graph.every("parameter")]
    makers = {value: one for one in graph.operations for value in one.outputs}
    ends = [(one.takes(0), makers[one.takes(0)]) for one in graph.every("result")]
    outputs = [_value(name, maker) for name, maker in ends]
    return Network(tuple(inputs), tuple(outputs), tuple(nodes))


_ENDS = ("parameter", "result")


def _value(name: str, maker: IrOperation) -> Value:
    place = maker.outputs.index(name)
    return Value(name, maker.shapes[place], maker.dtypes[place])


def _norm(found: norms.IrNorm) -> Node:
    kernel, folded = norm_kernel(found.layer), found.layer.statistics is Statistics.FOLDED
    name = found.layer.name
    return Node(name, network.BATCH_NORM, (found.x,), (found.y,), kernel, layer=name, folded=folded)


def _other(operation: IrOperation, constants: IrConstants) -> Node:
    kind = _PASSING.get(operation.kind, _ACTIVATIONS.get(operation.kind, operation.kind))
    inputs = tuple(dict.fromkeys(value for value in operation.inputs if value not in constants))
    return Node(operation.name, kind, inputs[:1] if operation.kind in _PASSING else inputs, operation.outputs)


def _linear(
    graph: IrGraph, constants: IrConstants, readers: Mapping[str, list[IrOperation]]
) -> tuple[dict[str, Node], set[str]]:
    """Return the linear operations by name, and the names of all that was joined to them."""
    found: dict[str, Node] = {}
    inside: set[str] = set()
    for operation in graph.operations:
        node = _kernel(operation, constants)
        if node is None:
            continue
        for kind in ("multiply", "add"):
            after = readers.get(node.outputs[0], [])
            if len(after) == 1 and after[0].kind == kind and len(after[0].inputs) == 2:
                joined = _joined(node, after[0], constants)
                if joined is not None:
                    inside.add(after[0].name)
                    node = joined
        found[operation.name] = node
    return found, inside


def _joined(node: Node, after: IrOperation, constants: IrConstants) -> Node | None:
    """Return a linear operation with the scale or the shift of each output behind it as a part of it."""
    kernel = node.kernel
    constant = next((constants.get(name) for name in after.inputs if name in constants), None)
    if kernel is None or constant is None or constant.values.dtype.kind != "f":
        return None
    # Where the outputs of a convolution are depends on how many places it has.
    own = -1 if node.operation == network.DENSE else 1 - len(after.shapes[0])
    axis = norms.channel_axis(constant.values.shape)
    if constant.values.size not in {1, kernel.outputs} or (constant.values.size > 1 and axis != own):
        return None
    numbers = np.broadcast_to(constant.values.reshape(-1), (kernel.outputs,))
    if after.kind == "add":
        kernel = replace(kernel, bias=numbers)
    else:
        step = None if kernel.weight_step is None else kernel.weight_step * np.abs(numbers)
        with np.errstate(all="ignore"):
            weights = kernel.weights.astype(np.float64) * numbers
        kernel = replace(kernel, weights=weights, weight_step=step, apart=numbers)
    return replace(node, outputs=after.outputs, kernel=kernel)


def _kernel(operation: IrOperation, constants: IrConstants) -> Node | None:
    """Return an operation that multiplies what flows by constant weights; None for every other one."""
    if operation.kind not in {*_CONVOLUTIONS, "matmul"} or operation.takes(0) in constants:
        return None
    weights = constants.get(operation.takes(1))
    if weights is None or weights.values.dtype.kind != "f" or not _is_plain(operation, weights):
        return None
    own = _ordered(weights.values, operation)
    step = None
    if weights.step is not None:
        step = _ordered(np.broadcast_to(weights.step, weights.values.shape), operation).max(axis=(0, 1))
    groups = weights.values.shape[0] if operation.kind.startswith("group") else 1
    kernel = Kernel(own, None, groups, weights.rounded, step)
    kind = _kind(operation, kernel)
    padded = any((*operation.numbers("pads_begin"), *operation.numbers("pads_end")))
    padded |= operation.attributes.get("auto_pad", "explicit").startswith("same")
    return Node(operation.name, kind, operation.inputs[:1], operation.outputs, kernel, padded=padded)


def _is_plain(operation: IrOperation, weights: IrConstant) -> bool:
    """Return whether an operation multiplies by one matrix, if it is a MatMul."""
    turned = operation.attributes.get("transpose_a", "false").lower() in {"true", "1"}
    return operation.kind != "matmul" or (weights.values.ndim == 2 and not turned)


def _kind(operation: IrOperation, kernel: Kernel) -> str:
    if operation.kind == "matmul":
        return network.DENSE
    if operation.kind.endswith("backpropdata"):
        return network.TRANSPOSED
    return network.DEPTHWISE if kernel.groups > 1 and kernel.weights.shape[1] == 1 else network.CONVOLUTION


def _ordered(weights: Array, operation: IrOperation) -> Array:
    """Return weights, or a step for each of them, in the order of `records.graph`."""
    if operation.kind == "matmul":
        turned = operation.attributes.get("transpose_b", "false").lower() in {"true", "1"}
        return network.dense(weights.T if turned else weights)
    groups = 1
    if operation.kind.startswith("group"):
        if weights.ndim < 4 or not weights.shape[0]:
            why = f"weights of {printable(operation.name)} have shape {weights.shape}"
            raise DamagedFile("a convolution contradicts itself", why=why)
        groups = weights.shape[0]
        weights = weights.reshape(-1, *weights.shape[2:])
    return (network.transposed if operation.kind.endswith("backpropdata") else network.convolution)(weights, groups)
