"""Batch norms in an ONNX graph: BatchNormalization nodes, and the Mul and Add that exporters make of some of them.

What a BatchNormalization computes depends on the version of the operators (onnx/defs/nn/{defs,old}.cc): up to opset 6
`is_test` decides, up to 13 the number of outputs, from 14 on `training_mode`. The defaults of epsilon, 1e-5, and of
momentum, 0.9, have never changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bninspect.formats.onnx.constants import Constant, Constants
from bninspect.formats.onnx.model import GraphProto, ModelProto, NodeProto
from bninspect.records import BatchNorm, Statistics

if TYPE_CHECKING:
    from bninspect.records import Array

EPSILON = float(np.float32(1e-5))
MOMENTUM = float(np.float32(0.9))
_INPUTS = {"gamma": 1, "beta": 2, "moving_mean": 3, "moving_variance": 4}


@dataclass(frozen=True, eq=False)
class FoundNorm:
    """A batch norm and where it is."""

    layer: BatchNorm
    x: str
    """Name of the value that goes in."""
    y: str
    """Name of the value that comes out."""
    graph: str
    """Path of the graph that it is in; empty for the main graph."""
    nodes: tuple[str, ...]
    """Labels of the nodes that make it up."""
    constants: Mapping[str, str]
    """Name of the value that holds each parameter, by the parameter's standard name."""


def find(model: ModelProto, path: Path) -> tuple[FoundNorm, ...]:
    """Return all batch norms of a model, in the order of its nodes, each under a name of its own."""
    found: list[FoundNorm] = []
    for graph in model.graphs:
        around = [one for one in model.graphs if graph.path.startswith(one.path)]
        constants = Constants(around, path)
        pairs = {one.first: one for one in affine_maps(graph, constants)}
        for node in graph.nodes:
            if node.op == "BatchNormalization":
                found.append(_node(node, model.opset, graph, constants))
            elif node in pairs:
                found.append(pairs[node].found(graph.path))
    return tuple(_renamed(found))


def _renamed(found: list[FoundNorm]) -> Iterator[FoundNorm]:
    taken: set[str] = set()
    # Counted on, not anew for each: a hundred thousand nodes may have one name.
    counts: Counter[str] = Counter()
    for one in found:
        base = name = one.layer.name
        while name in taken:
            counts[base] += 1
            name = f"{base}~{counts[base] + 1}"
        taken.add(name)
        yield one if name == one.layer.name else replace(one, layer=replace(one.layer, name=name))


def _node(node: NodeProto, opset: int, graph: GraphProto, constants: Constants) -> FoundNorm:
    stored = {field: constants.get(node.takes(place)) for field, place in _INPUTS.items()}
    notes = [
        f"{field} is no constant: the graph computes it, or takes it as an input"
        for field, value in stored.items()
        if value is None
    ]
    statistics, note = _statistics(node, opset)
    if note:
        notes.append(note)
    spatial = opset >= 9 or node.integer("spatial", 1) != 0
    if not spatial:
        notes.append("spatial is 0: a mean and variance for every element, not for every channel")
    mean = stored["moving_mean"]
    arrays: dict[str, Any] = {field: None if value is None else value.values for field, value in stored.items()}
    layer = BatchNorm(
        name=graph.path + node.label,
        **arrays,
        epsilon=node.real("epsilon", EPSILON),
        epsilon_source="file",
        momentum=node.real("momentum", MOMENTUM),
        axis=(1,) if spatial else None,
        scale=True,
        center=True,
        dtype="+".join(dict.fromkeys(value.dtype for value in stored.values() if value)) or "float32",
        location=mean.name if mean else node.takes(3),
        class_name=node.op,
        statistics=statistics,
        notes=tuple(notes),
    )
    values = {field: node.takes(place) for field, place in _INPUTS.items() if stored[field] is not None}
    return FoundNorm(layer, node.takes(0), next(iter(node.outputs), ""), graph.path, (node.label,), values)


def _statistics(node: NodeProto, opset: int) -> tuple[Statistics, str]:
    """Return which statistics a node normalises with, and what is odd about how it says so."""
    outputs = sum(1 for name in node.outputs if name)
    if opset >= 14:
        return (Statistics.BATCH if node.integer("training_mode", 0) else Statistics.MOVING), ""
    if opset >= 7 or outputs > 1:
        tested = opset < 7 and node.integer("is_test", 0) != 0
        return (Statistics.BATCH if outputs > 1 and not tested else Statistics.MOVING), ""
    odd = "" if node.integer("is_test", 0) else "is_test is 0, but it has the single output of a node under test"
    return Statistics.MOVING, odd


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
    between: tuple[str, ...] = ()
    """Label of the multiplication by another value that comes between the two, if there is one."""

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
        nodes = (self.first.label, *self.between, self.last.label)
        return FoundNorm(layer, self.x, self.last.outputs[0], graph, nodes, values)


def affine_maps(graph: GraphProto, constants: Constants) -> Iterator[OnnxAffine]:
    """Yield each Mul by one constant per channel, with the Add or Sub of another that alone reads its result."""
    taken_by = readers(graph)
    for node, x, scale in _scaled(graph, constants):
        last, shift = _shifted(node.outputs[0], taken_by, constants)
        axis = None if shift is None else _common_axis(scale, shift)
        if last is not None and shift is not None and axis is not None:
            yield OnnxAffine(node, last, x, scale, shift, axis)


def further_maps(graph: GraphProto, constants: Constants) -> Iterator[OnnxAffine]:
    """Yield what may be a batch norm and need not be one, which only its numbers can tell.

    A batch norm of one channel is a Mul and an Add of single numbers. Of a product tf2onnx scales one of the factors:
    `x * (y * scale) + shift`, which is what becomes of a batch norm behind silu.
    """
    taken_by = readers(graph)
    for node, x, scale in _scaled(graph, constants):
        value, between = node.outputs[0], tuple[str, ...]()
        after = taken_by.get(value, [])
        if len(after) == 1 and after[0].op == "Mul" and not any(one in constants for one in after[0].inputs):
            value, between = after[0].outputs[0], (after[0].label,)
        last, shift = _shifted(value, taken_by, constants)
        axis = None if shift is None or not between else _common_axis(scale, shift)
        if shift is not None and scale.values.size == shift.values.size == 1:
            axis = -1
        if last is not None and shift is not None and axis is not None:
            yield OnnxAffine(node, last, x, scale, shift, axis, between)


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
    flat.flags.writeable = False
    return flat
