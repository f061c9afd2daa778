"""A multiplication and an addition by one constant per channel, which converters make of batch norms.

A model that scales its input has them too, and so have LayerNorm and GroupNorm behind their moments. So they are no
layers of a file: only the model that it was made of can tell which of them are batch norms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bninspect.formats.encodings.numbers import read_only
from bninspect.formats.onnx.constants import Constant, Constants
from bninspect.formats.onnx.model import GraphProto, ModelProto, NodeProto
from bninspect.formats.onnx.norms import FoundNorm
from bninspect.records import BatchNorm, Statistics

if TYPE_CHECKING:
    from bninspect.records import Array


@dataclass(frozen=True, eq=False)
class OnnxAffine:
    """A multiplication by one number per channel, and the addition that follows it."""

    first: NodeProto
    last: NodeProto
    x: str
    scale: Constant
    shift: Constant
    axis: int
    """Counted from the end."""

    def found(self, graph: str) -> FoundNorm:
        """Return it as a batch norm whose statistics are folded."""
        shift = -self.shift.values if self.last.op == "Sub" else self.shift.values
        layer = BatchNorm(
            name=graph + self.first.label,
            gamma=_flat(self.scale.values),
            beta=_flat(shift),
            moving_mean=None,
            moving_variance=None,
            axis=(self.axis,),
            scale=True,
            center=True,
            dtype="+".join(dict.fromkeys(one.dtype for one in (self.scale, self.shift))),
            location=self.scale.name,
            class_name=f"{self.first.op}+{self.last.op}",
            statistics=Statistics.FOLDED,
        )
        values = {"gamma": self.scale.name, "beta": self.shift.name}
        nodes = (self.first.label, self.last.label)
        return FoundNorm(layer, self.x, self.last.outputs[0], graph, nodes, values)


def count(graph: GraphProto, model: ModelProto, path: Path) -> int:
    """Return how many scale-and-shift pairs a graph has."""
    around = [one for one in model.graphs if graph.path.startswith(one.path)]
    return sum(1 for _ in affine_maps(graph, Constants(around, path, model.opset)))


def affine_maps(graph: GraphProto, constants: Constants) -> Iterator[OnnxAffine]:
    """Yield each Mul by one constant per channel, with the Add or Sub of another that alone reads its result."""
    taken_by = readers(graph)
    for node, x, scale in _scaled(graph, constants):
        last, shift = _shifted(node.outputs[0], taken_by, constants)
        axis = None if shift is None else _common_axis(scale, shift)
        if last is not None and shift is not None and axis is not None:
            yield OnnxAffine(node, last, x, scale, shift, axis)


def readers(graph: GraphProto) -> Mapping[str, list[NodeProto]]:
    """Return the nodes that take each value; of one that leaves the graph nobody can say who does."""
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            found.setdefault(name, []).append(node)
    return {**found, **{value.name: [] for value in graph.outputs}}


def _scaled(graph: GraphProto, constants: Constants) -> Iterator[tuple[NodeProto, str, Constant]]:
    """Yield each Mul by a constant, with the value and the constant that it takes."""
    for node in graph.nodes:
        if node.op != "Mul" or not node.outputs:
            continue
        for x, name in ((node.takes(0), node.takes(1)), (node.takes(1), node.takes(0))):
            constant = constants.get(name) if name in constants and x not in constants else None
            if constant is not None and constant.values.dtype.kind == "f":
                yield node, x, constant


def _shifted(
    value: str, taken_by: Mapping[str, list[NodeProto]], constants: Constants
) -> tuple[NodeProto | None, Constant | None]:
    """Return the Add or Sub of a constant that alone reads a value, and the constant; (None, None) if there is none."""
    after = taken_by.get(value, [])
    if len(after) != 1 or after[0].op not in {"Add", "Sub"} or not after[0].outputs:
        return None, None
    return after[0], _shift(after[0], value, constants)


def _shift(node: NodeProto, x: str, constants: Constants) -> Constant | None:
    """Return the constant that an Add or Sub gives to x; None if it takes something else."""
    places: Mapping[str, str] = {node.takes(0): node.takes(1)}
    if node.op == "Add":
        places = {**places, node.takes(1): node.takes(0)}
    name = places.get(x, "")
    return constants.get(name) if name in constants else None


def _common_axis(scale: Constant, shift: Constant) -> int | None:
    """Return the axis along which both have a number per channel, counted from the end; None if there is none."""
    axis = channel_axis(scale.values.shape)
    return axis if axis == channel_axis(shift.values.shape) and scale.values.size == shift.values.size else None


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return the one axis along which a constant varies, counted from the end; None if there is none or several."""
    long = [place - len(shape) for place, length in enumerate(shape) if length > 1]
    return long[0] if len(long) == 1 else None


def _flat(values: Array) -> Array:
    flat = values.reshape(-1)
    return read_only(flat)
