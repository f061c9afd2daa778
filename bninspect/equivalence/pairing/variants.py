"""What an operation of the source may hold in an export: itself, or the batch norms next to it as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bninspect.equivalence import folding
from bninspect.equivalence.folding import FoldedKernel
from bninspect.equivalence.pairing.fits import holds, same_shape
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records import Array
from bninspect.records.graph import Node, kernel_of


def find_fitting(
    operation: Node, found: Sequence[SourceNorm], left: Sequence[Node], orders: Sequence[Array], *, without_bias: bool
) -> tuple[Node, Variant] | None:
    """Return the first operation of the export that holds one of the source, with batch norms next to it or without."""
    candidates = [node for node in left if same_shape(operation, node)]
    every = list(variants(operation, found)) if candidates else []
    biased = folding.zero_bias(kernel_of(operation)).any()
    if candidates and biased and (without_bias or any(kernel_of(node).bias is None for node in candidates)):
        plain = folding.plain(replace(kernel_of(operation), bias=None))
        every.append(Variant(plain, bare=True))
    fitting = next(((node, one) for node in candidates for one in every if holds(node, one.folded)), None)
    if fitting is None and candidates:
        turned = (_reordered(one, rows) for rows in orders for one in every if one.front is None)
        fitting = next(((node, one) for one in turned for node in candidates if holds(node, one.folded)), None)
    return fitting


def _reordered(variant: Variant, rows: Array) -> Variant:
    """Return a variant of a dense layer that takes its inputs in another order."""
    return replace(variant, folded=variant.folded.reordered(rows), rows=rows)


@dataclass(frozen=True, eq=False)
class Variant:
    """The weights and bias that an operation of the source may have in an export."""

    folded: FoldedKernel
    inside: tuple[SourceNorm, ...] = ()
    """The batch norms that are in it."""
    front: SourceNorm | None = None
    """The one of them that comes before the operation."""
    moved: Node | None = None
    """The operation before that one, if its bias is in here as well."""
    bare: bool = False
    """Whether it is without its bias, which an operation behind it adds."""
    rows: Array | None = None
    """Which input of the source each input is, where they are in another order."""


def variants(operation: Node, found: Sequence[SourceNorm]) -> Iterator[Variant]:
    """Yield an operation with and without the batch norms next to it."""
    for base in _with_front(operation, found):
        yield from _with_behind(base, operation, None, found)
        yield base


def _with_behind(
    base: Variant, operation: Node, last: SourceNorm | None, found: Sequence[SourceNorm]
) -> Iterator[Variant]:
    """Yield an operation with the batch norms behind it, all of several that follow each other first."""
    for norm in found:
        if norm.kernel is operation and norm.through is last and norm.affine.scale.size == base.folded.bias.size:
            folded = folding.behind(base.folded, norm.affine)
            one = replace(base, folded=folded, inside=(*base.inside, norm))
            yield from _with_behind(one, operation, norm, found)
            yield one


def _with_front(operation: Node, found: Sequence[SourceNorm]) -> Iterator[Variant]:
    """Yield an operation as it is, and with the batch norm in front of it, if there is one."""
    kernel = kernel_of(operation)
    base = folding.plain(kernel)
    yield Variant(base)
    front = next((norm for norm in found if norm.follower is operation), None)
    channels = 0 if front is None else front.affine.scale.size
    groups = kernel.groups or channels // kernel.weights.shape[1]
    if front is None or not channels or channels != kernel.weights.shape[1] * groups:
        return
    yield Variant(folding.before(base, front.affine, groups), (front,), front)
    if (
        front.kernel is not None
        and not front.through
        and not front.obstacle
        and folding.zero_bias(kernel_of(front.kernel)).any()
    ):
        # TFLite moves a batch norm between two dense layers into the second, and takes the bias of the first along.
        further = front.affine.behind(folding.zero_bias(kernel_of(front.kernel)))
        yield Variant(folding.before(base, further, groups), (front,), front, front.kernel)
