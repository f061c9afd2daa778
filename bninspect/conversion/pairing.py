"""Which operation of an export holds which batch norm of its source: by value, never by name.

Converters merge, rename and reorder. What they cannot change are the numbers: W*a or a and c, to a few units in the
last place. An operation is assigned once. What fits nothing is paired by shape and order afterwards, for the
hypotheses to say what was done to it; a match that is merely close counts as none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bninspect.conversion import folding
from bninspect.conversion.folding import ChannelMap, FoldedKernel
from bninspect.records import BatchNorm, graph
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
        kernel, through, obstacle = _fed_by(node, found, producers, consumers)
        after = graph.readers(node.outputs[0], consumers)
        follower = after[0] if len(after) == 1 and after[0].kernel is not None and not after[0].layer else None
        layer = layers[node.layer]
        found[node] = SourceNorm(layer, folding.affine(layer), node, place, kernel, through, obstacle, follower)
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


def pair(found: Sequence[SourceNorm], source: Network, export: Network) -> Pairing:
    """Pair the batch norms of a source with the operations of an export, by exact arithmetic alone."""
    operations = [node for node in source.nodes if node.kernel is not None and not node.layer]
    left = [node for node in export.nodes if node.kernel is not None and not node.layer]
    matches: dict[SourceNorm, Match] = {}
    plain: dict[Node, Node] = {}
    moved: set[Node] = set()
    # A second time for what is left: a result with two readers may be computed twice, a bias may have been moved on.
    for operation in (*operations, *operations):
        fitting = _fitting(operation, found, left, without_bias=operation in moved)
        if fitting is None:
            continue
        node, variant = fitting
        left.remove(node)
        if not variant.inside:
            plain.setdefault(operation, node)
        for norm in variant.inside:
            hidden = any(other.through is norm for other in variant.inside)
            matches.setdefault(norm, Match(norm, node, variant.folded, norm is variant.front, hidden))
        if variant.moved is not None:
            moved.add(variant.moved)
    rest = [node for node in export.nodes if node.operation == graph.BATCH_NORM]
    for norm in found:
        same = None if norm in matches else next((one for one in rest if is_map(one, norm)), None)
        if same is not None:
            rest.remove(same)
            matches[norm] = Match(norm, same, as_map(norm))
    for operation in moved - plain.keys():
        # The bias is in the operation behind, and is nowhere gone from the one in front.
        for norm in [norm for norm in matches if norm.kernel is operation]:
            del matches[norm]
    missing = tuple(norm for norm in found if norm not in matches)
    return Pairing(matches, missing, tuple(left), tuple(rest), plain)


def _fitting(
    operation: Node, found: Sequence[SourceNorm], left: Sequence[Node], *, without_bias: bool
) -> tuple[Node, Variant] | None:
    """Return the first operation of the export that holds one of the source, with batch norms next to it or without."""
    candidates = [node for node in left if same_shape(operation, node)]
    every = list(variants(operation, found)) if candidates else []
    if without_bias and candidates:
        bare = folding.plain(replace(_kernel(operation), bias=None))
        every.append(Variant(bare))
    return next(((node, one) for node in candidates for one in every if holds(node, one.folded)), None)


def _kernel(operation: Node) -> Kernel:
    assert operation.kernel is not None  # noqa: S101 - narrows the type
    return operation.kernel


def holds(node: Node, folded: FoldedKernel) -> bool:
    """Return whether the weights and bias of an operation of the export are these."""
    kernel = node.kernel
    if kernel is None or kernel.weights.shape != folded.weights.shape:
        return False
    should = folding.as_stored(folded, kernel)
    return folding.fits(kernel.weights, should.weights, should.weight_bound) and folding.fits(
        folding.zero_bias(kernel), should.bias, should.bias_bound
    )


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
            one = replace(base, folded=folded, inside=(norm, *base.inside))
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
    return one is not None and other is not None and _shape(one) == _shape(other)


def _shape(kernel: Kernel) -> tuple[int, ...]:
    return (*kernel.weights.shape, kernel.groups)


def as_map(norm: SourceNorm) -> FoldedKernel:
    """Return scale and shift as the weights and bias of an operation of one tap and one input per channel."""
    one = Kernel(np.ones((1, 1, norm.affine.scale.size)))
    return folding.behind(folding.plain(one), norm.affine)


def is_map(node: Node, norm: SourceNorm) -> bool:
    """Return whether a batch norm of the export does what one of the source does."""
    return holds(node, as_map(norm))
