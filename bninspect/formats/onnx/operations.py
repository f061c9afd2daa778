"""What an ONNX graph computes: its main graph as a Network, a MatMul and the Add of its bias joined to one node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bninspect import network
from bninspect.formats.onnx import norms
from bninspect.formats.onnx.constants import Constant, Constants, dequantised
from bninspect.network import Kernel, Network, Node
from bninspect.records import Statistics

if TYPE_CHECKING:
    from bninspect.formats.onnx.model import Graph, Model
    from bninspect.formats.onnx.model import Node as Stored
    from bninspect.records import Array

_PASSING = {
    **dict.fromkeys(("Identity", "Dropout", "QuantizeLinear", "DequantizeLinear"), "identity"),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), "reshape"),
    "Transpose": "transpose",
    "Cast": "cast",
}


def read(model: Model, path: Path) -> Network:
    """Return what the main graph computes."""
    graph = model.graphs[0]
    constants = Constants((graph,), path)
    found = [one for one in norms.find(model, path) if not one.graph]
    starts = {one.nodes[0]: one for one in found}
    inside = {label for one in found for label in one.nodes[1:]}
    nodes = []
    for node in graph.nodes:
        if node.label in starts:
            nodes.append(_norm(starts[node.label]))
        elif node.label not in inside and node.op != "Constant":
            nodes.append(_node(node, constants))
    return Network(graph.inputs, graph.outputs, tuple(_with_biases(nodes, graph, constants)))


def _norm(found: norms.Found) -> Node:
    kernel, folded = network.of_norm(found.layer), found.layer.statistics is Statistics.FOLDED
    name = found.layer.name
    return Node(name, network.BATCH_NORM, (found.x,), (found.y,), kernel, layer=name, folded=folded)


def _node(node: Stored, constants: Constants) -> Node:
    kernel, kind = _kernel(node, constants)
    inputs = tuple(name for name in node.inputs if name and name not in constants)
    if kind or node.op in _PASSING:
        inputs = inputs[:1]
    outputs = tuple(name for name in node.outputs if name)
    operation = kind or _PASSING.get(node.op, node.op.lower())
    return Node(node.label, operation, inputs, outputs, kernel, padded=any(node.integers("pads")) or node.is_same)


def _kernel(node: Stored, constants: Constants) -> tuple[Kernel | None, str]:
    """Return the constants of a linear operation and what kind it is; (None, "") for everything else."""
    if node.op == "QLinearConv":
        return _quantised(node, constants)
    if node.op not in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
        return None, ""
    weights = constants.get(node.takes(1)) if node.takes(1) in constants else None
    if weights is None:
        return None, ""
    bias = constants.get(node.takes(2)) if node.op != "MatMul" and node.takes(2) in constants else None
    numbers, groups = weights.values, node.integer("group", 1)
    if node.op in {"Gemm", "MatMul"}:
        if numbers.ndim != 2 or (node.op == "Gemm" and node.integer("transA", 0)):
            return None, ""
        return _dense(node, weights, bias), network.DENSE
    if node.op == "ConvTranspose":
        kernel = network.transposed(numbers, groups)
        return _assembled(kernel, bias, groups, weights, 1), network.TRANSPOSED
    kind = network.DEPTHWISE if groups > 1 and numbers.shape[1] == 1 else network.CONVOLUTION
    return _assembled(network.convolution(numbers, groups), bias, groups, weights, 0), kind


def _dense(node: Stored, weights: Constant, bias: Constant | None) -> Kernel:
    swapped = node.op == "Gemm" and node.integer("transB", 0) != 0
    numbers = weights.values.T if swapped else weights.values
    # alpha and beta of a Gemm are part of what it multiplies and adds.
    alpha, beta = (np.float32(node.real(name, 1.0) if node.op == "Gemm" else 1.0) for name in ("alpha", "beta"))
    if alpha != 1:
        numbers = numbers * alpha
    if bias is not None and beta != 1:
        bias = replace(bias, values=bias.values * beta)
    return _assembled(network.dense(numbers), bias, 1, weights, 0 if swapped else 1)


def _assembled(numbers: Array, bias: Constant | None, groups: int, weights: Constant, axis: int) -> Kernel:
    """Return the kernel whose weights, as stored, have their outputs along `axis`."""
    outputs = numbers.shape[2]
    step = weights.step
    if step is not None and step.size not in {1, outputs}:
        step = None
    if step is not None and step.size > 1 and weights.axis != axis:
        step = np.full(1, step.max())
    return Kernel(
        numbers,
        None if bias is None else np.broadcast_to(bias.values.reshape(-1), (outputs,)),
        groups,
        weights.dtype if weights.step is None else "float32",
        None if step is None else np.broadcast_to(step, (outputs,)),
        None if bias is None or bias.step is None else np.broadcast_to(bias.step, (outputs,)),
    )


def _quantised(node: Stored, constants: Constants) -> tuple[Kernel | None, str]:
    """Return the kernel of a QLinearConv: x, its step and zero, w, its step and zero, those of y, and the bias."""
    stored, step, zero = (constants.get(node.takes(place)) for place in (3, 4, 5))
    scale, bias = constants.get(node.takes(1)), constants.get(node.takes(8))
    if stored is None or step is None or scale is None:
        return None, ""
    weights = dequantised(stored, step, zero, 0)
    groups = node.integer("group", 1)
    if bias is not None:
        # The bias is in units of the product of both steps (onnx/defs/quantization).
        unit = Constant(scale.values.reshape(-1) * step.values.reshape(-1), "float32", step.name)
        bias = dequantised(bias, unit, None, 0)
    kind = network.DEPTHWISE if groups > 1 and weights.values.shape[1] == 1 else network.CONVOLUTION
    return _assembled(network.convolution(weights.values, groups), bias, groups, weights, 0), kind


def _with_biases(nodes: list[Node], graph: Graph, constants: Constants) -> list[Node]:
    """Join each dense node without bias with the Add of a constant that alone reads its result."""
    takers: dict[str, int] = {}
    for name in (name for one in graph.nodes for name in one.inputs):
        takers[name] = takers.get(name, 0) + 1
    ends = {value.name for value in graph.outputs}
    adds = {one.label: one for one in graph.nodes if one.op == "Add"}
    by_input = {node.inputs[0]: node for node in nodes if node.name in adds and len(node.inputs) == 1}
    joined: dict[str, Node] = {}
    gone = set()
    for node in nodes:
        result = node.outputs[0] if node.outputs else ""
        add = by_input.get(result)
        if add is None or node.kernel is None or node.kernel.bias is not None or takers[result] > 1 or result in ends:
            continue
        names = [name for name in adds[add.name].inputs if name in constants]
        bias = constants.get(names[0]) if names else None
        if bias is not None and bias.values.size == node.kernel.outputs == max(bias.values.shape, default=1):
            kernel = replace(node.kernel, bias=bias.values.reshape(-1))
            joined[node.name] = replace(node, kernel=kernel, outputs=add.outputs)
            gone.add(add.name)
    return [joined.get(node.name, node) for node in nodes if node.name not in gone]
