"""What an IR computes: its net as a Network, with the scale and the shift behind a linear operation joined to it.

The converters fold a batch norm into a convolution, and leave one behind a dense layer as Multiply and Add, with the
bias of the dense layer taken into the Add: then neither says what the model says, and both together do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.formats import bodies, channel_chains
from bninspect.formats.channel_chains import Piece
from bninspect.formats.openvino import norms
from bninspect.formats.openvino.constants import IrConstants
from bninspect.formats.openvino.linear import linear
from bninspect.formats.openvino.model import IrGraph, IrOperation
from bninspect.records import graph as network
from bninspect.records.graph import ActivationLimits, Geometry, Network, Node, Quantisation, Value

_PASSING = {
    **dict.fromkeys(("reshape", "squeeze", "unsqueeze"), "reshape"),
    "transpose": "transpose",
    "convert": "cast",
}
_PIECES = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "div"}
_NAMES = {
    **_PIECES,
    "clamp": "clip",
    "swish": "silu",
    "hswish": "hardswish",
    "maxpool": "max pool",
    "avgpool": "average pool",
    "reducemean": "mean",
    "variadicsplit": "split",
    "stridedslice": "strided slice",
    "interpolate": "resize",
}
"""What this program calls an operation that others have too."""
_ENDS = ("parameter", "result")
MOST_LEVELS = 1 << 16
"""Steps that a FakeQuantize may round to: those of 16 bits."""


def read(graph: IrGraph) -> Network:
    """Return what a graph computes."""
    constants, readers = IrConstants(graph), norms.taken_by(graph)
    kernels, inside = linear(graph, constants, readers)
    whole = {norm.operations[0]: norm for norm in norms.find(graph) if norm.y}
    nodes = []
    for operation in graph.operations:
        if operation.name in kernels:
            nodes.append(kernels[operation.name])
        elif operation.name in whole:
            nodes.append(_norm(whole[operation.name]))
        elif operation.name not in inside and not constants.made(operation) and operation.kind not in _ENDS:
            other = _piece(operation, constants) or _other(operation, constants)
            nodes.append(replace(other, within=bodies.held(operation.kind, _inside(operation))))
    ends = [result.takes(0) for result in graph.every("result")]
    names = {scale.operations[0]: scale.layer.name for scale in norms.scales(graph)}
    joined = (
        replace(node, layer=names.get(node.name, node.layer)) if node.layer and node.norm is None else node
        for node in channel_chains.join(nodes, ends)
    )
    makers = {value: maker for maker in graph.operations for value in maker.outputs}
    return Network(
        tuple(Value(entry.outputs[0], entry.shapes[0], entry.dtypes[0]) for entry in graph.every("parameter")),
        tuple(_value(name, makers[name]) for name in ends),
        tuple(joined),
        dict(_quantised(graph, constants)),
    )


def _inside(operation: IrOperation) -> Iterator[str]:
    """Yield the kinds of the operations in the bodies of a loop or condition, at any depth."""
    for body in operation.bodies:
        for inner in body.operations:
            yield inner.kind
            yield from _inside(inner)


def _quantised(graph: IrGraph, constants: IrConstants) -> Iterator[tuple[str, Quantisation]]:
    """Yield what each FakeQuantize of a value that flows rounds to."""
    for operation in graph.every("fakequantize"):
        steps = None if constants.made(operation) else _steps(operation, constants)
        if steps is not None:
            yield operation.outputs[0], steps


def _steps(operation: IrOperation, constants: IrConstants) -> Quantisation | None:
    """Return the even steps that a FakeQuantize rounds floats to; None where it does more than that.

    It cuts its input off at two ends, rounds it to `levels` steps between them, and moves those to two ends of the
    output (docs.openvino.ai, FakeQuantize-1): where the ends of both are the same, that is all that quantisation does.
    """
    ends = [end.values.astype(np.float64) for end in map(constants.get, operation.inputs[1:5]) if end is not None]
    levels = operation.real("levels", 0)
    if len(ends) < 4 or not 2 <= levels <= MOST_LEVELS or not all(map(np.array_equal, ends[:2], ends[2:])):
        return None
    low, high = ends[:2]
    axis = norms.channel_axis(low.shape)
    if low.shape != high.shape or (axis is None and low.size > 1) or not (high > low).all():
        return None
    scale = ((high - low) / (levels - 1)).reshape(-1)
    zero = -low.reshape(-1) / scale
    return Quantisation(scale, zero, "float32", len(operation.shapes[0]) + (axis or 0), int(levels))


def _value(name: str, maker: IrOperation) -> Value:
    place = maker.outputs.index(name)
    return Value(name, maker.shapes[place], maker.dtypes[place])


def _norm(found: norms.IrNorm) -> Node:
    layer = found.layer
    geometry = Geometry(channel_axis=1)
    kernel = norm_kernel(layer)
    return Node(
        layer.name,
        network.BATCH_NORM,
        (found.x,),
        (found.y,),
        kernel,
        layer=layer.name,
        norm=layer,
        geometry=geometry,
    )


def _piece(operation: IrOperation, constants: IrConstants) -> Node | None:
    """Return an operation that combines a value with a number per channel; None if it is another one."""
    if operation.kind not in _PIECES or len(operation.inputs) != 2:
        return None
    first, second = operation.inputs
    constant = constants.get(first) or constants.get(second)
    if (first in constants) == (second in constants) or constant is None or constant.values.dtype.kind != "f":
        return None
    step = None if constant.step is None else np.full(1, constant.step.max(initial=0.0))
    return channel_chains.scale_and_shift(
        Piece(
            operation.name,
            _PIECES[operation.kind],
            second if first in constants else first,
            operation.outputs[0],
            constant.values,
            first in constants,
            constant.rounded,
            step,
        )
    )


def _other(operation: IrOperation, constants: IrConstants) -> Node:
    kind = _PASSING.get(operation.kind, _NAMES.get(operation.kind, operation.kind))
    if kind == "fakequantize" and _steps(operation, constants) is not None:
        kind = "identity"
    inputs = tuple(value for value in operation.inputs if value not in constants)
    order = constants.get(operation.takes(1)) if operation.kind == "transpose" else None
    return Node(
        operation.name,
        kind,
        inputs[:1] if operation.kind in _PASSING else inputs,
        operation.outputs,
        limits=_limits(operation),
        setting=_setting(operation),
        order=() if order is None else tuple(int(axis) for axis in order.values.reshape(-1)),
        constants=_rounded(operation, constants) if operation.kind in _PIECES else "",
    )


def _rounded(operation: IrOperation, constants: IrConstants) -> str:
    """Return the type of the constant that an operation takes; empty for whole numbers, and if there is none."""
    found = [one for value in operation.inputs if value in constants and (one := constants.get(value)) is not None]
    return found[0].rounded if len(found) == 1 and found[0].step is None else ""


def _limits(operation: IrOperation) -> ActivationLimits | None:
    if operation.kind == "relu":
        return ActivationLimits(0.0, float("inf"))
    return (
        ActivationLimits(operation.real("min", -np.inf), operation.real("max", np.inf))
        if operation.kind == "clamp"
        else None
    )


def _setting(operation: IrOperation) -> str:
    if operation.kind == "sigmoid":
        return "elementwise"
    return f"axis {operation.attributes.get('axis', '1')}" if operation.kind == "softmax" else ""
