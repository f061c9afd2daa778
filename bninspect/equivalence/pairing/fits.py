"""Whether an operation of the export has the shape, and holds the numbers, of one of the source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bninspect.equivalence import folding
from bninspect.equivalence.folding import FoldedKernel
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records import Array
from bninspect.records.graph import Kernel, Node, kernel_of


def holds(node: Node, folded: FoldedKernel) -> bool:
    """Return whether the weights and bias of an operation of the export are these."""
    if not holds_weights(node, folded):
        return False
    kernel = kernel_of(node)
    should = folding.as_stored(folded, kernel)
    return folding.fits(folding.zero_bias(kernel), should.bias, should.bias_bound)


def holds_weights(node: Node, folded: FoldedKernel) -> bool:
    """Return whether the weights of an operation of the export are these, whatever its bias is."""
    kernel = node.kernel
    if kernel is None or kernel.weights.shape != folded.own.shape:
        return False
    return folding.fits_weights(kernel.weights, folding.as_stored(folded, kernel))


def is_shifted(node: Node, operation: Node) -> bool:
    """Return whether a kernel of the export is one of the source whose every bias is off by one and the same number.

    A converter adds a constant behind a kernel to its bias: the 3 of `relu6(x + 3) / 6`, as TensorFlow's does.
    """
    folded = folding.plain(kernel_of(operation))
    if not holds_weights(node, folded):
        return False
    kernel = kernel_of(node)
    should = folding.as_stored(folded, kernel)
    off = np.median(folding.zero_bias(kernel) - should.bias)
    bound = np.asarray(should.bias_bound) + 2 * folding.U * (abs(off) + np.abs(should.bias))
    return folding.fits(folding.zero_bias(kernel), should.bias + off, bound)


def is_off_by_one_number(node: Node, operation: Node) -> bool:
    """Return whether a kernel of the export is one of the source, multiplied by a number or with one added."""
    return is_shifted(node, operation) or is_multiplied(node, operation)


def is_multiplied(node: Node, operation: Node) -> bool:
    """Return whether a kernel of the export is one of the source with every number of it multiplied by the same one."""
    own, stored = kernel_of(operation), kernel_of(node)
    if own.weights.shape != stored.weights.shape:
        return False
    wide = own.weights.astype(np.float64)
    factor = factor_between(wide, stored.weights, folding.as_stored(folding.plain(own), stored).weight_bound)
    if not np.isfinite(factor) or not factor:
        return False
    bias = None if own.bias is None else own.bias * factor
    return holds(node, folding.plain(replace(own, weights=wide * factor, bias=bias)))


def factor_between(own: Array, stored: Array, bound: Array) -> float:
    """Return the number by which weights are multiplied in others of their shape; NaN for zeros.

    By least squares. Where rounding to steps leaves that outside of what each weight allows by its bound, the middle of
    the numbers that all of them allow, if there are any.
    """
    with np.errstate(all="ignore"):
        factor = float((own * stored).sum() / np.square(own).sum())
        ends = np.sort(np.stack([stored - bound, stored + bound]) / own, axis=0)[:, own != 0]
    low, high = float(ends[0].max(initial=-np.inf)), float(ends[1].min(initial=np.inf))
    return factor if low <= factor <= high or not low <= high else (low + high) / 2


def same_shape(operation: Node, node: Node) -> bool:
    """Return whether two linear operations have the same numbers of taps, inputs, outputs and groups."""
    one, other = operation.kernel, node.kernel
    if one is None or other is None or one.weights.shape != other.weights.shape:
        return False
    return one.groups == other.groups or 0 in {one.groups, other.groups}  # weights alone do not say


def as_map(norm: SourceNorm, node: Node | None = None) -> FoldedKernel:
    """Return scale and shift as the weights and bias of an operation of one tap and one input per channel.

    Args:
        norm: a batch norm.
        node: an operation of the export that may hold it: one that survived has parameters of its own type.
    """
    one = Kernel(np.ones((1, 1, norm.affine.scale.size)))
    folded = folding.behind(folding.plain(one), norm.affine)
    survived = node is not None and node.kernel is not None and not node.folded
    return folding.rounded(norm.affine, folded, node.kernel.dtype) if survived and node and node.kernel else folded


def is_map(node: Node, norm: SourceNorm) -> bool:
    """Return whether a batch norm of the export does what one of the source does."""
    return holds(node, as_map(norm, node))
