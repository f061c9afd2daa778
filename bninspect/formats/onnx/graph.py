"""What an ONNX graph computes: its main graph as a Network, a MatMul and the Add of its bias joined to one node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.errors import DamagedFile
from bninspect.formats.onnx import norms, scales
from bninspect.formats.onnx.constants import Constant, Constants, dequantised
from bninspect.records import Statistics
from bninspect.records import graph as network
from bninspect.records.graph import Kernel, Network, Node
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bninspect.formats.onnx.model import GraphProto, ModelProto, NodeProto
    from bninspect.records import Array

_PASSING = {
    **dict.fromkeys(("Identity", "Dropout", "QuantizeLinear", "DequantizeLinear"), "identity"),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), "reshape"),
    "Transpose": "transpose",
    "Cast": "cast",
}


def read(model: ModelProto, path: Path) -> Network:
    """Return what the main graph computes."""
    graph = model.graphs[0]
    constants = Constants((graph,), path, model.opset)
    found = [one for one in norms.find(model, path).found if not one.graph and one.y]
    inside = {label for one in found for label in one.nodes}
    loose = [one.found("") for one in (*scales.affine_maps(graph, constants), *scales.further_maps(graph, constants))]
    found = list(norms.renamed([*found, *(one for one in loose if inside.isdisjoint(one.nodes))]))
    starts = {one.nodes[0]: one for one in found}
    inside = {label for one in found for label in one.nodes[1:]}
    nodes = []
    for node in graph.nodes:
        if node.label in starts:
            nodes.append(_norm(starts[node.label]))
        elif node.label not in inside and node.op != "Constant":
            nodes.append(_node(node, constants))
    return Network(graph.inputs, graph.outputs, tuple(_with_biases(nodes, graph, constants)))


def _norm(found: norms.FoundNorm) -> Node:
    kernel, folded = norm_kernel(found.layer), found.layer.statistics is Statistics.FOLDED
    name = found.layer.name
    return Node(name, network.BATCH_NORM, (found.x,), (found.y,), kernel, layer=name, folded=folded)


def _node(node: NodeProto, constants: Constants) -> Node:
    kernel, kind = _kernel(node, constants)
    inputs = tuple(name for name in node.inputs if name and name not in constants)
    if kind or node.op in _PASSING:
        inputs = inputs[:1]
    outputs = tuple(name for name in node.outputs if name)
    operation = kind or _PASSING.get(node.op, node.op.lower())
    return Node(node.label, operation, inputs, outputs, kernel, padded=any(node.integers("pads")) or node.is_same)


def _kernel(node: NodeProto, constants: Constants) -> tuple[Kernel | None, str]:
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


def _dense(node: NodeProto, weights: Constant, bias: Constant | None) -> Kernel:
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
        None if bias is None else _per_output(bias.values.reshape(-1), outputs, bias.name),
        groups,
        weights.dtype if weights.step is None else "float32",
        None if step is None else np.broadcast_to(step, (outputs,)),
        None if bias is None or bias.step is None else _per_output(bias.step, outputs, bias.name),
    )


def _per_output(numbers: Array, outputs: int, name: str) -> Array:
    """Return one number for each output. Raises DamagedFile if there are neither that many nor one for all."""
    if numbers.size not in {1, outputs}:
        raise DamagedFile("this model is damaged", why=f"{printable(name)} has {numbers.size} of {outputs} numbers")
    return np.broadcast_to(numbers, (outputs,))


def _quantised(node: NodeProto, constants: Constants) -> tuple[Kernel | None, str]:
    """Return the kernel of a QLinearConv: x, its step and zero, w, its step and zero, those of y, and the bias."""
    stored, step, zero = (constants.get(node.takes(place)) for place in (3, 4, 5))
    scale, bias = constants.get(node.takes(1)), constants.get(node.takes(8))
    if stored is None or step is None or scale is None:
        return None, ""
    weights = dequantised(stored, step, zero, 0)
    groups = node.integer("group", 1)
    if bias is not None:
        if scale.values.size != 1:
            raise DamagedFile("this model is damaged", why=f"{printable(scale.name)} is not a single step")
        # The bias is in units of the product of both steps (onnx/defs/quantization).
        unit = Constant(scale.values.reshape(-1) * step.values.reshape(-1), "float32", step.name)
        bias = dequantised(bias, unit, None, 0)
    kind = network.DEPTHWISE if groups > 1 and weights.values.shape[1] == 1 else network.CONVOLUTION
    return _assembled(network.convolution(weights.values, groups), bias, groups, weights, 0), kind


def _with_biases(nodes: list[Node], graph: GraphProto, constants: Constants) -> list[Node]:
    """Join each linear node without bias with the Add of a constant per channel that alone reads its result."""
    readers = scales.readers(graph)
    stored = {one.label: one for one in graph.nodes}
    joined: dict[str, Node] = {}
    gone: set[str] = set()
    for node in nodes:
        if node.kernel is None or node.layer or node.kernel.bias is not None or not node.outputs:
            continue
        added = _added(stored[node.name], node.kernel.outputs, readers, constants)
        if added is not None:
            bias, passed = added
            kernel = replace(node.kernel, bias=bias)
            joined[node.name] = replace(node, kernel=kernel, outputs=tuple(passed[-1].outputs))
            gone.update(one.label for one in passed)
    return [joined.get(node.name, node) for node in nodes if node.name not in gone]


def _added(
    linear: NodeProto, channels: int, readers: Mapping[str, Sequence[NodeProto]], constants: Constants
) -> tuple[Array, list[NodeProto]] | None:
    """Return what is added to the channels of a linear node's result, and the nodes up to that Add.

    Exporters that do not optimise leave a Transpose back to the channels' own place between the two.
    """
    weights = constants.get(linear.takes(1))
    convolved = weights is not None and linear.op in {"Conv", "ConvTranspose"}
    axis = 1 - weights.values.ndim if weights is not None and convolved else -1
    value = linear.outputs[0]
    passed: list[NodeProto] = []
    while len(after := readers.get(value, ())) == 1 and after[0].outputs:
        (one,) = after
        passed.append(one)
        if one.op == "Add":
            name = one.takes(0) if one.takes(0) in constants else one.takes(1)
            bias = constants.get(name) if name in constants else None
            if bias is None or bias.values.size != channels:
                return None
            along = scales.channel_axis(bias.values.shape)
            return (bias.values.reshape(-1), passed) if along in {axis, None} else None
        order = one.integers("perm")
        if one.op != "Transpose" or not order or -axis > len(order):
            return None
        axis = order.index(axis % len(order)) - len(order)
        value = one.outputs[0]
    return None
