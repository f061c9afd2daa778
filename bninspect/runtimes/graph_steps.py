"""A TensorFlow graph taken apart: which operations depend on the data, and which on the statistics of a layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from bninspect.errors import RuntimeFailure
from bninspect.runtimes.dissection import DissectedStep, dependent


def steps(inputs: Iterable[Any], statistics: Mapping[str, str], wanted: Iterable[Any]) -> Iterator[DissectedStep]:
    """Return the operations of a graph that lead from its inputs to wanted tensors, in an order in which they can run.

    Args:
        inputs: tensors that the data is fed to.
        statistics: by the name of a tensor, the layer whose moving mean or variance it is.
        wanted: tensors.

    Raises:
        RuntimeFailure: the graph holds a loop.
    """
    operations = (
        ([tensor.name for tensor in operation.inputs], [tensor.name for tensor in operation.outputs])
        for operation in _in_order(wanted)
    )
    return dependent(operations, (tensor.name for tensor in inputs), statistics)


def _in_order(wanted: Iterable[Any]) -> Iterator[Any]:
    """Yield the operations that tensors depend on, each behind those that it depends on."""
    sorter: TopologicalSorter[Any] = TopologicalSorter()
    waiting, seen = [tensor.op for tensor in wanted], set()
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        before = [tensor.op for tensor in operation.inputs]
        sorter.add(operation, *before)
        waiting += before
    try:
        yield from sorter.static_order()
    except CycleError:
        raise RuntimeFailure("the model cannot be taken apart", why="its graph holds a loop") from None
