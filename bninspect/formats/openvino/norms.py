"""Batch norms in an IR: BatchNormInference. The converters make Multiply and Add of most of them.

What these were nobody can tell: a model that scales its input has them too. They are counted, and no layers.

opset1 takes (gamma, beta, data, mean, variance), opset5 and later (data, gamma, beta, mean, variance); both must state
epsilon (docs.openvino.ai, BatchNormInference-1 and -5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bninspect.formats.openvino import moments
from bninspect.formats.openvino.constants import IrConstant, IrConstants
from bninspect.formats.openvino.model import IrGraph, IrOperation
from bninspect.formats.stored_numbers import read_only
from bninspect.records import Array, BatchNorm, Statistics

_ORDER = {"opset1": ("gamma", "beta", "", "moving_mean", "moving_variance")}
_LATER = ("", "gamma", "beta", "moving_mean", "moving_variance")


@dataclass(frozen=True, eq=False)
class IrNorm:
    """A batch norm and where it is."""

    layer: BatchNorm
    x: str
    y: str
    operations: tuple[str, ...]
    """Names of those that make it up."""
    constants: Mapping[str, str]
    """Name of the value that holds each parameter, by the parameter's standard name."""


def find(graph: IrGraph) -> tuple[IrNorm, ...]:
    """Return the batch norms of a graph in the order of its operations, those of training behind the others."""
    constants = IrConstants(graph)
    stored = (_node(operation, constants) for operation in graph.every("batchnorminference"))
    trained = (IrNorm(layer, x, "", (layer.name,), {}) for layer, x in moments.by_batch(graph))
    return (*stored, *trained)


def scales(graph: IrGraph) -> tuple[IrNorm, ...]:
    """Return the pairs of scale and shift of a graph, as batch norms whose statistics are folded."""
    constants, readers = IrConstants(graph), taken_by(graph)
    pairs = (scale_and_shift(operation, constants, readers) for operation in graph.operations)
    return tuple(pair for pair in pairs if pair is not None)


def taken_by(graph: IrGraph) -> Mapping[str, list[IrOperation]]:
    """Return the operations that take each value; leaving the graph is one, `result`."""
    readers: dict[str, list[IrOperation]] = {}
    for operation in graph.operations:
        for value in operation.inputs:
            readers.setdefault(value, []).append(operation)
    return readers


def hidden(graph: IrGraph) -> Iterator[tuple[str, int]]:
    """Yield each loop or condition whose body holds batch norms, and how many."""
    for operation in graph.operations:
        count = sum(
            len(find(body)) + moments.stored_roots(body) + sum(more for _, more in hidden(body))
            for body in operation.bodies
        )
        if count:
            yield operation.name, count


def _node(operation: IrOperation, constants: IrConstants) -> IrNorm:
    order = _ORDER.get(operation.opset, _LATER)
    names = {name: operation.takes(place) for place, name in enumerate(order) if name}
    stored = {name: constants.get(value) for name, value in names.items()}
    arrays: dict[str, Any] = {name: None if one is None else _flat(one.values) for name, one in stored.items()}
    mean = stored["moving_mean"]
    stated = "epsilon" in operation.attributes
    computed = [name for name, one in stored.items() if one is None]
    layer = BatchNorm(
        name=operation.name,
        **arrays,
        epsilon=operation.real("epsilon", 0) if stated else None,
        epsilon_source="file" if stated else None,
        axis=(1,),
        scale=True,
        center=True,
        dtype=_dtypes(*stored.values()),
        location=mean.name if mean else operation.name,
        class_name="BatchNormInference",
        statistics=Statistics.COMPUTED if computed else Statistics.MOVING,
        notes=(f"{', '.join(computed)}: no constant, the graph computes it",) if computed else (),
    )
    known = {name: value for name, value in names.items() if stored[name] is not None}
    return IrNorm(layer, operation.takes(order.index("")), operation.outputs[0], (operation.name,), known)


def scale_and_shift(
    first: IrOperation, constants: IrConstants, readers: Mapping[str, list[IrOperation]]
) -> IrNorm | None:
    """Return a Multiply by one number per channel with the Add or Subtract of another that alone reads its result."""
    if first.kind != "multiply" or len(first.inputs) != 2 or len(first.outputs) != 1:
        return None
    after = readers.get(first.outputs[0], [])
    if len(after) != 1 or after[0].kind not in {"add", "subtract"} or len(after[0].outputs) != 1:
        return None
    last = after[0]
    scaled, shifted = _operands(first, constants), _operands(last, constants)
    if scaled is None or shifted is None or (last.kind == "subtract" and last.takes(0) != first.outputs[0]):
        return None
    (x, scale_name, scale), (_, shift_name, shift) = scaled, shifted
    axis = channel_axis(scale.values.shape)
    if axis is None or axis != channel_axis(shift.values.shape) or scale.values.size != shift.values.size:
        return None
    layer = BatchNorm(
        name=last.name,
        gamma=_flat(scale.values),
        beta=_flat(shift.values if last.kind == "add" else -shift.values),
        axis=(axis,),
        scale=True,
        center=True,
        dtype=_dtypes(scale, shift),
        location=scale.name,
        class_name=f"{first.kind}+{last.kind}".title(),
        statistics=Statistics.FOLDED,
    )
    values = {"gamma": scale_name, "beta": shift_name}
    return IrNorm(layer, x, last.outputs[0], (first.name, last.name), values)


def _operands(operation: IrOperation, constants: IrConstants) -> tuple[str, str, IrConstant] | None:
    """Return what flows into an operation, and name and numbers of the constant floats that it takes beside that."""
    for x, name in (operation.inputs[:2], operation.inputs[1::-1]):
        if x not in constants and name in constants:
            constant = constants.get(name)
            floats = constant is not None and constant.step is None and constant.values.dtype.kind == "f"
            return (x, name, constant) if floats and constant is not None else None
    return None


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return the one axis along which a constant varies, counted from the end; None if there is none or several."""
    long = [place - len(shape) for place, length in enumerate(shape) if length > 1]
    return long[0] if len(long) == 1 else None


def _dtypes(*constants: IrConstant | None) -> str:
    return "+".join(dict.fromkeys(constant.dtype for constant in constants if constant)) or "float32"


def _flat(values: Array) -> Array:
    flat = values.reshape(-1)
    return read_only(flat)
