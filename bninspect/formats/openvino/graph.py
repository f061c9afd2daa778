"""What an IR computes: its net as a Network, with the scale and the shift behind a linear operation joined to it.

The converters fold a batch norm into a convolution, and leave one behind a dense layer as Multiply and Add, with the
bias of the dense layer taken into the Add: then neither says what the model says, and both together do.

Order of weights (docs.openvino.ai, operation sets): Convolution (outputs, inputs, places), GroupConvolution (groups,
outputs per group, inputs per group, places), ConvolutionBackpropData (inputs, outputs, places),
GroupConvolutionBackpropData (groups, inputs per group, outputs per group, places).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.errors import DamagedFile
from bninspect.formats import bodies, channel_chains
from bninspect.formats.channel_chains import Piece
from bninspect.formats.openvino import norms
from bninspect.formats.openvino.constants import IrConstant, IrConstants
from bninspect.formats.openvino.model import IrGraph, IrOperation
from bninspect.records import Array
from bninspect.records import graph as network
from bninspect.records.graph import ActivationLimits, Geometry, Kernel, Network, Node, Quantisation, Value
from bninspect.safe_text import printable

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
_CONVOLUTIONS = ("convolution", "groupconvolution", "convolutionbackpropdata", "groupconvolutionbackpropdata")
_ENDS = ("parameter", "result")
MOST_LEVELS = 1 << 16
"""Steps that a FakeQuantize may round to: those of 16 bits."""


def read(graph: IrGraph) -> Network:
    """Return what a graph computes."""
    constants, readers = IrConstants(graph), norms.taken_by(graph)
    linear, inside = _linear(graph, constants, readers)
    whole = {one.operations[0]: one for one in norms.find(graph) if one.y}
    nodes = []
    for operation in graph.operations:
        if operation.name in linear:
            nodes.append(linear[operation.name])
        elif operation.name in whole:
            nodes.append(_norm(whole[operation.name]))
        elif operation.name not in inside and not constants.made(operation) and operation.kind not in _ENDS:
            other = _piece(operation, constants) or _other(operation, constants)
            nodes.append(replace(other, within=bodies.held(operation.kind, _inside(operation))))
    ends = [one.takes(0) for one in graph.every("result")]
    names = {one.operations[0]: one.layer.name for one in norms.scales(graph)}
    joined = (
        replace(node, layer=names.get(node.name, node.layer)) if node.layer and node.norm is None else node
        for node in channel_chains.join(nodes, ends)
    )
    makers = {value: one for one in graph.operations for value in one.outputs}
    return Network(
        tuple(Value(one.outputs[0], one.shapes[0], one.dtypes[0]) for one in graph.every("parameter")),
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
    ends = [one.values.astype(np.float64) for one in map(constants.get, operation.inputs[1:5]) if one is not None]
    levels = operation.real("levels", 0)
    if len(ends) < 4 or not 2 <= levels <= MOST_LEVELS or not all(np.array_equal(*pair) for pair in _pairs(ends)):
        return None
    low, high = ends[:2]
    axis = norms.channel_axis(low.shape)
    if low.shape != high.shape or (axis is None and low.size > 1) or not (high > low).all():
        return None
    scale = ((high - low) / (levels - 1)).reshape(-1)
    zero = -low.reshape(-1) / scale
    return Quantisation(scale, zero, "float32", len(operation.shapes[0]) + (axis or 0), int(levels))


def _pairs(ends: Sequence[Array]) -> Iterator[tuple[Array, Array]]:
    """Yield the ends of the input with those of the output."""
    return zip(ends[:2], ends[2:], strict=True)


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
        order=() if order is None else tuple(int(one) for one in order.values.reshape(-1)),
    )


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


def _linear(
    graph: IrGraph, constants: IrConstants, readers: Mapping[str, list[IrOperation]]
) -> tuple[dict[str, Node], set[str]]:
    """Return the linear operations by name, and the names of the scales that were joined to them."""
    found: dict[str, Node] = {}
    inside: set[str] = set()
    for operation in graph.operations:
        node = _kernel(operation, constants)
        if node is None:
            continue
        after = readers.get(node.outputs[0], [])
        if len(after) == 1 and after[0].kind == "multiply" and len(after[0].inputs) == 2:
            scaled = _scaled(node, after[0], constants)
            if scaled is not None:
                inside.add(after[0].name)
                node = scaled
        found[operation.name] = node
    return found, inside


def _scaled(node: Node, after: IrOperation, constants: IrConstants) -> Node | None:
    """Return a linear operation with the scale of each output behind it as a part of its weights."""
    kernel = node.kernel
    constant = next((constants.get(name) for name in after.inputs if name in constants), None)
    if kernel is None or constant is None or constant.values.dtype.kind != "f":
        return None
    # Where the outputs of a convolution are depends on how many places it has.
    own = -1 if node.operation == network.DENSE else 1 - len(after.shapes[0])
    axis = norms.channel_axis(constant.values.shape)
    if constant.values.size not in {1, kernel.outputs} or (constant.values.size > 1 and axis != own):
        return None
    numbers = np.broadcast_to(constant.values.reshape(-1), (kernel.outputs,)).astype(np.float64)
    with np.errstate(all="ignore"):
        weights = kernel.weights.astype(np.float64) * numbers
        step = None if kernel.weight_step is None else kernel.weight_step * np.abs(numbers)
    kernel = replace(kernel, weights=weights, weight_step=step, apart=numbers)
    return replace(node, outputs=after.outputs, kernel=kernel, rounds={node.outputs[0]: np.abs(numbers)})


def _kernel(operation: IrOperation, constants: IrConstants) -> Node | None:
    """Return an operation that multiplies what flows by constant weights; None for every other one."""
    if operation.kind not in {*_CONVOLUTIONS, "matmul"} or operation.takes(0) in constants:
        return None
    weights = constants.get(operation.takes(1))
    if weights is None or weights.values.dtype.kind != "f" or not _is_plain(operation, weights):
        return None
    own = _ordered(weights.values, operation)
    step = None
    if weights.step is not None:
        step = _ordered(np.broadcast_to(weights.step, weights.values.shape), operation).max(axis=(0, 1))
    groups = weights.values.shape[0] if operation.kind.startswith("group") else 1
    kernel = Kernel(own, None, groups, weights.rounded, step, step_dtype=weights.scaled)
    kind = _kind(operation, kernel)
    geometry = Geometry() if operation.kind == "matmul" else _geometry(operation, weights)
    return Node(
        operation.name,
        kind,
        operation.inputs[:1],
        operation.outputs,
        kernel,
        padded=geometry is not None and (isinstance(geometry.padding, str) or any(map(any, geometry.padding))),
        geometry=geometry,
    )


def _geometry(operation: IrOperation, weights: IrConstant) -> Geometry | None:
    """Return how a convolution moves over its input; None where the length of its output is an input of it."""
    size = weights.values.shape[3 if operation.kind.startswith("group") else 2 :]
    if len(operation.inputs) > 2:
        return None
    ones, auto = (1,) * len(size), operation.attributes.get("auto_pad", "explicit")
    padding: tuple[tuple[int, int], ...] | str = ((0, 0),) * len(size)
    if auto.startswith("same"):
        padding = "same lower" if auto == "same_lower" else "same"
    elif auto in {"explicit", "notset"}:
        before, behind = operation.numbers("pads_begin"), operation.numbers("pads_end")
        padding = tuple(zip(before or (0,) * len(size), behind or (0,) * len(size), strict=False))
    return Geometry(
        size,
        operation.numbers("strides") or ones,
        padding,
        operation.numbers("dilations") or ones,
        operation.numbers("output_padding"),
        channel_axis=1,
    )


def _is_plain(operation: IrOperation, weights: IrConstant) -> bool:
    """Return whether an operation multiplies by one matrix, if it is a MatMul."""
    turned = operation.attributes.get("transpose_a", "false").lower() in {"true", "1"}
    return operation.kind != "matmul" or (weights.values.ndim == 2 and not turned)


def _kind(operation: IrOperation, kernel: Kernel) -> str:
    if operation.kind == "matmul":
        return network.DENSE
    if operation.kind.endswith("backpropdata"):
        return network.TRANSPOSED
    return network.DEPTHWISE if kernel.groups > 1 and kernel.weights.shape[1] == 1 else network.CONVOLUTION


def _ordered(weights: Array, operation: IrOperation) -> Array:
    """Return weights, or a step for each of them, in the order of `records.graph`."""
    if operation.kind == "matmul":
        turned = operation.attributes.get("transpose_b", "false").lower() in {"true", "1"}
        return network.dense(weights.T if turned else weights)
    groups = 1
    if operation.kind.startswith("group"):
        if weights.ndim < 4 or not weights.shape[0]:
            why = f"weights of {printable(operation.name)} have shape {weights.shape}"
            raise DamagedFile("a convolution contradicts itself", why=why)
        groups = weights.shape[0]
        weights = weights.reshape(-1, *weights.shape[2:])
    return (network.transposed if operation.kind.endswith("backpropdata") else network.convolution)(weights, groups)
