"""A batch norm that stands in the export where it belongs, with other numbers: which of them differ, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from bninspect.equivalence import folding, measuring
from bninspect.equivalence.pairing.fits import as_map
from bninspect.equivalence.pairing.places import Pairing
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records import PARAMETERS, Array, BatchNorm, Cause, Comparison, Statistics, graph
from bninspect.records.graph import Network, Node

_SHOWN = 4
"""Channels that are named."""


def find(norm: SourceNorm, pairing: Pairing, export: Network) -> Node | None:
    """Return the batch norm of the export, or the scale and shift, that alone comes behind the operation before it."""
    before = pairing.plain.get(norm.kernel) if norm.kernel is not None else None
    producers = export.producers()
    for node in pairing.pairs:
        if before is not None and node.inputs and _kernel_before(node.inputs[0], producers) is before:
            return node
    same = [node for node in pairing.pairs if node.norm is not None and node.norm.name == norm.layer.name]
    # A name is only something to go by where numbers say that the two are of one model.
    return same[0] if len(same) == 1 and before is None and pairing.places else None


def _kernel_before(value: str, producers: Mapping[str, Node]) -> Node | None:
    """Return the operation with a kernel that a value comes from, an activation or two between them passed over."""
    node = graph.origin(value, producers)
    for _ in range(2):
        if node is None or node.kernel is not None or len(node.inputs) != 1:
            break
        node = graph.origin(node.inputs[0], producers)
    return node


def compared(norm: SourceNorm, node: Node) -> tuple[Comparison, ...]:
    """Return the comparisons of its scale and shift, if it has the same number of channels."""
    if node.kernel is None or node.kernel.weights.size != norm.affine.scale.size:
        return ()
    return measuring.of_kernel(as_map(norm, node), node.kernel)


def differences(norm: SourceNorm, node: Node) -> Iterator[Cause]:
    """Yield what is different, as the file says it: batch statistics, an epsilon that was left, parameters."""
    stored = node.norm
    if stored is not None and stored.statistics in {Statistics.BATCH, Statistics.SAMPLE}:
        sentence = f"the export normalises by the statistics of each {stored.statistics}, as in training mode"
        yield Cause("training-mode", sentence, 0.0)
        return
    if stored is None or stored.statistics is not Statistics.MOVING:
        yield from _of_maps(norm, node)
        return
    left = _epsilon_left(norm, stored)
    if left is not None:
        yield left
        return
    exchanged = _exchanged(norm.layer, stored)
    if exchanged:
        yield Cause("arrays-exchanged", exchanged, 0.0)
        return
    parts = [text for name in PARAMETERS if (text := _changed(name, norm.layer, stored))]
    own, other = norm.layer.epsilon, stored.epsilon
    if own is not None and other is not None and np.float32(own) != np.float32(other):
        parts.append(f"epsilon is {other:g} and not {own:g}")
    if parts:
        yield Cause("parameters-differ", "; ".join(parts), 0.0)


def _epsilon_left(norm: SourceNorm, stored: BatchNorm) -> Cause | None:
    """Return that mean and variance were folded into gamma and beta while epsilon was left in the node."""
    mean, variance = stored.moving_mean, stored.moving_variance
    if mean is None or variance is None or mean.any() or not (variance == 1).all() or not stored.epsilon:
        return None
    gamma = stored.gamma if stored.gamma is not None else np.ones_like(variance)
    beta = stored.beta if stored.beta is not None else np.zeros_like(variance)
    right = as_map(norm)
    if not folding.fits(gamma, right.weights.reshape(-1), right.weight_bound.reshape(-1)):
        return None
    if not folding.fits(beta, right.bias, right.bias_bound):
        return None
    sentence = (
        f"mean and variance were folded into gamma and beta, and epsilon {stored.epsilon:g} was left in the node, "
        "which adds it to a variance of 1"
    )
    return Cause("epsilon-left", sentence, 0.0, details={"epsilon": stored.epsilon})


def _exchanged(own: BatchNorm, stored: BatchNorm) -> str:
    """Return which two arrays stand in each other's place; empty if none do.

    A variance from a mean may be negative: what such a batch norm computes tells nothing, its arrays do.
    """
    for first, second in combinations(PARAMETERS, 2):
        pairs = [(one.arrays.get(first), one.arrays.get(second)) for one in (own, stored)]
        (a, b), (stored_a, stored_b) = pairs
        if a is None or b is None or stored_a is None or stored_b is None:
            continue
        others = [name for name in PARAMETERS if name not in {first, second}]
        crossed = _is_same(a, stored_b) and _is_same(b, stored_a) and not _is_same(a, b)
        if crossed and not any(_changed(name, own, stored) for name in others):
            return f"{first} and {second} are exchanged"
    return ""


def _is_same(one: Array, other: Array) -> bool:
    wide = one.astype(np.float64)
    return folding.fits(other, wide, 2 * folding.U * np.abs(wide))


def _changed(name: str, own: BatchNorm, other: BatchNorm) -> str:
    one, two = own.arrays.get(name), other.arrays.get(name)
    neutral = 1.0 if name in {"gamma", "moving_variance"} else 0.0
    if one is None and two is None:
        return ""
    like = one if one is not None else two
    assert like is not None  # noqa: S101 - one of them is there
    one = np.full(like.shape, neutral) if one is None else one
    two = np.full(like.shape, neutral) if two is None else two
    if one.shape != two.shape:
        return f"{name} has {two.size} numbers and not {one.size}"
    bound = 2 * folding.U * np.abs(one.astype(np.float64))
    with np.errstate(all="ignore"):
        off = np.flatnonzero(~(np.abs(two.astype(np.float64) - one) <= bound))
    return f"{name} differs in {_channels(off, one.size)}" if off.size else ""


def _of_maps(norm: SourceNorm, node: Node) -> Iterator[Cause]:
    """Yield which of scale and shift differ, of a pair that states no more than these."""
    if node.kernel is None or node.kernel.weights.size != norm.affine.scale.size:
        return
    should = folding.as_stored(as_map(norm, node), node.kernel)
    parts = []
    for what, actual, expected, bound in (
        ("its scale (gamma over the root)", node.kernel.weights, should.weights, should.weight_bound),
        ("its shift (beta and mean)", folding.zero_bias(node.kernel), should.bias, should.bias_bound),
    ):
        with np.errstate(all="ignore"):
            off = np.flatnonzero(~(np.abs(actual - expected) <= bound))
        if 0 < off.size <= max(_SHOWN, expected.size // 4):
            parts.append(f"{what} differs in {_channels(off, expected.size)}")
    if parts:
        yield Cause("numbers-differ", "; ".join(parts), 0.0)


def _channels(off: np.ndarray[tuple[int], np.dtype[np.int64]], of: int) -> str:
    if off.size == of > 1:
        return f"all {of} channels"
    named = ", ".join(str(one) for one in off[:_SHOWN])
    more = f" and {off.size - _SHOWN} more" if off.size > _SHOWN else ""
    return f"channel{'s' if off.size > 1 else ''} {named}{more}"
