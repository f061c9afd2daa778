"""Linear operations of an IR, each with the scale of its outputs that follows it.

Order of weights (docs.openvino.ai, operation sets): Convolution (outputs, inputs, places), GroupConvolution (groups,
outputs per group, inputs per group, places), ConvolutionBackpropData (inputs, outputs, places),
GroupConvolutionBackpropData (groups, inputs per group, outputs per group, places).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bninspect.errors import DamagedFile
from bninspect.formats.openvino import norms
from bninspect.formats.openvino.constants import IrConstant, IrConstants
from bninspect.formats.openvino.model import IrGraph, IrOperation
from bninspect.records import Array
from bninspect.records import graph as network
from bninspect.records.graph import Geometry, Kernel, Node
from bninspect.safe_text import printable

_CONVOLUTIONS = ("convolution", "groupconvolution", "convolutionbackpropdata", "groupconvolutionbackpropdata")


def linear(
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
    kernel = Kernel(own, None, groups, weights.rounded, step, step_dtype=weights.scaled, counted=weights.counted)
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
    """Return how a convolution moves over its input; None where that depends on the length of its output.

    Trap: of a transposed one with an odd number of zeros, `same_lower` has the one more behind, `same_upper` before
    (OpenVINO 2026.4, run on three taps).
    """
    size = weights.values.shape[3 if operation.kind.startswith("group") else 2 :]
    ones, auto = (1,) * len(size), operation.attributes.get("auto_pad", "explicit")
    if len(operation.inputs) > 2 and not auto.startswith("same"):
        return None
    padding: tuple[tuple[int, int], ...] | str = ((0, 0),) * len(size)
    if auto.startswith("same") and operation.kind.endswith("backpropdata") and len(operation.inputs) == 2:
        pass  # without a length of its output there is nothing to be the same as
    elif auto.startswith("same"):
        lower = (auto == "same_lower") != operation.kind.endswith("backpropdata")
        padding = "same lower" if lower else "same"
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
