"""The linear operations of ONNX with their constants: Conv, Gemm, MatMul, and what fuses or quantises them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bninspect.errors import DamagedFile
from bninspect.formats.onnx import blocked
from bninspect.formats.onnx.constants import Constant, Constants, dequantised
from bninspect.records import Array
from bninspect.records import graph as network
from bninspect.records.graph import ActivationLimits, Geometry, Kernel, Node
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.onnx.model import NodeProto

_FLOAT = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FUSED = ("FusedConv", "FusedGemm", "FusedMatMul")
"""Of com.microsoft: with an activation behind."""
_QUANTISED = ("QLinearConv", "QLinearMatMul", "QGemm")
_DOMAIN = "com.microsoft::"
_FUSED_LIMITS = {"Relu": ActivationLimits(0.0, float("inf")), "": None}


def kernel_node(node: NodeProto, constants: Constants) -> Node | None:
    """Return a linear operation with constant weights; None for every other node, and for what nobody knows."""
    op = "FusedConv" if node.op == blocked.CONVOLUTION else node.op.removeprefix(_DOMAIN)
    found = _quantised(node, op, constants) if op in _QUANTISED else _of_floats(node, op, constants)
    if found is None:
        return None
    kernel, kind, size = found
    activation = node.attributes["activation"].text(4) if op in _FUSED and "activation" in node.attributes else ""
    limits = _fused_limits(node, activation)
    return Node(
        node.label,
        kind,
        tuple(node.inputs[:1]),
        (node.outputs[0],),
        kernel,
        activation="" if limits is not None or not activation else activation.lower(),
        padded=any(node.integers("pads")) or node.is_same,
        geometry=geometry_of(node, size) if size else Geometry(),
        limits=limits,
    )


def _fused_limits(node: NodeProto, activation: str) -> ActivationLimits | None:
    if activation == "Clip":
        low, high = (*_reals(node, "activation_params"), float("nan"), float("nan"))[:2]
        return ActivationLimits(low, high)
    return _FUSED_LIMITS.get(activation)


def _reals(node: NodeProto, name: str) -> tuple[float, ...]:
    if name not in node.attributes:
        return ()
    return tuple(float(value) for value in np.frombuffer(node.attributes[name].fixed32(7), "<f4"))


def _of_floats(node: NodeProto, op: str, constants: Constants) -> tuple[Kernel, str, tuple[int, ...]] | None:
    if op not in _FLOAT and op not in _FUSED:
        return None
    weights = constants.get(node.takes(1)) if node.takes(1) in constants else None
    if weights is None or node.takes(0) in constants:
        return None
    biased = op.removeprefix("Fused") != "MatMul" and node.takes(2) != ""
    bias = constants.get(node.takes(2)) if biased and node.takes(2) in constants else None
    if biased and bias is None:
        return None
    numbers, groups = weights.values, node.integer("group", 1)
    kind = op.removeprefix("Fused")
    if kind in {"Gemm", "MatMul"}:
        numbers = (
            numbers.reshape(numbers.shape[-2:])
            if numbers.ndim > 2 and numbers.size == np.prod(numbers.shape[-2:])
            else numbers
        )
        if numbers.ndim != 2 or node.integer("transA", 0) or (op == "FusedMatMul" and node.integer("transBatchA", 0)):
            return None
        return _dense(node, replace(weights, values=numbers), bias), network.DENSE, ()
    if kind == "ConvTranspose":
        kernel = network.transposed(numbers, groups)
        return assembled(kernel, bias, groups, weights, 1), network.TRANSPOSED, numbers.shape[2:]
    if node.op == blocked.CONVOLUTION and groups > 1 and numbers.shape[1] == 1:
        groups = len(numbers)  # the group of a filled-up block counts too
    named = network.DEPTHWISE if groups > 1 and numbers.shape[1] == 1 else network.CONVOLUTION
    kernel = network.convolution(numbers, groups)
    return assembled(kernel, bias, groups, weights, 0), named, numbers.shape[2:]


def _dense(node: NodeProto, weights: Constant, bias: Constant | None) -> Kernel:
    swapped = node.integer("transB", 0) != 0
    numbers = weights.values.T if swapped else weights.values
    # alpha and beta of a Gemm are part of what it multiplies and adds.
    alpha, beta = (np.float32(node.real(name, 1.0)) for name in ("alpha", "beta"))
    if alpha != 1:
        numbers = numbers * alpha
    if bias is not None and beta != 1:
        bias = replace(bias, values=bias.values * beta)
    return assembled(network.dense(numbers), bias, 1, weights, 0 if swapped else 1)


def assembled(numbers: Array, bias: Constant | None, groups: int, weights: Constant, axis: int) -> Kernel:
    """Return the kernel whose weights, as stored, have their outputs along `axis`."""
    outputs = numbers.shape[2]
    step = weights.step
    if step is not None and (step.size not in {1, outputs} or (step.size > 1 and weights.axis != axis)):
        step = np.full(1, step.max())
    return Kernel(
        numbers,
        None if bias is None else _per_output(bias.values.reshape(-1), outputs, bias.name),
        groups,
        (weights.rounded or weights.dtype) if weights.step is None else "float32",
        None if step is None else np.broadcast_to(step, (outputs,)),
        None if bias is None or bias.step is None else _per_output(bias.step, outputs, bias.name),
        narrow=weights.dtype in network.NARROW and weights.step is None,
    )


def _per_output(numbers: Array, outputs: int, name: str) -> Array:
    """Return one number for each output. Raises DamagedFile if there are neither that many nor one for all."""
    if numbers.size not in {1, outputs}:
        raise DamagedFile("this model is damaged", why=f"{printable(name)} has {numbers.size} of {outputs} numbers")
    return np.broadcast_to(numbers, (outputs,))


def _quantised(node: NodeProto, op: str, constants: Constants) -> tuple[Kernel, str, tuple[int, ...]] | None:
    """Return a QLinearConv, QLinearMatMul or QGemm: x, its step and zero, w, its step and zero, and the others."""
    stored, step, zero = (constants.get(node.takes(place)) for place in (3, 4, 5))
    scale = constants.get(node.takes(1))
    place = {"QLinearConv": 8, "QGemm": 6}.get(op)
    bias = constants.get(node.takes(place)) if place is not None and node.takes(place) in constants else None
    if stored is None or step is None or scale is None or stored.values.dtype.kind not in "iu":
        return None
    if place is not None and node.takes(place) and bias is None:
        return None
    if bias is not None:
        if scale.values.size != 1:
            raise DamagedFile("this model is damaged", why=f"{printable(scale.name)} is not a single step")
        # The bias is in units of the product of both steps (onnx/defs/quantization).
        units = scale.values.reshape(-1).astype(np.float64) * step.values.reshape(-1)
        unit = Constant(units, "float32", step.name)
        bias = dequantised(bias, unit, None, max(0, bias.values.ndim - 1))
    if op != "QLinearConv":
        if stored.values.ndim != 2 or node.integer("transA", 0) or node.real("alpha", 1.0) != 1:
            return None
        turned = int(op == "QGemm" and node.integer("transB", 0) != 0)
        weights = dequantised(stored, step, zero, 1 - turned)
        numbers = weights.values.T if turned else weights.values
        return assembled(network.dense(numbers), bias, 1, weights, 1 - turned), network.DENSE, ()
    weights = dequantised(stored, step, zero, 0)
    groups = node.integer("group", 1)
    kind = network.DEPTHWISE if groups > 1 and weights.values.shape[1] == 1 else network.CONVOLUTION
    kernel = network.convolution(weights.values, groups)
    return assembled(kernel, bias, groups, weights, 0), kind, weights.values.shape[2:]


def geometry_of(node: NodeProto, size: tuple[int, ...]) -> Geometry:
    """Return how a convolution of kernels of `size` moves over its input."""
    rank = len(size)
    pads = node.integers("pads")
    auto = node.attributes["auto_pad"].text(4) if "auto_pad" in node.attributes else ""
    padding: tuple[tuple[int, int], ...] | str = tuple(zip(pads[:rank], pads[rank:], strict=False))
    if auto.startswith("SAME"):
        padding = "same lower" if auto == "SAME_LOWER" else "same"
    ones = [1] * rank
    return Geometry(
        tuple(int(length) for length in size),
        tuple(node.integers("strides") or ones),
        padding,
        tuple(node.integers("dilations") or ones),
        tuple(node.integers("output_padding")),
        channel_axis=1,
    )
