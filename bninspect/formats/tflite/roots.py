"""Roots of a variance in a TFLite graph. Converters compute those of stored statistics ahead, so that none are left.

What is left is of a batch norm in training mode, whose moments are taken over the batch, or of a norm within each
sample (LayerNorm, GroupNorm, InstanceNorm), which is not a batch norm; or the statistics are variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bninspect.formats.norm_names import is_called_norm
from bninspect.formats.tflite.model import Operator, Subgraph, TfliteTensor
from bninspect.records import BatchNorm, Statistics, Unread

_VIEWS = frozenset(("reshape", "squeeze", "expand dims", "cast", "dequantize", "quantize"))
_SQUARES = frozenset(("mul", "square", "squared difference"))
_ARITHMETIC = frozenset(("add", "sub", "mul", "div", *_VIEWS))
_LONGEST = 8
_FOLLOWED = 6


@dataclass(frozen=True, eq=False)
class VarianceRoot:
    """The root of a variance."""

    operator: Operator
    stored: bool
    """Whether the file holds the variance; else it is one over the batch."""


def roots(graph: Subgraph) -> Iterator[VarianceRoot]:
    """Yield the roots of variances of one graph."""
    makers = {tensor.index: one for one in graph.operators for tensor in one.outputs}
    for operator in graph.operators:
        variance = _variance(operator, makers) if operator.operation in {"sqrt", "rsqrt"} else None
        if variance is None:
            continue
        maker = _behind_views(variance, makers)
        if variance.is_constant or (maker is not None and maker.operation == "read variable"):
            yield VarianceRoot(operator, stored=True)
        elif maker is not None and _is_over_batch(maker, makers) and _has_parameters(operator, graph):
            yield VarianceRoot(operator, stored=False)


def trained(graph: Subgraph) -> Iterator[BatchNorm]:
    """Yield the batch norms of the main graph that normalise by the statistics of their batch."""
    taken: set[str] = set()
    for root in roots(graph):
        if root.stored:
            continue
        name = root.operator.outputs[0].name or f"operator {root.operator.index}"
        name = f"{name}~{root.operator.index}" if name in taken else name
        taken.add(name)
        yield BatchNorm(
            name,
            None,
            None,
            None,
            None,
            location=f"operator {root.operator.index}",
            class_name="MEAN+RSQRT",
            statistics=Statistics.BATCH,
        )


def unread(graph: Subgraph) -> Iterator[Unread]:
    """Yield what is a batch norm, or is called one, and is none of those that are read."""
    stored = sum(root.stored for root in roots(graph))
    if stored:
        yield Unread("the main graph", stored, "the root of a stored variance was not computed ahead")
    for place, other in enumerate(graph.others, 1):
        if count := sum(1 for _ in roots(other)):
            yield Unread(f"graph {place}", count, "graphs of loops, conditions and further signatures are not read")
    every = [operator.operation for one in (graph, *graph.others) for operator in one.operators]
    for name in dict.fromkeys(every):
        if is_called_norm(name):
            yield Unread(name, every.count(name), "nobody knows what this operator computes")


def _variance(root: Operator, makers: Mapping[int, Operator]) -> TfliteTensor | None:
    """Return what epsilon is added to under a root, if it is not a single number."""
    taken = root.takes(0)
    added = makers.get(taken.index) if taken is not None else None
    if added is None or added.operation != "add":
        return None
    numbers = [one for one in added.inputs if one is not None and one.is_constant and one.stored.size == 1]
    others = [one for one in added.inputs if one is not None and one not in numbers]
    return others[0] if len(numbers) == 1 and len(others) == 1 else None


def _is_over_batch(mean: Operator, makers: Mapping[int, Operator]) -> bool:
    """Return whether a moment is a mean of squares over axes that include the batch."""
    x, axes = mean.takes(0), mean.takes(1)
    if mean.operation != "mean" or x is None or axes is None or not axes.is_constant:
        return False
    squares = makers.get(x.index)
    rank = max(len(x.shape), 1)
    over = {int(one) % rank for one in axes.stored.ravel()}
    return squares is not None and squares.operation in _SQUARES and 0 in over and (rank == 1 or len(over) < rank)


def _has_parameters(root: Operator, graph: Subgraph) -> bool:
    level = {tensor.index for tensor in root.outputs}
    for _ in range(_FOLLOWED):
        after = [
            one
            for one in graph.operators
            if one.operation in _ARITHMETIC and any(each is not None and each.index in level for each in one.inputs)
        ]
        constants = [each for one in after for each in one.inputs if each is not None and each.is_constant]
        if any(one.dtype.startswith("float") and one.data.size > 4 for one in constants):
            return True
        level = {tensor.index for one in after for tensor in one.outputs}
    return False


def _behind_views(tensor: TfliteTensor, makers: Mapping[int, Operator]) -> Operator | None:
    maker = makers.get(tensor.index)
    for _ in range(_LONGEST):
        taken = maker.takes(0) if maker is not None and maker.operation in _VIEWS else None
        if taken is None:
            break
        maker = makers.get(taken.index)
    return maker
