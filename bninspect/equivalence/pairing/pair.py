"""Pairs the operations of an export with the kernels and batch norms of its source: by value, never by name.

Converters merge, rename and reorder. What they cannot change are the numbers: W*a or a and c, to a few units in the
last place. An operation is assigned once. What fits nothing is paired by shape and order afterwards, for the
hypotheses to say what was done to it; a match that is merely close counts as none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from bninspect.equivalence import folding
from bninspect.equivalence.pairing import row_orders
from bninspect.equivalence.pairing.fits import as_map, holds, is_map, same_shape
from bninspect.equivalence.pairing.places import Pairing, Place, in_order, matches, unsure
from bninspect.equivalence.pairing.source_norms import SourceNorm, with_bias
from bninspect.equivalence.pairing.variants import find_fitting
from bninspect.records import graph
from bninspect.records.graph import Network, Node, kernel_of


def pair(found: Sequence[SourceNorm], source: Network, export: Network) -> Pairing:
    """Pair the kernels and batch norms of a source with the operations of an export, by exact arithmetic alone.

    Args:
        found: the batch norms of the source.
        source: what the source computes.
        export: what the export computes, and somebody reads.
    """
    operations = [node for node in source.nodes if node.kernel is not None and not node.layer]
    left = [node for node in export.nodes if node.kernel is not None and not node.layer]
    places: list[Place] = []
    moved: set[Node] = set()
    bare: set[Node] = set()
    held: set[Node] = set()
    orders = {one: tuple(row_orders.of_dense(one, source)) for one in operations if one.operation == graph.DENSE}
    # A second time for what is left: a result with two readers may be computed twice, a bias may have been moved on.
    for again in (False, True):
        for operation in operations:
            known = orders.get(operation, ())
            while (fitting := find_fitting(operation, found, left, known, without_bias=operation in moved)) is not None:
                node, variant = fitting
                left.remove(node)
                held.add(operation)
                bare |= {operation} if variant.bare else set()
                own_x, own_y = variant.moved is None, not variant.bare
                placed = Place(node, variant.folded, operation, variant.inside, variant.front, own_x, own_y)
                places.append(replace(placed, rows=variant.rows))
                if variant.moved is not None:
                    moved.add(variant.moved)
                if not again:
                    break
    places, gone = _without_split_biases(places, moved)
    inside = {norm for place in places for norm in place.norms}
    rest = [node for node in export.nodes if node.operation == graph.BATCH_NORM]
    for place in _joined_norms(found, inside, rest, bare):
        rest.remove(place.node)
        places.append(place)
        inside |= set(place.norms)
        moved |= {one for one in bare if one is place.norms[0].kernel and not place.own_x}
    for again in (False, True):
        for norm in found:
            # Of steps that were written out one by one each holds the same numbers.
            alone = norm not in inside or (again and any(norm in one.norms and one.operation is None for one in places))
            for place in _survived(norm, rest, bare) if alone else ():
                rest.remove(place.node)
                places.append(place)
                inside.add(norm)
                if not place.own_x and norm.kernel is not None:
                    moved.add(norm.kernel)
                if not again:
                    break
    dropped = [one for one in places if not one.own_y and one.operation not in moved]
    places = [one for one in places if one not in dropped]
    held -= {one.operation for one in dropped if one.operation is not None}
    left += [one.node for one in dropped]
    paired = Pairing(
        matches(places),
        tuple(norm for norm in found if norm not in inside),
        (*left, *gone),
        tuple(rest),
        {one.operation: one.node for one in places if one.operation is not None and not one.norms},
        tuple(in_order(unsure(places), export)),
        tuple(one for one in operations if one not in held),
    )
    return _with_copies(paired, _scales(source, found), export)


def _scales(source: Network, found: Sequence[SourceNorm]) -> list[Node]:
    """Return the scales and shifts per channel of a source that are none of its batch norms."""
    calls = {norm.call for norm in found}
    return [node for node in source.nodes if node.operation == graph.BATCH_NORM and node.folded and node not in calls]


def _with_copies(paired: Pairing, scales: Sequence[Node], export: Network) -> Pairing:
    """Return a pairing with the scales and shifts of the source that the export has as they are."""
    rest, places = list(paired.pairs), list[Place]()
    for operation in scales:
        plain = folding.plain(kernel_of(operation))
        node = next((one for one in rest if same_shape(operation, one) and holds(one, plain)), None)
        if node is not None:
            rest.remove(node)
            places.append(Place(node, plain, operation))
    held = {place.operation for place in places}
    return replace(
        paired,
        pairs=tuple(rest),
        places=tuple(in_order((*paired.places, *places), export)),
        lost=(*paired.lost, *(one for one in scales if one not in held)),
    )


def _joined_norms(
    found: Sequence[SourceNorm], inside: Collection[SourceNorm], rest: Sequence[Node], bare: Collection[Node]
) -> Iterator[Place]:
    """Yield the places of two batch norms that follow each other and became one scale and shift."""
    for second in found:
        first = second.through
        if first is None or first in inside or second in inside:
            continue
        for biased in (first, with_bias(first)) if first.kernel in bare else (first,):
            both = folding.behind(as_map(biased), second.affine)
            node = next((one for one in rest if holds(one, both)), None)
            if node is not None:
                yield Place(node, both, None, (first, second), own_x=biased is first)
                break


def _survived(norm: SourceNorm, rest: Sequence[Node], bare: Collection[Node]) -> Iterator[Place]:
    """Yield the batch norms of the export that do what one of the source does, with the bias in front of it or not."""
    for biased in (norm, with_bias(norm)) if norm.kernel in bare and not norm.through else (norm,):
        for node in [one for one in rest if is_map(one, biased)]:
            yield Place(node, as_map(biased, node), None, (norm,), own_x=biased is norm)


def _without_split_biases(places: list[Place], moved: set[Node]) -> tuple[list[Place], list[Node]]:
    """Return the places without those of a kernel whose bias is in the operation behind, and is not gone from it."""
    plain = {one.operation for one in places if not one.norms}
    wrong = [one for one in places if one.operation in moved - plain and one.norms]
    return [one for one in places if one not in wrong], [one.node for one in wrong]
