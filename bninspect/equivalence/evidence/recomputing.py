"""One operation of an export in float64: the sums of its products on an input, in whatever layout it has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bninspect.arithmetic import kernels
from bninspect.arithmetic.bounds import RSQRT
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels import Activation, Arithmetic, Convolution, Exact, Weights, Window
from bninspect.equivalence import folding, tensors
from bninspect.equivalence.folding import FoldedKernel
from bninspect.errors import BninspectError
from bninspect.records import Array, graph
from bninspect.records.graph import Geometry, Kernel, Node


def compute(node: Node, x: Array, folded: FoldedKernel, y: Array) -> Exact:
    """Return the exact result of an operation. Raises BninspectError where shapes do not fit or nothing is known."""
    assert node.kernel is not None  # noqa: S101 - narrows the type
    if node.operation == graph.BATCH_NORM:
        return _scaled(node, x, folded)
    weights = Weights.of(
        folded.weights, folded.bias, relative=folded.relative, bound=folded.absolute, bias_bound=folded.bias_bound
    )
    geometry = node.geometry
    if geometry is None:
        raise BninspectError("the file does not say how it moves over its input")
    if node.operation == graph.DENSE:
        exact = kernels.multiply(x, weights)
        if y.shape[:-1] != exact.places.shape and y.size == exact.places.total * node.kernel.outputs:
            # TFLite's FULLY_CONNECTED may keep the axes of its input or not; the rows are in the same order.
            exact = replace(exact, places=replace(exact.places, shape=y.shape[:-1]))
        return exact
    if x.ndim < 3:
        raise BninspectError(f"an input of shape {x.shape} has no places that it could move over")
    axis = 1 if geometry.channel_axis % x.ndim == 1 and x.ndim > 2 else -1
    return kernels.convolve(_convolution(node, node.kernel, geometry, axis, x, y), x, weights)


def _convolution(node: Node, kernel: Kernel, geometry: Geometry, axis: int, x: Array, y: Array) -> Convolution:
    rank = len(geometry.size)
    groups = kernel.groups or x.shape[axis] // kernel.weights.shape[1]
    transposed = node.operation == graph.TRANSPOSED
    lengths, made = (
        tuple(one for place, one in enumerate(a.shape[1:]) if place != (0 if axis == 1 else a.ndim - 2)) for a in (x, y)
    )
    ones = (1,) * rank
    stride, dilation = geometry.stride or ones, geometry.dilation or ones
    extra = geometry.output_padding or (0,) * rank
    padding = geometry.padding or ((0, 0),) * rank
    if isinstance(padding, str):
        padding = kernels.same(
            made if transposed else lengths, geometry.size, stride, dilation, lower=padding == "same lower"
        )
    if transposed and len(lengths) == rank == len(made):
        plain = Window(geometry.size, stride, padding, dilation).transposed_outputs(lengths)
        # TFLite and Keras state the length of the output; what is missing of it is behind.
        extra = tuple(max(0, one - other) for one, other in zip(made, plain, strict=True))
    return Convolution(
        Window(geometry.size, stride, padding, dilation), groups, transposed, extra if transposed else None, axis
    )


def _scaled(node: Node, x: Array, folded: FoldedKernel) -> Exact:
    """Return the exact result of a scale and shift per channel, as sums of one product."""
    channels = folded.bias.size
    axis = tensors.axis_of(node)
    if not -x.ndim <= axis < x.ndim or channels not in {1, x.shape[axis]} or folded.own.size != channels:
        raise BninspectError(f"an input of shape {x.shape} does not fit {channels} channels along axis {axis}")
    last = np.moveaxis(x, axis, -1).astype(np.float64)
    rows = last.reshape(-1, last.shape[-1])
    scale, shift = folded.weights.reshape(-1), folded.bias
    size = np.maximum(np.abs(shift), _added(node))
    with np.errstate(all="ignore"):
        value = rows * scale + shift
        magnitude = np.abs(rows) * np.abs(scale) + size
        inexact = np.abs(rows) * folded.bound_of(folded.weights).reshape(-1) + folded.bias_bound
    places = kernels.Places(last.shape[:-1], np.arange(len(rows), dtype=np.int64), axis)
    # As many roundings as a centred batch norm, a chain or a scale and shift may have between input and output.
    terms = int(RSQRT) + 4 + len(node.rounds)
    reach = float(np.abs(rows).max(initial=0.0))
    return Exact(value, magnitude, inexact, terms, reach, np.abs(scale), places)


def _added(node: Node) -> Float64 | float:
    """Return the size of what a scale and shift adds, however small the sum: beta, and the mean that it takes off."""
    if node.magnitude is not None:
        return np.asarray(node.magnitude, np.float64)
    if node.norm is None:
        return 0.0
    own = folding.affine(node.norm)
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(own.beta) + np.abs(own.mean * own.scale))


def activation_of(node: Node) -> Activation:
    """Return what an operation applies to its sums. Raises BninspectError if that is not one that is recomputed."""
    if node.limits is not None:
        return Activation("clip", node.limits.low, node.limits.high)
    if not node.activation:
        return kernels.NONE
    if node.activation == "tanh":
        return Activation("tanh")
    raise BninspectError(f"its activation {node.activation} is not one that is recomputed")


def arithmetic_of(y: Array, x: Array) -> Arithmetic:
    """Return in which types an operation computes, from those of its output and its input."""
    if np.float16 in {y.dtype.type, x.dtype.type}:
        return kernels.FLOAT16
    return (
        kernels.FLOAT64 if y.dtype == np.float64 and x.dtype == np.float64 and y.dtype.kind == "f" else kernels.FLOAT32
    )
