"""What happened to a batch norm whose numbers are nowhere in the export: the place they should be in, and why not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bninspect import causes
from bninspect.arithmetic.formula import Float64, Parameters
from bninspect.equivalence import folding, measuring, standing
from bninspect.equivalence.pairing import (
    ACTIVATIONS,
    Match,
    Pairing,
    Place,
    SourceNorm,
    as_map,
    fed,
    is_map,
    same_shape,
)
from bninspect.equivalence.wrong_folds import hypotheses, with_siblings
from bninspect.errors import BninspectError
from bninspect.records import Array, BatchNorm, Cause, Comparison, Form, Observation, graph
from bninspect.records.graph import Kernel, Network, Node

LEFT_OUT = "left-out"
ALIKE = 0.9
"""Correlation of weights from which on two operations are taken for the same one, however wrong its numbers."""


_SIBLINGS = 64
"""Other batch norms of the same width of which one may have been folded in its place."""
_TRIED = 3
"""Places that are tried for one batch norm: of another model there may be fifty of its shape."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Where a batch norm should be, how far the numbers there are off, and what would explain them."""

    node: Node | None
    comparisons: tuple[Comparison, ...] = ()
    found: tuple[Cause, ...] = ()
    likeness: float = 0.0
    """Correlation of the numbers there with those that should be there."""
    tried: int = 0


def broken(match: Match, pairing: Pairing, export: Network) -> Cause | None:
    """Return what is wrong with a batch norm whose numbers are right: it stands where it must not."""
    norm, node = match.norm, match.node
    if not node.layer and not match.forward:
        if norm.obstacle == "activation":
            sentence = "it was folded into the operation before it across an activation, which comes between them"
            return Cause("folded-across-activation", sentence, 0.0)
        if norm.obstacle == "consumer" and norm.kernel not in pairing.plain:
            sentence = "it was folded into an operation whose result something else reads too, without the batch norm"
            return Cause("folded-past-second-consumer", sentence, 0.0)
    if match.forward and _shifts_border(norm):
        sentence = (
            "it was folded into the padded convolution behind it: there zeros are beyond the border, not its shift"
        )
        return Cause("padding-border", sentence, 0.0)
    again = _again(match, pairing, export)
    if again is not None:
        return Cause("applied-again", f"it was folded, and is applied again by {again.name}", 0.0)
    return None


def other_axis(norm: SourceNorm, node: Node) -> Cause | None:
    """Return that a batch norm whose output is wrong runs along another axis in the export; None if it does not."""
    call = norm.call.geometry
    kernel = norm.kernel.geometry if norm.kernel is not None and not node.layer else node.geometry
    if call is None or kernel is None or call.channel_axis == kernel.channel_axis:
        return None
    if call.channel_axis >= 0 or kernel.channel_axis >= 0:  # counted from the front, of ranks that are not known here
        return None
    sentence = f"it runs along axis {kernel.channel_axis} in the export and along axis {call.channel_axis} in the model"
    return Cause("wrong-axis", sentence, 0.0)


def _shifts_border(norm: SourceNorm) -> bool:
    follower = norm.follower
    wide = follower is not None and follower.kernel is not None and follower.kernel.weights.shape[0] > 1
    return wide and follower is not None and follower.padded and bool((norm.affine.shift != 0).any())


def _again(match: Match, pairing: Pairing, export: Network) -> Node | None:
    if match.node.layer:
        return None
    producers = export.producers()
    for node in pairing.pairs:
        if is_map(node, match.norm) and graph.origin(node.inputs[0], producers) is match.node:
            return node
    return None


def diagnose(norm: SourceNorm, pairing: Pairing, others: Sequence[SourceNorm], export: Network) -> Diagnosis:
    """Look for the place of a batch norm that no operation of the export holds, and for what was done to it.

    Args:
        norm: the batch norm.
        pairing: of the two files.
        others: the other batch norms of the model.
        export: what the export computes.
    """
    stands = standing.find(norm, pairing, export)
    if stands is not None:
        return _standing(norm, stands, [one.layer for one in others])
    found: list[Diagnosis] = []
    if norm.kernel is not None and norm.kernel not in pairing.plain:
        found += [_folded(norm, node, others) for node in _nearest(norm, pairing.kernels)]
    channels = norm.affine.scale.size
    pairs = [node for node in pairing.pairs if node.kernel is not None and node.kernel.outputs == channels]
    layers = [one.layer for one in others]
    found += [_paired(norm, node, layers) for node in pairs[:_TRIED]]
    explained = [one for one in found if one.found]
    if explained:
        return explained[0]
    if norm.kernel is not None and norm.kernel in pairing.plain:
        sentence = "it is missing: the operation before it is a plain copy, and no scale and shift follow"
        return Diagnosis(pairing.plain[norm.kernel], found=(Cause(LEFT_OUT, sentence, 0.0),), likeness=1.0)
    sentence = "it is missing: no operation is left that could hold it"
    nowhere = Diagnosis(None, found=(Cause(LEFT_OUT, sentence, 0.0),))
    return max(found, key=lambda one: one.likeness, default=nowhere)


