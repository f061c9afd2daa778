"""A multiplication and an addition by one constant per channel, which converters make of batch norms.

A model that scales its input has them too, and so have LayerNorm and GroupNorm behind their moments. So they are no
layers of a file: only the model that it was made of can tell which of them are batch norms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bninspect.formats.onnx.constants import Constant, Constants
from bninspect.formats.onnx.model import GraphProto, ModelProto, NodeProto


def count(graph: GraphProto, model: ModelProto, path: Path) -> int:
    """Return how many a graph has: each Mul by a constant, with the Add or Sub that alone reads its result."""
    around = [outer for outer in model.graphs if graph.path.startswith(outer.path)]
    constants, taken_by = Constants(around, path, model.opset), readers(graph)
    pairs = ((scale, _shift(node.outputs[0], taken_by, constants)) for node, scale in _scaled(graph, constants))
    return sum(shift is not None and _run_along_one_axis(scale, shift) for scale, shift in pairs)


def readers(graph: GraphProto) -> Mapping[str, list[NodeProto]]:
    """Return the nodes that take each value; of one that leaves the graph nobody can say who does."""
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            found.setdefault(name, []).append(node)
    return {**found, **{value.name: [] for value in graph.outputs}}


def _scaled(graph: GraphProto, constants: Constants) -> Iterator[tuple[NodeProto, Constant]]:
    """Yield each Mul by a constant, with that."""
    for node in graph.nodes:
        if node.op != "Mul" or not node.outputs:
            continue
        for x, name in ((node.takes(0), node.takes(1)), (node.takes(1), node.takes(0))):
            constant = constants.get(name) if name in constants and x not in constants else None
            if constant is not None and constant.values.dtype.kind == "f":
                yield node, constant


def _shift(value: str, taken_by: Mapping[str, list[NodeProto]], constants: Constants) -> Constant | None:
    """Return the constant of the Add or Sub that alone reads a value; None if there is none."""
    after = taken_by.get(value, [])
    if len(after) != 1 or after[0].op not in {"Add", "Sub"} or not after[0].outputs:
        return None
    places: Mapping[str, str] = {after[0].takes(0): after[0].takes(1)}
    if after[0].op == "Add":
        places = {**places, after[0].takes(1): after[0].takes(0)}
    name = places.get(value, "")
    return constants.get(name) if name in constants else None


def _run_along_one_axis(scale: Constant, shift: Constant) -> bool:
    """Return whether both have a number per channel along the same axis, counted from the end."""
    axis = channel_axis(scale.values.shape)
    same = axis == channel_axis(shift.values.shape) and scale.values.size == shift.values.size
    return axis is not None and same


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return the one axis along which a constant varies, counted from the end; None if there is none or several."""
    long = [place - len(shape) for place, length in enumerate(shape) if length > 1]
    return long[0] if len(long) == 1 else None
