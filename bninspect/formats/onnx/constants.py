"""Which values of a graph are constants: initializers, Constant nodes, and what only passes those on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bninspect.errors import DamagedFile
from bninspect.formats.onnx import evaluation, tensor
from bninspect.formats.onnx.model import GraphProto, NodeProto
from bninspect.records import Array
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.encodings.protobuf import Message

_DEEPEST = 64
"""Operators between a constant of the file and what is made of it."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant, dequantised or computed from others if need be."""

    values: Array
    dtype: str
    name: str
    """Name of the first constant of the file that it is made of."""
    step: Array | None = None
    """Quantisation step, per channel or one for all; None for floats."""
    axis: int = 0
    """Axis that the steps run along."""
    exact: bool = True
    """Whether the runtime holds the same numbers bit for bit: it is stored, or made in a way that leaves no choice."""
    rounded: str = ""
    """The coarser type that it was in before a cast to its own; empty if it was not."""


class Constants:
    """The constants that the nodes of a graph see: its own, those of the graphs around it, and what is made of them."""

    def __init__(self, graphs: Iterable[GraphProto], model: Path, opset: int) -> None:
        self._model = model
        self._opset = opset
        self._tensors: dict[str, Message] = {}
        self._literals: dict[str, Array] = {}
        self._makers: dict[str, NodeProto] = {}
        self._known: dict[str, bool] = {}
        self._computed: dict[str, Constant | None] = {}
        self._shapes: dict[str, tuple[int | None, ...]] = {}
        for graph in graphs:
            self._shapes.update((source.name, source.shape) for source in graph.inputs if source.shape)
            # What a graph takes or makes itself hides what is called so around it.
            for name in (
                *(source.name for source in graph.inputs),
                *(name for node in graph.nodes for name in node.outputs),
            ):
                self._tensors.pop(name, None)
                self._makers.pop(name, None)
            self._tensors.update(graph.initializers)
            for node in graph.nodes:
                value = node.tensor("value") if node.op == "Constant" else None
                if value is not None and node.outputs:
                    self._tensors[node.outputs[0]] = value
                elif node.op == "Constant" and node.outputs and (literal := evaluation.literal(node)) is not None:
                    self._literals[node.outputs[0]] = literal
                self._makers.update((output, node) for output in node.outputs if output)

    def hold(self, known: Mapping[str, Constant]) -> None:
        """Hold other numbers by the names of some constants: the same in the order that ONNX has."""
        for name, constant in known.items():
            self._tensors.pop(name, None)
            self._known[name], self._computed[name] = True, constant

    def __contains__(self, name: str) -> bool:
        return self._is_constant(name, 0)

    def get(self, name: str) -> Constant | None:
        """Return a constant; None if the graph computes it from its inputs. Raises as `tensor.array`."""
        if not name or name not in self:
            return None
        if name in self._tensors:
            values, dtype = tensor.array(self._tensors[name], self._model)
            return Constant(values, dtype, name)
        if name in self._literals:
            return Constant(self._literals[name], self._literals[name].dtype.name, name)
        if name not in self._computed:
            self._computed[name] = self._made(name)
        return self._computed[name]

    def repeated(self, name: str) -> float | None:
        """Return the number that a value repeats, whatever its length: a constant that is expanded to a shape of data.

        So PyTorch exports, without optimisation, the gamma and beta of a layer that has none.
        """
        node = self._makers.get(name)
        if node is None or node.op not in {"Expand", "ConstantOfShape"}:
            return None
        if node.op == "ConstantOfShape":
            value = node.tensor("value")
            return 0.0 if value is None else float(tensor.inside(value).ravel()[0])
        source = node.takes(0)
        like = self._makers.get(source)
        return self.number(like.takes(0) if like is not None and like.op == "CastLike" else source)

    def number(self, name: str) -> float | None:
        """Return the value of a constant that is a single number."""
        found = self.get(name)
        return float(found.values.ravel()[0]) if found is not None and found.values.size == 1 else None

    def integers(self, name: str) -> list[int] | None:
        """Return the whole numbers of a constant, for shapes and axes."""
        found = self.get(name)
        return [int(value) for value in found.values.ravel()] if found and found.values.dtype.kind in "iu" else None

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Return the shape of an input of the graph, None where a length is open; None for what is not an input."""
        return self._shapes.get(name)

    def maker(self, name: str) -> NodeProto | None:
        """Return the node that makes a value."""
        return self._makers.get(name)

    def _is_constant(self, name: str, depth: int) -> bool:
        if name in self._tensors or name in self._literals:
            return True
        if name not in self._known:
            node = self._makers.get(name)
            made = node is not None and bool(node.outputs) and node.outputs[0] == name and depth < _DEEPEST
            self._known[name] = (
                made
                and node is not None
                and (node.op in evaluation.MOVING or node.op in evaluation.COMPUTING or node.op == "DequantizeLinear")
                and not any(True for _ in node.subgraphs())
                and bool(node.inputs)
                and all(self._is_constant(source, depth + 1) for source in node.inputs if source)
            )
        return self._known[name]

    def _made(self, name: str) -> Constant | None:
        node = self._makers[name]
        if node.op == "DequantizeLinear":
            return self._dequantise(node)
        inputs = [self.get(source) for source in node.inputs if source]
        found = [source for source in inputs if source is not None]
        if len(found) < len(inputs):
            return None
        if node.op == "Identity":
            return found[0]
        # Of what a quantised constant is made, nobody knows the step.
        if any(one.step is not None or one.dtype == "bfloat16" for one in found):
            return None
        values = evaluation.evaluate(node, [one.values for one in found], self._opset)
        if values is None:
            return None
        values.flags.writeable = False
        exact = evaluation.is_exact(node, [one.values for one in found]) and all(one.exact for one in found)
        named = next((one.name for one in found if one.values.dtype.kind == "f"), found[0].name)
        return Constant(values, values.dtype.name, named, exact=exact, rounded=_rounded(node, found, values))

    def _dequantise(self, node: NodeProto) -> Constant:
        values, step, zero = (self.get(node.takes(place)) for place in range(3))
        assert values is not None and step is not None  # noqa: S101, PT018 - `_dequantised` has looked
        axis = node.integer("axis", 1)
        return dequantised(values, step, zero, axis)


def _rounded(node: NodeProto, found: Sequence[Constant], values: Array) -> str:
    """Return the coarser type that the numbers of a constant were in before they were cast, and perhaps moved."""
    floats = [one for one in found if one.values.dtype.kind == "f"]
    if len(floats) != 1 or not (node.op == "Cast" or node.op in evaluation.MOVING):
        return ""
    (before,) = floats
    coarser = before.dtype == "float16" and values.dtype.kind == "f" and values.dtype != np.float16
    return before.dtype if coarser else before.rounded


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
        return numbers.reshape([-1 if index == place else 1 for index in range(rank)]) if numbers.size > 1 else numbers

    with np.errstate(all="ignore"):
        wide = (values.values.astype(np.float64) - along(zeros)) * along(steps)
    return Constant(wide, values.dtype, values.name, steps, place)
