"""Roots of a variance in a TFLite graph. Converters compute those of stored statistics ahead, so that none are left.

What is left is of a batch norm in training mode, whose moments are taken over the batch, or of a norm within each
sample (LayerNorm, GroupNorm, InstanceNorm), which is not a batch norm; or the statistics are variables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bninspect.formats import batch_moments
from bninspect.formats.batch_moments import BatchRoot
from bninspect.formats.moment_graph import MomentGraph, MomentStep
from bninspect.formats.norm_names import COMPILED, holds_compiled, is_called_norm
from bninspect.formats.tflite.model import Operator, Subgraph, TfliteTensor
from bninspect.records import BatchNorm, Unread

_VIEWS = frozenset(("reshape", "squeeze", "expand dims", "cast", "dequantize", "quantize"))
_KINDS = {
    **dict.fromkeys(("reshape", "squeeze", "expand dims"), "reshape"),
    **dict.fromkeys(("cast", "dequantize", "quantize", "broadcast to"), "view"),
    "reduce max": "largest",
}
_LONGEST = 8


@dataclass(frozen=True, eq=False)
class VarianceRoot:
    """The root of a variance."""

    operator: Operator
    over_batch: BatchRoot | None = None
    """What it is of; None where the file holds the variance."""


def roots(graph: Subgraph) -> Iterator[VarianceRoot]:
    """Yield the roots of variances of one graph."""
    makers = {tensor.index: one for one in graph.operators for tensor in one.outputs}
    over_batch = {root.name: root for root in batch_moments.batch_roots(_moment_graph(graph))}
    for operator in graph.operators:
        variance = _variance(operator, makers) if operator.operation in {"sqrt", "rsqrt"} else None
        maker = None if variance is None else _behind_views(variance, makers)
        if variance is not None and (
            variance.is_constant or (maker is not None and maker.operation == "read variable")
        ):
            yield VarianceRoot(operator)
        elif (root := over_batch.get(str(operator.index))) is not None:
            yield VarianceRoot(operator, root)


def _moment_graph(graph: Subgraph) -> MomentGraph:
    tensors = {
        str(source.index): source
        for operator in graph.operators
        for source in (*operator.inputs, *operator.outputs)
        if source
    }

    def shape(value: str) -> tuple[int | None, ...] | None:
        return tensors[value].signature if value in tensors else None

    return MomentGraph(tuple(_moment_step(operator) for operator in graph.operators if operator.outputs), shape)


def _moment_step(operator: Operator) -> MomentStep:
    taken = [source for source in operator.inputs if source is not None]
    constants = [one for one in taken if one.is_constant and one.dtype != "unknown"]
    floats = [constant for constant in constants if constant.stored.dtype.kind == "f" or constant.scales.size]
    axes = operator.takes(1) if operator.operation in {"mean", "sum", "transpose"} else None
    return MomentStep(
        str(operator.index),
        _KINDS.get(operator.operation, operator.operation),
        tuple(str(one.index) for one in taken if not one.is_constant),
        tuple(math.prod(one.shape) for one in floats),
        str(operator.outputs[0].index),
        tuple(int(value) for value in axes.stored.ravel()) if axes is not None and axes.is_constant else (),
        next((float(one.values.ravel()[0]) for one in floats if math.prod(one.shape) == 1), 0.0),
    )


def trained(graph: Subgraph) -> Iterator[BatchNorm]:
    """Yield the batch norms of the main graph that normalise by the statistics of their batch."""
    taken: set[str] = set()
    for root in roots(graph):
        if root.over_batch is None:
            continue
        name = root.operator.outputs[0].name or f"operator {root.operator.index}"
        name = f"{name}~{root.operator.index}" if name in taken else name
        taken.add(name)
        yield root.over_batch.layer(name, f"operator {root.operator.index}", "MEAN+RSQRT")


def unread(graph: Subgraph) -> Iterator[Unread]:
    """Yield what is a batch norm, or is called one, and is none of those that are read."""
    stored = sum(root.over_batch is None for root in roots(graph))
    if stored:
        yield Unread("the main graph", stored, "the root of a stored variance was not computed ahead")
    for place, other in enumerate(graph.others, 1):
        if count := sum(1 for _ in roots(other)):
            yield Unread(f"graph {place}", count, "graphs of loops, conditions and further signatures are not read")
    every = [operator.operation for one in (graph, *graph.others) for operator in one.operators]
    for name in dict.fromkeys(every):
        if is_called_norm(name):
            yield Unread(name, every.count(name), "what this operator computes is not known")
        elif holds_compiled(name.removeprefix("custom operator ")):
            yield Unread(name, 0, COMPILED)


def _variance(root: Operator, makers: Mapping[int, Operator]) -> TfliteTensor | None:
    """Return what epsilon is added to under a root, if it is not a single number."""
    taken = root.takes(0)
    added = makers.get(taken.index) if taken is not None else None
    if added is None or added.operation != "add":
        return None
    numbers = [
        source for source in added.inputs if source is not None and source.is_constant and source.stored.size == 1
    ]
    others = [source for source in added.inputs if source is not None and source not in numbers]
    return others[0] if len(numbers) == 1 and len(others) == 1 else None


def _behind_views(tensor: TfliteTensor, makers: Mapping[int, Operator]) -> Operator | None:
    maker = makers.get(tensor.index)
    for _ in range(_LONGEST):
        taken = maker.takes(0) if maker is not None and maker.operation in _VIEWS else None
        if taken is None:
            break
        maker = makers.get(taken.index)
    return maker
