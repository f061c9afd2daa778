"""Which operation of an export holds which batch norm of its source: by value, never by name.

Converters merge, rename and reorder. What they cannot change are the numbers: W*a or a and c, to a few units in the
last place. An operation is assigned once. What fits nothing is paired by shape and order afterwards, for the
hypotheses to say what was done to it; a match that is merely close counts as none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bninspect.equivalence import folding, row_orders
from bninspect.equivalence.folding import ChannelMap, FoldedKernel
from bninspect.records import Array, BatchNorm, graph
from bninspect.records.graph import Kernel, Network, Node

_ACTIVATIONS = """
relu relu6 leakyrelu leaky_relu elu selu gelu silu swish sigmoid tanh hardtanh hardswish hard_swish hardsigmoid
hard_sigmoid softplus mish prelu clip clamp activation softmax exponential softsign relu_ relu6_ hardtanh_ silu_
"""
ACTIVATIONS = frozenset(_ACTIVATIONS.split())
"""What frameworks call functions of one number, in lower case."""


@dataclass(frozen=True, eq=False)
class SourceNorm:
    """A call of a batch norm in the source, and what is around it."""

    layer: BatchNorm
    affine: ChannelMap
    call: Node
    place: int
    """Its position among the operations of the source."""
    kernel: Node | None = None
    """The linear operation whose result it takes, whatever else reads that."""
    through: SourceNorm | None = None
    """The batch norm that comes between that operation and this one."""
    obstacle: str = ""
    """Why it cannot be folded into that operation: `activation` or `consumer`; empty if it can."""
    follower: Node | None = None
    """The linear operation that alone reads its result."""


def norms(source: Network, layers: Mapping[str, BatchNorm]) -> tuple[SourceNorm, ...]:
    """Return the calls of the given layers in the order in which they are made."""
    producers, consumers = source.producers(), source.consumers()
    found: dict[Node, SourceNorm] = {}
    for place, node in enumerate(source.nodes):
        if node.operation != graph.BATCH_NORM or node.layer not in layers:
            continue
        layer = layers[node.layer]
        affine = folding.affine(layer)
        kernel, through, obstacle = _fed_by(node, found, producers, consumers)
        in_front = through.affine.scale.size if through else _kernel(kernel).outputs if kernel else 0
        if in_front != affine.scale.size:
            # Over several axes it has a slope for each place, where what is in front of it has one for each channel.
            kernel, through, obstacle = None, None, ""
        after = graph.readers(node.outputs[0], consumers)
        follower = after[0] if len(after) == 1 and after[0].kernel is not None and not after[0].layer else None
        found[node] = SourceNorm(layer, affine, node, place, kernel, through, obstacle, follower)
    return tuple(found.values())


def _fed_by(
    node: Node,
    found: Mapping[Node, SourceNorm],
    producers: Mapping[str, Node],
    consumers: Mapping[str, tuple[Node, ...]],
) -> tuple[Node | None, SourceNorm | None, str]:
    """Return the linear operation behind which a batch norm comes, and the batch norm and what else is between them."""
    origin = graph.origin(node.inputs[0], producers)
    between = ""
    if origin is not None and origin.operation in ACTIVATIONS and len(origin.inputs) == 1:
        between, origin = "activation", graph.origin(origin.inputs[0], producers)
    if origin is None:
        return None, None, ""
    through = found.get(origin)
    if through is None and (origin.kernel is None or origin.layer):
        return None, None, ""
    if origin.activation:
        between = "activation"
    if not between and len(graph.readers(origin.outputs[0], consumers)) > 1:
        between = "consumer"
    return (origin, None, between) if through is None else (through.kernel, through, through.obstacle or between)


def fed(norm: SourceNorm) -> Kernel:
    """Return the linear operation behind which a batch norm comes, with the batch norms between them folded into it."""
    assert norm.kernel is not None  # noqa: S101 - narrows the type
    if norm.through is None:
        return _kernel(norm.kernel)
    inner = folding.behind(folding.plain(fed(norm.through)), norm.through.affine)
    return replace(_kernel(norm.kernel), weights=inner.weights, bias=inner.bias)


@dataclass(frozen=True, eq=False)
class Match:
    """Where a batch norm of the source is in the export."""

    norm: SourceNorm
    node: Node
    expected: FoldedKernel
    """What the weights and bias of `node` should be, or the scale and shift of a pair."""
    forward: bool = False
    """Whether it was taken into the operation behind it."""
    hidden: bool = False
    """Whether another batch norm is in the same operation behind it, so that what it returns is seen nowhere."""


@dataclass(frozen=True, eq=False)
class Place:
    """An operation of the export whose numbers are those of one of the source, with the batch norms next to it.

    Or of a batch norm of the source alone, which no linear operation holds.
    """

    node: Node
    expected: FoldedKernel
    operation: Node | None = None
    norms: tuple[SourceNorm, ...] = ()
    """The batch norms that are in it."""
    front: SourceNorm | None = None
    """The one of them that comes before the operation."""
    own_x: bool = True
    """Whether what goes in is a value of the source: not if a bias that was added before is added here."""
    own_y: bool = True
    """Whether what comes out is a value of the source: not if its bias is added by an operation behind it."""
    again: bool = False
    """Whether another place holds the same numbers, so that the source does not say which is which."""
    rebiased: bool = False
    """Whether its weights are right to half a step and its bias is another one, as the bias correction of quantisers
    makes it."""
    rows: Array | None = None
    """Of a dense layer whose inputs the export has in another order: which input of the source each of them is."""

    @property
    def x(self) -> str:
        """The value of the source that goes in."""
        first = self.front.call if self.front is not None else self.operation or self.norms[0].call
        return first.inputs[0]

    @property
    def y(self) -> str:
        """The value of the source that comes out, before an activation."""
        behind = [norm for norm in self.norms if norm is not self.front]
        last = behind[-1].call if behind else self.operation
        return last.outputs[0] if last is not None else ""


@dataclass(frozen=True, eq=False)
class Pairing:
    """What was found of every batch norm, and what is left over."""

    matches: Mapping[SourceNorm, Match]
    missing: tuple[SourceNorm, ...]
    kernels: tuple[Node, ...]
    """Linear operations of the export that hold no operation of the source, with or without batch norms."""
    pairs: tuple[Node, ...]
    """Batch norms, and scale-and-shift pairs, of the export that are not a batch norm of the source."""
    plain: Mapping[Node, Node] = field(default_factory=dict)
    """For a linear operation of the source the one of the export that is a copy of it."""
    places: tuple[Place, ...] = ()
    """Where the operations and batch norms of the source are."""
    lost: tuple[Node, ...] = ()
    """Linear operations of the source whose numbers no operation of the export holds."""


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
            while (fitting := _fitting(operation, found, left, known, without_bias=operation in moved)) is not None:
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
        tuple(in_order(_unsure(places), export)),
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
        plain = folding.plain(_kernel(operation))
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


def with_bias(norm: SourceNorm) -> SourceNorm:
    """Return a batch norm of what comes in before the bias of the kernel in front of it was added."""
    assert norm.kernel is not None  # noqa: S101 - only such batch norms are asked for
    return replace(norm, affine=norm.affine.behind(folding.zero_bias(_kernel(norm.kernel))))


def _without_split_biases(places: list[Place], moved: set[Node]) -> tuple[list[Place], list[Node]]:
    """Return the places without those of a kernel whose bias is in the operation behind, and is not gone from it."""
    plain = {one.operation for one in places if not one.norms}
    wrong = [one for one in places if one.operation in moved - plain and one.norms]
    return [one for one in places if one not in wrong], [one.node for one in wrong]


def matches(places: Sequence[Place]) -> dict[SourceNorm, Match]:
    """Return where each batch norm that is in a place is."""
    found: dict[SourceNorm, Match] = {}
    for one in places:
        for norm in one.norms:
            hidden = any(other.through is norm for other in one.norms)
            found.setdefault(norm, Match(norm, one.node, one.expected, norm is one.front, hidden))
    return found


def _unsure(places: Sequence[Place]) -> Iterator[Place]:
    """Yield the places; those whose numbers stand at several places of the export or of the source are unsure."""
    counted: dict[tuple[int, str], int] = {}
    for one in places:
        key = (id(one.operation), one.y)
        counted[key] = counted.get(key, 0) + 1
    for one in places:
        yield replace(one, again=counted[id(one.operation), one.y] > 1)


def in_order(places: Iterable[Place], export: Network) -> list[Place]:
    """Return places in the order in which the export computes them."""
    order = {id(node): place for place, node in enumerate(export.nodes)}
    return sorted(places, key=lambda one: order[id(one.node)])


def _fitting(
    operation: Node, found: Sequence[SourceNorm], left: Sequence[Node], orders: Sequence[Array], *, without_bias: bool
) -> tuple[Node, Variant] | None:
    """Return the first operation of the export that holds one of the source, with batch norms next to it or without."""
    candidates = [node for node in left if same_shape(operation, node)]
    every = list(variants(operation, found)) if candidates else []
    biased = folding.zero_bias(_kernel(operation)).any()
    if candidates and biased and (without_bias or any(_kernel(node).bias is None for node in candidates)):
        plain = folding.plain(replace(_kernel(operation), bias=None))
        every.append(Variant(plain, bare=True))
    fitting = next(((node, one) for node in candidates for one in every if holds(node, one.folded)), None)
    if fitting is None and candidates:
        turned = (_reordered(one, rows) for rows in orders for one in every if one.front is None)
        fitting = next(((node, one) for one in turned for node in candidates if holds(node, one.folded)), None)
    return fitting


def _reordered(variant: Variant, rows: Array) -> Variant:
    """Return a variant of a dense layer that takes its inputs in another order."""
    folded = variant.folded
    weights, bound = folded.weights[:, rows], folded.weight_bound[:, rows]
    return replace(variant, folded=replace(folded, weights=weights, weight_bound=bound), rows=rows)


def _kernel(operation: Node) -> Kernel:
    assert operation.kernel is not None  # noqa: S101 - narrows the type
    return operation.kernel


def holds(node: Node, folded: FoldedKernel) -> bool:
    """Return whether the weights and bias of an operation of the export are these."""
    if not holds_weights(node, folded):
        return False
    kernel = _kernel(node)
    should = folding.as_stored(folded, kernel)
    return folding.fits(folding.zero_bias(kernel), should.bias, should.bias_bound)


def holds_weights(node: Node, folded: FoldedKernel) -> bool:
    """Return whether the weights of an operation of the export are these, whatever its bias is."""
    kernel = node.kernel
    if kernel is None or kernel.weights.shape != folded.weights.shape:
        return False
    should = folding.as_stored(folded, kernel)
    return folding.fits(kernel.weights, should.weights, should.weight_bound)


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
    kernel = _kernel(operation)
    base = folding.plain(kernel)
    yield Variant(base)
    front = next((norm for norm in found if norm.follower is operation), None)
    if front is None or front.affine.scale.size != kernel.weights.shape[1] * kernel.groups:
        return
    yield Variant(folding.before(base, front.affine, kernel.groups), (front,), front)
    if (
        front.kernel is not None
        and not front.through
        and not front.obstacle
        and folding.zero_bias(_kernel(front.kernel)).any()
    ):
        # TFLite moves a batch norm between two dense layers into the second, and takes the bias of the first along.
        further = front.affine.behind(folding.zero_bias(_kernel(front.kernel)))
        yield Variant(folding.before(base, further, kernel.groups), (front,), front, front.kernel)


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
