"""Where a graph normalises data by moments of that data: a batch norm in training mode, or no batch norm at all.

A mean over axes that include the batch is what a batch norm takes while it is trained. LayerNorm, GroupNorm and
InstanceNorm take theirs within each sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bninspect.formats import batch_moments
from bninspect.formats.batch_moments import BatchRoot
from bninspect.formats.moment_graph import POWERS, MomentGraph, MomentStep
from bninspect.formats.onnx import shapes
from bninspect.formats.onnx.constants import Constants
from bninspect.formats.onnx.model import GraphProto, NodeProto

_VIEWS = frozenset(("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand"))
_MEANS = frozenset(("ReduceMean", "GlobalAveragePool"))
_KINDS = {
    **{name: name.lower() for name in ("Add", "Sub", "Mul", "Div", "Neg", "Reciprocal", "Sqrt", "Transpose")},
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), "reshape"),
    **dict.fromkeys(("Identity", "Cast", "Expand"), "view"),
    "Max": "maximum",
    "ReduceMean": "mean",
    "ReduceSum": "sum",
}
_WITH_NUMBERS = frozenset(("add", "sub", "mul", "div", "maximum"))
_LONGEST = 8


def normalises_itself(node: NodeProto, constants: Constants) -> bool:
    """Return whether the mean that a BatchNormalization is given is one of its own input."""
    mean = constants.maker(source(node.takes(3), constants))
    return (
        mean is not None and mean.op in _MEANS and source(mean.takes(0), constants) == source(node.takes(0), constants)
    )


def is_one_sample(x: str, constants: Constants) -> bool:
    """Return whether x is reshaped to a batch of one."""
    return _reshape_to_one(x, constants) is not None


def moves_samples(x: str, constants: Constants) -> bool:
    """Return whether x is reshaped to a batch of one from one of any size: its samples are among the channels then.

    So InstanceNorm, and LayerNorm of tf.keras, are written by the operator of a batch norm.
    """
    node = _reshape_to_one(x, constants)
    return node is not None and shapes.batch(node.takes(0), constants) == shapes.ANY


def _reshape_to_one(x: str, constants: Constants) -> NodeProto | None:
    for _ in range(_LONGEST):
        node = constants.maker(x)
        if node is None or node.op not in _VIEWS:
            return None
        if node.op == "Reshape" and shapes.leading(node.takes(1), constants) == 1:
            return node
        x = node.takes(0)
    return None


def source(name: str, constants: Constants) -> str:
    """Return the value that is passed on as `name`, whatever shape it took on its way."""
    for _ in range(_LONGEST):
        node = constants.maker(name)
        if node is None or node.op not in _VIEWS:
            break
        name = node.takes(0)
    return name


def roots(graph: GraphProto, constants: Constants) -> Mapping[NodeProto, BatchRoot]:
    """Return the nodes that take the root of a variance over the batch, by which they normalise data."""
    if not any(node.op in {"Sqrt", "Pow"} for node in graph.nodes):
        return {}
    found = batch_moments.batch_roots(_moment_graph(graph, constants))
    return {graph.nodes[int(root.name)]: root for root in found}


def is_of_sample(node: NodeProto, graph: GraphProto, constants: Constants) -> bool:
    """Return whether a batch norm in training mode provably normalises a batch of one by moments within its sample."""
    return batch_moments.is_of_sample(_moment_graph(graph, constants), str(graph.nodes.index(node)))


def _moment_graph(graph: GraphProto, constants: Constants) -> MomentGraph:
    steps = (_step(str(place), node, constants) for place, node in enumerate(graph.nodes) if node.outputs)
    return MomentGraph(tuple(steps), lambda value: shapes.shape(value, constants))


def _step(name: str, node: NodeProto, constants: Constants) -> MomentStep:
    computed = tuple(value for value in node.inputs if value and value not in constants)
    kind = _KINDS.get(node.op, node.op)
    if node.op == "Pow":
        kind = POWERS.get(constants.number(node.takes(1)) or 0.0, "power")
    axes: Sequence[int] = ()
    if kind == "transpose":
        axes = node.integers("perm")
    elif kind in {"mean", "sum"}:
        axes = _axes(node, constants)
    given = [constants.get(value) for value in node.inputs if value in constants] if kind in _WITH_NUMBERS else []
    floats = [constant.values for constant in given if constant is not None and constant.values.dtype.kind == "f"]
    number = next((float(array.ravel()[0]) for array in floats if array.size == 1), 0.0)
    return MomentStep(name, kind, computed, tuple(array.size for array in floats), node.outputs[0], tuple(axes), number)


def _axes(node: NodeProto, constants: Constants) -> Sequence[int]:
    """Return the axes of a reduction, an attribute up to opset 17 and an input from 18 on; all if there are none."""
    return (constants.integers(node.takes(1)) if node.takes(1) else node.integers("axes")) or ()
