"""What happened to a kernel, or to a bias alone, whose numbers the export does not hold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from bninspect.equivalence import folding, measuring
from bninspect.equivalence.diagnosis.arrangements import arrangements
from bninspect.equivalence.diagnosis.diagnose import ALIKE, Diagnosis, diagnose_fold, scaled
from bninspect.equivalence.diagnosis.likeness import correlation, worst_ratio
from bninspect.equivalence.pairing.fits import same_shape
from bninspect.equivalence.pairing.places import Pairing, Place
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records import Array, Cause, graph
from bninspect.records.graph import Kernel, Node


def of_bias(place: Place, others: Sequence[SourceNorm]) -> Cause | None:
    """Return which mistake a bias is of whose weights are right; None where it may be what a quantiser corrected."""
    assert place.operation is not None  # noqa: S101 - only operations with weights have a bias of their own
    assert place.operation.kernel is not None  # noqa: S101 - narrows the type
    assert place.node.kernel is not None  # noqa: S101 - narrows the type
    if not place.norms:
        causes_found = tuple(_of_plain(place.operation.kernel, place.expected, place.node.kernel))
    elif place.front is None:
        causes_found = diagnose_fold(place.norms[-1], place.node, others).found
    else:
        return None
    return next((one for one in causes_found if one.ratio <= 1), None)


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
        orders = [right.weights, *(one.weights for _, one in arrangements(operation.kernel))]
        near = [node for node in left if same_shape(operation, node) and _is_alike(operation, node)]
        node = max(near, key=lambda one: max(correlation(order, _weights(one)) for order in orders), default=None)
        if node is None or node.kernel is None:
            found[operation] = Diagnosis(None)
            continue
        left.remove(node)
        likeness = correlation(right.weights, node.kernel.weights)
        causes_found = tuple(_of_plain(operation.kernel, right, node.kernel))
        found[operation] = Diagnosis(node, measuring.of_kernel(right, node.kernel), causes_found, likeness, 3)
    return found


def _is_alike(operation: Node, node: Node) -> bool:
    """Return whether two operations may be the same: a scale and shift, which may be anywhere, only if it looks so."""
    if operation.operation != graph.BATCH_NORM:
        return node.operation != graph.BATCH_NORM
    return node.operation == graph.BATCH_NORM and correlation(_weights(operation), _weights(node)) >= ALIKE


def _weights(node: Node) -> Array:
    assert node.kernel is not None  # noqa: S101 - only such operations are paired
    return node.kernel.weights


def _of_plain(kernel: Kernel, right: folding.FoldedKernel, stored: Kernel) -> Iterator[Cause]:
    """Yield what would explain the numbers of a kernel that no batch norm is in."""
    should = folding.as_stored(right, stored)
    weights = worst_ratio(stored.weights, should.weights, should.weight_bound)
    if weights <= 1 and not folding.zero_bias(stored).any() and folding.zero_bias(kernel).any():
        yield Cause("bias-dropped", "its bias was dropped", weights)
        return
    for sentence, arranged in arrangements(kernel):
        other = folding.as_stored(folding.plain(arranged), stored)
        bias = worst_ratio(folding.zero_bias(stored), other.bias, other.bias_bound)
        ratio = max(worst_ratio(stored.weights, other.weights, other.weight_bound), bias)
        if ratio <= 1 < weights:
            yield Cause("kernel-rearranged", sentence, ratio)
            return
    yield from scaled(right, stored)
