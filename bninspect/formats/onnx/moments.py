"""Where a graph normalises data by moments of that data: a batch norm in training mode, or no batch norm at all.

A mean over axes that include the batch is what a batch norm takes while it is trained. LayerNorm, GroupNorm and
InstanceNorm take theirs within each sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bninspect.formats.moment_axes import over_batch
from bninspect.formats.onnx import shapes
from bninspect.formats.onnx.constants import Constants
from bninspect.formats.onnx.model import GraphProto, NodeProto

_VIEWS = frozenset(("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand"))
_MEANS = frozenset(("ReduceMean", "GlobalAveragePool"))
_ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div", "Reciprocal", *_VIEWS))
_LONGEST = 8
_FOLLOWED = 6
"""Levels of operators behind a root among which gamma or beta must come."""


@dataclass(frozen=True, eq=False)
class BatchRoot:
    """The root of a variance that is taken over a batch."""

    node: NodeProto
    x: str
    epsilon: float


def normalises_itself(node: NodeProto, constants: Constants) -> bool:
    """Return whether the mean that a BatchNormalization is given is one of its own input."""
    mean = _behind_views(node.takes(3), constants)
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


def batch_roots(graph: GraphProto, constants: Constants) -> Iterator[BatchRoot]:
    """Yield each root of a variance over the batch and epsilon, or of one behind which gamma or beta comes."""
    users: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            users.setdefault(name, []).append(node)
    for node in graph.nodes:
        if node.op != "Sqrt" and not (node.op == "Pow" and constants.number(node.takes(1)) in {0.5, -0.5}):
            continue
        found = _variance(node, constants)
        if found is None or moves_samples(found.x, constants):
            continue
        if found.epsilon or _has_parameters(node, users, constants):
            yield found


def _variance(root: NodeProto, constants: Constants) -> BatchRoot | None:
    """Return what a root is of if that is variance(x) + epsilon over axes that include the batch."""
    name, epsilon = root.takes(0), 0.0
    node = constants.maker(name)
    if node is not None and node.op == "Add":
        number = next((one for one in node.inputs if constants.number(one) is not None), None)
        if number is None:
            return None
        epsilon = constants.number(number) or 0.0
        name = next((one for one in node.inputs if one != number), "")
    moment = _behind_views(name, constants)
    if moment is not None and moment.op == "Sub":  # E[x^2] - E[x]^2
        moment = _behind_views(moment.takes(0), constants)
    if moment is None or moment.op != "ReduceMean":
        return None
    if not over_batch(_axes(moment, constants), shapes.rank(moment.takes(0), constants)):
        return None
    squares = _behind_views(moment.takes(0), constants)
    if squares is None or squares.op not in {"Mul", "Pow"}:
        return None
    difference = constants.maker(squares.takes(0))
    x = difference.takes(0) if difference is not None and difference.op == "Sub" else squares.takes(0)
    return BatchRoot(root, x, epsilon)


def _axes(node: NodeProto, constants: Constants) -> Sequence[int]:
    """Return the axes of a reduction, an attribute up to opset 17 and an input from 18 on; all if there are none."""
    return (constants.integers(node.takes(1)) if node.takes(1) else node.integers("axes")) or ()


def _has_parameters(node: NodeProto, users: dict[str, list[NodeProto]], constants: Constants) -> bool:
    level = list(node.outputs)
    for _ in range(_FOLLOWED):
        after = [user for name in level for user in users.get(name, ()) if user.op in _ARITHMETIC]
        for user in after:
            found = [constants.get(name) for name in user.inputs if name in constants]
            if any(one is not None and one.values.dtype.kind == "f" and one.values.size > 1 for one in found):
                return True
        level = list(dict.fromkeys(name for user in after for name in user.outputs))
    return False


def _behind_views(name: str, constants: Constants) -> NodeProto | None:
    return constants.maker(source(name, constants))
