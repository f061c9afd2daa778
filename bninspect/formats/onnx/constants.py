"""Which values of a graph are constants: initializers, Constant nodes, and what only passes those on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bninspect.errors import DamagedFile
from bninspect.formats.onnx import tensor
from bninspect.formats.onnx.model import GraphProto, NodeProto
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bninspect.formats.encodings.protobuf import Message
    from bninspect.records import Array

_PASSED_ON = ("Identity",)
_LONGEST_CHAIN = 8


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant, dequantised if need be."""

    values: Array
    dtype: str
    name: str
    step: Array | None = None
    """Quantisation step, per channel or one for all; None for floats."""
    axis: int = 0
    """Axis that the steps run along."""


class Constants:
    """The constants that the nodes of a graph can see: its own and those of the graphs around it."""

    def __init__(self, graphs: Iterable[GraphProto], model: Path) -> None:
        self._model = model
        self._tensors: dict[str, Message] = {}
        self._makers: dict[str, NodeProto] = {}
        for graph in graphs:
            self._tensors.update(graph.initializers)
            for node in graph.nodes:
                value = node.tensor("value") if node.op == "Constant" else None
                if value is not None and node.outputs:
                    self._tensors[node.outputs[0]] = value
                self._makers.update((output, node) for output in node.outputs if output)

    def __contains__(self, name: str) -> bool:
        return self._root(name) in self._tensors or self._dequantised(name) is not None

    def get(self, name: str) -> Constant | None:
        """Return a constant; None if the graph computes it. Raises as `tensor.array`."""
        if not name:
            return None
        root = self._root(name)
        if root in self._tensors:
            values, dtype = tensor.array(self._tensors[root], self._model)
            return Constant(values, dtype, root)
        node = self._dequantised(name)
        return None if node is None else self._dequantise(node)

    def _root(self, name: str) -> str:
        for _ in range(_LONGEST_CHAIN):
            node = self._makers.get(name)
            if name in self._tensors or node is None or node.op not in _PASSED_ON:
                break
            name = node.takes(0)
        return name

    def _dequantised(self, name: str) -> NodeProto | None:
        """Return the DequantizeLinear whose constant result `name` is."""
        node = self._makers.get(name)
        if node is None or node.op != "DequantizeLinear":
            return None
        return node if all(self._root(one) in self._tensors for one in node.inputs if one) else None

    def _dequantise(self, node: NodeProto) -> Constant:
        values, step, zero = (self.get(node.takes(place)) for place in range(3))
        assert values is not None and step is not None  # noqa: S101, PT018 - `_dequantised` has looked
        axis = node.integer("axis", 1)
        return dequantised(values, step, zero, axis)


def dequantised(values: Constant, step: Constant, zero: Constant | None, axis: int) -> Constant:
    """Return `(values - zero) * step` in float64; `step` and `zero` run along `axis` unless they are single numbers.

    Raises:
        DamagedFile: there are several of them, but not one for each place along the axis.
    """
    rank = values.values.ndim
    steps = step.values.astype(np.float64).reshape(-1)
    zeros = np.zeros(1) if zero is None else zero.values.astype(np.float64).reshape(-1)
    place = axis % rank if rank else 0

    def along(numbers: Array) -> Array:
        if numbers.size != 1 and (not rank or values.values.shape[place] != numbers.size):
            why = f"{printable(values.name)} of shape {values.values.shape} has {numbers.size} steps along axis {axis}"
            raise DamagedFile("this model is damaged", why=why)
        return numbers.reshape([-1 if one == place else 1 for one in range(rank)]) if numbers.size > 1 else numbers

    with np.errstate(all="ignore"):
        wide = (values.values.astype(np.float64) - along(zeros)) * along(steps)
    return Constant(wide, values.dtype, values.name, steps, place)