def of_bias(place: Place, others: Sequence[SourceNorm]) -> Cause | None:
    """Return which mistake a bias is of whose weights are right; None where it may be what a quantiser corrected."""
    assert place.operation is not None  # noqa: S101 - only operations with weights have a bias of their own
    assert place.operation.kernel is not None  # noqa: S101 - narrows the type
    assert place.node.kernel is not None  # noqa: S101 - narrows the type
    if not place.norms:
        causes_found = tuple(_of_plain(place.operation.kernel, place.expected, place.node.kernel))
    elif place.front is None:
        causes_found = _folded(place.norms[-1], place.node, others).found
    else:
        return None
    return next((one for one in causes_found if one.ratio <= 1), None)


KNOWN_ACTIVATIONS = ACTIVATIONS
"""Operations of the source that are known to be activations."""


def of_kernels(pairing: Pairing, taken: Collection[int]) -> dict[Node, Diagnosis]:
    """Return where each kernel of the source that no operation of the export holds should be.

    Args:
        pairing: of the two.
        taken: identities of operations of the export that are diagnosed already.
    """
    left = [node for node in (*pairing.kernels, *pairing.pairs) if id(node) not in taken]
    found: dict[Node, Diagnosis] = {}
    for operation in pairing.lost:
        assert operation.kernel is not None  # noqa: S101 - only such operations are paired
        right = folding.plain(operation.kernel)
        near = [node for node in left if same_shape(operation, node) and _is_alike(operation, node)]
        node = max(near, key=lambda one: _likeness(right.weights, _weights(one)), default=None)
        if node is None or node.kernel is None:
            found[operation] = Diagnosis(None)
            continue
        left.remove(node)
        likeness = _likeness(right.weights, node.kernel.weights)
        causes_found = tuple(_of_plain(operation.kernel, right, node.kernel))
        found[operation] = Diagnosis(node, measuring.of_kernel(right, node.kernel), causes_found, likeness, 3)
    return found


def _is_alike(operation: Node, node: Node) -> bool:
    """Return whether two operations may be the same: a scale and shift, which may be anywhere, only if it looks so."""
    if operation.operation != graph.BATCH_NORM:
        return node.operation != graph.BATCH_NORM
    return node.operation == graph.BATCH_NORM and _likeness(_weights(operation), _weights(node)) >= ALIKE


def _weights(node: Node) -> Array:
    assert node.kernel is not None  # noqa: S101 - only such operations are paired
    return node.kernel.weights


def _of_plain(kernel: Kernel, right: folding.FoldedKernel, stored: Kernel) -> Iterator[Cause]:
    """Yield what would explain the numbers of a kernel that no batch norm is in."""
    should = folding.as_stored(right, stored)
    weights = _ratio(stored.weights, should.weights, should.weight_bound)
    bias = _ratio(folding.zero_bias(stored), should.bias, should.bias_bound)
    if weights <= 1 and not folding.zero_bias(stored).any() and folding.zero_bias(kernel).any():
        yield Cause("bias-dropped", "its bias was dropped", weights)
        return
    with np.errstate(all="ignore"):
        factor = float((right.weights * stored.weights).sum() / np.square(right.weights).sum())
    scaled = _ratio(stored.weights, right.weights * factor, should.weight_bound * max(abs(factor), 1.0) * 4)
    if np.isfinite(factor) and scaled <= 1 and weights > 1:
        whole = _ratio(folding.zero_bias(stored), right.bias * factor, should.bias_bound * max(abs(factor), 1.0) * 4)
        what = "its weights and bias were" if whole <= 1 < bias else "its weights were"
        yield Cause("scaled", f"{what} multiplied by {factor:.6g}", scaled, details={"factor": factor})


def _nearest(norm: SourceNorm, kernels: Sequence[Node]) -> list[Node]:
    """Return the operations of the export that are most like a batch norm's, folded or not: few, the best first."""
    operation = norm.kernel
    assert operation is not None  # noqa: S101 - narrows the type
    plain = folding.plain(fed(norm))
    right = folding.behind(plain, norm.affine)

    def likeness(node: Node) -> float:
        assert node.kernel is not None  # noqa: S101 - narrows the type
        return max(_likeness(one.weights, node.kernel.weights) for one in (right, plain))

    return sorted((node for node in kernels if same_shape(operation, node)), key=likeness, reverse=True)[:_TRIED]


