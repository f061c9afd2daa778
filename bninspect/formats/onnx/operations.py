"""What an ONNX graph computes, operation by operation: kernels in our order, how they move, what is quantised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bninspect.arithmetic.norm_kernel import norm_kernel, norm_kernel_in_steps
from bninspect.formats import bodies, channel_chains
from bninspect.formats.channel_chains import Piece
from bninspect.formats.onnx import blocked, norms, quantised
from bninspect.formats.onnx.constants import Constant, Constants, dequantised
from bninspect.formats.onnx.linear import kernel_node
from bninspect.records import graph as network
from bninspect.records.graph import ActivationLimits, Geometry, Network, Node

if TYPE_CHECKING:
    from bninspect.formats.onnx.model import ModelProto, NodeProto

_PASSING = {
    **dict.fromkeys(("Identity", "Dropout", "QuantizeLinear", "DequantizeLinear"), "identity"),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), "reshape"),
    "Transpose": "transpose",
    "Cast": "cast",
}
_PIECES = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_QUANTISED_PIECES = {"com.microsoft::QLinearAdd": "add", "com.microsoft::QLinearMul": "mul"}


def read(model: ModelProto, path: Path, block: int = 0) -> Network:
    """Return what the main graph computes; `block` is how long the blocks of the runtime are (blocked.py)."""
    graph = model.graphs[0]
    constants = Constants((graph,), path, model.opset)
    blocks = blocked.find(graph, constants, block)
    constants.hold(blocks.kernels)
    found = [norm for norm in norms.find(model, path).found if not norm.graph and norm.y and norm.nodes]
    ends = {norm.nodes[-1]: norm for norm in found}
    inside = {label for norm in found for label in norm.nodes}
    reading = quantised.QuantisedReading(graph, constants, blocks)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.label in ends:
            nodes.append(_norm(ends[node.label], constants))
        elif node.label not in inside and node.op != "Constant" and not _is_constant(node, constants):
            nodes += (replace(one, within=_within(node, model, constants)) for one in _nodes(node, reading))
    joined = channel_chains.join(nodes, (output.name for output in graph.outputs))
    whole = quantised.values(graph, constants)
    return Network(graph.inputs, graph.outputs, tuple(joined), whole, quantised.behind(graph, whole))


def _within(node: NodeProto, model: ModelProto, constants: Constants) -> int:
    """Return how many kernels and batch norms are in the graphs of a node of the main graph; none if it is decided."""
    if node.op == "If" and node.takes(0) in constants:
        return 0
    paths = tuple(f"{node.label}/{name}/" for name, _ in node.subgraphs())
    inner = (graph for graph in model.graphs if paths and graph.path.startswith(paths))
    return bodies.held(node.op, (held.op for graph in inner for held in graph.nodes))


def _is_constant(node: NodeProto, constants: Constants) -> bool:
    """Return whether all that a node makes is a constant that its readers know."""
    return bool(node.outputs) and all(output in constants for output in node.outputs if output)


def _norm(found: norms.FoundNorm, constants: Constants) -> Node:
    kernel, name = norm_kernel(found.layer), found.layer.name
    steps = {
        part: constant.step.max()
        for part, value in found.constants.items()
        if (constant := constants.get(value)) is not None and constant.step is not None
    }
    kernel = norm_kernel_in_steps(kernel, found.layer, steps) if kernel is not None and steps else kernel
    axis = found.layer.axis[0] if found.layer.axis is not None and len(found.layer.axis) == 1 else 1
    geometry = Geometry(channel_axis=axis)
    return Node(
        name, network.BATCH_NORM, (found.x,), (found.y,), kernel, layer=name, norm=found.layer, geometry=geometry
    )


def _nodes(node: NodeProto, reading: quantised.QuantisedReading) -> Iterator[Node]:
    constants = reading.constants
    joined = reading.joined(node)
    if joined is not None:
        yield joined
        return
    if reading.is_inside(node):
        return
    kernel = kernel_node(node, constants) if node.op != blocked.CONVOLUTION or reading.blocks.channels else None
    if kernel is not None:
        yield from _with_sum(kernel, node)
        return
    if node.op.startswith(blocked.DOMAIN) and reading.blocks.channels:
        yield _of_blocks(node, constants)
        return
    piece = _piece(node, constants) if node.op in _PIECES or node.op in _QUANTISED_PIECES else None
    yield piece if piece is not None else _other(node, constants)


def _of_blocks(node: NodeProto, constants: Constants) -> Node:
    """Return an operation on blocked values, which are seen as they are without blocks."""
    plain = replace(_other(node, constants), operation=node.op.removeprefix(blocked.DOMAIN).lower())
    orders = {blocked.TO_BLOCKS: (0, 3, 1, 2), blocked.FROM_BLOCKS: (0, 2, 3, 1)}
    if node.op not in orders:
        return plain
    if not node.integer("channels_last", 0):
        return replace(plain, operation="identity")
    return replace(plain, operation="transpose", order=orders[node.op])


def _with_sum(kernel: Node, node: NodeProto) -> Iterator[Node]:
    """Yield a fused convolution, which may add another value before its activation, as what it is."""
    added = node.takes(3) if node.op.endswith("FusedConv") or node.op == blocked.CONVOLUTION else ""
    if not added:
        yield kernel
        return
    # What is added is part of what comes out, and no constant: the operation is not one of ours.
    yield replace(kernel, operation="fusedconv", kernel=None, inputs=(*kernel.inputs, added))


def _piece(node: NodeProto, constants: Constants) -> Node | None:
    """Return an operation that combines a value with a number per channel; None if it is another one.

    Those of com.microsoft take both numbers with step and zero behind each, then those of the result (onnxruntime
    docs/ContribOperators.md).
    """
    second_place = 3 if node.op in _QUANTISED_PIECES else 1
    first, second = node.takes(0), node.takes(second_place)
    if (first in constants) == (second in constants) or not node.outputs:
        return None
    place, x = (0, second) if first in constants else (second_place, first)
    constant = constants.get(node.takes(place))
    if node.op in _QUANTISED_PIECES:
        constant = _dequantised(constant, constants.get(node.takes(place + 1)), constants.get(node.takes(place + 2)))
    if constant is None or constant.values.dtype.kind != "f":
        return None
    return channel_chains.scale_and_shift(
        Piece(
            node.label,
            {**_PIECES, **_QUANTISED_PIECES}[node.op],
            x,
            node.outputs[0],
            constant.values,
            first in constants,
            constant.dtype if constant.step is None else "float32",
            None if constant.step is None else np.full(1, constant.step.max()),
        )
    )


def _dequantised(stored: Constant | None, step: Constant | None, zero: Constant | None) -> Constant | None:
    if stored is None or step is None or stored.values.dtype.kind not in "iu":
        return None
    return dequantised(stored, replace(step, values=step.values.reshape(-1)), zero, 0)


def _other(node: NodeProto, constants: Constants) -> Node:
    inputs = tuple(name for name in node.inputs if name and name not in constants)
    if node.op in _PASSING:
        inputs = inputs[:1]
    return Node(
        node.label,
        _PASSING.get(node.op, node.op.lower()),
        inputs,
        tuple(name for name in node.outputs if name),
        padded=any(node.integers("pads")) or node.is_same,
        limits=_limits(node, constants),
        setting=_setting(node),
        order=tuple(node.integers("perm")) if node.op == "Transpose" else (),
        window=tuple(node.integers("kernel_shape")) if node.op.endswith("AveragePool") else (),
    )


def _limits(node: NodeProto, constants: Constants) -> ActivationLimits | None:
    if node.op == "Relu":
        return ActivationLimits(0.0, float("inf"))
    if node.op != "Clip":
        return None
    # Up to opset 10 attributes, later inputs.
    low = _number(constants, node.takes(1), node.real("min", -float("inf")))
    high = _number(constants, node.takes(2), node.real("max", float("inf")))
    return None if low is None or high is None else ActivationLimits(low, high)


def _number(constants: Constants, name: str, default: float) -> float | None:
    if not name:
        return default
    found: Constant | None = constants.get(name) if name in constants else None
    return float(found.values.reshape(-1)[0]) if found is not None and found.values.size == 1 else None


_SETTINGS: Mapping[str, int] = {"Softmax": -1, "ArgMax": 0}
"""Default axis; of Softmax that of opset 13, which for a matrix is that of earlier ones too."""


def _setting(node: NodeProto) -> str:
    op = node.op.removeprefix("com.microsoft::QLinear")
    if op == "Sigmoid":
        return "elementwise"
    if op not in _SETTINGS:
        return ""
    return f"axis {node.integer('axis', _SETTINGS[op])}"
