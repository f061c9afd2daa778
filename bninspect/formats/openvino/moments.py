"""Roots of a variance in an IR: of a batch norm in training mode, whose moments are taken over the batch, or stored.

Converters compute those of stored statistics ahead, and write what normalises within each sample as MVN or in single
operations (docs.openvino.ai, MVN-6): over the axis of the samples it is a batch norm in training mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bninspect.formats import batch_moments
from bninspect.formats.batch_moments import BatchRoot
from bninspect.formats.moment_graph import POWERS, MomentGraph, MomentStep
from bninspect.formats.openvino.constants import IrConstants
from bninspect.formats.openvino.model import IrGraph, IrOperation
from bninspect.records import BatchNorm

_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("reshape", "squeeze", "unsqueeze"), "reshape"),
    **dict.fromkeys(("convert", "broadcast", "fakequantize"), "view"),
    "multiply": "mul",
    "subtract": "sub",
    "divide": "div",
    "negative": "neg",
    "squareddifference": "squared difference",
    "reducemean": "mean",
    "reducesum": "sum",
}
_OF_FIRST = frozenset(("reshape", "view", "transpose", "mean", "sum"))


def by_batch(graph: IrGraph) -> Iterator[tuple[BatchNorm, str]]:
    """Yield the batch norms that normalise by the statistics of their batch, and what each takes."""
    constants = IrConstants(graph)
    shapes = {
        value: shape
        for operation in graph.operations
        for value, shape in zip(operation.outputs, operation.shapes, strict=False)
    }
    steps = tuple(_step(one, constants) for one in graph.operations if one.outputs and not constants.made(one))
    for root in batch_moments.batch_roots(MomentGraph(steps, shapes.get)):
        yield root.layer(root.name, root.name, "ReduceMean+Sqrt"), root.x
    for operation in graph.every("mvn"):
        rank = len(shapes.get(operation.takes(0), ()))
        over = {axis % max(rank, 1) for axis in _integers(operation.takes(1), constants)}
        if 0 in over and (len(over) < rank or rank == 1):
            root = BatchRoot(operation.name, operation.takes(0), operation.real("eps", 0), sample=False)
            yield root.layer(root.name, root.name, "MVN"), root.x


def stored_roots(graph: IrGraph) -> int:
    """Return how many roots a graph takes of several stored numbers, such as a variance, and a number more."""
    constants = IrConstants(graph)
    makers = {value: one for one in graph.operations for value in one.outputs}
    count = 0
    for operation in graph.operations:
        added = makers.get(operation.takes(0))
        if operation.kind == "add":  # with epsilon outside of the root
            roots = [makers.get(value) for value in operation.inputs]
            taken = [root.takes(0) for root in roots if root is not None and root.kind == "sqrt"]
        elif operation.kind in {"sqrt", "power"} and added is not None and added.kind == "add":
            taken = list(added.inputs)
        else:
            continue
        found = [constants.get(value) for value in taken if value in constants]
        count += any(constant is not None and constant.values.size > 1 for constant in found)
    return count


def _step(operation: IrOperation, constants: IrConstants) -> MomentStep:
    kind = _KINDS.get(operation.kind, operation.kind)
    inputs = operation.inputs[:1] if kind in _OF_FIRST else operation.inputs
    stored = [constants.get(value) for value in inputs if value in constants]
    floats = [constant.values for constant in stored if constant is not None and constant.values.dtype.kind == "f"]
    number = next((float(array.reshape(-1)[0]) for array in floats if array.size == 1), 0.0)
    if kind == "power":
        kind = POWERS.get(number, kind)
    return MomentStep(
        operation.name,
        kind,
        tuple(value for value in inputs if value not in constants),
        tuple(math.prod(array.shape) for array in floats),
        operation.outputs[0],
        tuple(_integers(operation.takes(1), constants)) if kind in {"mean", "sum", "transpose"} else (),
        number,
    )


def _integers(value: str, constants: IrConstants) -> Sequence[int]:
    found = constants.get(value) if value in constants else None
    whole = found is not None and np.issubdtype(found.values.dtype, np.integer)
    return [int(axis) for axis in found.values.reshape(-1)] if found is not None and whole else []