def _folded(norm: SourceNorm, node: Node, others: Sequence[SourceNorm]) -> Diagnosis:
    """Diagnose a batch norm that should be in the weights and bias of `node`."""
    assert node.kernel is not None  # noqa: S101 - narrows the type
    kernel, stored = fed(norm), node.kernel
    right = folding.behind(folding.plain(kernel), norm.affine)
    comparisons = measuring.of_kernel(right, stored)
    tried, found = 0, list[Cause]()
    siblings = [(one.layer.name, one.affine) for one in others if one.affine.scale.size == norm.affine.scale.size]
    for hypothesis in (*hypotheses(kernel, norm.affine), *with_siblings(kernel, norm.affine, siblings[:_SIBLINGS])):
        tried += 1
        should = folding.as_stored(hypothesis.folded, stored)
        weights = _ratio(stored.weights, should.weights, should.weight_bound)
        bias = _ratio(folding.zero_bias(stored), should.bias, should.bias_bound)
        if weights <= 1 and bias <= 1 and hypothesis.name not in {one.name for one in found}:
            found.append(Cause(hypothesis.name, hypothesis.sentence, max(weights, bias)))
    simple = [one for one in found if " + " not in one.name]
    found = simple or found
    if not found:
        found, more = _by_detective(norm, _undone(kernel, stored), [one.layer for one in others])
        tried += more
    return Diagnosis(node, comparisons, tuple(found), _likeness(right.weights, stored.weights), tried)


def _standing(norm: SourceNorm, node: Node, others: Sequence[BatchNorm]) -> Diagnosis:
    """Diagnose a batch norm that stands where it belongs."""
    told = tuple(standing.differences(norm, node))
    comparisons = standing.compared(norm, node)
    if not comparisons or any(one.name in {"training-mode", "epsilon-left"} for one in told):
        return Diagnosis(node, comparisons, told, 1.0)
    found = _paired(norm, node, others)
    return replace(found, found=found.found or told, likeness=1.0)


def _paired(norm: SourceNorm, node: Node, others: Sequence[BatchNorm]) -> Diagnosis:
    """Diagnose a batch norm that should be the scale and shift of `node`."""
    assert node.kernel is not None  # noqa: S101 - narrows the type
    right = as_map(norm)
    comparisons = measuring.of_kernel(right, node.kernel)
    lines = (node.kernel.weights.reshape(-1).astype(np.float64), folding.zero_bias(node.kernel))
    found, tried = _by_detective(norm, lines, others)
    expected = np.concatenate([right.weights.reshape(-1), right.bias])
    return Diagnosis(node, comparisons, tuple(found), _likeness(expected, np.concatenate(lines)), tried)


def _undone(kernel: Kernel, stored: Kernel) -> tuple[Float64, Float64] | None:
    """Return the scale and shift per channel that the export's operation holds; None if its weights are not scaled so.

    By least squares: scale = <W, W'> / <W, W>, shift = b' - b*scale.
    """
    if stored.weight_step is not None or stored.dtype != "float32":
        return None
    weights, actual = kernel.weights.astype(np.float64), stored.weights.astype(np.float64)
    with np.errstate(all="ignore"):
        scale = (weights * actual).sum(axis=(0, 1)) / np.square(weights).sum(axis=(0, 1))
        bound = 16 * folding.U * np.abs(weights * scale) + 1e-30
    if not folding.fits(actual, weights * scale, bound):
        return None
    return scale, folding.zero_bias(stored) - folding.zero_bias(kernel) * scale


def _by_detective(
    norm: SourceNorm, lines: tuple[Float64, Float64] | None, others: Iterable[BatchNorm]
) -> tuple[list[Cause], int]:
    """Ask which formula gives these scales and shifts: they are what a kernel would compute with them."""
    if lines is None or not all(np.isfinite(one).all() for one in lines):
        return [], 0
    scale, shift = lines
    of = Parameters.of(norm.layer)
    deviation = np.where(np.isfinite(of.root) & (of.root > 0), of.root, 1.0).reshape(-1)
    steps = np.linspace(-3, 3, 13)[:, np.newaxis]
    x = (norm.affine.mean + steps * deviation).astype(np.float32)
    y = (x.astype(np.float64) * scale + shift).astype(np.float32)
    seen = Observation(norm.layer.name, "in-model", x, y, (1,), form=Form.FOLDED, loaded=norm.layer.arrays)
    try:
        explanation = causes.explain(norm.layer, [causes.sample(norm.layer, seen)], others)
    except BninspectError:
        return [], 0
    return list(explanation.causes), explanation.tried


def _ratio(actual: Float64, expected: Float64, bound: Float64) -> float:
    with np.errstate(all="ignore"):
        ratio = np.abs(actual - expected) / bound
    return float(ratio.max()) if np.isfinite(ratio).all() else float("inf")


def _likeness(expected: Float64, actual: Float64) -> float:
    """Return the correlation of two arrays, 0 where one of them is constant or not finite."""
    one, other = expected.reshape(-1), actual.reshape(-1).astype(np.float64)
    if one.shape != other.shape or one.size < 2:
        return 0.0
    with np.errstate(all="ignore"):
        found = float(np.corrcoef(one, other)[0, 1])
    return abs(found) if np.isfinite(found) else 0.0
