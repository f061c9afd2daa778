"""Quantised values of an ONNX graph, and what is spread over several nodes: the input quantised on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from bninspect.formats.onnx import scales
from bninspect.formats.onnx.blocked import Blocks
from bninspect.formats.onnx.constants import Constant, Constants, dequantised
from bninspect.formats.onnx.linear import assembled, geometry_of
from bninspect.records import graph as network
from bninspect.records.graph import Geometry, Node, Quantisation

if TYPE_CHECKING:
    from bninspect.formats.onnx.model import GraphProto, NodeProto

_SCALED_OUTPUT = {"QuantizeLinear": (1, 2), "QLinearConv": (6, 7), "QLinearMatMul": (6, 7)}
_MICROSOFT = {
    "QLinearAdd": (6, 7),
    "QLinearMul": (6, 7),
    "QLinearSigmoid": (3, 4),
    "QLinearLeakyRelu": (3, 4),
    "QLinearSoftmax": (3, 4),
    "QLinearGlobalAveragePool": (3, 4),
    "QLinearAveragePool": (3, 4),
    "QLinearConcat": (0, 1),
    "QGemm": (7, 8),
}
"""Places of the step and the zero of what a node returns, among its inputs (onnxruntime docs/ContribOperators.md)."""
_MOVING = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Identity", "Slice", "Expand", "Tile"}


def values(graph: GraphProto, constants: Constants) -> dict[str, Quantisation]:
    """Return the values that are integers standing for real numbers, whose step is a constant."""
    found: dict[str, Quantisation] = {}
    for node in graph.nodes:
        op = node.op.removeprefix("com.microsoft::")
        places = _SCALED_OUTPUT.get(op) or _MICROSOFT.get(op)
        if places is not None and node.outputs:
            _note(found, node.outputs[0], node, places, constants)
        # What comes in as integers says its step where it is read.
        if op in {"DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"} and node.takes(0) not in constants:
            _note(found, node.takes(0), node, (1, 2), constants)
    for node in graph.nodes:
        # What only moves integers, or chooses among them, leaves what they stand for.
        moved = found.get(node.takes(0)) if node.op in _MOVING else None
        if moved is not None and moved.scale.size == 1:
            found.update((name, moved) for name in node.outputs[:1] if name not in found)
    return found


def behind(graph: GraphProto, whole: Mapping[str, Quantisation]) -> dict[str, Quantisation]:
    """Return the values that a DequantizeLinear makes of those that are integers."""
    return {
        node.outputs[0]: whole[node.takes(0)]
        for node in graph.nodes
        if node.op == "DequantizeLinear" and node.outputs and node.takes(0) in whole
    }


def _note(
    found: dict[str, Quantisation], name: str, node: NodeProto, places: tuple[int, int], constants: Constants
) -> None:
    scale, zero = (constants.get(node.takes(place)) if node.takes(place) in constants else None for place in places)
    if scale is None or name in found or scale.step is not None:
        return
    kind = zero.dtype if zero is not None else "uint8"
    if kind not in {"int8", "uint8", "int16", "uint16"}:
        return
    nothing = np.zeros(1, np.int64)
    axis = node.integer("axis", 1)
    found[name] = Quantisation(scale.values, nothing if zero is None else zero.values, kind, axis)


@dataclass(eq=False)
class QuantisedReading:
    """What is known while a graph is read."""

    graph: GraphProto
    constants: Constants
    blocks: Blocks = field(default_factory=Blocks)
    _inside: set[int] = field(default_factory=set)
    _joined: dict[int, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        readers, makers = scales.readers(self.graph), {name: node for node in self.graph.nodes for name in node.outputs}
        for node in self.graph.nodes:
            if node.op in {"MatMulInteger", "ConvInteger"}:
                self._find(node, readers, makers)

    def joined(self, node: NodeProto) -> Node | None:
        """Return the operation that begins with a node, which stands for several."""
        return self._joined.get(id(node))

    def is_inside(self, node: NodeProto) -> bool:
        """Return whether a node is part of another operation."""
        return id(node) in self._inside

    def _find(self, node: NodeProto, readers: Mapping[str, list[NodeProto]], makers: Mapping[str, NodeProto]) -> None:
        """Join DynamicQuantizeLinear, MatMulInteger or ConvInteger, Cast and Mul to one operation.

        The product of integers is multiplied by the step of the input, which is computed, times that of the weights.
        """
        before = makers.get(node.takes(0))
        stored = self.constants.get(node.takes(1)) if node.takes(1) in self.constants else None
        if before is None or before.op != "DynamicQuantizeLinear" or stored is None:
            return
        cast = _only(readers, node.outputs[0], "Cast")
        scaled = None if cast is None else _only(readers, cast.outputs[0], "Mul")
        if cast is None or scaled is None:
            return
        other = scaled.takes(1) if scaled.takes(0) == cast.outputs[0] else scaled.takes(0)
        step = self._step(other, before, makers)
        if step is None:
            return
        zero = self.constants.get(node.takes(3)) if node.takes(3) else None
        kernel = _kernel(node, stored, step, zero)
        if kernel is None:
            return
        geometry = Geometry()
        if node.op == "ConvInteger":
            geometry = geometry_of(node, stored.values.shape[2:])
        kind = network.DENSE if node.op == "MatMulInteger" else network.CONVOLUTION
        self._joined[id(scaled)] = Node(
            node.label,
            kind,
            (before.takes(0),),
            (scaled.outputs[0],),
            kernel,
            padded=any(node.integers("pads")),
            geometry=geometry,
            quantises_input=network.ALL,
        )
        self._inside |= {id(node), id(cast)}
        maker = makers.get(other)
        self._inside |= {id(maker)} if maker is not None and maker.op == "Mul" else set()

    def _step(self, name: str, before: NodeProto, makers: Mapping[str, NodeProto]) -> Constant | None:
        """Return the step of the weights in what a product of integers is multiplied by."""
        if name == before.outputs[1]:
            return Constant(np.ones(1, np.float32), "float32", "")
        product = makers.get(name)
        if product is None or product.op != "Mul" or before.outputs[1] not in product.inputs:
            return None
        other = next((source for source in product.inputs if source != before.outputs[1]), "")
        return self.constants.get(other) if other in self.constants else None


def _only(readers: Mapping[str, list[NodeProto]], name: str, op: str) -> NodeProto | None:
    after = readers.get(name, [])
    return after[0] if len(after) == 1 and after[0].op == op and after[0].outputs else None


def _kernel(node: NodeProto, stored: Constant, step: Constant, zero: Constant | None) -> network.Kernel | None:
    flat = replace(step, values=step.values.reshape(-1))
    if node.op == "MatMulInteger":
        if stored.values.ndim != 2:
            return None
        weights = dequantised(stored, flat, zero, 1)
        return assembled(network.dense(weights.values), None, 1, weights, 1)
    groups = node.integer("group", 1)
    weights = dequantised(stored, flat, zero, 0)
    return assembled(network.convolution(weights.values, groups), None, groups, weights, 0)
