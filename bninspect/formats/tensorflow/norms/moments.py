"""What a flat graph says of the moments that it takes, in the words of `batch_moments`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bninspect.formats import batch_moments
from bninspect.formats.batch_moments import BatchRoot
from bninspect.formats.moment_graph import POWERS, MomentGraph, MomentStep
from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.graph.expressions import VIEWS, Expressions
from bninspect.formats.tensorflow.graph.flatten import FlatGraph, FlatNode, Tensor

_KINDS: Mapping[str, str] = {
    **dict.fromkeys(VIEWS, "view"),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), "reshape"),
    **dict.fromkeys(("Add", "AddV2", "BiasAdd", "BiasAddV1"), "add"),
    **dict.fromkeys(("RealDiv", "Div", "DivNoNan"), "div"),
    **dict.fromkeys(("Reciprocal", "Inv"), "reciprocal"),
    **{name: name.lower() for name in ("Sub", "Mul", "Neg", "Maximum", "Sqrt", "Rsqrt", "Square", "Mean", "Sum")},
    "SquaredDifference": "squared difference",
    "Transpose": "transpose",
}
_OF_FIRST = frozenset(("view", "reshape", "transpose", "mean", "sum"))
_SOME = 2
"""Length of a parameter of which only that it is several numbers is known."""
_FARTHEST = 4096


class FlatMoments:
    """The moments of a flat graph."""

    def __init__(self, graph: FlatGraph, expressions: Expressions) -> None:
        self._graph = graph
        self._expressions = expressions
        self._moments: MomentGraph | None = None
        self._roots: Mapping[str, BatchRoot] | None = None

    def root(self, name: str) -> BatchRoot | None:
        """Return what the root that a node takes is of, if it is a variance over the batch that divides its data."""
        if self._roots is None:
            self._roots = {root.name: root for root in batch_moments.batch_roots(self._steps())}
        return self._roots.get(name)

    def is_of_samples(self, node: FlatNode) -> bool:
        """Return whether an operation of a batch norm in training mode normalises each sample by itself.

        Keras has LayerNormalization computed so: data is reshaped to a batch of one, its samples are channels then. Of
        a batch of one that the file fixes only the gamma behind it can tell.
        """
        return batch_moments.is_of_sample(self._steps(), node.name)

    def _steps(self) -> MomentGraph:
        if self._moments is None:
            steps = (self._step(node) for node in self._graph.nodes.values())
            self._moments = MomentGraph(tuple(steps), self._shape)
        return self._moments

    def _step(self, node: FlatNode) -> MomentStep:
        kind = _KINDS.get(node.op, node.op)
        if node.op == "Pow" and len(node.inputs) > 1:
            kind = POWERS.get(self._expressions.number(node.inputs[1]) or 0.0, "pow")
        inputs = node.inputs[:1] if kind in _OF_FIRST else node.inputs
        values = tuple(_label(source) for source in inputs if self._expressions.is_data(source))
        numbers = [self._expressions.number(source) for source in inputs if not self._expressions.is_data(source)]
        leaves = [source for source in inputs if not self._expressions.is_data(source)]
        lengths = tuple(
            1 if number is not None else self._length(one) for one, number in zip(leaves, numbers, strict=True)
        )
        order = node.inputs[1] if kind in {"mean", "sum", "transpose"} and len(node.inputs) > 1 else None
        axes = (self._expressions.integers(order) or ()) if order is not None else ()
        number = next((value for value in numbers if value is not None), 0.0)
        return MomentStep(node.name, kind, values, lengths, _label((node.name, 0)), tuple(axes), number)

    def _length(self, one: Tensor) -> int:
        leaf = self._expressions.leaf(one)
        shapes = [self._parameter_shape(self._graph.nodes[name]) for name in leaf.sources] if leaf is not None else []
        return math.prod(shapes[0]) if len(shapes) == 1 and shapes[0] is not None else _SOME

    @staticmethod
    def _parameter_shape(node: FlatNode) -> tuple[int, ...] | None:
        of_constant = node.op == "Const"
        stated = (
            node.node.attribute("value").message(8).message(2)
            if of_constant
            else node.node.attribute("shape").message(7)
        )
        shape = tensor.shape_of(stated)
        return None if shape is None or None in shape else tuple(length or 0 for length in shape)

    def _shape(self, value: str) -> tuple[int | None, ...] | None:
        name, _, port = value.rpartition(":")
        one = (name, int(port))
        for _ in range(_FARTHEST):
            node = self._graph.nodes[one[0]]
            if node.op == "Placeholder":
                return tensor.shape_of(node.node.attribute("shape").message(7)) or ()
            if node.op == "Reshape" and len(node.inputs) > 1:
                return self._lengths(node.inputs[1])
            data = [each for each in node.inputs if self._expressions.is_data(each)]
            if _KINDS.get(node.op) not in {"view", "add", "sub", "mul", "div", "neg", "square"} or len(data) != 1:
                return None
            one = data[0]
        return None

    def _lengths(self, one: Tensor) -> tuple[int | None, ...] | None:
        """Return what is known of a shape: a constant, or put together of constants and others."""
        stated = self._expressions.integers(one)
        if stated is not None:
            return tuple(length if length > 0 else None for length in stated)
        node = self._expressions.behind_views(self._graph.nodes[one[0]])
        if node.op == "Pack":
            parts = [self._expressions.integers(each) for each in node.inputs]
            return tuple(part[0] if part and len(part) == 1 and part[0] > 0 else None for part in parts)
        first = self._expressions.integers(node.inputs[0]) if node.op == "ConcatV2" and node.inputs else None
        return (first[0] if first[0] > 0 else None, None, None, None) if first else None


def _label(one: Tensor) -> str:
    return f"{one[0]}:{one[1]}"
